"""Ids and history: who names the last id it has seen gets all that came after
it, or is told that it can't. How that holds while others publish is in
test_reconnects.py."""
import json
import re
import time
from urllib.parse import quote

import pytest

from client import DEADLINE, Closed, EventStream, basic, sub_target

ID = re.compile("([0-9a-f]{16})-(0|[1-9][0-9]*)")
ALICE = {"Authorization": basic("alice")}


def publish(server, topic, *data):
    """Publishes each; returns their ids."""
    http = server.http()
    return [http.publish("alice", topic, one).json()["id"] for one in data]


def number_of(id):
    return int(ID.fullmatch(id)[2])


def with_number(id, number):
    """Another id of the same epoch."""
    return f"{ID.fullmatch(id)[1]}-{number}"


def tell(server, topic):
    """What GET /topics/TOPIC says; None if there is no such topic."""
    answer = server.ask("GET", f"/topics/{quote(topic)}", ALICE)
    return answer.json() if answer.status == 200 else None


def history_of(server, topic):
    told = tell(server, topic)
    return told["history"] if told else None


def wait_until_forgotten(server, topic):
    """Until the topic is there without a message, or is gone."""
    server.wait_until(lambda: not history_of(server, topic),
                      f"{topic} has no history")


def wait_until_gone(server, topic):
    server.wait_until(lambda: tell(server, topic) is None, f"no topic {topic}")


def stream(server, *topics, last="", last_=None, **parameters):
    """`last`: an id, for Last-Event-ID; `last_`: the number of the URL."""
    if last_ is not None:
        parameters["last"] = last_
    return server.event_stream(sub_target("alice", *topics, **parameters),
                               last_event_id=last)


def place_of(events):
    """The id that a new stream begins with."""
    end = time.monotonic() + DEADLINE
    while not events.last_event_id:
        event = events.step(end)
        assert event is None, event
    return events.last_event_id


def opened(server, *topics, **parameters):
    """A stream that knows its place."""
    events = stream(server, *topics, **parameters)
    place_of(events)
    return events


def v1(server, *topics, **parameters):
    target = sub_target("alice", *topics, **parameters) if topics else "/sub"
    return server.websocket(target=target, subprotocols=["isimud.v1"])


def raw(server, *topics, **parameters):
    return server.websocket(target=sub_target("alice", *topics, **parameters))


# --- three ways to resume, one question --------------------------------------


# Each takes up `topic` behind the id `since`, and returns whether that was
# exact, and what had been published by then and was told: what the history has,
# if it was not exact. All but the raw one publish "last" to see what comes live.


def resume_events(server, topic, since):
    events = stream(server, topic, last=since)
    server.publish("alice", topic, "last")
    got = [events.event()]
    while got[-1].data != "last":
        got.append(events.event())
    events.close()
    is_exact = got[0].type == "message"
    assert all(event.type == "message" for event in got[0 if is_exact else 1:])
    if not is_exact:
        assert got[0].type == "reset" and not got[0].has_id
        told = json.loads(got[0].data)
        assert told.pop("reason")
        place = number_of(told.pop("id"))
        assert told == {"publisher": "alice", "topic": topic}
        assert number_of(got[1].id) == place + 1
    return is_exact, [e.data for e in got[:-1] if e.type == "message"]


def resume_since(server, topic, since):
    events = stream(server, topic, since=since)
    server.publish("alice", topic, "last")
    got = [events.event()]
    while got[-1].data != "last":
        got.append(events.event())
    events.close()
    return (got[0].type == "message",
            [e.data for e in got[:-1] if e.type == "message"])


def resume_v1(server, topic, since):
    socket = v1(server)
    answer = socket.command("subscribe", ref=1, publisher="alice", topic=topic,
                            since=since)
    assert answer["type"] == "subscribed"
    if answer["resumed"]:
        assert answer["id"] == since
    place = number_of(answer["id"])
    server.publish("alice", topic, "last")
    got = []
    while not got or got[-1] != "last":
        message = socket.receive_json()
        place += 1
        assert number_of(message["id"]) == place
        got.append(message["data"])
    socket.close()
    return answer["resumed"], got[:-1]


def resume_raw(server, topic, since):
    socket = raw(server, topic, since=since)
    socket.send_frame(0x9, b"there?")
    got = []
    try:
        while not socket.pongs:
            opcode, payload = socket.read_frame()
            if opcode == 0x1:
                got.append(payload.decode())
            else:
                socket.on_control(opcode, payload)
    except Closed as closed:
        assert closed.code == 4410 and closed.reason
        assert got == []
        raw(server, topic).close()
        return False, got
    socket.close()
    return True, got


def rest(resume, data):
    """What those that are told of a loss get after it: the raw one ends."""
    return (False, [] if resume is resume_raw else list(data))


WAYS = [resume_events, resume_since, resume_v1, resume_raw]
ways = pytest.mark.parametrize("resume", WAYS,
                               ids=lambda way: way.__name__[7:])


# --- ids ---------------------------------------------------------------------


def test_a_topics_numbers_count_up_in_steps_of_one(server):
    ids = publish(server, "steps", "a", "b", "c")
    first = number_of(ids[0])
    assert first >= 1
    assert ids == [with_number(ids[0], first + i) for i in range(3)]


def test_topics_have_numbers_of_their_own_and_one_epoch(server):
    [one] = publish(server, "own 1", "a")
    ids = publish(server, "own 2", "a", "b", "c")
    assert publish(server, "own 1", "b") == [
        with_number(one, number_of(one) + 1)]
    assert ID.fullmatch(one)[1] == ID.fullmatch(ids[0])[1]


def test_an_epoch_is_new_with_each_start(start):
    epochs = {ID.fullmatch(publish(start(), "news", "a")[0])[1]
              for _ in range(3)}
    assert len(epochs) == 3


def test_an_id_is_the_same_wherever_it_is_told(server):
    events, socket = opened(server, "same"), v1(server)
    socket.command("subscribe", publisher="alice", topic="same")
    [id] = publish(server, "same", "x")
    assert events.event() == ("message", "x", id, True)
    assert socket.receive_json()["id"] == id
    assert tell(server, "same")["id"] == id
    assert v1(server, "same").receive_json()["id"] == id
    assert place_of(opened(server, "same")) == id


def test_numbers_do_not_come_back_when_a_topic_does(start):
    server = start(HISTORY_TTL=0.1)
    [before] = publish(server, "news", "a")
    wait_until_gone(server, "news")
    [after] = publish(server, "news", "b")
    assert number_of(after) > number_of(before)
    assert ID.fullmatch(after)[1] == ID.fullmatch(before)[1]


# --- going on ----------------------------------------------------------------


@ways
def test_who_names_an_id_gets_all_that_came_after_it(server, resume):
    for seen in range(5):
        topic = f"after {resume.__name__} {seen}"
        ids = publish(server, topic, *"abcde")
        assert resume(server, topic, ids[seen]) == (
            True, list("abcde"[seen + 1:]))


@ways
def test_the_number_before_the_first_stands_for_the_start(server, resume):
    topic = f"first {resume.__name__}"
    [id] = publish(server, topic, "a")
    assert resume(server, topic, with_number(id, number_of(id) - 1)) == (
        True, ["a"])


def test_a_stream_that_saw_nothing_yet_resumes_from_its_place(server):
    events = opened(server, "nothing yet")
    events.close()
    ids = publish(server, "nothing yet", "a", "b")
    events.reconnect()
    assert [event[1:3] for event in events.events(2)] == [
        ("a", ids[0]), ("b", ids[1])]


def test_a_stream_that_reconnects_again_and_again_has_each_once(server):
    events = opened(server, "again")
    for i in range(20):
        publish(server, "again", f"{i} seen")
        assert events.event().data == f"{i} seen"
        publish(server, "again", f"{i} missed")
        events.reconnect()
        assert events.event().data == f"{i} missed"


def test_before_a_replay_comes_the_id_of_its_place(server):
    ids = publish(server, "place", "a", "b", "c")
    events = stream(server, "place", last=ids[0])
    events.last_event_id = ""
    assert place_of(events) == ids[0]
    assert events.data_of(2) == ["b", "c"]
    assert events.last_event_id == ids[2]
    events.reconnect()
    events.last_event_id = ""
    assert place_of(events) == ids[2]


def test_an_event_half_read_comes_again(server):
    events = opened(server, "half")
    publish(server, "half", "whole", "x" * 1000)
    assert events.event().data == "whole"
    while b"xxx" not in events.buffer:
        events.read_some()
    events.reconnect()
    assert events.event().data == "x" * 1000


def test_last_event_id_counts_before_since(server):
    ids = publish(server, "both", "a", "b", "c")
    events = stream(server, "both", last=ids[1], since=ids[0])
    assert events.event().data == "c"


def test_a_websocket_does_not_look_at_last_event_id(server):
    ids = publish(server, "websocket", "a", "b", "c")
    socket = server.websocket(
        target=sub_target("alice", "websocket", since=ids[1]),
        fields={"Last-Event-ID": ids[0]})
    assert socket.receive() == "c"


def test_an_empty_since_is_none(server):
    publish(server, "empty", "a")
    socket = raw(server, "empty", since="")
    server.publish("alice", "empty", "b")
    assert socket.receive() == "b"


# --- the last ones -----------------------------------------------------------


def test_last_begins_with_so_many_of_the_history(start):
    server = start(HISTORY_SIZE=4)
    ids = publish(server, "news", *"abcdef")
    for last, data in ((0, ""), (1, "f"), (3, "def"), (4, "cdef"), (9, "cdef"),
                       (65536, "cdef")):
        events = stream(server, "news", last_=last)
        place = place_of(events)
        assert number_of(place) == number_of(ids[-1]) - len(data)
        socket = v1(server)
        answer = socket.command("subscribe", publisher="alice", topic="news",
                                last=last)
        assert answer["id"] == place and "resumed" not in answer
        plain, of_url = raw(server, "news", last=last), v1(server, "news",
                                                           last=last)
        assert of_url.receive_json()["id"] == place
        publish(server, "news", "live")
        want = list(data) + ["live"]
        assert events.data_of(len(want)) == want
        assert [plain.receive() for _ in want] == want
        for one in (socket, of_url):
            assert [one.receive_json()["data"] for _ in want] == want
        for one in (events, socket, plain, of_url):
            one.close()
        ids = publish(server, "news", *"abcdef")


def test_last_counts_only_where_since_is_not_exact(start):
    server = start(HISTORY_SIZE=4)
    ids = publish(server, "news", *"abcdef")
    for since, is_exact, data in ((ids[3], True, "ef"), (ids[0], False, "f")):
        events = stream(server, "news", since=since, last_=1)
        if not is_exact:
            assert events.event().type == "reset"
        assert events.data_of(len(data)) == list(data)
        socket = v1(server)
        answer = socket.command("subscribe", publisher="alice", topic="news",
                                since=since, last=1)
        assert answer["resumed"] is is_exact
        assert [socket.receive_json()["data"] for _ in data] == list(data)
        # It said what it wants instead, so that it is not ended.
        socket = raw(server, "news", since=since, last=1)
        assert [socket.receive() for _ in data] == list(data)


def test_last_of_several_topics_is_of_each(server):
    topics = names("last")
    for topic in topics:
        publish(server, topic, f"{topic} a", f"{topic} b")
    events = stream(server, *topics, last_=1)
    assert sorted(events.data_of(3)) == [f"{topic} b" for topic in topics]


@pytest.mark.parametrize("last", ["", "x", "-1", "01", "1.0", "65537", "1e1"])
def test_what_is_no_number_of_messages_is_an_error(server, last):
    answer = server.ask("GET", sub_target("alice", "news", last=last),
                        EventStream.ACCEPT)
    assert (answer.status, answer.error()) == (
        400, "last must be a number, at most 65536")
    for value in (last, -1, 1.5, 65537, None, [1]):
        answer = v1(server).command("subscribe", ref=1, publisher="alice",
                                    topic="news", last=value)
        assert (answer["type"], answer["code"]) == ("error", "bad_command")
    assert server.ask("GET", "/sub?last=1", EventStream.ACCEPT).status == 400


# --- several topics ----------------------------------------------------------


def names(prefix):
    return [f"{prefix} {i}" for i in range(3)]


def test_a_stream_of_several_topics_has_a_number_for_each(server):
    topics = names("several")
    events = opened(server, *topics)
    epoch, _, numbers = place_of(events).partition("-")
    place = [int(number) for number in numbers.split(".")]
    for i in (0, 2, 2, 1, 0):
        publish(server, topics[i], f"to {i}")
        event = events.event()
        place[i] += 1
        assert event.data == f"to {i}"
        assert event.id == f"{epoch}-{place[0]}.{place[1]}.{place[2]}"


@pytest.mark.parametrize("envelope", [None, "true"])
def test_a_stream_of_several_topics_resumes_in_each(server, envelope):
    topics = names(f"each {envelope}")
    events = opened(server, *topics, envelope=envelope)
    events.close()
    for i in (0, 2, 2, 1, 0):
        publish(server, topics[i], f"to {i}")
    events.reconnect()
    data = events.data_of(5)
    if envelope:
        data = [json.loads(one)["data"] for one in data]
    assert sorted(data) == ["to 0", "to 0", "to 1", "to 2", "to 2"]
    publish(server, topics[1], "live")
    assert "live" in events.event().data
    events.close()
    publish(server, topics[2], "later")
    events.reconnect()
    assert "later" in events.event().data


def test_a_replay_that_is_cut_off_goes_on_where_it_was(server):
    """Its ids have the old places of the topics whose turn had not come."""
    topics = names("cut")
    events = opened(server, *topics)
    events.close()
    for topic in topics:
        publish(server, topic, f"{topic} a", f"{topic} b")
    got = []
    for _ in range(6):
        events.reconnect()
        got += events.data_of(1)
    assert got == [f"{topic} {x}" for topic in topics for x in "ab"]
    events.reconnect()
    publish(server, topics[0], "live")
    assert events.event().data == "live"


def test_since_of_several_topics_works_for_websockets(server):
    topics = names("websockets")
    since = place_of(opened(server, *topics))
    for i in (0, 2, 2, 1, 0):
        publish(server, topics[i], f"to {i}")
    socket = raw(server, *topics, since=since)
    got = sorted(socket.receive() for _ in range(5))
    assert got == ["to 0", "to 0", "to 1", "to 2", "to 2"]
    socket = v1(server, *topics, since=since)
    for topic in topics:
        answer = socket.receive_json()
        assert (answer["type"], answer["topic"], answer["resumed"]) == (
            "subscribed", topic, True)
    got = sorted(socket.receive_json()["data"] for _ in range(5))
    assert got == ["to 0", "to 0", "to 1", "to 2", "to 2"]


def test_the_order_of_the_numbers_is_that_of_the_url(server):
    one, two, three = names("order")
    publish(server, two, *"abcd")
    publish(server, three, *"ab")
    place = place_of(opened(server, three, one, two))
    assert place.partition("-")[2] == ".".join(
        str(number_of(tell(server, topic)["id"]))
        for topic in (three, one, two))


def test_a_reset_names_the_topic_that_it_is_about(start):
    server = start(HISTORY_SIZE=2)
    events = opened(server, "short", "long")
    events.close()
    publish(server, "short", *"abc")
    publish(server, "long", *"de")
    events.reconnect()
    reset, *rest = events.events(5)
    assert reset.type == "reset"
    assert json.loads(reset.data)["topic"] == "short"
    assert [event.data for event in rest] == ["b", "c", "d", "e"]
    publish(server, "short", "f")
    assert events.event().data == "f"
    events.close()
    publish(server, "short", "g")
    events.reconnect()
    assert events.event().data == "g"


def test_the_ids_before_a_reset_ask_for_it_again(start):
    """Whoever is cut off before it is told must be told the next time."""
    server = start(HISTORY_SIZE=2)
    events = opened(server, "long", "short")
    events.close()
    publish(server, "short", *"abc")
    publish(server, "long", *"de")
    place = events.last_event_id
    for _ in range(2):
        events.reconnect()
        assert events.event().type == "reset"
        assert events.last_event_id == place
    assert events.data_of(4) == ["d", "e", "b", "c"]
    events.reconnect()
    assert place_of(events) != place


def test_a_raw_client_of_several_is_told_of_the_loss_in_one(start):
    server = start(HISTORY_SIZE=2)
    since = place_of(opened(server, "long", "short"))
    publish(server, "short", *"abc")
    socket = raw(server, "long", "short", since=since)
    socket.expect_close(4410)


# --- what can't be resumed ---------------------------------------------------


@ways
def test_history_size_is_what_can_be_resumed(start, resume):
    server = start(HISTORY_SIZE=3)
    ids = publish(server, "news", *"abcde")
    assert history_of(server, "news") == 3
    if resume is resume_raw:
        assert resume(server, "news", ids[0]) == (False, [])
        assert resume(server, "news", ids[1]) == (True, list("cde"))
        return
    assert resume(server, "news", ids[1]) == (True, list("cde"))
    # Now there is one more, "last".
    assert resume(server, "news", ids[1]) == (False, ["d", "e"])


@ways
def test_what_is_older_than_history_ttl_is_lost(start, resume):
    server = start(HISTORY_TTL=0.2)
    with v1_holding(server, "news"):  # so that it stays a topic
        ids = publish(server, "news", *"abc")
        wait_until_forgotten(server, "news")
        assert resume(server, "news", ids[1]) == (False, [])
        last = tell(server, "news")["id"]
        wait_until_forgotten(server, "news")
        assert resume(server, "news", last) == (True, [])


class v1_holding:
    """A subscriber as long as the block lasts."""

    def __init__(self, server, topic):
        self.socket = v1(server)
        self.socket.command("subscribe", publisher="alice", topic=topic)

    def __enter__(self):
        return self.socket

    def __exit__(self, *error):
        self.socket.close()


def bad_ids(id):
    """Ids that nobody was given: of another epoch, of the future, …"""
    epoch, number = ID.fullmatch(id).groups()
    other = "%016x" % (int(epoch, 16) ^ 1)
    return [f"{other}-{number}", f"{other}-0",
            f"{epoch}-{int(number) + 1}", f"{epoch}-{2**64 - 1}"]


@ways
def test_what_is_no_id_of_now_is_as_one_too_old(server, resume):
    topic = f"not now {resume.__name__}"
    for i in range(4):
        [*_, id] = publish(server, topic, *"abc")
        is_exact, got = resume(server, topic, bad_ids(id)[i])
        assert not is_exact and got[-3:] == rest(resume, "abc")[1]


MALFORMED = ["x", "{epoch}", "{epoch}-", "-1", "{epoch}-01", "{epoch}--1",
             "{epoch}-+1", "{epoch}-1x", "{epoch}-1.", "{epoch}-.1",
             "{epoch}-1.1", "0{epoch}-1", "{upper}-1", "{epoch} 1",
             "{epoch}-18446744073709551616", "{epoch}-" + "1" * 400]


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_last_event_id_is_as_one_too_old(server, malformed):
    [id] = publish(server, "malformed", "a")
    epoch = ID.fullmatch(id)[1]
    assert resume_events(server, "malformed", malformed.format(
        epoch=epoch, upper="A" + epoch.upper()[1:]))[0] is False


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_since_is_an_error(server, malformed):
    [id] = publish(server, "malformed", "a")
    epoch = ID.fullmatch(id)[1]
    since = malformed.format(epoch=epoch, upper="A" + epoch.upper()[1:])
    answer = server.ask("GET", sub_target("alice", "malformed", since=since),
                        EventStream.ACCEPT)
    assert (answer.status, answer.error()) == (
        400, "since must be an id, with a number for each topic")
    answer = v1(server).command("subscribe", ref=1, publisher="alice",
                                topic="malformed", since=since)
    assert (answer["type"], answer["code"]) == ("error", "bad_command")


def test_since_without_a_topic_is_an_error(server):
    answer = server.ask("GET", "/sub?since=0123456789abcdef-1",
                        EventStream.ACCEPT)
    assert answer.status == 400


def test_since_must_have_a_number_for_each_topic(server):
    place = place_of(opened(server, "one", "two"))
    answer = server.ask("GET", sub_target("alice", "one", since=place),
                        EventStream.ACCEPT)
    assert answer.status == 400
    events = stream(server, "one", last=place)
    assert events.event().type == "reset"


def test_after_a_reset_a_stream_resumes_from_where_that_put_it(start):
    server = start(HISTORY_SIZE=1)
    events = opened(server, "news")
    publish(server, "news", *"ab")
    events.last_event_id = with_number(events.last_event_id, 0)
    events.reconnect()
    reset = events.event()
    assert reset.type == "reset"
    # The id comes right behind it.
    while number_of(events.last_event_id) == 0:
        assert events.step(time.monotonic() + DEADLINE) is None
    assert events.last_event_id == json.loads(reset.data)["id"]
    events.reconnect()
    assert events.event().data == "b"
    publish(server, "news", "c")
    events.reconnect()
    assert events.event().data == "c"


# --- for how long ------------------------------------------------------------


def test_who_left_a_quiet_topic_a_moment_ago_resumes_exactly(start):
    """However long ago its last message was."""
    server = start(HISTORY_TTL=0.3)
    with v1_holding(server, "quiet") as socket:
        [id] = publish(server, "quiet", "a")
        assert socket.receive_json()["id"] == id
        wait_until_forgotten(server, "quiet")
        server.wait_until(
            lambda: server.metrics()["isimud_history_bytes"] == 0,
            "the message itself is gone, too")
    server.wait_until(lambda: tell(server, "quiet")["subscribers"] == 0,
                      "it has left")
    # Whatever machine this is: no more than the time it is told of.
    assert resume_v1(server, "quiet", id) == (True, [])


def test_a_topic_goes_when_nobody_wants_it_for_history_ttl(start):
    server = start(HISTORY_TTL=0.1)
    [id] = publish(server, "news", "a")
    with v1_holding(server, "held"):
        wait_until_gone(server, "news")
        assert tell(server, "held")["history"] == 0
    wait_until_gone(server, "held")
    # What it was is not known any more, so numbers tell whether it is exact.
    is_exact, got = resume_v1(server, "news", id)
    assert got == []
    assert is_exact == (number_of(tell(server, "news")["id"])
                        == number_of(id) + 1)


def test_memory_is_given_back_when_history_is_too_old(start):
    server = start(HISTORY_TTL=0.2, ADMIN_PORT=0)
    before = server.metrics()["isimud_memory_used_bytes"]
    http = server.http()
    for i in range(40):
        http.publish_all("alice", f"topic {i}", ["x" * 1000] * 32)
    metrics = server.metrics()
    assert metrics["isimud_topics"] > 0
    assert metrics["isimud_history_bytes"] > 0
    http.close()

    def is_back():
        metrics = server.metrics()
        return (metrics["isimud_topics"] == 0
                and metrics["isimud_history_bytes"] == 0
                and metrics["isimud_memory_used_bytes"] - before < 100_000)

    server.wait_until(is_back, "all is given back")


def test_topics_come_and_go_while_their_subscribers_do(start):
    server = start(HISTORY_TTL=0.05, WORKERS=4)
    for i in range(200):
        with v1_holding(server, f"topic {i % 7}") as socket:
            [id] = publish(server, f"topic {i % 7}", i)
            assert socket.receive_json()["id"] == id
    server.wait_until(lambda: server.metrics()["isimud_topics"] == 0,
                      "no topic is left")
    assert server.metrics()["isimud_history_bytes"] == 0


# --- how much ----------------------------------------------------------------


def test_topics_silent_for_longest_lose_theirs_first(start):
    server = start(HISTORY_BYTES="64K")
    ids = {topic: publish(server, topic, *["x" * 1000] * 10)
           for topic in ("oldest", "older")}
    states = []
    while not states or states[-1][1] == 10:
        publish(server, "new", "x" * 1000)
        states.append((history_of(server, "oldest"),
                       history_of(server, "older")))
        assert len(states) < 100
    assert states[0] == (10, 10)
    for oldest, older in states:
        assert older == 10 or not oldest
    assert (None, 10) in states
    assert resume_v1(server, "oldest", ids["oldest"][4])[0] is False
    assert history_of(server, "new") > 10


def test_history_bytes_are_never_exceeded(start):
    server = start(HISTORY_BYTES="100K", ADMIN_PORT=0)
    http = server.http()
    for size in (10, 100, 1000, 5000, 30000, 99000, 200000, 10):
        for i in range(30):
            http.publish("alice", f"topic {i % 11}", "x" * size)
            assert server.metrics()["isimud_history_bytes"] <= 100 << 10


@ways
def test_a_message_larger_than_history_bytes_is_sent_and_not_kept(
        start, resume):
    server = start(HISTORY_BYTES="10K")
    with v1_holding(server, "news") as socket:
        ids = publish(server, "news", "a", "x" * 11000, "b")
        assert [socket.receive_json()["id"] for _ in ids] == ids
        assert history_of(server, "news") == 1
        assert resume(server, "news", ids[0]) == rest(resume, "b")
        ids = publish(server, "news", "x" * 11000, "b")
        assert resume(server, "news", ids[0]) == (True, ["b"])


@pytest.mark.parametrize("setting",
                         ["HISTORY_SIZE", "HISTORY_TTL", "HISTORY_BYTES"])
def test_without_history_all_else_is_as_ever(start, setting):
    server = start(**{setting: 0})
    events, socket = opened(server, "news"), raw(server, "news")
    ids = publish(server, "news", "a", "b")
    assert number_of(ids[1]) == number_of(ids[0]) + 1
    assert [event[1:3] for event in events.events(2)] == list(
        zip("ab", ids))
    assert [socket.receive(), socket.receive()] == ["a", "b"]
    # While somebody is there, the very last number is known; if not, too,
    # unless others moved on.
    assert resume_v1(server, "news", ids[1]) == (True, [])
    assert resume_v1(server, "news", ids[1]) == (False, [])
    assert server.metrics()["isimud_history_bytes"] == 0


@ways
def test_without_history_who_missed_something_is_told(start, resume):
    server = start(HISTORY_SIZE=0)
    events = opened(server, "news")
    events.close()
    server.wait_until(lambda: tell(server, "news") is None, "it is gone")
    [id] = publish(server, "news", "missed")
    assert resume(server, "news", events.last_event_id) == (False, [])
    server.wait_until(lambda: tell(server, "news") is None, "it is gone")
    if resume is resume_raw:
        assert resume(server, "news", id) == (True, [])


def test_what_was_resumed_is_counted(start):
    server = start(HISTORY_SIZE=2)
    ids = publish(server, "news", *"abcd")
    raw(server, "news", since=ids[1]).receive()
    raw(server, "news", since=ids[0]).expect_close(4410)
    metrics = server.metrics()
    assert metrics['isimud_resumes_total{result="exact"}'] == 1
    assert metrics['isimud_resumes_total{result="reset"}'] == 1
    assert metrics["isimud_replayed_total"] == 2


def test_a_replay_longer_than_max_buffered_comes_whole(start):
    """A reader that reads is never slow because of history."""
    server = start(MAX_BUFFERED="64K", HISTORY_SIZE=2000)
    events = opened(server, "news")
    events.close()
    data = [f"{i} " + "x" * 5000 for i in range(1500)]
    server.http().publish_all("alice", "news", data)
    events.reconnect()
    assert events.data_of(len(data)) == data


def test_who_comes_and_goes_with_long_names_makes_nobody_lose_history(start):
    """One anonymous client could push out all there was."""
    server = start(HISTORY_BYTES="100K", ADMIN_PORT=0)
    publish(server, "news", *["x" * 1000] * 60)
    assert history_of(server, "news") == 60
    socket = v1(server)
    for i in range(300):
        topic = f"{i} " + "y" * 1000
        for type in "subscribe", "unsubscribe":
            answer = socket.command(type, publisher="alice", topic=topic)
            assert answer["type"] == type + "d"
        assert server.metrics()["isimud_history_bytes"] <= 100 << 10
    assert history_of(server, "news") == 60
