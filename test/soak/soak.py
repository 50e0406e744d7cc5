#!/usr/bin/python3
"""Hostile clients against the whole server, beside clients that must not notice.

usage: soak.py [--seconds 60] [--seed N] [--attackers 4] [--churn]

Attackers (attack.py) send spoilt requests, frames and commands. Witnesses of
each kind see that the promises hold meanwhile: each publication is taken, and
each subscriber gets all of them, once and in order; one of them comes back
again and again and goes on where it was. --churn adds clients of all kinds that
come, read a little, resume, stall and go. At the end the descriptors are those
of the beginning, the memory nearly, and the process ends well.
"""
import argparse
import os
import random
import re
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path += [os.path.join(ROOT, *folder) for folder in (
    ("test", "integration"), ("scripts", "api"), ("test", "soak"))]

from attack import Attacker  # noqa: E402
from client import (DEADLINE, EventStream, Http, WebSocket,  # noqa: E402
                    sub_target)
from program import Server  # noqa: E402

FLAVOUR = os.environ.get("FLAVOUR", "release")
PUBLISHER, TOPIC = "witness", "numbers"
EVERY = 0.05  # seconds between publications: HISTORY_SIZE covers 3 s
HISTORY_TTL = 20
# What is measured at the end is what is left once history is too old, which
# takes a second more, and the allocator has given back what it can.
RSS_SLACK = 8 << 20
FORGETTING = HISTORY_TTL + 30
# Gauges of what clients have, which is nothing once they have gone.
EMPTY = ("isimud_history_bytes", "isimud_history_forms_bytes",
         "isimud_replay_bytes", "isimud_subscriptions",
         "isimud_subscriptions_behind", "isimud_buffered_bytes",
         "isimud_topics")
# The answer to whatever came, or to nothing at all.
ANSWER = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] ")


class Run:
    def __init__(self, args):
        self.args = args
        self.server = Server(
            WORKERS=2, HEADER_TIMEOUT=1, BODY_TIMEOUT=2, IDLE_TIMEOUT=5,
            PING_INTERVAL=5, CLOSE_TIMEOUT=1, MAX_BODY="128K",
            MAX_BUFFERED="256K", HISTORY_TTL=HISTORY_TTL)
        self.stopping = threading.Event()  # of those who come and go
        self.ending = threading.Event()    # of the publisher, after them
        self.faults = []
        self.lock = threading.Lock()
        self.counts = {}
        self.sent = 0        # the last number published
        self.slowest = 0.0   # seconds for a publication

    def fault(self, text):
        with self.lock:
            self.faults.append(text)
            self.stopping.set()

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def thread(self, act, *args):
        def run():
            try:
                act(*args)
            except Exception as error:
                self.fault(f"{act.__name__}: {error!r}")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    # --- who attacks

    def attack(self, number):
        attacker = Attacker(random.Random(self.args.seed * 1000 + number))
        while not self.stopping.is_set():
            said = attacker.run(self.server.address)
            self.count("attacks")
            if said and not ANSWER.match(said):
                raise AssertionError(f"not an answer: {said!r:.200}")

    # --- who must not notice

    def publish(self):
        """Numbers, and at last the word "end"."""
        http = Http(self.server.address)
        while not self.ending.wait(EVERY):
            began = time.monotonic()
            response = http.publish(PUBLISHER, TOPIC, str(self.sent + 1))
            assert response.status == 200, response.body
            self.sent += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
        assert http.publish(PUBLISHER, TOPIC, "end").status == 200
        http.close()

    def follow(self, receive, last=0, count=1 << 60):
        """All numbers, in order, up to `count` of them. Returns the last one,
        None if the end has come."""
        while count > 0:
            got = receive()
            if got == "end":
                assert last == self.sent, f"the end came after {last}"
                return None
            assert int(got) == last + 1, f"{got} came after {last}"
            last = int(got)
            count -= 1
            self.count("received")
        return last

    def witness_raw(self, ready):
        socket = WebSocket(self.server.address)
        socket.subscribe(PUBLISHER, TOPIC)
        ready.release()
        self.follow(socket.receive)
        socket.close()

    def witness_session(self, ready):
        socket = WebSocket(self.server.address, subprotocols=["isimud.v1"])
        socket.command("subscribe", publisher=PUBLISHER, topic=TOPIC)
        ready.release()
        self.follow(lambda: socket.receive_json()["data"])
        socket.close()

    def witness_stream(self, ready):
        stream = EventStream(self.server.address, sub_target(PUBLISHER, TOPIC))
        ready.release()
        self.follow(lambda: stream.event().data)
        stream.close()

    def witness_returning(self, ready):
        """Goes on where it was, after each few messages."""
        rng = random.Random(self.args.seed)
        stream = EventStream(self.server.address, sub_target(PUBLISHER, TOPIC))
        ready.release()
        last = 0
        while (last := self.follow(lambda: stream.event().data, last,
                                   rng.randrange(1, 20))) is not None:
            stream.reconnect()
            self.count("returns")
        stream.close()

    # --- who comes and goes

    def churn(self, number):
        rng = random.Random(self.args.seed * 7777 + number)
        acts = [self.visit_raw, self.visit_session, self.visit_stream,
                self.visit_stalled, self.visit_topics]
        while not self.stopping.is_set():
            rng.choice(acts)(rng)
            self.count("visits")

    @staticmethod
    def consecutive(numbers):
        numbers = [int(number) for number in numbers]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), (
            numbers)
        return numbers

    def visit_raw(self, rng):
        socket = WebSocket(self.server.address, target=sub_target(
            PUBLISHER, TOPIC))
        self.consecutive(socket.receive() for _ in range(3))
        socket.abort() if rng.random() < 0.5 else socket.close()

    def visit_session(self, rng):
        """Comes back with `since`."""
        def subscribe(**members):
            socket = WebSocket(self.server.address,
                               subprotocols=["isimud.v1"])
            answer = socket.command("subscribe", publisher=PUBLISHER,
                                    topic=TOPIC, **members)
            assert answer["type"] == "subscribed", answer
            return socket, answer

        socket, _ = subscribe()
        messages = [socket.receive_json() for _ in range(2)]
        socket.close()
        socket, answer = subscribe(since=messages[-1]["id"])
        assert answer["resumed"] is True, answer
        messages += [socket.receive_json() for _ in range(2)]
        self.consecutive(message["data"] for message in messages)
        socket.close()

    def visit_stream(self, rng):
        stream = EventStream(self.server.address, sub_target(PUBLISHER, TOPIC))
        first = [stream.event().data for _ in range(2)]
        stream.reconnect()
        self.consecutive(first + [stream.event().data for _ in range(2)])
        stream.close()

    def visit_stalled(self, rng):
        """Subscribes to what is much, and does not read."""
        topic = f"much{rng.randrange(4)}"
        socket = WebSocket(self.server.address, rcvbuf=4096,
                           target=sub_target("churn", topic))
        http = Http(self.server.address)
        for _ in range(20):
            response = http.publish("churn", topic, "x" * 60000)
            assert response.status in (200, 503), response.body
        http.close()
        socket.abort()

    def visit_topics(self, rng):
        """Many topics over one connection, then none."""
        socket = WebSocket(self.server.address, subprotocols=["isimud.v1"])
        names = [f"t{rng.randrange(1 << 30)}" for _ in range(40)]
        for act in ("subscribe", "unsubscribe"):
            for name in names:
                answer = socket.command(act, publisher="churn", topic=name)
                assert answer["type"] == act + "d", answer
        socket.close()

    # --- all of it

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))

    def warm_up(self):
        """What the server keeps is made by the first clients."""
        attacker = Attacker(random.Random(self.args.seed))
        for _ in range(200):
            attacker.run(self.server.address)
        self.server.wait_until_empty()
        return self.descriptors(), self.server.rss_bytes()

    def run(self):
        descriptors, rss = self.warm_up()
        ready = threading.Semaphore(0)
        witnesses = [self.thread(witness, ready) for witness in (
            self.witness_raw, self.witness_session, self.witness_stream,
            self.witness_returning)]
        for _ in witnesses:
            assert ready.acquire(timeout=DEADLINE), self.faults
        witnesses.append(self.thread(self.publish))
        others = [self.thread(self.attack, i)
                  for i in range(self.args.attackers)]
        if self.args.churn:
            others += [self.thread(self.churn, i) for i in range(3)]
        self.wait()
        self.stopping.set()
        self.join(others)
        self.ending.set()
        self.join(witnesses)
        self.end(descriptors, rss)

    def join(self, threads):
        for thread in threads:
            thread.join(4 * DEADLINE)
            if thread.is_alive():
                self.fault("a thread waits for something that does not come")

    def wait(self):
        """To the end of the time, or the first fault."""
        began = told = time.monotonic()
        while not self.stopping.wait(0.5):
            now = time.monotonic()
            if self.server.process.poll() is not None:
                self.fault("the server has ended")
            if now - began >= self.args.seconds:
                return
            if now - told >= 60:
                told = now
                print(f"soak: {int(now - began)} s, {self.counts}, "
                      f"{self.server.rss_bytes() >> 20} MiB", flush=True)

    def least_rss(self, enough):
        """The resident set once it has at most `enough` bytes, or time is up.
        """
        end = time.monotonic() + FORGETTING
        while (after := self.server.rss_bytes()) > enough:
            if time.monotonic() > end:
                break
            time.sleep(0.5)
        return after

    def look_at_metrics(self):
        """Nothing is left that clients had: gauges are 0 once all have gone,
        but for who asks."""
        left = {}
        end = time.monotonic() + FORGETTING
        while time.monotonic() < end:
            left = {name: value for name, value
                    in self.server.metrics().items()
                    if value and name.partition("{")[0] in EMPTY}
            if not left:
                return
            time.sleep(0.5)
        self.fault(f"something is left: {left}")

    def end(self, descriptors, rss):
        if self.server.process.poll() is None and not self.faults:
            self.server.wait_until_empty()
            self.server.wait_until(
                lambda: self.descriptors() <= descriptors,
                f"the {descriptors} descriptors of the beginning")
            after = self.least_rss(rss + RSS_SLACK)
            print(f"soak: {rss / (1 << 20):.1f} MiB at first, "
                  f"{after / (1 << 20):.1f} MiB at last")
            self.look_at_metrics()
            if FLAVOUR == "release" and after > rss + RSS_SLACK:
                self.fault(f"memory grew from {rss} to {after} bytes")
        try:
            self.server.stop()
        except AssertionError as error:
            self.fault(f"{error!s:.6000}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int,
                        default=random.SystemRandom().randrange(1 << 16))
    parser.add_argument("--attackers", type=int, default=4)
    parser.add_argument("--churn", action="store_true")
    args = parser.parse_args()
    print(f"soak: seed {args.seed}, {args.seconds} s, {FLAVOUR}", flush=True)
    run = Run(args)
    try:
        run.run()
    except Exception as error:
        run.fault(repr(error))
        run.server.kill()
    for fault in run.faults:
        print(f"FAULT: {fault}")
    counts = ", ".join(f"{n} {what}" for what, n in sorted(run.counts.items()))
    print(f"soak: {run.sent} published, {counts}, slowest publication "
          f"{run.slowest * 1000:.0f} ms, {len(run.faults)} faults")
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
