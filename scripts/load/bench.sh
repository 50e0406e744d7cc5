#!/bin/sh
# Measures isimud beside the kernel's own limit (rawfan) and beside the peers
# that are installed, in one run; prints one table, and writes build/bench/
# results.json, which `make bench-plot` draws README's figure from.
# usage: make bench   (which builds, then runs scripts/load/bench.sh)
#
# Environment:
#   ROUNDS=1         3 gives medians; each round starts every server afresh.
#                    One round takes about three minutes.
#   BENCH_ONLY=      figures to measure, by key or its first word, for example
#                    "fanout idle": fanout-w1 fanout-w64 fanout-w128 fanout-1k
#                    many publish-1 publish-16 latency idle storm stalled
#                    v1-w64 v1-idle sse-w1 sse-w64 sse-idle
#   PEERS="nchan nats"   servers to compare with, of nchan nats mosquitto
#                    centrifugo mercure isimud_rs; default: those installed,
#                    nchan and nats are; empty: none
#   ISIMUD=build/isimud  the binary; empty: only the peers
#   IDLE_SUBS=19000  subscribers of the idle figure, less if the file limit is
#                    lower
#
# `isimud bench` of this tree measures (test/bench/README.md says how), for peers
# with the dialects of test/bench/peers.c. build/bench/results.jsonl keeps every
# single figure, and the servers' logs lie beside it. The figures are:
#   - fan-out and many: CPU seconds the server used for a million deliveries,
#     all threads, kernel included; beside it deliveries/s, which on two CPUs
#     the generator limits (marked *), for one worker against the default.
#   - rawfan sends as many frames per system call as are published in one burst,
#     half its window: 32 for a window of 64, 64 for 128. A server that
#     falls behind finds more than one burst waiting and may get below 1.
#   - the ratio is to rawfan where it has the figure, else to the best peer.
#   - aims were set on the reference machine (2 cores); compare ratios elsewhere.
# A figure measured while other processes used over 0.2 cores is marked ~.
#
# Exit status: 0; 1 if a check of isimud failed (messages lost, doubled, out of
# order or damaged, publications refused, or the server gone); 2 if nothing
# could be measured. A peer's failure is shown and changes neither.
set -eu
cd "$(dirname "$0")/../.."

scripts/build/deps.sh bench
ISIMUD=${ISIMUD-build/isimud}
export ISIMUD

mkdir -p build/bench
ulimit -n "$(ulimit -Hn)"
exec python3 scripts/load/bench.py
