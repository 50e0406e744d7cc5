"""isimud.v1: subscribing, resuming, and the topics of the URL."""
import json

import pytest

from client import TEXT, EventStream, frame, handshake, sub_target
from session import (ELSEWHERE, NEWS, SUBPROTOCOL, Follower, ask, epoch_of,
                     expect_error, fresh, id_of, number_of, session, subscribe,
                     told)

# --- subscribing -------------------------------------------------------------


def test_messages_come_in_an_envelope(server):
    topic = fresh("envelope")
    socket = session(server)
    follower = subscribe(socket, topic=topic)
    server.publish("alice", topic, "hello")
    message = told(socket)
    assert message == {
        "type": "message", "publisher": "alice", "topic": topic,
        "id": id_of(message["id"], follower.last + 1), "data": "hello"}
    assert epoch_of(message["id"]) == follower.epoch


def test_an_id_tells_what_comes_next_wherever_it_starts(server):
    topic = fresh("ids")
    for count in (0, 1, 3):
        server.publish("alice", topic, "x", times=count)
        socket = session(server)
        follower = subscribe(socket, topic=topic)
        server.publish("alice", topic, "x", times=2)
        follower.read_to(socket, follower.last + 2)


def test_any_number_of_topics_of_any_publishers_on_one_connection(server):
    socket = session(server)
    keys = [(publisher, fresh("many")) for publisher in ("alice", "bob", "")
            for _ in range(30)]
    followers = {key: subscribe(socket, *key) for key in keys}
    for round in range(3):
        for publisher, topic in keys:
            server.publish(publisher, topic, f"{topic} {round}")
    for _ in range(3 * len(keys)):
        value = told(socket)
        followers[value["publisher"], value["topic"]].take(value)
    for (_, topic), follower in followers.items():
        assert follower.data == [f"{topic} {i}" for i in range(3)]


NAMES = ["", " ", "A", "a", "a\0b", "\0", "é", "e\u0301", "\U0001f600",
         "\u2028", '"\\/', "a/b?c#d", "x" * 1024]


def test_names_are_any_strings_and_case_counts(server):
    socket = session(server)
    followers = {name: subscribe(socket, "alice", name) for name in NAMES}
    for name in NAMES:
        server.publish("alice", name, name)
    for name in NAMES:
        value = told(socket)
        assert (value["topic"], value["data"]) == (name, name)
        followers[name].take(value)
    for name in NAMES:
        assert ask(socket, "unsubscribe", publisher="alice", topic=name) == {
            "type": "unsubscribed", "publisher": "alice", "topic": name}


def test_a_topic_is_subscribed_once(server):
    socket = session(server)
    topic = fresh("twice")
    key = {"publisher": "alice", "topic": topic}
    follower = subscribe(socket, topic=topic)
    for more in ({}, {"slow": "drop"}, {"since": ELSEWHERE + "-1"}):
        expect_error(ask(socket, "subscribe", ref=1, **key, **more),
                     "already_subscribed", ref=1)
    server.publish("alice", topic, "once")
    follower.take(told(socket))
    assert ask(socket, "ping") == {"type": "pong"}


def test_two_connections_subscribe_to_it_each(server):
    topic = fresh("both")
    sockets = [session(server) for _ in range(5)]
    followers = [subscribe(socket, topic=topic) for socket in sockets]
    receipt = server.http().publish("alice", topic).json()
    assert receipt["subscribers"] == 5
    for socket, follower in zip(sockets, followers):
        follower.take(told(socket))


def test_nothing_comes_once_it_is_unsubscribed(server):
    topic = fresh("end")
    key = {"publisher": "alice", "topic": topic}
    socket, other = session(server), session(server)
    follower, others = (subscribe(s, topic=topic) for s in (socket, other))
    server.publish("alice", topic, "x")
    follower.take(told(socket))
    assert ask(socket, "unsubscribe", **key) == {"type": "unsubscribed", **key}
    receipt = server.http().publish("alice", topic).json()
    assert receipt["subscribers"] == 1
    others.read_to(other, number_of(receipt["id"]))
    assert ask(socket, "ping") == {"type": "pong"}
    # And from the new id on once it is subscribed again.
    again = subscribe(socket, topic=topic)
    assert again.last == number_of(receipt["id"])
    server.publish("alice", topic, "y")
    again.take(told(socket))
    assert again.data == ["y"]


def test_what_is_not_subscribed_cannot_be_unsubscribed(server):
    socket = session(server)
    subscribe(session(server), topic="news")
    expect_error(ask(socket, "unsubscribe", ref=1, **NEWS), "not_subscribed",
                 ref=1)
    subscribe(socket, topic="news")
    expect_error(ask(socket, "unsubscribe", publisher="bob", topic="news"),
                 "not_subscribed")
    ask(socket, "unsubscribe", **NEWS)
    expect_error(ask(socket, "unsubscribe", **NEWS), "not_subscribed")


def test_the_129th_subscription_is_refused_until_there_is_a_place(server):
    socket = session(server)
    keys = [{"publisher": "alice", "topic": fresh("place")}
            for _ in range(130)]
    for key in keys[:128]:
        assert ask(socket, "subscribe", **key)["type"] == "subscribed"
    expect_error(ask(socket, "subscribe", ref=1, **keys[128]),
                 "too_many_subscriptions", ref=1)
    for i in (127, 0, 64):
        assert ask(socket, "unsubscribe", **keys[i])["type"] == "unsubscribed"
        assert ask(socket, "subscribe", **keys[128])["type"] == "subscribed"
        expect_error(ask(socket, "subscribe", **keys[129]),
                     "too_many_subscriptions")
        server.publish("alice", keys[128]["topic"], "x")
        assert told(socket)["topic"] == keys[128]["topic"]
        assert ask(socket, "unsubscribe", **keys[128])
        assert ask(socket, "subscribe", **keys[i])["type"] == "subscribed"
    # None of those that stayed was lost with the others' places.
    for key in keys[:128]:
        server.publish("alice", key["topic"], "y")
    assert [told(socket)["topic"] for _ in range(128)] == [
        key["topic"] for key in keys[:128]]


def test_the_setting_says_how_many_subscriptions(start):
    server = start(MAX_SUBSCRIPTIONS=2)
    socket = session(server, target=sub_target("alice", "a"))
    assert told(socket)["topic"] == "a"
    assert ask(socket, "subscribe", publisher="alice",
               topic="b")["type"] == "subscribed"
    expect_error(ask(socket, "subscribe", publisher="alice", topic="c"),
                 "too_many_subscriptions")
    assert server.ask("GET", sub_target("alice", "a", "b", "c"),
                      EventStream.ACCEPT).status == 400


def test_subscriptions_end_with_the_connection(start):
    server = start()
    for leave in ("close", "abort", "closing handshake"):
        socket = session(server)
        for topic in "abc":
            subscribe(socket, topic=topic)
        if leave == "closing handshake":
            socket.send_close(1000)
            assert socket.read_to_close() == 1000
        else:
            getattr(socket, leave)()
        server.wait_until(lambda: server.http().publish(
            "alice", "b").json()["subscribers"] == 0, "they are gone")


# --- since -------------------------------------------------------------------


def published(server, topic, count, start=0):
    """Publishes as many; returns the id of the last."""
    client = server.http()
    for i in range(start, start + count):
        id = client.publish("alice", topic, i).json()["id"]
    return id


@pytest.mark.parametrize("missed", [0, 1, 5, 64])
def test_since_resumes_without_a_loss(server, missed):
    topic = fresh("since")
    last = published(server, topic, 70)
    since = id_of(last, number_of(last) - missed)
    socket = session(server)
    answer = ask(socket, "subscribe", publisher="alice", topic=topic,
                 since=since, ref=1)
    assert answer == {"type": "subscribed", "ref": 1, "publisher": "alice",
                      "topic": topic, "id": since, "resumed": True}
    follower = Follower(answer)
    last = published(server, topic, 3, start=70)
    follower.read_to(socket, number_of(last))
    assert follower.data == list(range(70 - missed, 73))


def test_the_answer_comes_before_what_it_resumes(server):
    topic = fresh("since")
    last = published(server, topic, 10)
    socket = session(server)
    socket.send(b"".join(frame(TEXT, json.dumps(command).encode()) for command
                         in ({"type": "ping"}, {
                             "type": "subscribe", "publisher": "alice",
                             "topic": topic,
                             "since": id_of(last, number_of(last) - 10)},
                             {"type": "ping"})))
    types = [told(socket)["type"] for _ in range(13)]
    types.remove("pong")
    types.remove("pong")
    assert types == ["subscribed"] + 10 * ["message"]


@pytest.mark.parametrize("since", [
    lambda last: id_of(last, number_of(last) - 65),  # forgotten
    lambda last: id_of(last, number_of(last) + 1),   # the future
    lambda last: id_of(last, 2 ** 64 - 1),
    lambda last: f"{ELSEWHERE}-{number_of(last)}",   # another start
    lambda last: f"{ELSEWHERE}-0",
], ids=["too old", "future", "last of all", "epoch", "epoch and zero"])
def test_what_cannot_be_resumed_is_told_and_the_rest_comes(server, since):
    topic = fresh("lost")
    last = published(server, topic, 70)
    place = id_of(last, number_of(last) - 64)
    socket = session(server)
    answer = ask(socket, "subscribe", publisher="alice", topic=topic,
                 since=since(last))
    assert answer == {"type": "subscribed", "publisher": "alice",
                      "topic": topic, "id": place, "resumed": False}
    follower = Follower(answer)
    server.publish("alice", topic, "live")
    follower.read_to(socket, number_of(last) + 1)
    assert follower.data == list(range(6, 70)) + ["live"]


@pytest.mark.parametrize("since", [
    "", "x", "5", "-", ELSEWHERE, ELSEWHERE + "-", ELSEWHERE + "-x",
    ELSEWHERE + "--1", ELSEWHERE + "-01", ELSEWHERE + "-1.2",
    ELSEWHERE + "-1 ", " " + ELSEWHERE + "-1", ELSEWHERE[1:] + "-1",
    ELSEWHERE.upper() + "-1", ELSEWHERE + "-18446744073709551616",
    ELSEWHERE + "-1\0"])
def test_what_is_no_id_is_refused(server, since):
    socket = session(server)
    expect_error(ask(socket, "subscribe", ref=1, **NEWS, since=since),
                 "bad_command", ref=1)
    expect_error(ask(socket, "unsubscribe", **NEWS), "not_subscribed")


def test_without_since_nothing_is_said_of_resuming(server):
    topic = fresh("no since")
    last = published(server, topic, 3)
    assert ask(session(server), "subscribe", publisher="alice",
               topic=topic) == {"type": "subscribed", "publisher": "alice",
                                "topic": topic, "id": last}


def test_a_client_that_comes_again_and_again_misses_nothing(server):
    topic = fresh("again")
    socket = session(server)
    follower = subscribe(socket, topic=topic)
    for round in range(10):
        published(server, topic, 5, 10 * round)
        while len(follower.data) < 10 * round + round % 5:
            follower.take(told(socket))
        socket.abort()
        published(server, topic, 5, 10 * round + 5)
        socket = session(server)
        answer = ask(socket, "subscribe", publisher="alice", topic=topic,
                     since=f"{follower.epoch}-{follower.last}")
        assert answer["resumed"] is True
        assert number_of(answer["id"]) == follower.last
    while len(follower.data) < 100:
        follower.take(told(socket))
    assert follower.data == list(range(100))


def test_an_unsubscribed_topic_can_be_resumed_on_the_same_connection(server):
    topic = fresh("pause")
    socket = session(server)
    follower = subscribe(socket, topic=topic)
    published(server, topic, 2)
    follower.read_to(socket, follower.last + 2)
    ask(socket, "unsubscribe", publisher="alice", topic=topic)
    published(server, topic, 3, 2)
    again = subscribe(socket, topic=topic,
                      since=f"{follower.epoch}-{follower.last}")
    assert again.last == follower.last
    again.read_to(socket, follower.last + 3)
    assert again.data == [2, 3, 4]


# --- topics of the URL -------------------------------------------------------


def test_topics_of_the_url_are_answered_without_a_ref_and_first(server):
    topics = [fresh("url") for _ in range(3)]
    socket = server.websocket(open=False)
    socket.send(handshake(sub_target("alice", *topics),
                          {"Sec-WebSocket-Protocol": SUBPROTOCOL})
                + frame(TEXT, b'{"type": "ping", "ref": 1}'))
    socket.check_opened(socket.response(), offered=[SUBPROTOCOL])
    followers = {}
    for topic in topics:
        value = told(socket)
        assert value == {"type": "subscribed", "publisher": "alice",
                         "topic": topic, "id": value["id"]}
        followers[topic] = Follower(value)
    assert told(socket) == {"type": "pong", "ref": 1}
    for topic in topics:
        server.publish("alice", topic, "x")
        followers[topic].take(told(socket))
    # They are subscriptions like others.
    for topic in topics:
        key = {"publisher": "alice", "topic": topic}
        expect_error(ask(socket, "subscribe", **key), "already_subscribed")
        assert ask(socket, "unsubscribe", **key) == {
            "type": "unsubscribed", **key}


def test_since_of_the_url_is_that_of_its_topics(server):
    topics = [fresh("url") for _ in range(3)]
    lasts = [published(server, topic, n) for topic, n in zip(topics, (3, 5, 4))]
    places = [number_of(lasts[0]) - 3, number_of(lasts[1]),
              number_of(lasts[2]) + 9]
    since = f"{epoch_of(lasts[0])}-" + ".".join(map(str, places))
    socket = session(server, target=sub_target("alice", *topics, since=since))
    first, second, third = told(socket), told(socket), told(socket)
    assert (first["id"], first["resumed"]) == (id_of(lasts[0], places[0]), True)
    assert (second["id"], second["resumed"]) == (lasts[1], True)
    assert (third["id"], third["resumed"]) == (
        id_of(lasts[2], number_of(lasts[2]) - 4), False)
    followers = {topics[0]: Follower(first), topics[2]: Follower(third)}
    for _ in range(7):
        value = told(socket)
        followers[value["topic"]].take(value)
    assert [one.data for one in followers.values()] == [
        [0, 1, 2], [0, 1, 2, 3]]
    for topic, value in zip(topics, (first, second, third)):
        assert value["topic"] == topic and "ref" not in value
    # A command's since is its own.
    ask(socket, "unsubscribe", publisher="alice", topic=topics[1])
    assert "resumed" not in ask(socket, "subscribe", publisher="alice",
                                topic=topics[1])


@pytest.mark.parametrize("target", [
    sub_target("alice", "a", since="x"),
    sub_target("alice", "a", since=ELSEWHERE + "-1.2"),
    sub_target("alice", "a", "b", since=ELSEWHERE + "-1"),
    "/sub?since=" + ELSEWHERE + "-1",
    "/sub?publisher=alice", "/sub?topic=a", "/sub?publisher=a&topic=%ff",
    sub_target("a", *map(str, range(129))), sub_target("alice", "a", "b", "a"),
])
def test_a_url_that_cannot_be_is_400(server, target):
    socket = server.websocket(open=False)
    socket.send(handshake(target, {"Sec-WebSocket-Protocol": SUBPROTOCOL}))
    response = socket.response()
    assert response.status == 400
    assert response.error()


def test_a_url_may_have_as_many_topics_as_a_connection(server):
    topics = [f"u{i}" for i in range(128)]
    socket = session(server, target=sub_target("alice", *topics))
    assert [told(socket)["topic"] for _ in topics] == topics
    expect_error(ask(socket, "subscribe", publisher="alice", topic="u128"),
                 "too_many_subscriptions")
