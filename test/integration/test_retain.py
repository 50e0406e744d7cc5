"""RETAIN: a topic's last message outlives HISTORY_TTL, and no other does."""
import hashlib
import os
import re

import pytest

from client import basic, sub_target
from cluster import HAS_NATS, NATS, Nats, Node

ALICE = {"Authorization": basic("alice")}
ID = re.compile("([0-9a-f]{16})-([0-9]+)")
SAVED_AT = 17 + 8 + 8  # src/README.md: "The history file"


@pytest.fixture
def retaining(start):
    """retaining(**settings) starts a server that does."""
    return lambda **settings: start(RETAIN="true", **{"HISTORY_TTL": 0.2,
                                                      **settings})


def publish(server, topic, *data):
    http = server.http()
    return [http.publish("alice", topic, one).json()["id"] for one in data]


def history_of(server, topic):
    answer = server.ask("GET", f"/topics/{topic}", ALICE)
    return answer.json()["history"] if answer.status == 200 else None


def wait_until_one_is_left(server, topic):
    server.wait_until(lambda: history_of(server, topic) == 1,
                      f"all of {topic} but one message is too old")


def stream(server, topic, **parameters):
    return server.event_stream(sub_target("alice", topic, **parameters))


def number_of(id):
    return int(ID.fullmatch(id)[2])


def epoch_of(id):
    return ID.fullmatch(id)[1]


# --- how clients see it ------------------------------------------------------


def test_last_begins_with_it_however_old_it_is(retaining):
    server = retaining()
    ids = publish(server, "news", *"abc")
    wait_until_one_is_left(server, "news")
    for last in (1, 64):
        events = stream(server, "news", last=last)
        target = sub_target("alice", "news", last=last)
        raw = server.websocket(target=target)
        v1 = server.websocket(target=target, subprotocols=["isimud.v1"])
        event = events.event()
        assert (event.id, event.data) == (ids[2], "c")
        assert raw.receive() == "c"
        assert v1.receive_json()["id"] == ids[1]
        assert v1.receive_json()["data"] == "c"
        for one in (events, raw, v1):
            one.close()


def test_without_last_or_since_it_is_not_told(retaining):
    server = retaining()
    publish(server, "news", *"ab")
    wait_until_one_is_left(server, "news")
    socket = server.websocket(target=sub_target("alice", "news"))
    publish(server, "news", "live")
    assert socket.receive() == "live"


def test_who_has_seen_all_but_it_resumes_exactly(retaining):
    server = retaining()
    ids = publish(server, "news", *"abc")
    wait_until_one_is_left(server, "news")
    events = stream(server, "news", since=ids[1])
    event = events.event()
    assert (event.type, event.data) == ("message", "c")
    # And who has seen all gets what is new.
    seen = stream(server, "news", since=ids[2])
    publish(server, "news", "d")
    for one in (events, seen):
        event = one.event()
        assert (event.type, event.data) == ("message", "d")


def test_who_has_missed_more_is_told_and_gets_it(retaining):
    server = retaining()
    ids = publish(server, "news", *"abc")
    wait_until_one_is_left(server, "news")
    events = stream(server, "news", since=ids[0])
    assert events.event().type == "reset"
    event = events.event()
    assert (event.id, event.data) == (ids[2], "c")
    socket = server.websocket(subprotocols=["isimud.v1"])
    answer = socket.command("subscribe", publisher="alice", topic="news",
                            since=ids[0])
    assert answer["resumed"] is False and answer["id"] == ids[1]
    assert socket.receive_json()["data"] == "c"


def test_a_topic_with_subscribers_retains_as_well(retaining):
    server = retaining()
    socket = server.websocket(target=sub_target("alice", "news", last=1))
    publish(server, "news", *"ab")
    assert [socket.receive() for _ in "ab"] == ["a", "b"]
    wait_until_one_is_left(server, "news")
    assert stream(server, "news", last=9).event().data == "b"
    socket.close()
    publish(server, "other", *"ab")
    wait_until_one_is_left(server, "other")
    assert stream(server, "news", last=9).event().data == "b"


def test_it_is_off_by_default(start):
    server = start(HISTORY_TTL=0.2)
    publish(server, "news", "a")
    server.wait_until(lambda: history_of(server, "news") is None, "it is gone")


# --- how much ----------------------------------------------------------------


def test_within_history_bytes_the_oldest_topics_go_first(retaining):
    server = retaining(HISTORY_BYTES="64K", ADMIN_PORT=0)
    topics = [f"topic-{i}" for i in range(6)]
    for topic in topics:
        publish(server, topic, "x", "y" * 4000)
    for topic in topics:
        wait_until_one_is_left(server, topic)
    there = []
    while not there or there[-1]:
        publish(server, "new", "x" * 4000)
        assert server.metrics()["isimud_history_bytes"] <= 64 << 10
        there.append([topic for topic in topics if history_of(server, topic)])
        assert len(there) < 100
    assert there[0] == topics
    for kept in there:
        assert kept == topics[len(topics) - len(kept):]


# --- over a restart ----------------------------------------------------------


def end(server):
    server.is_stopping = True
    server.process.terminate()
    assert server.wait() == 0, server.text()


def make_older(path, seconds):
    """As if the file had been saved earlier by so much."""
    with open(path, "rb") as file:
        content = bytearray(file.read()[:-32])
    saved_ms = int.from_bytes(content[SAVED_AT:SAVED_AT + 8], "little")
    content[SAVED_AT:SAVED_AT + 8] = (saved_ms - seconds * 1000).to_bytes(
        8, "little")
    with open(path, "wb") as file:
        file.write(content + hashlib.sha256(content).digest())
    os.unlink(path + ".lock")  # it knows which file was saved


def test_it_is_there_after_a_restart(retaining, tmp_path):
    path = str(tmp_path / "history")
    server = retaining(HISTORY_TTL=60, HISTORY_FILE=path)
    ids = publish(server, "news", *"abc")
    end(server)
    make_older(path, 59)
    # Within HISTORY_TTL, ids go on, and resuming with them.
    server = retaining(HISTORY_TTL=61, HISTORY_FILE=path)
    events = stream(server, "news", since=ids[1])
    event = events.event()
    assert (event.type, event.id, event.data) == ("message", ids[2], "c")


@pytest.mark.parametrize("days", [1, 400, 20000])
def test_it_is_there_however_long_nothing_ran(retaining, tmp_path, days):
    path = str(tmp_path / "history")
    server = retaining(HISTORY_TTL=60, HISTORY_FILE=path)
    ids = publish(server, "news", *"abc")
    for _ in range(2):
        end(server)
        make_older(path, days * 86400)
        server = retaining(HISTORY_TTL=60, HISTORY_FILE=path)
        assert history_of(server, "news") == 1
        events = stream(server, "news", since=ids[1])
        assert events.event().type == "reset"
        event = events.event()
        assert event.data == "c"
        assert number_of(event.id) == number_of(ids[2])
        assert epoch_of(event.id) != epoch_of(ids[2])
        ids[1:] = [f"{epoch_of(event.id)}-{number_of(ids[1])}", event.id]
    # No number comes back: the next one is a number further.
    [id] = publish(server, "news", "d")
    assert id == f"{epoch_of(ids[2])}-{number_of(ids[2]) + 1}"
    event = events.event()
    assert (event.id, event.data) == (id, "d")


def test_a_start_without_it_drops_what_is_too_old(retaining, start, tmp_path):
    path = str(tmp_path / "history")
    server = retaining(HISTORY_FILE=path)
    publish(server, "news", *"ab")
    wait_until_one_is_left(server, "news")
    end(server)
    server = start(HISTORY_TTL=0.2, HISTORY_FILE=path)
    assert history_of(server, "news") is None


# --- several nodes -----------------------------------------------------------


@pytest.mark.skipif(not HAS_NATS, reason=f"no {NATS}")
@pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                    reason="it runs one thread at a time")
def test_a_node_retains_what_it_has_had(request):
    nats = Nats(1)
    request.addfinalizer(nats.stop)
    nodes = []

    def start():
        node = Node(nats, RETAIN="true", HISTORY_TTL=2)
        request.addfinalizer(node.kill)
        nodes.append(node)
        return node

    early = start()
    [_, last] = publish(early, "news", *"ab")
    wait_until_one_is_left(early, "news")
    late = start()
    # The log is read from some marker before, so that it may have it.
    has_it = history_of(late, "news") is not None
    for node in nodes:
        node.events = stream(node, "news", last=1)
    event = early.events.event()
    assert (event.id, event.data) == (last, "b")
    if has_it:
        assert late.events.event().data == "b"
    publish(late, "news", "live")
    for node in nodes:
        assert node.events.event().data == "live"
        node.stop()
