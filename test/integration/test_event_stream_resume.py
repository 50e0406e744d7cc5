"""Event streams that resume, and WebSockets that name topics in their URL."""
import json
import random
import threading
import urllib.parse

import pytest

from client import BINARY, DEADLINE, SCALE, WebSocket, handshake, sub_target
from streams import ID, LOST, STREAM, number_of, numbers_of

# --- resuming ----------------------------------------------------------------


def test_last_event_id_resumes_without_a_loss(server):
    stream = server.event_stream(sub_target("alice", "resume"))
    for i in range(10):
        server.publish("alice", "resume", str(i))
    assert stream.data_of(4) == list("0123")
    place = stream.last_event_id
    stream.reconnect()
    assert stream.expect_id() == place
    events = stream.events(6)
    assert [event.data for event in events] == list("456789")
    server.publish("alice", "resume", "live")
    assert stream.data_of(1) == ["live"]


def test_since_resumes_without_a_loss(server):
    ids = [server.http().publish("alice", "since", str(i)).json()["id"]
           for i in range(5)]
    stream = server.event_stream(sub_target("alice", "since", since=ids[1]))
    assert stream.data_of(3) == list("234")
    stream = server.event_stream(sub_target("alice", "since", since=ids[4]))
    assert stream.expect_id() == ids[4]


def test_last_event_id_counts_before_since(server):
    ids = [server.http().publish("alice", "both", str(i)).json()["id"]
           for i in range(5)]
    target = sub_target("alice", "both", since=ids[0])
    stream = server.event_stream(target, last_event_id=ids[3])
    assert stream.expect_id() == ids[3]
    assert stream.data_of(1) == ["4"]
    stream = server.event_stream(target, fields={"Last-Event-ID": ""})
    assert stream.data_of(4) == list("1234")


@pytest.mark.parametrize("last", [
    "x", "0", "-", LOST, LOST + ".1", "0123456789ABCDEF-7", "é",
    "0123456789abcdef-99999999999999999999", "x" * 4000, '"quoted"', "7, 8",
], ids=lambda text: ascii(text)[:30])
def test_what_is_no_id_of_now_is_answered_as_one_too_old(server, last):
    server.publish("alice", "old", "kept")
    now = server.http().publish("alice", "old", "x").json()["id"]
    fields = {"Last-Event-ID": last.encode().decode("latin-1")}
    target = sub_target("alice", "old")
    streams = [server.event_stream(target, fields=fields)]
    if len(last) < 1000:
        streams += [server.event_stream(sub_target("alice", "old",
                                                   **{name: last}))
                    for name in ("lastEventId", "Last-Event-ID")]
    for stream in streams:
        event = stream.event()
        assert event.type == "reset" and not event.has_id
        place = stream.expect_id()
        assert place == json.loads(event.data)["id"]
        got = stream.events(number_of(now) - number_of(place))
        assert [event.data for event in got][-2:] == ["kept", "x"]
        assert got[-1].id == now
    # One that is of now is newer.
    stream = server.event_stream(sub_target("alice", "old", since=now),
                                 fields=fields)
    assert stream.expect_id() == now


PLACES = ["since", "lastEventId", "Last-Event-ID", "the field"]


def resumed(server, topics, places):
    """A stream that says, in each of the places, where it was."""
    last = places.pop("the field", None)
    return server.event_stream(
        sub_target("alice", *topics, **places),
        fields={"Last-Event-ID": last} if last else None)


@pytest.mark.parametrize("place", PLACES)
def test_a_client_may_say_in_several_places_where_it_was(server, place):
    topic = "places " + place
    ids = [server.http().publish("alice", topic, str(i)).json()["id"]
           for i in range(4)]
    assert resumed(server, [topic], {place: ids[1]}).data_of(2) == ["2", "3"]
    # Of several the newest counts, wherever it is.
    for other in PLACES:
        if other != place:
            stream = resumed(server, [topic], {other: ids[0], place: ids[2]})
            assert stream.data_of(1) == ["3"]
            stream.close()
    stream = resumed(server, [topic], {
        **dict.fromkeys(PLACES, LOST), place: ids[2]})
    assert stream.data_of(1) == ["3"]
    # WebSockets know those of the query alone.
    if place != "the field":
        socket = server.websocket(
            target=sub_target("alice", topic, **{place: ids[1]}))
        assert [socket.receive(), socket.receive()] == ["2", "3"]
        v1 = server.websocket(subprotocols=["isimud.v1"], target=sub_target(
            "alice", topic, **{place: ids[2]}))
        assert v1.receive_json()["resumed"] is True
        assert v1.receive_json()["data"] == "3"


def test_the_newest_place_of_several_topics_is_behind_in_none(server):
    stream = server.event_stream(sub_target("alice", "n1", "n2"))
    ids = [stream.expect_id()]
    for i in range(4):
        server.publish("alice", f"n{i % 2 + 1}", str(i))
        ids.append(stream.event().id)
    for older, newer in ((0, 3), (2, 3)):
        for where in (("since", "lastEventId"), ("lastEventId", "since")):
            again = resumed(server, ["n1", "n2"],
                            dict(zip(where, (ids[older], ids[newer]))))
            assert again.expect_id() == ids[3]
            assert again.data_of(1) == ["3"]
            assert again.last_event_id == ids[4]


def test_without_a_topic_a_library_s_place_means_nothing(server):
    socket = server.websocket(target="/sub?lastEventId=" + LOST)
    socket.subscribe("alice", "nowhere")


def test_an_id_of_the_future_is_answered_as_one_too_old(server):
    now = server.http().publish("alice", "future", "x").json()["id"]
    epoch = now.partition("-")[0]
    stream = server.event_stream(
        sub_target("alice", "future"),
        last_event_id=f"{epoch}-{number_of(now) + 1}")
    assert stream.event().type == "reset"
    assert number_of(stream.expect_id()) == number_of(now) - 1
    assert stream.event() == ("message", "x", now, True)


def test_an_id_of_another_count_of_topics_is_answered_as_one_too_old(server):
    now = server.http().publish("alice", "c1", "x").json()["id"]
    stream = server.event_stream(sub_target("alice", "c1", "c2"),
                                 last_event_id=now)
    assert [event.type for event in stream.events(2)] == ["reset"] * 2
    stream.expect_id()


def test_a_reset_comes_before_the_first_message(server):
    stream = server.event_stream(sub_target("alice", "reset"),
                                 last_event_id=LOST)
    server.publish("alice", "reset", "new")
    reset, new = stream.events(2)
    assert reset.type == "reset" and not reset.has_id
    told = json.loads(reset.data)
    assert told.keys() == {"reason", "publisher", "topic", "id"}
    assert told["reason"] and number_of(told["id"]) == number_of(new.id) - 1
    assert (told["publisher"], told["topic"]) == ("alice", "reset")
    assert (new.type, new.data) == ("message", "new")


def test_what_follows_a_reset_is_what_the_history_has(start):
    server = start(HISTORY_SIZE=2)
    stream = server.event_stream()
    place = stream.expect_id()
    stream.close()
    for i in range(3):
        server.publish("alice", "news", f"lost {i}")
    stream = server.event_stream(last_event_id=place)
    assert stream.event().type == "reset"
    now = stream.expect_id()
    assert number_of(now) == number_of(place) + 1
    assert stream.data_of(2) == ["lost 1", "lost 2"]
    server.publish("alice", "news", "x")
    assert stream.data_of(1) == ["x"]
    stream.reconnect()
    stream.expect_id()  # and no reset any more


def test_a_reset_is_of_the_topic_that_was_lost_alone(start):
    server = start(HISTORY_SIZE=3)
    stream = server.event_stream(sub_target("alice", "calm", "busy", "still"))
    stream.expect_id()
    stream.close()
    for i in range(4):
        server.publish("alice", "busy", f"lost {i}")
    for i in range(3):
        server.publish("alice", "calm", f"kept {i}")
    stream.reconnect()
    events = stream.events(7)
    assert [event.data for event in events if event.type == "message"] == [
        f"kept {i}" for i in range(3)] + [f"lost {i}" for i in range(1, 4)]
    resets = [json.loads(event.data)["topic"] for event in events
              if event.type == "reset"]
    assert resets == ["busy"]
    assert numbers_of(stream.last_event_id)[:2] == [3, 4]


def test_what_is_older_than_history_keeps_is_lost(start):
    server = start(HISTORY_TTL=0.05)
    stream = server.event_stream()
    place = stream.expect_id()
    server.publish("alice", "news", "x")
    stream.event()

    def is_too_late():
        again = server.event_stream(last_event_id=place)
        kind = again.event().type
        again.close()
        return kind == "reset"

    server.wait_until(is_too_late, "it is forgotten")


def test_without_history_only_the_newest_id_resumes(start):
    server = start(HISTORY_SIZE=0)
    stream = server.event_stream()
    other = server.event_stream()
    stream.expect_id()
    server.publish("alice", "news", "x")
    stream.event()
    stream.reconnect()
    stream.expect_id()
    stream.close()
    server.publish("alice", "news", "y")
    stream.reconnect()
    assert stream.event().type == "reset"
    assert other.data_of(2) == ["x", "y"]


def test_an_id_of_another_run_of_the_server_is_too_old(start):
    first = start().event_stream()
    place = first.expect_id()
    stream = start().event_stream(last_event_id=place)
    assert stream.event().type == "reset"
    assert stream.expect_id().partition("-")[0] != place.partition("-")[0]


def test_a_topic_that_was_forgotten_meanwhile_is_told(start):
    """Its numbers go on, so that an old id cannot be taken for a new one."""
    server = start(HISTORY_TTL=0.05, ADMIN_PORT=0)
    stream = server.event_stream()
    place = stream.expect_id()
    stream.close()
    server.publish("alice", "news", "x")
    server.wait_until(lambda: server.metrics()["isimud_topics"] == 0,
                      "the topic is forgotten")
    for i in range(5):
        server.publish("alice", "news", f"y{i}")
    stream = server.event_stream(last_event_id=place)
    assert stream.event().type == "reset"


@pytest.mark.parametrize("topics", [["busy"], ["busy", "other", "third"]],
                         ids=len)
def test_clients_that_come_and_go_in_a_storm_miss_nothing(start, topics):
    """By Last-Event-ID alone, cut off anywhere."""
    server = start(HISTORY_SIZE=65536)
    count = 2000 // SCALE
    clients = []
    for _ in range(4):
        stream = server.event_stream(sub_target("alice", *topics))
        stream.expect_id()
        clients.append(stream)
    publishers = [threading.Thread(
        target=server.http().publish_all,
        args=("alice", topic, [f"{topic} {i}" for i in range(count)], 1))
        for topic in topics]
    for publisher in publishers:
        publisher.start()
    chance = random.Random(1)
    places = [dict.fromkeys(topics, 0) for _ in clients]
    for _ in range(count * len(topics)):
        for stream, at in zip(clients, places):  # all at once
            event = stream.event()
            assert event.type == "message"
            topic, _, number = event.data.partition(" ")
            assert int(number) == at[topic]
            at[topic] += 1
            if chance.random() < 0.05:
                stream.reconnect()
    assert all(at == dict.fromkeys(topics, count) for at in places)
    for publisher in publishers:
        publisher.join(DEADLINE)


# --- WebSockets by their URL -------------------------------------------------


def test_a_websocket_subscribes_by_its_url(server):
    socket = server.websocket(target=sub_target("alice", "w ü"))
    receipt = server.http().publish("alice", "w ü", "x").json()
    assert receipt["subscribers"] == 1  # in force with the handshake
    server.publish("alice", "w ü", {"a": 1})
    assert [socket.receive(), socket.receive()] == ["x", '{"a":1}']
    assert socket.subprotocol is None


def test_a_websocket_has_several_topics(server):
    socket = server.websocket(target=sub_target("alice", "w1", "w2"))
    for i in range(10):
        server.publish("alice", f"w{i % 2 + 1}", str(i))
    got = [socket.receive() for _ in range(10)]
    assert [data for data in got if data in "02468"] == list("02468")
    assert [data for data in got if data in "13579"] == list("13579")


@pytest.mark.parametrize("what", ["a subscription", "text", "binary"])
def test_a_websocket_by_url_is_not_to_say_anything(server, what):
    socket = server.websocket(target=sub_target("alice", "mute"))
    if what == "binary":
        socket.send_frame(BINARY, b"x")
        socket.expect_close(1003)
        return
    socket.send_text(json.dumps({"publisher": "alice", "topic": "x"})
                     if what == "a subscription" else what)
    socket.expect_close(1008)


@pytest.mark.parametrize("topics", [["v1"], ["v1", "v2"]], ids=len)
def test_a_websocket_resumes_by_since(server, topics):
    stream = server.event_stream(sub_target("alice", *topics))
    place = stream.expect_id()
    for i in range(4):
        server.publish("alice", topics[i % len(topics)], str(i))
    socket = server.websocket(
        target=sub_target("alice", *topics, since=place))
    assert sorted(socket.receive() for _ in range(4)) == list("0123")
    server.publish("alice", "v1", "live")
    assert socket.receive() == "live"


def test_a_websocket_that_cannot_resume_is_closed_with_4410(server):
    server.publish("alice", "gone", "x")
    for topics in (["gone"], ["gone", "other"]):
        since = LOST + ".0" * (len(topics) - 1)
        socket = server.websocket(
            target=sub_target("alice", *topics, since=since))
        assert "lost" in socket.expect_close(4410)
    server.wait_until(
        lambda: server.http().publish("alice", "gone", "y").json()[
            "subscribers"] == 0, "they are forgotten")


def test_a_websocket_takes_no_last_event_id(server):
    socket = server.websocket(target=sub_target("alice", "nolast"),
                              fields={"Last-Event-ID": LOST})
    server.publish("alice", "nolast", "x")
    assert socket.receive() == "x"


def test_a_handshake_wins_over_accept(server):
    client = server.websocket(open=False)
    client.send(handshake(sub_target("alice", "news"), STREAM))
    WebSocket.check_opened(client.response())


def test_ids_are_alike_in_all_forms(server):
    """What one form was told, another resumes from."""
    target = sub_target("alice", "alike")
    session = server.websocket(target=target, subprotocols=["isimud.v1"])
    stream = server.event_stream(target)
    assert session.receive_json()["id"] == stream.expect_id()
    receipt = server.http().publish("alice", "alike", "1").json()["id"]
    assert session.receive_json()["id"] == receipt == stream.event().id
    server.publish("alice", "alike", "2")
    query = "&since=" + urllib.parse.quote(receipt)
    assert server.websocket(target=target + query).receive() == "2"
    assert ID.fullmatch(receipt)
