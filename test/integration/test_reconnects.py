"""The proof of "nothing missing and nothing twice": clients of every kind that
come and go all the while others publish.

All clients and publishers are turned by one thread, so that the server has a
processor to itself. What is random comes from a seed, which is printed;
ISIMUD_SEED gives it again. It fixes what each does, not how the two processes
interleave.
"""
import base64
import heapq
import itertools
import json
import os
import random
import re
import selectors
import socket
import struct
import time
import urllib.parse

import pytest

from client import (CLOSE, DEADLINE, PONG, SCALE, TEXT, EventStream, basic,
                    close_frame, frame, handshake, publish_request, request,
                    sub_target)
from relay import Relay

pytestmark = pytest.mark.skipif(
    os.environ.get("FLAVOUR") == "valgrind",
    reason="it runs one thread at a time")

SECONDS = 12 if SCALE == 1 else 8
CLIENTS = 60
TOPICS = ["t0", "t1", "t2", "t3", "t4", "t5"]
V1 = {"Sec-WebSocket-Protocol": "isimud.v1"}


class Loop:
    """One thread's sockets and timers."""

    def __init__(self, seed):
        print(f"\nISIMUD_SEED={seed}")
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.timers = []
        self.order = itertools.count()

    def after(self, seconds, call):
        """Calls it then; whoever has lost interest does nothing."""
        heapq.heappush(self.timers, (time.monotonic() + seconds,
                                     next(self.order), call))

    def add(self, sock, call):
        self.selector.register(sock, selectors.EVENT_READ, call)

    def remove(self, sock):
        self.selector.unregister(sock)

    def turn(self):
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            heapq.heappop(self.timers)[2]()
        wait = self.timers[0][0] - now if self.timers else 0.05
        for key, _ in self.selector.select(max(0, min(wait, 0.05))):
            if key.fileobj.fileno() >= 0:  # else another's call closed it
                key.data()

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()

    def run_until(self, condition, what):
        end = time.monotonic() + 3 * DEADLINE
        while not condition():
            assert time.monotonic() < end, what()
            self.turn()


class Truth:
    """What was published, by the receipts: topic -> number -> tag. A tag is in
    the data, and belongs to one message."""

    def __init__(self):
        self.tags = {topic: {} for topic in TOPICS}
        self.number_of = {}
        self.epoch = None
        self.next_tag = itertools.count(1)

    def make(self, rng, topic):
        tag = next(self.next_tag)
        size = rng.choice((0, 10, 200, rng.randrange(3000)))
        if rng.random() < 0.01:
            size = rng.choice((20_000, 70_000))
        return tag, f"{topic}:{tag}:{size}:" + ("some\n" * (size // 5 + 1))[:size]

    def note(self, topic, tag, id):
        epoch, _, number = id.partition("-")
        assert epoch == self.epoch
        assert int(number) not in self.tags[topic], "a number came twice"
        self.tags[topic][int(number)] = tag
        self.number_of[tag] = int(number)

    def last(self, topic):
        return len(self.tags[topic])

    def check(self):
        for numbers in self.tags.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))


def read_data(data):
    """Returns topic and tag of a message's data, which must be whole."""
    topic, tag, size, filler = data.split(":", 3)
    assert len(filler) == int(size)
    assert filler == ("some\n" * (len(filler) // 5 + 1))[:len(filler)]
    return topic, int(tag)


def number_in(id):
    return int(id.partition("-")[2])


# --- publishers --------------------------------------------------------------


class Publisher:
    """Publishes bursts, one after the other is answered."""

    def __init__(self, loop, truth, address, pause):
        self.loop = loop
        self.truth = truth
        self.pause = pause
        self.buffer = bytearray()
        self.waiting = []  # what the next answers are about: (topic, tag)s
        self.is_stopping = False
        self.socket = socket.create_connection(address)
        self.socket.settimeout(DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open()
        loop.add(self.socket, self.on_readable)
        loop.after(0, self.publish)

    def open(self):
        pass

    def publish(self):
        if self.is_stopping:
            return
        rng = self.loop.random
        self.socket.sendall(b"".join(
            self.one(rng) for _ in range(rng.randrange(1, 16))))

    def on_readable(self):
        data = self.socket.recv(1 << 16)
        assert data, "the server hung up on a publisher"
        self.buffer += data
        while self.waiting and self.take_answer():
            pass
        if not self.waiting:
            self.loop.after(self.loop.random.random() * self.pause,
                            self.publish)

    def hang_up(self):
        self.loop.remove(self.socket)
        self.socket.close()


class HttpPublisher(Publisher):
    """Pipelines: single ones, plain ones, and batches."""

    def one(self, rng):
        topic = rng.choice(TOPICS)
        kind = rng.randrange(3)
        made = [self.truth.make(rng, topic)
                for _ in range(rng.randrange(1, 5) if kind == 0 else 1)]
        self.waiting.append([(topic, tag) for tag, _ in made])
        if kind == 0:
            return publish_request("alice", body=json.dumps(
                [{"topic": topic, "data": data}
                 for _, data in made]).encode())
        if kind == 1:
            return publish_request("alice", topic, made[0][1])
        return publish_request("alice", target=f"/pub/{topic}",
                               body=made[0][1].encode(),
                               fields={"Content-Type": "text/plain"})

    def take_answer(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self.buffer[:end])
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        if len(self.buffer) < end + 4 + length:
            return False
        body = bytes(self.buffer[end + 4:end + 4 + length])
        del self.buffer[:end + 4 + length]
        assert head.startswith(b"HTTP/1.1 200 "), body
        receipts = json.loads(body)
        if isinstance(receipts, dict):
            receipts = [receipts]
        published = self.waiting.pop(0)
        assert len(receipts) == len(published)
        for (topic, tag), receipt in zip(published, receipts):
            self.truth.note(topic, tag, receipt["id"])
        return True


class V1Publisher(Publisher):
    """Commands of isimud.v1."""

    def open(self):
        self.socket.sendall(handshake(
            "/sub", {"Authorization": basic("alice"), **V1}))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")

    def one(self, rng):
        topic = rng.choice(TOPICS)
        tag, data = self.truth.make(rng, topic)
        while len(data) > 60_000:  # a client's message is at most 64 KiB
            tag, data = self.truth.make(rng, topic)
        self.waiting.append((topic, tag))
        return frame(TEXT, json.dumps({
            "type": "publish", "ref": tag, "topic": topic,
            "data": data}).encode())

    def take_answer(self):
        taken = take_frame(self.buffer)
        if not taken:
            return False
        opcode, payload = taken
        if opcode == TEXT:
            answer = json.loads(payload)
            topic, tag = self.waiting.pop(0)
            assert answer["type"] == "published", answer
            assert answer["ref"] == tag
            self.truth.note(topic, tag, answer["id"])
        return True


def take_frame(data):
    """Takes one whole frame off; None if there is none yet."""
    if len(data) < 2:
        return None
    length, header = data[1] & 0x7F, 2
    if length == 126:
        length, header = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, header = int.from_bytes(data[2:10], "big"), 10
    if len(data) < header + length:
        return None
    opcode, payload = data[0] & 0x0F, bytes(data[header:header + length])
    del data[:header + length]
    return opcode, payload


# --- subscribers -------------------------------------------------------------


class Client:
    """Wants every message of its topics, and speaks another protocol each time
    that it connects. It has a place in each: the number of the last message
    that it got whole; None if it does not know, because it was told of a loss.
    """

    def __init__(self, loop, truth, address, topics, may_reset=False,
                 offline=0.03, link=None):
        self.loop = loop
        self.truth = truth
        self.address = address
        self.link = link  # the way there until the end, if not the address
        self.topics = topics
        self.may_reset = may_reset
        self.offline = offline
        self.places = dict.fromkeys(topics, 0)
        # A run of messages without a loss: [number before the first, or None
        # where only tags tell; their tags].
        self.runs = {topic: [[0, []]] for topic in topics}
        self.connects = self.resets = 0
        self.ends = {}
        self.is_final = False
        self.socket = None
        self.connect()

    # --- coming and going

    def connect(self):
        if self.socket:
            return  # it was called back earlier
        rng = self.loop.random
        self.find_places()
        self.connects += 1
        self.buffer = bytearray()
        self.is_open = False
        self.is_told = False
        self.id = None
        self.unanswered = list(self.topics)
        self.kind = rng.choice(("events", "envelopes", "v1", "commands",
                                "raw"))
        self.is_deaf = rng.random() < 0.2 and not self.is_final
        self.socket = socket.socket()
        self.socket.settimeout(DEADLINE)
        if self.is_deaf:  # so that little waits in the kernel
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(self.address if self.link is None or self.is_final
                            else self.link.address)
        self.socket.sendall(self.hello(rng))
        self.socket.setblocking(False)
        if not self.is_deaf:
            self.loop.add(self.socket, self.on_readable)
        self.leave_after(2 if self.is_deaf and rng.random() < 0.3 else 0.15)

    def hello(self, rng):
        since = self.cursor()
        by_url = {"since": since}
        if self.kind in ("events", "envelopes"):
            fields = dict(EventStream.ACCEPT)
            if since and rng.random() < 0.8:
                fields["Last-Event-ID"] = since
                # Of an older connection: the field counts before it.
                by_url = rng.choice(({}, {"since": self.first_cursor()}))
            if self.kind == "envelopes":
                by_url["envelope"] = "true"
            return request("GET", sub_target("alice", *self.topics, **by_url),
                           fields)
        if self.kind == "commands":
            return handshake("/sub", V1) + b"".join(
                frame(TEXT, json.dumps({
                    "type": "subscribe", "publisher": "alice", "topic": topic,
                    **self.since_of(topic)}).encode())
                for topic in self.topics)
        return handshake(sub_target("alice", *self.topics, **by_url),
                         V1 if self.kind == "v1" else {})

    def first_cursor(self):
        return f"{self.truth.epoch}-" + ".".join("0" for _ in self.topics)

    def cursor(self):
        """None if it has no place in one of them."""
        if None in self.places.values():
            return None
        return f"{self.truth.epoch}-" + ".".join(
            str(self.places[topic]) for topic in self.topics)

    def since_of(self, topic):
        place = self.places[topic]
        return {} if place is None else {
            "since": f"{self.truth.epoch}-{place}"}

    def find_places(self):
        """What the raw protocol does not tell, a receipt may. Without a place
        in each, or else in a run of its own, it begins anew."""
        for topic in self.topics:
            if self.places[topic] is None and self.runs[topic][-1][1]:
                self.places[topic] = self.truth.number_of.get(
                    self.runs[topic][-1][1][-1])
        # `since` of a URL is that of all its topics.
        if None in self.places.values():
            for topic in self.topics:
                self.lose(topic)

    def leave_after(self, seconds):
        generation = self.connects
        self.loop.after(self.loop.random.expovariate(1 / seconds),
                        lambda: self.leave(generation))

    def leave(self, generation):
        if self.connects != generation or not self.socket or self.is_final:
            return
        rng = self.loop.random
        if self.is_deaf and rng.random() < 0.5:
            self.is_deaf = False
            self.loop.add(self.socket, self.on_readable)
            self.leave_after(0.15)
            return
        if rng.random() < 0.5:
            self.read_some(rng.randrange(1, 5000))  # to within an event
        if self.socket is None:
            return
        if rng.random() < 0.5:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))  # RST
        self.close()

    def hang_up(self):
        if not self.socket:
            return
        if not self.is_deaf:
            self.loop.remove(self.socket)
        self.socket.close()
        self.socket = None

    def close(self):
        self.hang_up()
        rng = self.loop.random
        pause = rng.expovariate(1 / self.offline)
        if rng.random() < 0.02:
            pause *= 30
        self.loop.after(0 if self.is_final else pause, self.connect)

    def on_readable(self):
        self.read_some(1 << 18)

    def read_some(self, count):
        try:
            data = self.socket.recv(count)
        except BlockingIOError:
            return
        self.buffer += data
        if not self.is_open:
            self.open()
        if self.is_open:
            {"events": self.take_events, "envelopes": self.take_events,
             }.get(self.kind, self.take_frames)()
        if not data and self.socket:
            assert self.is_told, (self.kind, bytes(self.buffer))
            self.close()

    def open(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        assert re.match(rb"HTTP/1.1 (101|200) ", head), self.buffer
        del self.buffer[:end + 4]
        self.is_open = True

    def told(self, code):
        """The server has ended it, and said so."""
        self.is_told = True
        self.ends[code] = self.ends.get(code, 0) + 1
        if code == 4410:
            assert self.kind == "raw"
            for topic in self.topics:
                self.lose(topic)
        else:
            assert code == 1013, code

    # --- what it got

    def lose(self, topic):
        self.places[topic] = None
        if self.runs[topic][-1] != [None, []]:
            self.runs[topic].append([None, []])

    def reset(self, topic):
        assert self.may_reset, (self.kind, topic, self.places)
        self.resets += 1
        self.lose(topic)

    def settle(self, topic, place):
        """It is told where it is."""
        if self.places[topic] is not None:
            assert place == self.places[topic], (self.kind, topic)
            return
        self.places[topic] = place
        assert self.runs[topic][-1] == [None, []]
        self.runs[topic][-1][0] = place

    def take(self, data, topic=None, number=None):
        has_topic, tag = read_data(data)
        assert topic in (None, has_topic)
        topic = has_topic
        place = self.places[topic]
        if number is not None and place is None:
            self.settle(topic, number - 1)
            place = number - 1
        if number is not None:
            assert number == place + 1, (self.kind, topic, place, number)
        if place is not None:
            self.places[topic] = place + 1
        self.runs[topic][-1][1].append(tag)

    # --- event streams

    def take_events(self):
        while (end := self.buffer.find(b"\n\n")) >= 0:
            block = bytes(self.buffer[:end]).decode()
            del self.buffer[:end + 2]
            fields = {}
            for line in block.split("\n"):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            self.take_event(fields)

    def take_event(self, fields):
        kind = fields.get("event", [None])[0]
        data = "\n".join(fields["data"]) if "data" in fields else None
        if kind == "reset":
            self.reset(json.loads(data)["topic"])
        elif kind == "close":
            self.told(json.loads(data)["code"])
        elif data is not None:
            assert kind is None
            self.take_message(data, fields["id"][0])
        elif "id" in fields:
            self.settle_all(fields["id"][0])

    def numbers(self, id):
        epoch, _, rest = id.partition("-")
        assert epoch == self.truth.epoch
        return dict(zip(self.topics, map(int, rest.split(".")), strict=True))

    def settle_all(self, id, but=None):
        for topic, number in self.numbers(id).items():
            if topic != but:
                self.settle(topic, number)

    def take_message(self, data, id):
        topic = None
        if self.kind == "envelopes":
            message = json.loads(data)
            assert message["publisher"] == "alice"
            data, topic = message["data"], message["topic"]
            number = int(message["id"].partition("-")[2])
            assert self.numbers(id)[topic] == number
        topic = read_data(data)[0]
        self.take(data, topic, self.numbers(id)[topic])
        self.settle_all(id)

    # --- WebSockets

    def take_frames(self):
        while taken := take_frame(self.buffer):
            opcode, payload = taken
            if opcode == CLOSE:
                self.told(int.from_bytes(payload[:2], "big"))
                self.answer(close_frame(1000))
            elif opcode == TEXT and self.kind == "raw":
                self.take(payload.decode())
            elif opcode == TEXT:
                self.take_json(json.loads(payload))

    def answer(self, data):
        try:
            self.socket.send(data)
        except (BlockingIOError, ConnectionError):
            pass

    def take_json(self, message):
        if message["type"] == "subscribed":
            assert message["topic"] == self.unanswered.pop(0)
            self.subscribed(message)
            return
        if message["type"] == "gap":
            # What it still had to get is gone, and it is told which.
            assert number_in(message["from"]) == \
                self.places[message["topic"]] + 1
            self.reset(message["topic"])
            self.settle(message["topic"], number_in(message["to"]))
            return
        assert message["type"] == "message", message
        assert message["topic"] not in self.unanswered
        epoch, _, number = message["id"].partition("-")
        assert epoch == self.truth.epoch
        self.take(message["data"], message["topic"], int(number))

    def subscribed(self, message):
        topic = message["topic"]
        if message.get("resumed") is False:
            self.reset(topic)
        else:
            assert ("resumed" in message) == (self.places[topic] is not None)
        self.settle(topic, int(message["id"].partition("-")[2]))

    # --- the end

    def is_complete(self):
        return self.socket is not None and self.is_open and all(
            self.places[topic] in (None, self.truth.last(topic))
            for topic in self.topics)

    def check(self):
        for topic in self.topics:
            tags = self.truth.tags[topic]
            numbers = []
            for before, run in self.runs[topic]:
                got = [self.truth.number_of[tag] for tag in run]
                assert [tags[number] for number in got] == run, "another topic"
                if before is not None:
                    numbers.append(before)
                    got = [before] + got
                assert got == list(range(got[0], got[0] + len(got))) if got \
                    else True, (topic, got)
                numbers += got
            assert numbers == sorted(numbers), "a run went back"


# --- the tests ---------------------------------------------------------------


def epoch_of(server):
    """What ids begin with. Nothing has been published."""
    stream = server.event_stream(sub_target("alice", "t0"))
    while not stream.last_event_id:
        assert stream.step(time.monotonic() + DEADLINE) is None
    epoch, _, number = stream.last_event_id.partition("-")
    assert re.fullmatch("[0-9a-f]{16}", epoch) and number == "0"
    return epoch


def run(server, seconds, may_reset, offline, pause):
    seed = os.environ.get("ISIMUD_SEED") or base64.b16encode(
        os.urandom(4)).decode()
    loop, truth = Loop(seed), Truth()
    truth.epoch = epoch_of(server)
    links = [Relay(server.address, speed) for speed in (1_000_000, 100_000)]
    clients = [Client(loop, truth, server.address,
                      [TOPICS[i % len(TOPICS)]] if i % 3 else
                      loop.random.sample(TOPICS, 3), may_reset, offline,
                      links[i // 4 % 2] if i % 4 == 0 else None)
               for i in range(CLIENTS)]
    publishers = [kind(loop, truth, server.address, pause)
                  for kind in (HttpPublisher, HttpPublisher, V1Publisher)]
    try:
        loop.run(seconds)
        come_to_rest(loop, truth, clients, publishers)
    finally:
        for one in publishers + clients:
            one.hang_up()
        for link in links:
            link.close()
    truth.check()
    for client in clients:
        client.check()
    return truth, clients


def come_to_rest(loop, truth, clients, publishers):
    """Everything is published, and then everybody gets what is missing."""
    for publisher in publishers:
        publisher.is_stopping = True
    loop.run_until(lambda: not any(p.waiting for p in publishers),
                   lambda: "a publication is not answered")
    for client in clients:
        client.is_final = True
        client.hang_up()
        client.connect()
    loop.run_until(lambda: all(c.is_complete() for c in clients),
                   lambda: [(c.kind, c.places,
                             [truth.last(topic) for topic in c.topics])
                            for c in clients if not c.is_complete()])


def report(truth, clients):
    connects = sum(client.connects for client in clients)
    resets = sum(client.resets for client in clients)
    ends = {}
    for client in clients:
        for code, count in client.ends.items():
            ends[code] = ends.get(code, 0) + count
    got = sum(len(run) for client in clients
              for runs in client.runs.values() for _, run in runs)
    print(f"{len(truth.number_of)} published, {got} received over {connects} "
          f"connections, {resets} resets, ends by the server: {ends}")
    return connects, resets, ends


def test_whoever_reconnects_has_every_message_once_and_in_order(start):
    server = start(WORKERS=4, HISTORY_SIZE=65536, HISTORY_BYTES="1G",
                   MAX_BUFFERED="128K", CLOSE_TIMEOUT=60)
    truth, clients = run(server, SECONDS, may_reset=False, offline=0.03, pause=0.01)
    connects, _, ends = report(truth, clients)
    assert connects > (1000 if SCALE == 1 else 100)
    assert 4410 not in ends
    for client in clients:
        for topic in client.topics:
            tags = truth.tags[topic]
            assert client.runs[topic] == [
                [0, [tags[i] for i in range(1, len(tags) + 1)]]]
    assert server.stats()["not_resumed"] == 0
    assert server.stats()["resumed"] > 0


@pytest.mark.parametrize("history", [
    {"HISTORY_SIZE": 8}, {"HISTORY_TTL": 0.1}, {"HISTORY_BYTES": "20K"},
    {"HISTORY_SIZE": 0}])
def test_where_history_is_short_nobody_misses_anything_untold(
        start, history):
    server = start(WORKERS=4, CLOSE_TIMEOUT=60, **history)
    truth, clients = run(server, 3, may_reset=True, offline=0.05, pause=0.02)
    _, resets, ends = report(truth, clients)
    assert resets > 0 and ends[4410] > 0
    assert server.stats()["not_resumed"] > 0
    assert server.stats()["resumed"] > 0
