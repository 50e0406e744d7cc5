"""Several nodes, their NATS servers, and clients that keep a ledger.

Publishers note what each publication was answered; subscribers note what they
were told. Ledger.check() holds one against the other, from the clients' side:
order, nothing twice, every 200 delivered to every subscriber or covered by a
reset that it was told of, and nothing delivered that was refused.
"""
import http.client
import json
import os
import random
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest

from client import (CLOSE, DEADLINE, PASSWORD, SCALE, TEXT, Closed, WebSocket,
                    basic)
from program import ROOT, Server
from session import ASYNCAPI

SCRIPT = os.path.join(ROOT, "test", "cluster", "nats.sh")
NATS = os.environ.get("NATS_SERVER", "nats-server")
HAS_NATS = shutil.which(NATS) is not None


def nats_version():
    """(2, 9, 10), or () without the program."""
    if not HAS_NATS:
        return ()
    text = subprocess.run([NATS, "--version"], stdout=subprocess.PIPE,
                          text=True, check=True).stdout
    return tuple(int(n) for n in re.findall(r"\d+", text)[:3])


# Older ones can acknowledge what they lose, when they are cut off or frozen.
KEEPS_WHAT_IT_ACKS = nats_version() >= (2, 10, 23)
marks = [
    pytest.mark.skipif(not HAS_NATS, reason=f"no {NATS}"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it runs one thread at a time")]
CAN_CUT = os.geteuid() == 0 and shutil.which("iptables") is not None
PUBLISHER, TOPIC = "alice", "news"


def stream_config(**more):
    """As BUS_CREATE makes it."""
    return {"name": "ISIMUD", "subjects": ["isimud.log.>"],
            "retention": "limits", "discard": "old", "storage": "file",
            "deny_delete": True, "max_msgs": -1, "max_msgs_per_subject": -1,
            "max_bytes": -1, "max_age": 120 * 10**9, "max_msg_size": -1,
            "duplicate_window": 30 * 10**9, **more}


def free_base(count):
    """A port behind which `count` ports are free, and those 200 above."""
    for _ in range(50):
        base = random.randrange(15000, 29000)
        try:
            for port in [base + i for i in range(1, count + 1)] + \
                        [base + 200 + i for i in range(1, count + 1)]:
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Nats:
    """Servers with JetStream in one cluster, by test/cluster/nats.sh."""

    def __init__(self, count=3):
        # The servers run as users of their own (nats.sh), so not in tmp_path.
        self.top = tempfile.mkdtemp(prefix="isimud-nats-")
        os.chmod(self.top, 0o755)
        self.folder, self.count = os.path.join(self.top, "nats"), count
        base = free_base(count)
        self.urls = [f"nats://127.0.0.1:{base + i}"
                     for i in range(1, count + 1)]
        self.run("start", str(count), str(base))
        self.url = ",".join(self.urls)

    def ask(self, subject, body=b"", server=0):
        """The answer to a request, as JSON; or None if there was none."""
        host, port = self.urls[server].removeprefix("nats://").split(":")
        with socket.create_connection((host, int(port)), 1) as s:
            s.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n'
                      b"PUB %s answer %d\r\n%s\r\n" % (
                          subject.encode(), len(body), body))
            stream = s.makefile("rb")
            try:
                while not (line := stream.readline()).startswith(b"MSG "):
                    if not line:
                        return None
                return json.loads(stream.read(int(line.split()[-1])))
            except TimeoutError:
                return None

    def make_stream(self, config):
        """Asks until the servers have a leader; returns the answer."""
        end = time.monotonic() + 4 * DEADLINE
        while True:
            answer = self.ask("$JS.API.STREAM.CREATE." + config["name"],
                              json.dumps(config).encode())
            # Some servers may not have heard of each other yet (10005).
            error = (answer or {}).get("error", {})
            if answer and error.get("code") != 503 and \
                    error.get("err_code") != 10005:
                return answer
            assert time.monotonic() < end, answer
            time.sleep(0.1)

    def settle(self):
        """Waits until all servers know each other: before, a node that makes
        the stream is told that there are not enough of them."""
        answer = self.make_stream({"name": "PROBE", "subjects": ["probe"],
                                   "num_replicas": self.count})
        assert "error" not in answer, answer
        self.ask("$JS.API.STREAM.DELETE.PROBE")

    def leader(self):
        """The number of the server that leads the stream."""
        for _ in range(50):
            for server in range(self.count):
                try:
                    answer = self.ask("$JS.API.STREAM.INFO.ISIMUD",
                                      server=server)
                except OSError:
                    continue
                name = ((answer or {}).get("cluster") or {}).get("leader")
                if name:
                    return int(name.removeprefix("n"))
            time.sleep(0.2)
        raise AssertionError("the stream has no leader")

    def run(self, command, *arguments):
        with open(self.folder + ".out", "ab") as out:
            subprocess.run(["bash", SCRIPT, command, self.folder,
                            *map(str, arguments)], stdout=out, stderr=out,
                           stdin=subprocess.DEVNULL, timeout=60, check=True)

    def wait_for_end(self, number):
        """Until server `number`, that was told to end, has."""
        with open(f"{self.folder}/{number}.pid", encoding="ascii") as file:
            pid = int(file.read())
        end = time.monotonic() + 4 * DEADLINE
        while is_running(pid):
            assert time.monotonic() < end, f"server {number} does not end"
            time.sleep(0.05)

    def stop(self):
        self.run("stop")
        shutil.rmtree(self.top, ignore_errors=True)


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        # tag: (status, id or why not, when it was answered)
        self.outcomes = {}
        self.subscribers = []
        self.publishers = []

    def note(self, tag, status, answer):
        with self.lock:
            self.outcomes[tag] = (status, answer, time.monotonic())

    def count(self, status):
        with self.lock:
            return sum(1 for o in self.outcomes.values() if o[0] == status)

    def check(self):
        for subscriber in self.subscribers:
            subscriber.check(self.outcomes)


def place_of(id):
    epoch, _, number = id.partition("-")
    return epoch, int(number)


class Worker(threading.Thread):
    def __init__(self, nodes, seed):
        super().__init__(daemon=True)
        self.nodes, self.random = nodes, random.Random(seed)
        self.is_stopping = False
        self.error = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # told by finish()
            self.error = error

    def node(self):
        """The address of a node that is up, as far as is known."""
        up = [node for node in self.nodes if node.is_up]
        return self.random.choice(up or self.nodes).address

    def finish(self):
        self.is_stopping = True
        self.join(6 * DEADLINE)
        assert not self.is_alive(), f"{self} does not end"
        if self.error:
            raise self.error


class Publisher(Worker):
    """Publishes one message after the other, to one node while it answers.
    With keys, what was not answered 200 is repeated at another node, with its
    key, until it is."""

    def __init__(self, ledger, nodes, name, seed, pause=0.01, has_keys=False):
        super().__init__(nodes, seed)
        self.ledger, self.label, self.pause = ledger, name, pause
        self.has_keys, self.repeated = has_keys, 0
        self.connection = None
        self.count = 0
        self.home = nodes[len(ledger.publishers) % len(nodes)]
        ledger.publishers.append(self)

    def work(self):
        while not self.is_stopping:
            self.count += 1
            tag = f"{self.label}.{self.count}"
            status, id = self.publish(tag)
            is_unknown = status in (0, 504)
            # Whoever is asked for the 200th time has refused for 10 s.
            for _ in range(200 if self.has_keys and status != 200 else 0):
                self.repeated += 1
                self.home = self.random.choice(self.nodes)
                self.connection = None
                status, id = self.publish(tag)
                is_unknown |= status in (0, 504)
                if status == 200:
                    break
            if is_unknown and status != 200:
                status, id = 0, None
            self.ledger.note(tag, status, id)
            if status == 200:
                time.sleep(self.pause)

    def publish(self, tag):
        try:
            if self.connection is None:
                address = self.home.address if self.home.is_up \
                    else self.node()
                self.connection = http.client.HTTPConnection(
                    *address, timeout=2 * DEADLINE)
            status, id = publish(self.connection, tag,
                                 tag if self.has_keys else None)
        except (OSError, http.client.HTTPException):
            status, id = 0, None  # unknown
            self.connection = None
        if status != 200:
            time.sleep(0.05)
        return status, id


def publish(connection, tag, key=None):
    fields = {"Authorization": basic(PUBLISHER),
              "Content-Type": "application/json"}
    if key:
        fields["Idempotency-Key"] = key
    connection.request("POST", "/pub", json.dumps(
        {"topic": TOPIC, "data": tag}), fields)
    response = connection.getresponse()
    body = response.read()
    if response.status == 200:
        return 200, json.loads(body)["id"]
    return response.status, body.decode()


class Subscriber(Worker):
    """Roams between nodes, with the last id it has seen. `told`: ("message",
    id, tag), ("reset",) and ("open",), in the order in which they came."""

    def __init__(self, ledger, nodes, seed, stay=(1, 4)):
        super().__init__(nodes, seed)
        self.stay = stay
        self.told = []
        self.last = None
        self.since = None  # when the first subscription was in force
        self.tags = set()
        self.ledger = ledger
        ledger.subscribers.append(self)

    def work(self):
        while not self.is_stopping:
            try:
                self.visit(self.node(),
                           time.monotonic() + self.random.uniform(*self.stay))
            except (OSError, ConnectionError, Closed, AssertionError,
                    EOFError) as error:
                if "promise" in str(error):
                    raise
                time.sleep(0.1)

    def target(self):
        query = {"publisher": PUBLISHER, "topic": TOPIC}
        if self.last:
            query["since"] = self.last
        return "/sub?" + urllib.parse.urlencode(query)

    def is_in_force(self):
        self.told.append(("open",))
        if self.since is None:
            self.since = time.monotonic()

    def take(self, id, tag):
        self.told.append(("message", id, tag))
        self.tags.add(tag)
        self.last = id

    def story(self):
        """What was told, ranges of messages as one."""
        story = []
        for event in self.told:
            if event[0] != "message":
                story.append(event[0])
            elif story and isinstance(story[-1], list):
                story[-1][1] = event[1]
            else:
                story.append([event[1], event[1]])
        return story

    def check(self, outcomes):
        segments = [[]]
        for event in self.told:
            if event[0] == "reset":
                segments.append([])
            elif event[0] == "message":
                segments[-1].append((place_of(event[1]), event[2]))
        for segment in segments:
            for (a, _), (b, _) in zip(segment, segment[1:]):
                assert a[0] == b[0], f"{self}: epoch {b} after {a}, untold"
                assert a[1] < b[1], f"{self}: {b} after {a}"
        tags = [tag for segment in segments for _, tag in segment]
        assert len(tags) == len(set(tags)), \
            f"{self}: something came twice: {self.story()}"
        for tag in tags:
            status, answer, _ = outcomes.get(tag, (0, None, 0))
            assert status != 503, f"{self}: {tag}, {answer}, was delivered"
        for segment in segments:
            for place, tag in segment:
                status, id, _ = outcomes.get(tag, (0, None, 0))
                assert status != 200 or place_of(id)[1] == place[1], \
                    f"{self}: {tag} is {place}, but the receipt says {id}"
        self.check_losses(outcomes, segments, set(tags))

    def check_losses(self, outcomes, segments, tags):
        for tag, (status, id, when) in outcomes.items():
            if status != 200 or tag in tags or self.since is None or \
                    when < self.since + 1:
                continue
            assert self.is_covered(place_of(id), segments), \
                f"{self}: {tag}, {id}, was answered 200 and never came; " \
                f"that id came with " \
                f"{[e[2] for e in self.told if e[1:2] == (id,)]}; " \
                f"others got it: {self.others_with(tag)}; {self.story()}"

    def others_with(self, tag):
        return [tag in other.tags for other in self.ledger.subscribers]

    @staticmethod
    def is_covered(place, segments):
        """Whether it lies where a reset was told."""
        if len(segments) == 1:
            return False
        for before, after in zip(segments, segments[1:]):
            ends = before[-1][0] if before else None
            begins = after[0][0] if after else None
            if ends is None or begins is None:
                return True
            if place[0] not in (ends[0], begins[0]):
                continue
            if place[0] == ends[0] and place[1] > ends[1] and (
                    begins[0] != ends[0] or place[1] < begins[1]):
                return True
            if place[0] == begins[0] and place[1] < begins[1] and \
                    ends[0] != begins[0]:
                return True
        seen = {p[0] for segment in segments for p, _ in segment}
        return place[0] not in seen


class Stream(Subscriber):
    """An event stream; what is chunked about it does not matter here."""

    def visit(self, address, until):
        with socket.create_connection(address, DEADLINE) as s:
            s.sendall(f"GET {self.target()} HTTP/1.1\r\nHost: x\r\n"
                      "Accept: text/event-stream\r\n\r\n".encode())
            self.buffer, self.type, self.id, self.data = b"", None, None, []
            self.is_open = self.is_refused = False
            while time.monotonic() < until and not self.is_stopping:
                if not select.select([s], [], [], 0.2)[0]:
                    continue
                more = s.recv(65536)
                if not more:
                    return
                self.buffer += more
                *lines, self.buffer = self.buffer.split(b"\n")
                for line in lines:
                    self.line(line.rstrip(b"\r").decode())
                if self.is_refused:
                    time.sleep(0.2)
                    return

    def line(self, line):
        if line.startswith("HTTP/1.1 "):
            self.is_refused = not line.startswith("HTTP/1.1 200")
        elif line.startswith("event: "):
            self.type = line[7:]
        elif line.startswith("id: "):
            self.id = line[4:]
        elif line.startswith("data: "):
            self.data.append(line[6:])
        elif line == "" and (self.id or self.type or self.data):
            self.dispatch()
            self.type, self.id, self.data = None, None, []

    def dispatch(self):
        if self.type == "close":
            self.is_refused = True
        elif self.type == "reset":
            self.told.append(("reset",))
            self.last = json.loads(self.data[0]).get("id", self.last)
        elif self.data:
            self.take(self.id, self.data[0])
        elif self.id:
            self.last = self.id
            if not self.is_open:
                self.is_open = True
                self.is_in_force()


class Session(Subscriber):
    """isimud.v1, which subscribes by its URL or, half of the time, by a
    command."""

    def visit(self, address, until):
        commands = self.random.random() < 0.5
        socket = WebSocket(address, "/sub" if commands else self.target(),
                           subprotocols=["isimud.v1"])
        if commands:
            since = {"since": self.last} if self.last else {}
            socket.send_json({"type": "subscribe", "publisher": PUBLISHER,
                              "topic": TOPIC, **since})
        try:
            while time.monotonic() < until and not self.is_stopping:
                if not socket.buffer and \
                        not select.select([socket.socket], [], [], 0.2)[0]:
                    continue
                if not self.dispatch(json.loads(socket.receive())):
                    time.sleep(0.2)
                    return
        finally:
            socket.close()

    def dispatch(self, value):
        if value["type"] == "subscribed":
            if value.get("resumed") is False:
                self.told.append(("reset",))
            self.last = value["id"]
            self.is_in_force()
        elif value["type"] == "reset":
            ASYNCAPI.check_server_message("v1", value)
            self.told.append(("reset",))
            self.last = value["id"]
        elif value["type"] == "message":
            self.take(value["id"], value["data"])
        elif value["type"] == "error":
            assert value["code"] == "busy", f"promise: {value}"
            return False
        elif value["type"] == "gap":
            raise AssertionError("promise: a gap that nobody asked for")
        return True


class Raw(Subscriber):
    """The original's protocol: no ids, so it stays, and each connection counts
    for itself: a node that is behind another tells again what that has told."""

    told_again = 0

    def visit(self, address, until):
        socket = WebSocket(address)
        try:
            socket.subscribe(PUBLISHER, TOPIC)
            self.is_in_force()
            self.told.append(("at", address))
            while not self.is_stopping:
                if not socket.buffer and \
                        not select.select([socket.socket], [], [], 0.2)[0]:
                    continue
                self.take(None, socket.receive())
        finally:
            socket.close()

    def check(self, outcomes):
        periods, addresses = [], []
        for event in self.told:
            if event[0] == "open":
                periods.append([])
            elif event[0] == "at":
                addresses.append(event[1])
            else:
                periods[-1].append(event[2])
        seen_at = {}  # the last period that had it
        for i, period in enumerate(periods):
            for tag in period:
                before = seen_at.get(tag)
                assert before is None or before < i and \
                    addresses[before] != addresses[i], \
                    f"{self}: {tag} came twice, at {addresses[before]}, " \
                    f"connection {before}, and {addresses[i]}, {i}"
                self.told_again += before is not None
                seen_at[tag] = i
        for period in periods:
            places = [place_of(outcomes[tag][1]) for tag in period
                      if outcomes.get(tag, (0, None))[0] == 200]
            for a, b in zip(places, places[1:]):
                assert a[0] == b[0] and a[1] < b[1], f"{self}: {b} after {a}"
            if len(places) < 2:
                continue
            seen = set(period)
            for tag, (status, id, _) in outcomes.items():
                if status == 200 and tag not in seen:
                    place = place_of(id)
                    assert not (place[0] == places[0][0] and
                                places[0][1] < place[1] < places[-1][1]), \
                        f"{self}: {tag}, {id}, is missing"


class Node(Server):
    """An isimud of the cluster."""

    def __init__(self, nats, **settings):
        self.is_up = True
        super().__init__(**{"NATS_URL": nats.url, "BUS_CREATE": "true",
                            "BUS_REPLICAS": nats.count, "MAX_BODY": "512K",
                            **settings})
        self.wait_until_ready()

    def is_ready(self):
        try:
            return self.ask("GET", "/readyz").status == 200
        except (OSError, AssertionError):
            return False

    def wait_until_ready(self):
        self.wait_until(self.is_ready, "it is ready")


class Cluster:
    """Nodes, servers, publishers on all nodes, subscribers of every kind.
    `storage`: of the stream, "memory" or "file"."""

    def __init__(self, start, nodes=3, servers=3, storage=None, **settings):
        self.nats = Nats(servers)
        if storage is not None:
            answer = self.nats.make_stream(stream_config(
                num_replicas=servers, storage=storage))
            assert "error" not in answer, answer
        elif servers > 1:
            self.nats.settle()
        self.start_node = lambda **more: start(
            self.nats, **{**settings, **more})
        self.nodes = [self.start_node() for _ in range(nodes)]
        self.ledger = Ledger()
        self.workers = []
        self.random = random.Random(1)  # which node a fault hits

    def begin(self, seed=1, pause=0.01):
        """One of three publishers has keys."""
        nodes, ledger = self.nodes, self.ledger
        workers = [Publisher(ledger, nodes, f"p{i}", seed + i, pause, i == 2)
                   for i in range(3)]
        workers += [kind(ledger, nodes, seed + 10 * i + 7)
                    for i in range(3) for kind in (Stream, Session, Raw)]
        self.workers = workers
        for worker in workers[3:]:
            worker.start()
        self.wait_until(lambda: all(s.since for s in ledger.subscribers),
                        "all have subscribed")
        for worker in workers[:3]:
            worker.start()

    def wait_until(self, condition, what, seconds=4 * DEADLINE):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, what + ": not in time"
            time.sleep(0.05)

    def publishes(self, more=20, seconds=4 * DEADLINE):
        """Waits until so many more were answered 200."""
        want = self.ledger.count(200) + more
        self.wait_until(lambda: self.ledger.count(200) >= want,
                        f"{more} more are published", seconds)

    def end(self):
        """Stops the publishers, publishes a last message until that is
        answered 200, waits until everybody has it, and checks."""
        for worker in self.workers[:3]:
            worker.finish()
        self.publish_last()
        for worker in self.workers[3:]:
            worker.finish()
        self.ledger.check()

    def publish_last(self):
        tags = []

        def all_have_one():
            if not tags or time.monotonic() > tags[-1][1] + 3:
                # Raw clients that were away for the last one need another.
                tag = f"last.{len(tags)}"
                connection = http.client.HTTPConnection(
                    *self.nodes[-1].address, timeout=2 * DEADLINE)
                try:
                    status, id = publish(connection, tag)
                except OSError:
                    status, id = 0, None
                self.ledger.note(tag, status, id)
                tags.append((tag, time.monotonic()))
            return all(any(tag in s.tags for tag, _ in tags)
                       for s in self.ledger.subscribers)

        self.wait_until(all_have_one, "all have the last message",
                        8 * DEADLINE)

    def kill_node(self, index):
        self.nodes[index].is_up = False
        self.nodes[index].kill()

    def restart_node(self, index):
        old = self.nodes[index]
        old.is_up = False
        old.terminate()
        assert old.wait() == 0
        self.replace_node(index)

    def replace_node(self, index, **settings):
        self.nodes[index] = self.start_node(**settings)
        for worker in self.workers:
            worker.nodes = self.nodes

    def stop(self):
        for worker in self.workers:
            worker.is_stopping = True
        self.nats.stop()
