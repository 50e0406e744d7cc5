#!/usr/bin/python3
"""Draws test/bench/figure.svg, README's figure, from `make bench`'s results.

usage: bench_plot.py [RESULTS.json [FIGURE.svg]]    (make bench-plot)

A panel for each figure, a bar for each server that has it; shorter is better, on
a logarithmic scale, since peers differ by tens of times.
"""
import html
import json
import math
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
PANELS = [  # a figure's key, its field, title, unit
    ("fanout-w1", "cpu_s_per_million", "Fan-out, one by one", "CPU us"),
    ("fanout-w64", "cpu_s_per_million", "Fan-out, in bursts", "CPU us"),
    ("sse-w1", "cpu_s_per_million", "Event streams, one by one", "CPU us"),
    ("latency", "p99_us", "Latency p99 at 100,000/s", "us"),
    ("idle", "rss_per_connection", "Memory, idle subscriber", "bytes"),
    ("idle", "cpu_us_per_connect", "Connecting", "CPU us"),
]
NAMES = {"isimud_rs": "original", "nats": "NATS", "nchan": "Nchan",
         "centrifugo": "Centrifugo", "mercure": "Mercure",
         "mosquitto": "Mosquitto"}
LEFT_OUT = ("rawfan", "isimud 1 worker")
WIDTH, ROW, LABEL, BAR = 420, 20, 90, 230
STYLE = """
text { font: 12px sans-serif; fill: #333 }
.title { font-weight: bold }
.bar { fill: #9ab }
.isimud { fill: #c60 }
@media (prefers-color-scheme: dark) {
 text { fill: #ddd } .bar { fill: #678 } .isimud { fill: #f93 } }
"""


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def panel(x, y, title, unit, values):
    """The SVG of one panel, and its height."""
    out = [f'<text class="title" x="{x}" y="{y + 14}">{html.escape(title)}'
           f' ({unit})</text>']
    low = min(values.values()) / 3
    span = math.log(max(values.values()) / low)
    at = y + 22
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        length = BAR * math.log(value / low) / span
        kind = "bar isimud" if name == "isimud" else "bar"
        out += [f'<text x="{x}" y="{at + 13}">{NAMES.get(name, name)}</text>',
                f'<rect class="{kind}" x="{x + LABEL}" y="{at + 2}" '
                f'width="{length:.0f}" height="{ROW - 6}"/>',
                f'<text x="{x + LABEL + length + 5:.0f}" y="{at + 13}">'
                f'{number(value)}</text>']
        at += ROW
    return out, at - y


def draw(results):
    rows = {(r["key"], r["field"]): r["values"] for r in results["rows"]}
    body, y, in_line = [], 10, []
    for key, field, title, unit in PANELS:
        values = {name: v for name, v in rows.get((key, field), {}).items()
                  if name not in LEFT_OUT and v > 0}
        if len(values) < 2:
            continue
        svg, height = panel(10 + WIDTH * len(in_line), y, title, unit, values)
        body += svg
        in_line.append(height)
        if len(in_line) == 2:
            y += max(in_line) + 16
            in_line = []
    if in_line:
        y += in_line[0] + 16
    note = (f"{results['time']}, {results['cpus']} CPUs, shorter is better, "
            "logarithmic scale; made by make bench-plot")
    body.append(f'<text x="10" y="{y + 12}">{note}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" '
            f'height="{y + 24}" role="img" aria-label="isimud beside other '
            f'servers"><style>{STYLE}</style>' + "\n".join(body) + "</svg>\n")


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else \
        os.path.join(ROOT, "build", "bench", "results.json")
    target = sys.argv[2] if len(sys.argv) > 2 else \
        os.path.join(ROOT, "test", "bench", "figure.svg")
    try:
        with open(source) as f:
            results = json.load(f)
    except OSError as error:
        sys.exit(f"bench_plot: {error}; run `make bench` first")
    svg = draw(results)
    with open(target, "w") as f:
        f.write(svg)
    print(f"bench_plot: {os.path.relpath(target, ROOT)}")


if __name__ == "__main__":
    main()
