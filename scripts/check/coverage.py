#!/usr/bin/env python3
"""Prints how many lines of each folder of src/ the tests have reached.

usage: coverage.py OBJECTS [TITLE]      (make coverage)

OBJECTS, build/gcov, was compiled with --coverage; what its programs have done so
far lies beside the objects (.gcda). V=1 shows each file."""
import collections
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))


def notes_below(folder):
    """Returns the .gcno files of src/, each as a path."""
    return sorted(os.path.join(where, name)
                  for where, _, names in os.walk(os.path.join(folder, "src"))
                  for name in names if name.endswith(".gcno"))


def lines_of(note):
    """Returns file -> line -> whether it was reached, as gcov counts them."""
    run = subprocess.run(["gcov", "--json-format", "--stdout", note],
                         cwd=ROOT, stdout=subprocess.PIPE, check=True,
                         stderr=subprocess.DEVNULL)
    lines = collections.defaultdict(dict)
    for document in run.stdout.splitlines():
        for file in json.loads(document)["files"]:
            for line in file["lines"]:
                known = lines[file["file"]]
                known[line["line_number"]] = (
                    known.get(line["line_number"], False) or line["count"] > 0)
    return lines


def add_up(objects):
    """Returns the same for all of src/; a header counts once."""
    total = collections.defaultdict(dict)
    for note in notes_below(objects):
        for name, lines in lines_of(note).items():
            # An object may be left of a file that has another name now.
            if not name.startswith("src/") or not os.path.exists(
                    os.path.join(ROOT, name)):
                continue
            for number, is_reached in lines.items():
                total[name][number] = total[name].get(number, False) or is_reached
    return total


def tell(name, lines):
    """Prints one row: `lines` is a list of booleans."""
    print(f"  {name:<24} {sum(lines):>6} of {len(lines):>6} lines "
          f"{100 * sum(lines) / max(len(lines), 1):>6.1f} %")


def main():
    objects = sys.argv[1]
    files = add_up(os.path.abspath(objects))
    if not files:
        sys.exit(f"coverage: nothing was run from {objects}")
    folders = collections.defaultdict(list)
    for name, lines in sorted(files.items()):
        folder = name.split("/")[1] if name.count("/") > 1 else "main.c"
        folders[folder] += lines.values()
        if os.environ.get("V"):
            tell(name[4:], list(lines.values()))
    print(f"coverage: {sys.argv[2] if len(sys.argv) > 2 else 'lines'}")
    for folder, lines in sorted(folders.items()):
        tell(folder, lines)
    tell("all", [line for lines in folders.values() for line in lines])


if __name__ == "__main__":
    main()
