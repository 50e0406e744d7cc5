"""The drain: what a stop signal does, in which order, and how evenly."""
import collections
import selectors
import signal
import threading
import time

import pytest

from client import (DEADLINE, SCALE, CLOSE, TEXT, close_frame, handshake,
                    publish_request, sub_target)
from program import Server

CROWD = 2000 // SCALE
TOPICS = 20


class Crowd:
    """Subscribers that are read side by side; each notes what it got, when it
    was told to go (1001), and answers that."""

    def __init__(self, server, count):
        self.left = selectors.DefaultSelector()
        self.members = [server.subscribe("alice", f"topic {i % TOPICS}")
                        for i in range(count)]
        for i, member in enumerate(self.members):
            member.topic = i % TOPICS
            member.got = []
            member.closed_at = None
            member.socket.setblocking(False)
            self.left.register(member.socket, selectors.EVENT_READ, member)

    def read(self, timeout):
        for key, _ in self.left.select(timeout):
            self.read_one(key.data)

    def read_one(self, member):
        ended = not member.read_some()
        while frame := take_frame(member.buffer):
            opcode, payload = frame
            assert member.closed_at is None, "a frame after Close"
            if opcode == TEXT:
                member.got.append(int(payload))
                continue
            assert opcode == CLOSE and payload[:2] == b"\x03\xe9", frame
            assert payload[2:] == b"the server is going away"
            member.closed_at = time.monotonic()
            member.send_while_open(close_frame(1001))
        if ended:
            assert member.closed_at, "it ended without Close"
            assert not member.buffer
            self.left.unregister(member.socket)
            member.close()

    def read_to_the_end(self):
        end = time.monotonic() + DEADLINE + 8
        while self.left.get_map():
            assert time.monotonic() < end, f"{len(self.left.get_map())} left"
            self.read(0.1)

    def closes(self):
        return sorted(m.closed_at for m in self.members if m.closed_at)


def take_frame(buffer):
    """A whole short frame off the buffer, or None."""
    if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
        return None
    assert buffer[0] & 0xF0 == 0x80 and buffer[1] <= 125
    payload = bytes(buffer[2:2 + buffer[1]])
    opcode = buffer[0] & 0x0F
    del buffer[:2 + len(payload)]
    return opcode, payload


class Publisher:
    """Publishes numbers, topic after topic, until no connection of its stock is
    left: during a drain each serves for one request."""

    def __init__(self, server, stock):
        self.stock = [server.http() for _ in range(stock)]
        for client in self.stock:
            assert client.ask("GET", "/").status == 303
        self.answered = collections.defaultdict(list)  # topic: times
        self.refused = []
        self.errors = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            client = self.stock.pop()
            turn = 0
            while not self.stopping.wait(0.02 * SCALE):
                topic = turn % TOPICS
                turn += 1
                try:
                    response = client.publish(
                        "alice", f"topic {topic}",
                        str(len(self.answered[topic])))
                except (EOFError, ConnectionError):
                    return  # this is the end of the drain
                assert response.status == 200, response.body
                self.answered[topic].append(time.monotonic())
                if response.field("Connection") == "close":
                    client.close()
                    if not self.stock:
                        return
                    client = self.stock.pop()
        except BaseException as error:
            self.errors.append(error)

    def stop(self):
        self.stopping.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        if self.errors:
            raise self.errors[0]


def assert_flat(times):
    """No second has more than 1.5 times the mean of them all."""
    counts = collections.Counter(int(t - times[0]) for t in times)
    assert max(counts) >= 3, counts
    mean = len(times) / len(counts)
    assert max(counts.values()) <= 1.5 * mean, sorted(counts.items())


def assert_nothing_lost(crowd, publisher):
    """What one got has no gap and, at its end, all that was answered a second
    or more before its Close came."""
    for member in crowd.members:
        assert member.got == list(range(len(member.got)))
        due = sum(t < member.closed_at - SCALE
                  for t in publisher.answered[member.topic])
        assert len(member.got) >= due, (member.got, due)


def test_a_crowd_is_ended_evenly_and_misses_nothing(start):
    seconds = 6 if SCALE == 1 else 12
    server = start(DRAIN_SECONDS=seconds, ADMIN_PORT=0)
    crowd = Crowd(server, CROWD)
    publisher = Publisher(server, 300)
    half = server.http()
    half.ask("GET", "/")
    whole = publish_request("bob", "other", "x")
    half.send(whole[:-5])
    late = server.subscribe("bob", "other")
    for _ in range(10):
        crowd.read(0.05)

    begin = time.monotonic()
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    server.wait_until(
        lambda: server.ask_admin("GET", "/readyz").body == b"draining\n",
        "readyz says 503")
    assert not crowd.closes()
    while not crowd.closes():
        crowd.read(0.1)
    # Nobody subscribes any more, but publishing goes on, on new connections
    # too.
    refused = server.http()
    refused.send(handshake(sub_target("bob", "other")))
    assert refused.response().status == 503
    assert server.http().publish("bob", "nobody's", "x").status == 200
    half.send(whole[-5:])
    response = half.response()
    assert (response.status, response.field("Connection")) == (200, "close")
    while len(crowd.closes()) < CROWD * 3 // 4:
        crowd.read(0.1)
        assert server.ask_admin("GET", "/readyz").status == 503
        assert server.ask_admin("GET", "/healthz").status == 200
    assert server.metrics()["isimud_draining"] == 1
    crowd.read_to_the_end()
    publisher.stop()
    assert late.read_to_close() == 1001
    assert server.wait() == 0
    # Four clients, not the server, may have been kept waiting meanwhile.
    assert time.monotonic() - begin < seconds + 4 * SCALE

    assert_flat(crowd.closes())
    assert_nothing_lost(crowd, publisher)
    during = [t for times in publisher.answered.values() for t in times
              if t > crowd.closes()[0]]
    assert len(during) >= 20, "hardly anything was published meanwhile"


def test_readyz_is_503_at_once_on_the_main_port_too(start):
    server = start(DRAIN_SECONDS=10 * SCALE)
    subscriber = server.subscribe()
    assert server.ask("GET", "/readyz").status == 200
    server.terminate()
    # The first tenth: nobody is told to go yet.
    server.wait_until(
        lambda: server.ask("GET", "/readyz").body == b"draining\n",
        "readyz says 503")
    assert server.ask("GET", "/healthz").status == 200
    server.publish("alice", "news", "still here")
    assert subscriber.receive() == "still here"
    server.close_clients()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_each_stop_signal_drains_within_the_window(start, number):
    server = start(DRAIN_SECONDS=2)
    subscribers = [server.subscribe() for _ in range(10)]
    begin = time.monotonic()
    server.is_stopping = True
    server.process.send_signal(number)
    server.wait_for_line(f"draining on {number.name}")
    for subscriber in subscribers:
        assert subscriber.read_to_close() == 1001
    assert server.wait() == 0
    assert 0.2 < time.monotonic() - begin < 2 + SCALE
    assert "stopped" in server.lines[-1]


def test_without_a_subscriber_it_ends_at_once(start):
    """Neither idle publishers nor probes hold it up."""
    server = start(DRAIN_SECONDS=20 * SCALE, ADMIN_PORT=0)
    idle = [server.http() for _ in range(20)]
    for client in idle[:10]:
        assert client.publish().status == 200
    probe = server.http(to=server.admin)
    assert probe.ask("GET", "/healthz").status == 200
    begin = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert time.monotonic() - begin < SCALE
    for client in idle:
        assert client.read_to_end() == b""


def test_it_ends_soon_after_its_last_subscriber(start):
    server = start(DRAIN_SECONDS=20 * SCALE)
    subscriber = server.subscribe()
    idle = server.http()
    server.terminate()
    server.wait_for_line("draining")
    assert idle.publish(data="x").status == 200
    assert subscriber.receive() == "x"
    begin = time.monotonic()
    subscriber.close()
    assert server.wait() == 0
    assert time.monotonic() - begin < SCALE


def test_requests_that_have_begun_are_answered_at_the_end(start):
    server = start(DRAIN_SECONDS=20 * SCALE)
    request = publish_request("alice", "news", "x")
    half = [server.http() for _ in range(10)]
    for i, client in enumerate(half):
        client.send(request[:10 + 20 * i])
    server.wait_until(lambda: server.total("http") == len(half), "all came")
    begin = time.monotonic()
    server.terminate()
    server.wait_for_line("draining")
    for i, client in enumerate(half[:-1]):
        client.send(request[10 + 20 * i:])
        response = client.response()
        assert response.status == 200
        client.close()
    # The last is never finished; it is not waited for long.
    assert server.wait() == 0
    assert time.monotonic() - begin < 1 + 2 * SCALE


def test_requests_that_nobody_has_read_are_answered_at_the_end(start):
    """Those of a burst that comes with the signal."""
    for _ in range(5):
        server = start(DRAIN_SECONDS=20 * SCALE)
        clients = [server.http() for _ in range(50)]
        for client in clients:
            client.send(publish_request("alice", "news", "x"))
        server.terminate()
        for client in clients:
            assert client.response().status == 200
            client.close()
        assert server.wait() == 0


def test_publishing_goes_on_until_the_last_subscriber_has_left(start, tmp_path):
    """Who is refused then is refused for the time of a start."""
    path = f"{tmp_path}/socket"
    server = start(DRAIN_SECONDS=2 * SCALE, CLOSE_TIMEOUT=60,
                   LISTEN=f"127.0.0.1:0,unix:{path}")
    deaf = [server.subscribe(read=False) for _ in range(10)]
    begin = time.monotonic()
    server.terminate()
    server.wait_for_line("draining")
    last = {}
    for to in (None, path):
        while True:
            try:
                assert server.http(to=to).publish(
                    topic="quiet", data="x").status == 200
            except (ConnectionError, EOFError, FileNotFoundError):
                break
            last[to] = time.monotonic()
            if time.monotonic() - begin > 2 * SCALE * 0.75:
                break
    assert last[None] - begin > 2 * SCALE * 0.7
    assert server.wait() == 0
    assert time.monotonic() - begin < 2 * SCALE + SCALE
    assert len(deaf) == 10


def test_subscribers_that_do_not_answer_close_do_not_hold_it_up(start):
    server = start(DRAIN_SECONDS=2, CLOSE_TIMEOUT=60)
    deaf = [server.subscribe(read=False) for _ in range(10)]
    server.publish("alice", "news", "x" * 60000, times=10)
    begin = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    assert time.monotonic() - begin < 2 + SCALE
    assert len(deaf) == 10


def test_without_a_window_all_are_ended_at_once(start):
    server = start(DRAIN_SECONDS=0)
    subscribers = [server.subscribe() for _ in range(50)]
    server.publish("alice", "news", "the last one")
    server.terminate()
    for subscriber in subscribers:
        messages, closed = subscriber.read_all()
        assert messages == ["the last one"]
        assert closed.code == 1001
    assert server.wait() == 0


def test_an_idle_connection_ends_without_an_answer(start):
    server = start(DRAIN_SECONDS=1)
    idle = server.http()
    assert idle.ask("GET", "/").status == 303
    server.terminate()
    assert idle.read_to_end() == b""
    assert server.wait() == 0


@pytest.mark.parametrize("first, second", [
    (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT),
    (signal.SIGINT, signal.SIGTERM)])
def test_a_second_signal_ends_it_at_once(first, second):
    server = Server(DRAIN_SECONDS=60)
    try:
        server.subscribe()
        server.process.send_signal(first)
        server.wait_for_line("draining")
        begin = time.monotonic()
        # The first has been taken; the handler for another comes with the line.
        server.wait_until(lambda: ended_by(server, second), "it ends")
        assert time.monotonic() - begin < DEADLINE / 2
        assert server.process.returncode == 128 + second
    finally:
        server.close_clients()
        server.kill()


def ended_by(server, number):
    if server.process.poll() is None:
        server.process.send_signal(number)
    return server.process.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_do_not_end_a_drain(start, number):
    server = start(DRAIN_SECONDS=1)
    subscriber = server.subscribe()
    server.terminate()
    server.wait_for_line("draining")
    server.process.send_signal(number)
    assert subscriber.read_to_close() == 1001
    assert server.wait() == 0
