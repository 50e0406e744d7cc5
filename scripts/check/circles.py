#!/usr/bin/python3
"""Finds circles of files: files that need each other, in one or more steps.

usage: scripts/check/circles.py [OBJECTS]      (build/debug/src)

A file needs another if its object uses a function or variable that the other's
defines (nm), and a header needs what it includes. Prints every circle, with what
closes it, and fails if there is one that is not within ALLOWED; also if a row of
ALLOWED has no circle any more. Objects must be up to date: `make
build/debug/isimud` makes them.
"""
import collections
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SOURCES = os.path.join(ROOT, "src")

# Circles that are still to be opened: a folder, and its files that may be in one.
# This list only shrinks.
ALLOWED = []


def files_below(folder, ending):
    """Returns the paths of files below a folder, relative to it."""
    found = []
    for where, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(where, name), folder)
                  for name in names if name.endswith(ending)]
    return sorted(found)


def read_symbols(objects):
    """Returns (file -> symbols that it uses, symbol -> file that defines it)."""
    uses, home = {}, {}
    for source in files_below(SOURCES, ".c"):
        path = os.path.join(objects, source[:-2] + ".o")
        if not os.path.exists(path):
            sys.exit(f"circles: no {path}; run `make FLAVOUR=debug build/debug/isimud`")
        text = subprocess.run(["nm", path], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        uses[source] = set()
        for line in text.splitlines():
            *_, kind, symbol = line.split()
            if kind == "U":
                uses[source].add(symbol)
            elif kind.isupper():
                home[symbol] = source
    return uses, home


def graph_of_symbols(objects):
    """Returns file -> other file -> symbols that it uses of it."""
    uses, home = read_symbols(objects)
    graph = {}
    for name, symbols in uses.items():
        graph[name] = collections.defaultdict(list)
        for symbol in sorted(symbols):
            if home.get(symbol, name) != name:
                graph[name][home[symbol]].append(symbol)
    return graph


def graph_of_includes():
    """Returns header -> header -> its name, for what headers include."""
    graph = {}
    for name in files_below(SOURCES, ".h"):
        with open(os.path.join(SOURCES, name), encoding="utf-8") as file:
            included = re.findall(r'^\s*#\s*include\s*"(.*)"', file.read(), re.M)
        graph[name] = {other: [other] for other in included}
    return graph


def circles_of(graph):
    """Returns the strongly connected components of more than one node (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, {})):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def tell(graph, circle):
    """Prints a circle, and what each of it uses of the others."""
    print(f"circle of {len(circle)} files: {' '.join(circle)}")
    for name in circle:
        for other in sorted(set(graph[name]) & set(circle)):
            print(f"  {name} -> {other}: {', '.join(graph[name][other])}")


def allowed_circles():
    """Returns the sets of files that ALLOWED names."""
    allowed = []
    for line in ALLOWED:
        folder, names = line.split(": ")
        allowed.append({f"{folder}/{name}.c" for name in names.split()})
    return allowed


def main():
    objects = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build/debug/src")
    symbols = graph_of_symbols(objects)
    includes = graph_of_includes()
    allowed = allowed_circles()
    known = []
    failed = False
    for graph in (symbols, includes):
        for circle in circles_of(graph):
            within = [files for files in allowed if files >= set(circle)]
            known += within
            if not within:
                tell(graph, circle)
                failed = True
    for files, row in zip(allowed, ALLOWED):
        if files not in known:
            print(f"circles: remove the row from ALLOWED, it is open: {row}")
            failed = True
    if failed:
        sys.exit(1)
    print(f"circles: none among {len(symbols)} files"
          + (f", but for {len(known)} that are still to be opened" if known else ""))


if __name__ == "__main__":
    main()
