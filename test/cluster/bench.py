#!/usr/bin/python3
"""Several nodes beside one: rates, latencies, what a node costs that only
listens, how soon a killed node's subscribers are live elsewhere, how long a node
takes to start.

usage: bench.py [--seconds 4]

All of it on one machine, clients and NATS servers too: compare the columns with
each other, not with other machines.
"""
import argparse
import json
import os
import select
import socket
import statistics
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path += [os.path.join(ROOT, *folder) for folder in (
    ("test", "integration"), ("scripts", "api"))]

from client import EventStream, WebSocket, basic, sub_target  # noqa: E402
from cluster import Cluster, Node, nats_version  # noqa: E402
from program import Server  # noqa: E402

TEXT = 64 * "x"
ANSWER = b"HTTP/1.1 200"


def request(batch):
    one = {"topic": "news", "data": TEXT}
    body = json.dumps(batch * [one] if batch > 1 else one).encode()
    return (b"POST /pub HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (basic("alice").encode(), len(body), body))


class Load(threading.Thread):
    """Publishes on `connections` connections of one node, `depth` requests on
    the way on each, each of a batch of so many. Times are from one write to
    the last of its answers."""

    def __init__(self, address, connections, depth, batch, end):
        super().__init__(daemon=True)
        self.batch, self.text = batch, depth * request(batch)
        self.sockets = [socket.create_connection(address, 5)
                        for _ in range(connections)]
        for s in self.sockets:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.depth, self.end = depth, end
        self.count, self.times = 0, []

    def run(self):
        begun = {}
        waiting = {s: b"" for s in self.sockets}
        for s in self.sockets:
            begun[s] = time.monotonic()
            s.sendall(self.text)
        while time.monotonic() < self.end:
            for s in select.select(self.sockets, [], [], 0.5)[0]:
                waiting[s] += s.recv(1 << 20)
                if waiting[s].count(b"subscribers\":") < \
                        self.depth * self.batch or \
                        waiting[s][-1:] not in b"}]":
                    continue
                if self.batch > 1 and waiting[s][-1:] != b"]":
                    continue
                assert waiting[s].count(ANSWER) == self.depth, waiting[s][:300]
                waiting[s] = b""
                now = time.monotonic()
                self.times.append(now - begun[s])
                self.count += self.depth * self.batch
                begun[s] = now
                s.sendall(self.text)
        for s in self.sockets:
            s.close()


def publish(nodes, seconds, connections, depth=1, batch=1):
    """(publications/s, p50, p99 in ms) over all nodes."""
    end = time.monotonic() + seconds
    loads = [Load(node.address, connections, depth, batch, end)
             for node in nodes]
    for load in loads:
        load.start()
    for load in loads:
        load.join()
    times = sorted(t for load in loads for t in load.times)
    return (sum(load.count for load in loads) / seconds,
            1000 * statistics.median(times),
            1000 * times[int(len(times) * 0.99)])


def row(name, *cells):
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def rates(name, nodes, seconds):
    one = publish(nodes[:1], seconds, 1)
    many = publish(nodes, seconds, 96 // len(nodes))
    batches = publish(nodes, seconds, 12 // len(nodes), batch=100)
    row(name, f"{one[0]:,.0f}", f"{one[1]:.2f} / {one[2]:.2f}",
        f"{many[0]:,.0f}", f"{many[1]:.1f} / {many[2]:.1f}",
        f"{batches[0]:,.0f}")


class Readers(threading.Thread):
    """WebSockets that count what they get, by bytes."""

    def __init__(self, address, count):
        super().__init__(daemon=True)
        self.sockets = []
        for _ in range(count):
            client = WebSocket(address)
            client.subscribe("alice", "news")
            self.sockets.append(client.socket)
        self.bytes, self.is_over = 0, False
        self.start()

    def run(self):
        poll = select.epoll()
        by_fd = {s.fileno(): s for s in self.sockets}
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        while not self.is_over:
            for fd, _ in poll.poll(0.2):
                self.bytes += len(by_fd[fd].recv(1 << 20))


def deliveries(name, nodes, seconds, subscribers=300):
    readers = [Readers(node.address, subscribers // len(nodes))
               for node in nodes]
    end = time.monotonic() + seconds
    load = Load(nodes[0].address, 4, 1, 25, end)
    load.start()
    load.join()
    time.sleep(1)
    for reader in readers:
        reader.is_over = True
        reader.join()
    frame = 2 + len(TEXT)
    got = sum(reader.bytes for reader in readers) // frame
    row(name, f"{load.count / seconds:,.0f}", f"{got / seconds:,.0f}")


def idle_cost(one, seconds):
    """CPU microseconds a record, and a publication, on a node that has neither
    publishers nor subscribers."""
    idle = one.nodes[2]
    for batch in (1, 32):
        before = idle.cpu_seconds(), records(idle)
        publish(one.nodes[:2], seconds, 8, batch=batch)
        one.wait_until(lambda: records(idle) == records(one.nodes[0]),
                       "it has all")
        cpu = idle.cpu_seconds() - before[0]
        after = records(idle)
        n = [after[i] - before[1][i] for i in range(2)]
        print(f"idle node, {n[1] / n[0]:.1f} publications a record: "
              f"{1e6 * cpu / n[0]:.1f} us a record, "
              f"{1e6 * cpu / n[1]:.2f} us a publication", flush=True)


def records(node):
    metrics = node.metrics()
    return (metrics['isimud_bus_records_total{direction="in"}'],
            metrics['isimud_bus_publications_total{direction="in"}'])


def fail_over(one, subscribers=200):
    """Seconds from a node's SIGKILL to the last of its subscribers, which come
    back at once at the others, being live there."""
    publish(one.nodes[:1], 0.5, 1)
    streams = [EventStream(one.nodes[2].address,
                           sub_target("alice", "news"))
               for _ in range(subscribers)]
    ids = [stream.expect_id() for stream in streams]
    begin = time.monotonic()
    one.kill_node(2)
    for i, stream in enumerate(streams):
        stream.close()
        stream.address = one.nodes[i % 2].address
        stream.last_event_id = ids[i]
        stream.reconnect()
        stream.expect_id()
    took = time.monotonic() - begin
    print(f"{subscribers} subscribers of a killed node are live elsewhere "
          f"after {1000 * took:.0f} ms (one client process, one after the "
          "other)", flush=True)


def warm_up(one, wanted=100000):
    """Seconds until a new node is ready, with so many records to read."""
    begin_records = records(one.nodes[0])[0]
    while records(one.nodes[0])[0] - begin_records < wanted:
        publish(one.nodes[:1], 2, 32)
    begin = time.monotonic()
    node = one.start_node()
    took = time.monotonic() - begin
    metrics = node.metrics()
    print(f"a new node is ready after {took:.2f} s, "
          f"{metrics['isimud_bus_warm_up_seconds']:.2f} s of it for "
          f"{records(node)[0]:,.0f} records, "
          f"{records(node)[1]:,.0f} publications", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4)
    seconds = parser.parse_args().seconds
    nodes, clusters = [], []

    def start(nats, **settings):
        nodes.append(Node(nats, **settings))
        return nodes[-1]

    def cluster(**settings):
        clusters.append(Cluster(start, HISTORY_TTL=600, BUS_PENDING="64M",
                                **settings))
        return clusters[-1]

    print(f"nats-server {'.'.join(map(str, nats_version()))}, "
          f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, 64 B")
    try:
        single = Server()
        nodes.append(single)
        r1 = cluster(nodes=1, servers=1)
        r3 = cluster(nodes=3, servers=3)
        row("publications/s", "one after the other", "ms p50 / p99",
            "96 connections", "ms p50 / p99", "12, batches of 100")
        row(*6 * ["---"])
        rates("one process", [single], seconds)
        rates("one node, one NATS server (R1)", r1.nodes, seconds)
        rates("three nodes, three NATS servers (R3)", r3.nodes, seconds)
        print()
        row("300 subscribers", "publications/s", "deliveries/s")
        row(*3 * ["---"])
        deliveries("one process", [single], seconds)
        deliveries("three nodes, R3", r3.nodes, seconds)
        print()
        idle_cost(r3, seconds)
        fail_over(r3)
        warm_up(r3)
        print(f"load at the end {os.getloadavg()[0]:.1f}")
    finally:
        for node in nodes:
            node.kill()
        for one in clusters:
            one.stop()


if __name__ == "__main__":
    main()
