#!/usr/bin/python3
"""Random faults in a cluster, beside clients that keep a ledger.

usage: soak.py [--seconds 600] [--seed N] [--storage file|memory]

Three nodes and three NATS servers; publishers at all nodes, one of them with
keys; subscribers of every kind that roam. One after the other, each fault of
test/integration/faults.py breaks something and mends it, at times one of a node
together with one of the servers. At the end the ledger must balance: one order,
nothing twice, each 200 delivered to every subscriber or covered by a reset that
it was told of; and nodes that lived through all of it end well, with no
descriptor and hardly any memory more.
"""
import argparse
import collections
import os
import random
import sys
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path += [os.path.join(ROOT, *folder) for folder in (
    ("test", "integration"), ("scripts", "api"))]

import faults  # noqa: E402
from client import SCALE  # noqa: E402
from cluster import (CAN_CUT, KEEPS_WHAT_IT_ACKS, Cluster, Node,  # noqa: E402
                     nats_version)

RSS_SLACK = 64 << 20


def possible():
    return [name for name in faults.FAULTS
            if (CAN_CUT or name not in faults.NEED_IPTABLES) and
            (KEEPS_WHAT_IT_ACKS or name not in faults.NEED_CARE)]


def is_of_node(name):
    return name.startswith("node")


class Run:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.nodes = []
        self.begun = time.monotonic()
        self.counts = collections.Counter()
        self.one = Cluster(self.start_node, storage=args.storage,
                           DRAIN_SECONDS=1, HISTORY_SIZE=10000)
        self.one.random = self.random

    def start_node(self, nats, **settings):
        self.nodes.append(Node(nats, **settings))
        return self.nodes[-1]

    def say(self, text):
        print(f"{time.monotonic() - self.begun:6.1f} {text}", flush=True)

    def fault(self, name, hold):
        self.counts[name] += 1
        faults.run(self.one, name, hold)

    def fault_beside(self, name, hold):
        """Of a node, on a thread; what it raises is its result."""
        result = []

        def run():
            try:
                self.fault(name, hold)
            except Exception:
                result.append(traceback.format_exc())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread, result

    def turn(self):
        names = possible()
        name = self.random.choice(names)
        hold = self.random.choice((0.5, 2, 4, 8))
        beside = None
        if not is_of_node(name) and self.random.random() < 0.3:
            other = self.random.choice(("node_frozen", "node_slow"))
            beside = self.fault_beside(other, self.random.choice((1, 3)))
            self.say(f"{name} for {hold} s, and {other}")
        else:
            self.say(f"{name} for {hold} s")
        self.fault(name, hold)
        if beside:
            beside[0].join(120 * SCALE)
            assert not beside[1], beside[1][0]
        self.one.publishes(30, 90 * SCALE)

    def run(self):
        self.one.begin(self.args.seed, pause=0.03)
        self.one.publishes(100, 60 * SCALE)
        while time.monotonic() < self.begun + self.args.seconds:
            self.turn()
        self.say("the end")
        self.one.end()
        self.tell()
        for node in self.one.nodes:
            node.stop()

    def tell(self):
        ledger = self.one.ledger
        statuses = collections.Counter(
            outcome[0] for outcome in ledger.outcomes.values())
        kinds = collections.Counter()
        resets = collections.Counter()
        for s in ledger.subscribers:
            kind = type(s).__name__.lower()
            kinds[kind] += len(s.tags)
            resets[kind] += sum(e == ("reset",) for e in s.told)
        self.say(f"faults: {dict(self.counts)}")
        self.say(f"answers to publications (0: none): {dict(statuses)}; "
                 f"repeated with their key: "
                 f"{sum(p.repeated for p in ledger.publishers)}")
        again = sum(getattr(s, "told_again", 0) for s in ledger.subscribers)
        self.say(f"deliveries: {dict(kinds)}; resets told: {dict(resets)}; "
                 f"told again to raw clients by a node behind: {again}")
        for node in self.one.nodes:
            metrics = node.metrics()
            self.say("node: " + ", ".join(
                f"{name} {metrics['isimud_bus_' + name]:.0f}" for name in (
                    "applied_sequence", "epochs_total", "lost_records_total",
                    "divergences_total", "unknown_total", "resends_total",
                    "pending_bytes")) +
                f", own memory {node.own_bytes() >> 20} MiB, "
                f"{len(os.listdir(f'/proc/{node.pid}/fd'))} descriptors")
            assert metrics["isimud_bus_pending_bytes"] == 0
            assert metrics["isimud_bus_up"] == 1

    def stop(self):
        try:
            self.one.stop()
        finally:
            for node in self.nodes:
                node.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int,
                        default=int.from_bytes(os.urandom(2), "big"))
    parser.add_argument("--storage", choices=("file", "memory"),
                        default="file")
    args = parser.parse_args()
    print(f"seed {args.seed}; nats-server "
          f"{'.'.join(map(str, nats_version()))}; {args.storage}; faults: "
          f"{', '.join(possible())}", flush=True)
    run = Run(args)
    try:
        run.run()
    except BaseException:
        for node in run.nodes:
            tail = "\n".join(node.lines[-30:])
            print(f"--- node {node.address}\n{tail}", file=sys.stderr)
        raise
    finally:
        run.stop()
    print("balanced")


if __name__ == "__main__":
    main()
