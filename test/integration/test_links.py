"""Real links: slow ones, and those that are cut without a word."""
import ctypes
import subprocess
import threading
import time

import pytest

from client import DEADLINE, SCALE
from session import session

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


# --- slow --------------------------------------------------------------------


class Slow:
    """Has a connection take only so many bytes at once, and so many a second."""

    def __init__(self, connection, speed):
        self.connection = connection
        self.speed = speed
        self.seconds = 0

    def read(self, size):
        """Reads so much, and sees how long that takes."""
        buffer = self.connection.buffer
        begin = time.monotonic()
        got = 0
        while got < size:
            data = self.connection.socket.recv(self.speed // 50)
            assert data, f"the end, after {got} bytes"
            buffer += data
            got += len(data)
            # This is the link; nothing is waited for.
            time.sleep(max(0, begin + got / self.speed - time.monotonic()))
        self.seconds += time.monotonic() - begin


LONG = "\n" * 40000  # 280,000 bytes as an event, 80,000 in JSON
SPEED = 50000


def test_a_stream_that_is_read_slowly_gets_all(start):
    server = start(PING_INTERVAL=0.8 * SCALE, MAX_BUFFERED="4M")
    stream = server.event_stream(rcvbuf=4096)
    server.publish("alice", "news", LONG)
    server.publish("alice", "news", "behind it")
    Slow(stream, SPEED).read(7 * len(LONG))  # in several intervals
    assert stream.event().data == LONG
    assert stream.event().data == "behind it"
    assert server.stats().get("closed_write_timeout", 0) == 0


def test_a_session_that_is_read_slowly_need_not_answer_pings_meanwhile(start):
    server = start(PING_INTERVAL=0.8 * SCALE, MAX_BUFFERED="4M")
    socket = session(server, rcvbuf=4096)
    socket.command("subscribe", publisher="alice", topic="news")
    for i in range(4):
        server.publish("alice", "news", f"{i}" + LONG)
    Slow(socket, SPEED).read(3 * 2 * len(LONG))
    for i in range(4):
        assert socket.receive_json()["data"] == f"{i}" + LONG
    assert server.stats().get("closed_ping_timeout", 0) == 0


def test_the_code_of_a_close_arrives_behind_what_is_read_slowly(start):
    # Above what TCP itself may wait for, at a window that was zero, and above
    # what a busy machine keeps the reader.
    timeout = 1.5 * SCALE
    server = start(CLOSE_TIMEOUT=timeout)
    socket = server.subscribe(rcvbuf=4096)
    speed = SPEED // SCALE
    rest = int(1.5 * timeout * speed)
    server.publish("alice", "news", "x" * (40000 + rest))
    reader = Slow(socket, speed)
    reader.read(20000)
    socket.send_text("who has subscribed may not say more")
    reader.seconds = 0
    reader.read(rest)
    assert reader.seconds > timeout
    assert socket.receive() == "x" * (40000 + rest)
    assert socket.read_to_close() == 1008


# Its form is larger than MAX_BUFFERED: 7 bytes for each of the data.
@pytest.mark.parametrize("rcvbuf", [None, 4096])
def test_a_message_of_the_largest_form_is_delivered(start, rcvbuf):
    server = start(MAX_BODY="3M", MAX_BUFFERED="1M")
    stream = server.event_stream(rcvbuf=rcvbuf)
    text = "\n" * (1 << 20)
    # In JSON an LF is two bytes.
    server.publish("alice", "news", text)
    server.publish("alice", "news", "behind it")
    assert stream.event().data == text
    assert stream.event().data == "behind it"
    assert server.stats().get("closed_slow", 0) == 0


# --- cut ---------------------------------------------------------------------


@pytest.fixture
def own_network():
    """Of this thread, and of the processes that it starts."""
    with open("/proc/thread-self/ns/net", encoding="ascii") as before:
        if LIBC.unshare(CLONE_NEWNET) != 0:
            pytest.skip("needs root")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert LIBC.setns(before.fileno(), CLONE_NEWNET) == 0


def cut(connection):
    """From now on no packet of the connection arrives, nor does its end."""
    port = str(connection.socket.getsockname()[1])
    for side in "--sport", "--dport":
        subprocess.run(["iptables", "-w", "-A", "INPUT", "-p", "tcp", side,
                        port, "-j", "DROP"], check=True)


def seconds_until(server, *keys):
    """How long it takes until one of the counters is above 0."""
    begin = time.monotonic()
    while not any(server.stats().get(key, 0) for key in keys):
        assert time.monotonic() - begin < 2 * DEADLINE
        time.sleep(0.05)
    return time.monotonic() - begin


@pytest.mark.parametrize("kind", ["stream", "websocket"])
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_client_that_vanishes_is_noticed(own_network, start, kind, is_busy):
    interval = 1 * SCALE
    server = start(PING_INTERVAL=interval, CLOSE_TIMEOUT=1)
    client = (server.event_stream() if kind == "stream"
              else server.subscribe("alice", "news"))
    cut(client)
    stop = threading.Event()

    def publish():
        http = server.http()
        while not stop.wait(0.05):
            assert http.publish("alice", "news", "x").status == 200

    publisher = threading.Thread(target=publish)
    if is_busy:
        publisher.start()
    try:
        # With a long interval the kernel may notice it at the same time.
        took = seconds_until(server, "closed_write_timeout"
                             if kind == "stream" else "closed_ping_timeout",
                             "closed_peer_gone")
    finally:
        stop.set()
        if is_busy:
            publisher.join()
    assert took < 3 * interval + 1
    server.wait_until(lambda: server.total("websocket") == 0
                      and server.total("event_stream") == 0
                      and server.total("closing") == 0, "gone")


def test_one_that_vanishes_where_nothing_is_sent_is_noticed(own_network, start):
    """By the kernel, which probes."""
    server = start(PING_INTERVAL=1, IDLE_TIMEOUT=600)
    client = server.http()
    assert client.ask("GET", "/healthz").status == 200
    cut(client)
    seconds_until(server, "closed_peer_gone")
