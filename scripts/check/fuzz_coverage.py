#!/usr/bin/python3
"""Reads `llvm-cov show` of several files, each behind a line "== PATH": prints
how many lines of each are reached, and fails where that is below LEAST. V=1
shows the others."""
import os
import re
import sys

LEAST = 95
LINE = re.compile(r"^ +(\d+)\| +([0-9.]+[kMGT]?)?\|(.*)$")
HEAD = re.compile(r"^[a-z].*?\b(\w+)\(")

# What no input can reach: functions, and lines that have a word in them.
EXCLUDED = {
    # They write, or meet errors of the disk; test_history_file.c has them.
    "src/topics/history_file.c": {
        "functions": {"fail_by_errno", "create", "history_file_try", "finish",
                      "append_to_path", "is_something_else", "set_aside",
                      "history_file_save", "save", "open_file", "measure"},
        "words": ["fail_by_errno(", "close(fd)", "NOT_A_FILE", "#define"]},
    # They write; test_deflate.c has them.
    "src/codec/deflate.c": {
        "functions": {"deflate_append_stored", "deflate_write_stored_head",
                      "deflate_stored_len", "deflater_takes",
                      "deflater_totals", "inflater_totals"},
        "words": []},
}


def read(lines):
    """(path, number, is reached, text) of each line that counts."""
    path = function = None
    for line in lines:
        if line.startswith("== "):
            path = line[3:].strip()
            continue
        match = LINE.match(line)
        if not match:
            continue
        number, count, text = match.groups()
        head = HEAD.match(text)
        if head:
            function = head.group(1)
        if count is None:
            continue
        rules = EXCLUDED.get(path, {})
        if (function in rules.get("functions", ())
                or any(word in text for word in rules.get("words", ()))):
            continue
        yield path, number, count != "0", text


def main():
    files = {}
    for path, number, is_reached, text in read(open(sys.argv[1])):
        files.setdefault(path, []).append((number, is_reached, text))
    low = []
    for path, lines in files.items():
        reached = sum(is_reached for _, is_reached, _ in lines)
        percent = 100 * reached / len(lines)
        print(f"{path:32} {percent:6.1f} % of {len(lines)} lines")
        if percent < LEAST:
            low.append(path)
        for number, is_reached, text in lines:
            if os.environ.get("V") and not is_reached:
                print(f"  {number}: {text}")
    print(f"fuzz-coverage: {len(files)} parsers, below {LEAST} %: "
          f"{', '.join(low) or 'none'}")
    return 1 if low or not files else 0


if __name__ == "__main__":
    sys.exit(main())
