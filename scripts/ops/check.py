#!/usr/bin/python3
"""Checks that every metric and label that the dashboard and the alerts name is
one that isimud tells.

usage: check.py PAGE...     files that /metrics was saved to, `-` is stdin;
                            give one of a node in a cluster, too: it has more
Prints what is missing, and fails if anything is.
"""
import json
import os
import re
import sys

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = re.compile(r"\b(?:isimud|process)_[a-z0-9_]+\b")
SELECTOR = re.compile(r"\b((?:isimud|process)_[a-z0-9_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
# What Prometheus adds to each sample.
ADDED = {"job", "instance"}


def told(pages):
    """{name: {label: {values}}} of pages in Prometheus's text format."""
    found = {}
    for page in pages:
        for line in page.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            name, _, labels = line.rpartition(" ")[0].partition("{")
            known = found.setdefault(name, {})
            for label, value in re.findall(r'([a-z_]+)="([^"]*)"', labels):
                known.setdefault(label, set()).add(value)
    return found


def expressions():
    """(where, PromQL) of all panels, variables and alerts."""
    with open(os.path.join(HERE, "dashboard.json"), encoding="utf-8") as file:
        dashboard = json.load(file)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']!r}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield (f"variable {variable['name']!r}",
                   variable["query"]["query"])
    with open(os.path.join(HERE, "alerts.yaml"), encoding="utf-8") as file:
        for group in yaml.safe_load(file)["groups"]:
            for rule in group["rules"]:
                yield f"alert {rule['alert']!r}", rule["expr"]


def missing(metrics):
    """Sentences that say what is named and not told."""
    for where, expression in expressions():
        for name in sorted(set(NAME.findall(expression))):
            if name not in metrics:
                yield f"{where}: there is no metric {name}"
        for name, matchers in SELECTOR.findall(expression):
            for label, operator, value in MATCHER.findall(matchers):
                known = metrics.get(name, {}).get(label)
                if label in ADDED or name not in metrics:
                    continue
                if known is None:
                    yield f"{where}: {name} has no label {label}"
                elif operator == "=" and value not in known or (
                        operator == "=~" and not all(
                            any(re.fullmatch(part, one) for one in known)
                            for part in value.split("|"))):
                    yield f"{where}: {name} never has {label}={value!r}"


def main(paths):
    if not paths:
        sys.exit(__doc__)
    pages = []
    for path in paths:
        if path == "-":
            pages.append(sys.stdin.read())
        else:
            with open(path, encoding="utf-8") as file:
                pages.append(file.read())
    faults = list(missing(told(pages)))
    print("\n".join(faults) or "ops: every metric that is named is told")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
