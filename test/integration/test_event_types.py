"""The type of a publication's event: ?event=, and a member of JSON."""
import json
import urllib.parse

import pytest

from client import basic, sub_target
from session import ask, expect_error, fresh, session, subscribe, told

ALICE = {"Authorization": basic("alice")}
TOO_LONG = "x" * 129
REFUSED = [TOO_LONG, "é" * 64 + "x", "a\nb", "a\r", "\0", "reset", "close"]


def quoted(text):
    return urllib.parse.quote(text, safe="")


def post(server, target, body=b"hello", **fields):
    return server.ask("POST", target, {**ALICE, **fields}, body)


def publish(server, topic, data, event):
    response = server.http().publish("alice", body=json.dumps(
        {"topic": topic, "data": data, "event": event}).encode())
    assert response.status == 200, response.body
    return response.json()


@pytest.mark.parametrize("event", [
    "goal", "a b", " a:b ", "Ünï🦀", "x" * 128, "é" * 64, "message", "Reset"])
def test_an_event_has_the_type_that_was_published(server, event):
    topic = fresh("typed")
    stream = server.event_stream(sub_target("alice", topic))
    assert post(server, f"/pub/{quoted(topic)}?event={quoted(event)}"
                ).status == 200
    publish(server, topic, "hello", event)
    server.publish("alice", topic, "hello")
    for type in (event, event, "message"):
        got = stream.event()
        assert (got.type, got.data) == (type, "hello")


def test_an_event_of_several_topics_has_its_type(server):
    topics = [fresh("several"), fresh("several")]
    stream = server.event_stream(sub_target("alice", *topics))
    for topic in topics:
        publish(server, topic, topic, "goal")
    assert [(e.type, e.data) for e in stream.events(2)] == [
        ("goal", topic) for topic in topics]


def test_an_envelope_names_the_type(server):
    topic = fresh("envelope")
    stream = server.event_stream(sub_target("alice", topic, envelope="true"))
    socket = session(server, "alice")
    subscribe(socket, topic=topic)
    answer = ask(socket, "publish", topic=topic, data=[1], event="g\"l")
    value = {"type": "message", "publisher": "alice", "topic": topic,
             "id": answer["id"], "event": "g\"l", "data": [1]}
    assert told(socket) == value
    event = stream.event()
    assert event.type == "g\"l"
    assert json.loads(event.data) == value


def test_raw_subscribers_see_no_type(server):
    topic = fresh("raw")
    subscriber = server.subscribe("alice", topic)
    publish(server, topic, "hello", "goal")
    assert subscriber.receive() == "hello"


@pytest.mark.parametrize("form", ["", "&envelope=true"])
def test_who_resumes_gets_the_types_too(server, form):
    topic = fresh("resumed")
    first = publish(server, topic, "one", "goal")
    publish(server, topic, "two", "foul")
    server.publish("alice", topic, "three")
    target = sub_target("alice", topic) + form + "&since=" + first["id"]
    assert [e.type for e in server.event_stream(target).events(2)] == [
        "foul", "message"]


def test_types_outlive_a_restart(start, tmp_path):
    settings = dict(HISTORY_FILE=str(tmp_path / "history"), DRAIN_SECONDS=0)
    server = start(**settings)
    first = publish(server, "news", "one", "goal")
    publish(server, "news", "two", "g\u00f6l")
    server.stop()
    server = start(**settings)
    event = server.event_stream(sub_target("alice", "news",
                                           since=first["id"])).event()
    assert (event.type, event.data) == ("göl", "two")


@pytest.mark.parametrize("event", REFUSED, ids=lambda e: ascii(e)[:20])
def test_a_type_that_cannot_be_is_refused(server, event):
    response = post(server, f"/pub/a?event={quoted(event)}")
    assert response.status == 422
    assert response.error().startswith("`event` ")
    batch = [{"topic": "a", "data": 1}, {"topic": "a", "data": 1, "event": event}]
    response = server.http().publish("alice", body=json.dumps(batch).encode())
    assert response.status == 422
    assert response.error().startswith("item 2: `event` ")
    value = session(server, "alice").command("publish", topic="a", data=1,
                                             event=event)
    assert value["message"].startswith("`event` ")
    expect_error(value, "bad_command")


@pytest.mark.parametrize("event", [1, None, [], {"a": 1}])
def test_a_type_is_a_string(server, event):
    response = server.http().publish("alice", body=json.dumps(
        {"topic": "a", "data": 1, "event": event}).encode())
    assert response.status == 422
    expect_error(session(server, "alice").command(
        "publish", topic="a", data=1, event=event), "bad_command")


def test_an_empty_type_is_none(server):
    topic = fresh("empty")
    socket = session(server, "alice")
    subscribe(socket, topic=topic)
    assert post(server, f"/pub/{quoted(topic)}?event=").status == 200
    publish(server, topic, "hello", "")
    for _ in range(2):
        assert "event" not in told(socket)
    ask(socket, "publish", topic=topic, data="hello", event="")
    assert "event" not in told(socket)


@pytest.mark.parametrize("query", ["event=%zz", "event=%ff", "event=a&event=b"])
def test_a_malformed_query_is_answered_400(server, query):
    assert post(server, "/pub/a?" + query).status == 400


def test_a_repeat_must_have_the_same_type(server):
    key = {"Idempotency-Key": "typed"}
    first = post(server, "/pub/typed?event=goal", **key)
    again = post(server, "/pub/typed?event=goal", **key)
    assert again.field("Idempotency-Replayed") == "true"
    assert again.body == first.body
    assert post(server, "/pub/typed?event=foul", **key).status == 422
