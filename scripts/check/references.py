#!/usr/bin/env python3
"""Finds what comments and documents name and the tree does not have: files,
functions (name()), and words with an underscore, which are somebody's names.

usage: scripts/check/references.py

A file is named by its path or by the end of it; a word exists where code or
data of the tree has it, or a part of a longer one (a test chosen by -k).
Placeholders are in capitals. What libraries and other programs call theirs is
listed here."""
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

SOURCES = (".c", ".h", ".py", ".sh", ".js", ".ts", "Makefile")
DOCUMENTS = (".md",)
FILE = re.compile(r"(?<![\w/.:*$<{-])((?:[\w.-]+/)*[\w-]+"
                  r"\.(?:c|h|py|sh|js|md|yaml|css|html|svg))(?![\w(*-])(?!\.\w)")
FUNCTION = re.compile(r"(?<![\w.>:$-])([A-Za-z_]\w*)\(\)")
WORD = re.compile(r"(?<![\w.$/-])([A-Za-z]\w*_\w*[A-Za-z0-9])(?!\w|\(\d\))")

# Names of libraries, systems and other programs; * stands for an end.
FOREIGN = re.compile("|".join([
    "uv_.*", "uv__.*", "pthread_.*", "cJSON_.*", "UV_E", "PIPE_BUF",
    "TIME_WAIT", "num_threads", "randomUUID", "sd_notify", "NO_NEW_PRIVS",
    "SET_SECCOMP", "https?_proxy", "no_proxy", "proxy_.*", "merge_slashes",
    "deprecated_.*", "test_WORD", ".*_module", "authz_core", "lbmethod_.*", "log_config",
    "mpm_.*", "slotmem_.*", "socache_.*",
]) + r"\Z")
# Of libraries, beside headers that are included; and what is made.
FOREIGN_FILES = {"unix.h", "NchanSubscriber.js", "assets.c", "test/bench/figure.svg"}


def split(path, text):
    """Returns the comments of a file as (line, text), and its code."""
    if path.endswith(DOCUMENTS):
        return list(enumerate(text.splitlines(), 1)), ""
    if path.endswith((".c", ".h", ".js", ".ts")):
        comment = r"/\*.*?\*/|//[^\n]*"
    else:
        comment = r'""".*?"""|(?<![$\w{])#[^\n]*'
    tokens = re.compile(comment + r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)
    comments = []
    code = []
    at = 0
    for m in tokens.finditer(text):
        token = m.group()
        before = text[text.rfind("\n", 0, m.start()) + 1:m.start()].strip()
        code.append(text[at:m.start()])
        at = m.end()
        # Three quotes are a comment at the start of a line, else a value.
        if token.startswith(("/", "#")) or (token.startswith('"""') and not before):
            line = text.count("\n", 0, m.start()) + 1
            comments += [(line + i, part)
                         for i, part in enumerate(token.split("\n"))]
        else:
            code.append(token)
    code.append(text[at:])
    return comments, "".join(code)


class Tree:
    """What there is to be named."""

    def __init__(self, paths):
        self.comments = {}
        self.ends = set()
        words = set()
        for path in paths:
            parts = path.split("/")
            self.ends |= {"/".join(parts[i:]) for i in range(len(parts))}
            words.add(parts[-1].split(".")[0])
            if path.startswith("third_party/") or path.endswith((".png", ".json.gz")):
                continue
            with open(os.path.join(ROOT, path), encoding="utf-8",
                      errors="replace") as file:
                text = file.read()
            if path.endswith(SOURCES + DOCUMENTS):
                self.comments[path], text = split(path, text)
            words |= set(re.findall(r"[A-Za-z_]\w*", text))
            for header in re.findall(r"#include <([\w./]+)>", text):
                self.ends |= {header, header.split("/")[-1]}
        self.words = words
        self.text = " ".join(sorted(words))

    def has_file(self, name):
        return (name in self.ends or name in FOREIGN_FILES
                or name.rsplit(".", 1)[0].isupper())

    def has_word(self, name):
        if name in self.words or FOREIGN.match(name) or name in self.text:
            return True
        metric = re.match(r"isimud_(\w+?)(_total|_bucket|_seconds)?\Z", name)
        return bool(metric) and metric.group(1) in self.text


def main():
    listing = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others",
                              "--exclude-standard"], check=True,
                             text=True, stdout=subprocess.PIPE).stdout
    tree = Tree([path for path in listing.splitlines()
                 if os.path.exists(os.path.join(ROOT, path))])
    found = 0
    for path, lines in sorted(tree.comments.items()):
        # What was, and applications of others.
        if (path.endswith("CHANGELOG.md")
                or path.startswith("scripts/docs/recipes/")):
            continue
        for line, text in lines:
            missing = {name for name in FILE.findall(text)
                       if not tree.has_file(name)}
            text = FILE.sub("", text)
            missing |= {name + "()" for name in FUNCTION.findall(text)
                        if not tree.has_word(name)}
            missing |= {name for name in WORD.findall(FUNCTION.sub("", text))
                        if not tree.has_word(name)}
            for name in sorted(missing):
                print(f"references: {path}:{line}: there is no {name}")
                found += 1
    if not found:
        print(f"references: all is there that {len(tree.comments)} files name")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
