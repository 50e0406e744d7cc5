#!/usr/bin/env python3
"""Finds static functions of one name in several files: gdb and grep can't tell
them apart.

usage: scripts/check/names.py [OBJECTS]      (build/debug/src)

An inline function of a header, which many objects have, is one function."""
import collections
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def inline_names():
    """Returns the names of the inline functions of our headers."""
    names = set()
    for path in glob.glob(os.path.join(ROOT, "src", "**", "*.h"), recursive=True):
        with open(path, encoding="utf-8") as file:
            names |= set(re.findall(r"static inline [^;{(]*?(\w+)\(", file.read()))
    return names


def main():
    objects = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        ROOT, "build", "debug", "src")
    files = collections.defaultdict(set)
    for path in glob.glob(os.path.join(objects, "**", "*.o"), recursive=True):
        source = os.path.relpath(path, objects)[:-2] + ".c"
        if not os.path.exists(os.path.join(ROOT, "src", source)):
            continue
        listing = subprocess.run(["nm", path], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout
        for line in listing.splitlines():
            parts = line.split()
            # A name with a dot, or that begins with "_", is not ours.
            if (len(parts) == 3 and parts[1] == "t" and "." not in parts[2]
                    and not parts[2].startswith("_")):
                files[parts[2]].add(source)
    inline = inline_names()
    twice = {name: where for name, where in files.items()
             if len(where) > 1 and name not in inline}
    for name, where in sorted(twice.items()):
        print(f"names: {name}() is in {', '.join(sorted(where))}")
    if not twice:
        print(f"names: each of {len(files)} static functions has its own")
    sys.exit(bool(twice))


if __name__ == "__main__":
    main()
