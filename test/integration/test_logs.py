"""The log: one line an event, nothing of a client's raw, no secret at all."""
import fcntl
import json
import os
import re
import subprocess
import threading
import time

import pytest

from authority import answer, refuse
from client import (BINARY, DEADLINE, TEXT, Http, basic, chunked, frame,
                    handshake, publish_request, request, sub_target,
                    subscription)
from program import ISIMUD, WRAPPER, Server, environment, fields_of

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
                       r"(debug|info |warn |error) .+")
# A word that no line may have, whatever it stands in, and what goes with it.
MARK = "XYZZY"
HOSTILE = ["\r\n2026-01-01T00:00:00.000Z error forged", "\n", "\x1b[31m",
           "\x00", "\x7f", "\x9b", "\u202e", '"}\n{"a":"', "\\", "%s%n%n",
           "é" * 50]
HOSTILE_BYTES = [text.encode() for text in HOSTILE] + [
    b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]


def send(server, data):
    """Sends it on a connection of its own and waits for what becomes of it."""
    client = server.http()
    client.send_while_open(data)
    client.half_close()
    client.wait_until_ended()


def publish_secrets(server, hostile):
    """In every place of a publication, right or wrong."""
    mark = MARK.encode() + hostile
    text = mark.decode("utf-8", "replace")
    name = hostile.decode("utf-8", "replace")  # which lines do have
    body = json.dumps({"topic": name, "data": text}).encode()
    for fields in ({}, {"Authorization": basic(b"a" + hostile)},
                   {"Authorization": basic("alice", mark)},
                   {"Content-Type": "text/" + MARK}):
        send(server, publish_request(body=body, fields=fields))
    for wrong in (b'{"topic":"' + mark, mark, b'{"' + mark + b'":1}',
                  b'{"topic":1,"data":"' + MARK.encode() + b'"}'):
        send(server, publish_request(body=wrong))
        send(server, publish_request(
            body=chunked(wrong), fields={"Transfer-Encoding": "chunked"}))


def subscribe_with_secrets(server, hostile):
    mark = MARK.encode() + hostile
    text = mark.decode("utf-8", "replace")
    name = hostile.decode("utf-8", "replace")  # which lines do have
    server.subscribe("a" + name, name).close()
    for opcode, payload in ((TEXT, mark), (BINARY, mark),
                            (TEXT, b'{"publisher":"' + mark + b'"}'),
                            (TEXT, subscription(text, 1))):
        client = server.websocket()
        client.send(frame(opcode, payload))
        client.read_to_close()


def send_hostile_heads(server, hostile):
    # The target itself may be shown, so the mark is in its query.
    for head in (b"GET /a" + hostile + b"?access_token=" + MARK.encode()
                 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET /sub?access_token=" + MARK.encode() + hostile
                 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: " + hostile
                 + b"\r\nAuthorization: Bearer " + MARK.encode() + hostile
                 + b"\r\nCookie: " + MARK.encode() + b"\r\n\r\n",
                 hostile + b" / HTTP/1.1\r\n\r\n"):
        send(server, head)


def assert_clean(server, is_json):
    """Every line is whole, printable, and free of what clients meant to keep
    to themselves."""
    assert len(server.lines) > 100
    for line in server.lines:
        assert re.fullmatch(r"[ -~]*", line), repr(line)
        assert MARK not in line, line
        assert "secret" not in line.lower(), line
        if is_json:
            entry = json.loads(line)
            assert list(entry)[:4] == ["time", "level", "event", "message"]
            assert entry["level"] in ("debug", "info", "warn", "error")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
                                entry["time"])
            assert entry["message"]
        else:
            assert TEXT_LINE.fullmatch(line), line
            assert fields_of(line)["event"], line
            assert "error forged" not in line[:40]


@pytest.mark.parametrize("format", ["text", "json"])
def test_nothing_hostile_is_raw_and_nothing_secret_is_shown(start, format):
    server = start(LOG_LEVEL="debug", LOG_FORMAT=format)
    for hostile in HOSTILE_BYTES:
        publish_secrets(server, hostile)
        subscribe_with_secrets(server, hostile)
        send_hostile_heads(server, hostile)
    server.stop()
    assert_clean(server, format == "json")


@pytest.mark.parametrize("format", ["text", "json"])
def test_tokens_and_what_auth_url_holds_are_never_shown(start, authority,
                                                        format):
    url = authority.url.replace("http://", f"http://user:{MARK}@")
    server = start(LOG_LEVEL="debug", LOG_FORMAT=format,
                   AUTH_URL=url.replace("isimud", MARK))
    authority.rules[MARK + "2"] = refuse
    for i in range(20):
        for token in (MARK, MARK + "2", MARK + "\t\x80", MARK * 2000):
            send(server, handshake(
                fields={"Authorization": f"Bearer {token}"}))
    assert authority.asked.qsize() >= 20
    server.stop()
    assert_clean(server, format == "json")


def test_paths_are_shown_at_debug_and_escaped(start):
    server = start(LOG_LEVEL="debug")
    server.ask("GET", "/a\\b?query")
    server.wait_for_line(r"answered event=response path=/a\\x5cb status=404$")
    assert "query" not in server.text()


def test_at_info_ordinary_clients_leave_no_line(start):
    server = start()
    before = len(server.lines)
    for _ in range(20):
        server.ask("GET", "/")
        server.subscribe().close()
        client = server.subscribe()
        client.send_close(1000)
        client.wait_until_ended()
    server.publish("alice", "news", "x", times=20)
    assert server.lines[before:] == []


def end_badly(server, count):
    for _ in range(count):
        client = server.http()
        client.send(b"nonsense\r\n\r\n")
        assert client.response().status == 400
        client.close()


@pytest.mark.parametrize("format", ["text", "json"])
def test_lines_about_ends_are_held_down_and_the_rest_is_counted(start, format):
    server = start(WORKERS=1, LOG_FORMAT=format)
    end_badly(server, 300)
    server.wait_for_stat("closed_bad_request", 300)

    def told():
        return [line for line in server.lines if "ended a connection" in line]

    def untold():
        return sum(int(fields["count"]) for fields in
                   server.events("held_back")
                   if fields["of"] == "connection_ended")

    # How many were left out is told by the time, not by a further end.
    server.wait_until(lambda: len(told()) + untold() == 300,
                      "all are accounted for")
    ended = server.stats()["closed_bad_request"]
    lines = told()
    per_second = {}
    for line in lines:
        second = re.search(r"T(\d\d:\d\d:\d\d)", line)[1]
        per_second[second] = per_second.get(second, 0) + 1
    # A second of the clock may touch two of the limit's.
    assert max(per_second.values()) <= 20
    assert len(lines) + untold() == ended == 300
    assert all(fields["peer"] == "127.0.0.1" for fields in
               server.events("connection_ended"))
    assert untold() > 0
    assert all("bad_request" in line for line in lines)


def test_the_end_of_a_subscriber_names_worker_publisher_and_topic(start):
    server = start(PING_INTERVAL=0.2)
    server.subscribe("alice", "one topic")
    server.websocket(target=sub_target("alice", "a", "b"))
    v1 = server.websocket(target=sub_target("alice", "v1"),
                          subprotocols=["isimud.v1"])
    for topic in ("w", "x"):
        v1.send_json({"type": "subscribe", "publisher": "alice",
                      "topic": topic})
    # None of them answers pings.
    ends = server.wait_for_event("connection_ended", count=3)
    ends.sort(key=lambda fields: fields["topic"])
    for fields in ends:
        assert fields["reason"] == "ping_timeout" and fields["code"] == "1011"
        assert fields["peer"] == "127.0.0.1" and fields["publisher"] == "alice"
        assert fields["worker"] in ("0", "1")
    assert [(fields["topic"], fields.get("count")) for fields in ends] == [
        ("a", "2"), ("one topic", None), ("v1", "3")]


def test_who_is_refused_is_told_with_publisher_and_topic(start, authority):
    server = start(AUTH_URL=authority.url, ALLOWED_ORIGINS="https://a.example")
    authority.rules.update(no=refuse, away=answer(503))
    wrong = {"Authorization": basic("mallory", "wrong")}
    server.ask("POST", "/pub/c", {}, b"x")
    server.ask("POST", "/pub/a%20b", wrong, b"x")
    server.ask("POST", "/pub", wrong, b"x")
    stream = {"Accept": "text/event-stream"}
    server.ask("GET", sub_target("alice", "t", access_token="no"), stream)
    server.event_stream(sub_target("alice", "t", access_token="away"))
    server.ask("GET", sub_target("alice", "t"),
               {**stream, "Origin": "https://b.example"})
    server.wait_for_event("origin_refused")  # the last line
    told = [(kind, fields.get("publisher"), fields.get("topic"))
            for kind in ("credentials_missing", "password_wrong", "token_refused",
                         "subscriber_refused", "origin_refused")
            for fields in server.events(kind)]
    assert told == [("credentials_missing", None, "c"),
                    ("password_wrong", "mallory", "a b"),
                    ("password_wrong", "mallory", None),
                    ("token_refused", "alice", "t"),
                    ("subscriber_refused", "alice", "t"),
                    ("origin_refused", "alice", "t")]


def test_refused_connections_are_told_of_but_held_down(start):
    server = start(MAX_CONNECTIONS=1)
    server.websocket()
    client = server.http()
    for _ in range(100):
        client.send(handshake())
        assert client.response().status == 503
    lines = [line for line in server.lines if "refused" in line]
    assert 1 <= len(lines) <= 40
    server.close_clients()


def test_start_and_stop_are_told(start):
    server = start(DRAIN_SECONDS=1, ADMIN_PORT=0, AUTH_URL="http://a.b/?q=1")
    server.stop()
    for pattern in (r"settings: event=settings PASSWORD=\*\*\* ", r"listening on 127",
                    r"health and metrics on port \d+", "draining on SIGTERM",
                    "stopped event=stopped$"):
        assert re.search(pattern, server.text(), re.M), pattern
    assert "q=1" not in server.text()
    assert len(server.lines) < 8


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_long_path_is_cut_and_its_status_is_still_told(start, format):
    server = start(LOG_LEVEL="debug", LOG_FORMAT=format)
    send(server, request("GET", "/" + "a" * 3000))
    send(server, request("GET", "/" + "\\" * 3000))
    server.wait_for_line(r"path\W+/a{255}\.\.\.\W+status\W+404\b")
    server.wait_for_line(
        r"path\W+/(\\(x|u00)5c){255}\.\.\.\W+status\W+404\b")
    send(server, request("GET", "/" + "\xe9" * 3000))
    server.stop()
    assert max(map(len, server.lines)) < 2048
    if format == "text":
        assert all(TEXT_LINE.fullmatch(line) for line in server.lines)


# --- readers that do not read ------------------------------------------------

class Unread(Server):
    """A server whose stderr is a pipe of one page that is read only up to the
    line that says where it listens, and then no more until read_on()."""

    def read(self):
        fcntl.fcntl(self.process.stderr, F_SETPIPE_SZ, 4096)
        self.gate = threading.Event()
        for line in iter(lambda: self.process.stderr.readline(), b""):
            with self.news:
                self.lines.append(line.decode().rstrip("\n"))
                self.news.notify_all()
            if b"event=listening " in line:
                self.gate.wait(DEADLINE)
        with self.news:
            self.ended = True
            self.news.notify_all()

    def read_on(self):
        self.gate.set()


F_SETPIPE_SZ = 1031  # fcntl(2)


@pytest.fixture
def unread():
    server = Unread(LOG_LEVEL="debug", WORKERS=2)
    yield server
    server.read_on()
    server.kill()


def fill_the_log(server, requests=3000):
    """More lines than pipe and ring hold together."""
    client = server.http()
    for _ in range(requests):
        assert client.ask("GET", "/" + "x" * 200).status == 404


def test_an_unread_stderr_stops_nobody(unread):
    fill_the_log(unread)
    subscriber = unread.subscribe()
    unread.publish("alice", "news", "x")
    assert subscriber.receive() == "x"
    assert unread.ask("GET", "/healthz").status == 200
    assert unread.metrics()["isimud_log_dropped_total"] > 0
    subscriber.close()
    mark = len(unread.lines)
    unread.read_on()
    dropped = unread.wait_for_event("log_dropped", mark)
    assert int(dropped[0]["count"]) > 0
    unread.stop()


def test_an_unread_stderr_does_not_outlast_sigterm(unread):
    fill_the_log(unread)
    unread.close_clients()
    unread.terminate()
    assert unread.process.wait(DEADLINE) == 0


def test_a_stderr_that_nobody_reads_any_more_stops_nobody(start):
    read_end, write_end = os.pipe()
    program = subprocess.Popen(
        [*WRAPPER, ISIMUD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=write_end, env=environment(
            {"PASSWORD": "x", "PORT": 0, "WORKERS": 1, "DRAIN_SECONDS": 0}))
    os.close(write_end)
    try:
        with os.fdopen(read_end) as lines:
            port = next(fields_of(line)["address"] for line in lines
                        if "event=listening " in line).rpartition(":")[2]
        client = Http(("127.0.0.1", int(port)))
        for _ in range(50):
            assert client.ask("GET", "/").status == 303
        client.close()
        program.terminate()
        assert program.wait(DEADLINE) == 0
    finally:
        program.kill()
        program.wait()


def wait_for_listener(path):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            Http(path).close()
            return
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_with_stderr_closed_no_client_gets_the_log(tmp_path):
    """The next descriptor would be number 2."""
    path = str(tmp_path / "socket")
    program = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *WRAPPER, ISIMUD],
        env=environment({"PASSWORD": "x", "LISTEN": "unix:" + path,
                         "WORKERS": 1, "LOG_LEVEL": "debug",
                         "DRAIN_SECONDS": 0}))
    try:
        wait_for_listener(path)
        clients = [Http(path) for _ in range(5)]
        for client in clients * 3:
            assert client.ask("GET", "/").status == 303
        for client in clients:
            client.close()
        program.terminate()
        assert program.wait(DEADLINE) == 0
    finally:
        program.kill()
        program.wait()
