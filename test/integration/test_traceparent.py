"""traceparent: which trace a publication is part of, from POST /pub to the
message of isimud.v1 and the log."""
import json
import signal

import pytest

from client import basic, sub_target
from publishing import ALICE, post, publish_json, quoted, receipt
from session import ask, fresh, session, subscribe, told

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
WRONG = [
    "", "x", TRACE[:-1], TRACE + "0", TRACE + "-01", TRACE.upper(),
    TRACE.replace("-", "_"), "01" + TRACE[2:], "ff" + TRACE[2:],
    "00-" + "0" * 32 + TRACE[35:], TRACE[:36] + "0" * 16 + "-01",
    TRACE + ", " + OTHER, TRACE[:-1] + '"', TRACE[:-2] + "g1",
]


def reader(server, topic):
    socket = session(server)
    subscribe(socket, topic=topic)
    return socket


def traces(socket, count):
    return [told(socket).get("traceparent") for _ in range(count)]


# --- from where to where -----------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_plain_publication_is_of_the_request_s_trace(server, method):
    topic = fresh("plain")
    socket = reader(server, topic)
    response = server.ask(method, f"/pub/{quoted(topic)}?event=goal",
                          {**ALICE, "Traceparent": TRACE}, b"x")
    number = receipt(response)[0]
    message = told(socket)
    assert message == {"type": "message", "publisher": "alice",
                       "topic": topic, "id": response.json()["id"],
                       "event": "goal", "traceparent": TRACE, "data": "x"}
    assert number == 1


def test_each_publication_of_a_batch_may_have_a_trace_of_its_own(server):
    topic = fresh("batch")
    socket = reader(server, topic)
    batch = [{"topic": topic, "data": 1},
             {"topic": topic, "data": 2, "traceparent": OTHER},
             {"traceparent": "none", "topic": topic, "data": 3}]
    assert publish_json(server, batch, traceparent=TRACE).status == 200
    assert traces(socket, 3) == [TRACE, OTHER, TRACE]
    assert publish_json(server, batch).status == 200
    assert traces(socket, 3) == [None, OTHER, None]
    assert publish_json(server, batch[1]).status == 200
    assert traces(socket, 1) == [OTHER]


def test_so_may_one_of_isimud_v1(server):
    topic = fresh("command")
    socket = reader(server, topic)
    publisher = session(server, "alice", fields={"Traceparent": OTHER})
    ask(publisher, "publish", topic=topic, data="x", traceparent=TRACE)
    ask(publisher, "publish", topic=topic, data="x")
    assert traces(socket, 2) == [TRACE, None]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda text: ascii(text)[:20])
def test_what_is_no_traceparent_is_ignored(server, wrong):
    topic = fresh("wrong")
    socket = reader(server, topic)
    assert post(server, f"/pub/{quoted(topic)}", traceparent=wrong).status == 200
    assert publish_json(server, {"topic": topic, "data": 1,
                                 "traceparent": wrong}).status == 200
    ask(session(server, "alice"), "publish", topic=topic, data="x",
        traceparent=wrong)
    assert traces(socket, 3) == [None] * 3


@pytest.mark.parametrize("wrong", [None, 1, True, [TRACE], {"a": TRACE}],
                         ids=repr)
def test_so_is_a_member_that_is_no_string(server, wrong):
    topic = fresh("no_string")
    socket = reader(server, topic)
    assert publish_json(server, {"topic": topic, "data": 1,
                                 "traceparent": wrong}).status == 200
    ask(session(server, "alice"), "publish", topic=topic, data="x",
        traceparent=wrong)
    assert traces(socket, 2) == [None] * 2


def test_two_lines_of_it_are_none(server):
    """W3C Trace Context 3.2: there is one, or none is of use."""
    topic = fresh("twice")
    socket = reader(server, topic)
    client = server.http()
    client.send(f"POST /pub/{quoted(topic)} HTTP/1.1\r\nHost: a\r\nAuthorization: "
                f"{basic('alice')}\r\nTraceparent: {TRACE}\r\n"
                f"Traceparent: {TRACE}\r\nContent-Length: 1\r\n\r\nx".encode())
    assert client.response().status == 200
    assert traces(socket, 1) == [None]


# --- to whom -----------------------------------------------------------------


def test_other_forms_are_as_they_were(server):
    topic = fresh("forms")
    raw = server.subscribe("alice", topic)
    stream = server.event_stream(sub_target("alice", topic))
    enveloped = server.event_stream(sub_target("alice", topic)
                                    + "&envelope=true")
    assert post(server, f"/pub/{quoted(topic)}", traceparent=TRACE).status == 200
    assert raw.receive() == "hello"
    event = stream.event()
    assert (event.type, event.data) == ("message", "hello")
    assert json.loads(enveloped.event().data)["traceparent"] == TRACE


def test_large_compressed_messages_have_it_too(server):
    topic = fresh("large")
    socket = session(server, extensions="permessage-deflate")
    subscribe(socket, topic=topic)
    assert post(server, f"/pub/{quoted(topic)}", b"y" * 40_000,
                traceparent=TRACE).status == 200
    message = told(socket)
    assert (message["traceparent"], len(message["data"])) == (TRACE, 40_000)


def test_who_resumes_gets_it(server):
    topic = fresh("resumed")
    first = post(server, f"/pub/{quoted(topic)}").json()["id"]
    assert post(server, f"/pub/{quoted(topic)}", traceparent=TRACE).status == 200
    socket = session(server)
    assert socket.command("subscribe", publisher="alice", topic=topic,
                          since=first)["resumed"] is True
    assert traces(socket, 1) == [TRACE]


def test_a_restart_forgets_it_and_nothing_else(start, tmp_path):
    """HISTORY_FILE's format stays as it is: a trace does not last as long."""
    settings = dict(HISTORY_FILE=str(tmp_path / "history"), DRAIN_SECONDS=0)
    server = start(**settings)
    first = post(server, "/pub/news").json()["id"]
    second = post(server, "/pub/news?event=goal", traceparent=TRACE).json()["id"]
    server.stop()
    server = start(**settings)
    socket = session(server)
    assert socket.command("subscribe", publisher="alice", topic="news",
                          since=first)["resumed"] is True
    assert told(socket) == {"type": "message", "publisher": "alice",
                            "topic": "news", "id": second, "event": "goal",
                            "data": "hello"}


def test_a_request_may_be_repeated_within_another_span(server):
    key = {"Idempotency_Key": "traced"}
    first = post(server, "/pub/traced", traceparent=TRACE, **key)
    again = post(server, "/pub/traced", traceparent=OTHER, **key)
    assert again.field("Idempotency-Replayed") == "true"
    assert again.body == first.body


# --- the log -----------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_it_stands_in_the_line_of_a_publication(start, log_format):
    server = start(LOG_LEVEL="debug", LOG_FORMAT=log_format)
    reader(server, "news")
    one = post(server, "/pub/news", traceparent=TRACE).json()["id"]
    assert publish_json(server, [
        {"topic": "news", "data": 1, "traceparent": OTHER},
        {"topic": "sports", "data": 1}]).status == 200
    ask(session(server, "alice"), "publish", topic="news", data="x",
        traceparent=TRACE)
    lines = server.wait_for_event("published", count=4)
    assert [(line["topic"], line.get("traceparent"), str(line["subscribers"]))
            for line in lines] == [
        ("news", TRACE, "1"), ("news", OTHER, "1"), ("sports", None, "0"),
        ("news", TRACE, "1")]
    assert lines[0]["id"] == one
    assert {line["publisher"] for line in lines} == {"alice"}


def test_it_stands_in_the_line_of_one_that_was_refused(start):
    server = start(LOG_LEVEL="debug")
    traced = {"Traceparent": TRACE, "Authorization": basic("alice", "wrong")}
    assert server.ask("POST", "/pub/news", traced, b"x").status == 401
    line, = server.wait_for_event("password_wrong")
    assert (line["traceparent"], line["topic"]) == (TRACE, "news")
    assert post(server, "/pub/news", b"\xff", traceparent=TRACE).status == 400
    line, = server.wait_for_event("publish_refused")
    assert (line["traceparent"], line["path"], line["status"]) == (
        TRACE, "/pub/news", "400")
    assert "UTF-8" in line["message"]


def test_without_one_the_line_has_no_such_field(start):
    server = start(LOG_LEVEL="debug")
    assert post(server, "/pub/news", traceparent="forged=1").status == 200
    line, = server.wait_for_event("published")
    assert "traceparent" not in line
    assert not any("forged" in line for line in server.lines)


def test_publications_are_not_logged_unless_asked_for(start):
    server = start()
    assert post(server, "/pub/news", traceparent=TRACE).status == 200
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for_event("counters")
    assert server.events("published") == []
