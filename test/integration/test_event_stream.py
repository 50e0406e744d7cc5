"""Event streams: the answer, events, several topics, envelopes, names, ends."""
import itertools
import json
import os
import random
import re
import subprocess
import threading
import time

import pytest

from client import (DEADLINE, SCALE, TEXT, WebSocket, basic, frame, handshake,
                    publish_request, request, sub_target)
from program import Server
from streams import ID, LOST, STREAM, asked, number_of, numbers_of

# --- the answer --------------------------------------------------------------


def test_the_answer_has_these_fields_and_no_others(server):
    _, answer = asked(server, sub_target("alice", "news"))
    assert answer.status == 200
    fields = {name: values for name, values in answer.fields.items()
              if name != "date"}
    assert fields == {"content-type": ["text/event-stream"],
                      "cache-control": ["no-store, no-transform"],
                      "vary": ["Accept-Encoding"],
                      "x-accel-buffering": ["no"],
                      "x-content-type-options": ["nosniff"],
                      "transfer-encoding": ["chunked"],
                      "connection": ["close"]}
    assert answer.field("Date")


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_stream_on_the_wire(server):
    """Each event is a chunk; the first block is `retry` and the id."""
    client, _ = asked(server, sub_target("alice", "wire"))
    retry = client.read_until(b"\n\r\n")
    place = client.read_until(b"\n\n\r\n")
    assert re.fullmatch(rb"c\r\nretry: [0-9]{4}\n\r\n", retry)
    epoch, number = re.fullmatch(
        rb"[0-9a-f]+\r\nid: ([0-9a-f]{16})-([0-9]+)\n\n\r\n", place).groups()
    server.publish("alice", "wire", "1 : 0")
    server.publish("alice", "wire", "a\r\nb\rc\nd")
    client.read_until(b"data: d\n\n\r\n")
    server.publish("alice", "wire", {"a": [1, None]})
    expected = chunk(b"id: %b-%d\ndata: %b\n\n" % (
        epoch, int(number) + 3, b'{"a":[1,null]}'))
    assert client.read_exactly(len(expected)) == expected


def test_lines_without_data_are_no_block_but_the_first(start):
    """Some clients raise an empty message for each block without data."""
    server = start(PING_INTERVAL=0.1 * SCALE)
    client, _ = asked(server, sub_target("alice", "blocks"), version="1.0")
    first = client.read_until(b"\n\n")
    assert re.fullmatch(rb"retry: [0-9]+\nid: [0-9a-f]{16}-[0-9]+\n\n", first)
    assert client.read_exactly(4) == b":\n:\n"
    server.publish("alice", "blocks", "x")
    block = client.read_until(b"\n\n")
    assert re.fullmatch(rb"(:\n)*id: .*\ndata: x\n\n", block)


def test_an_answer_to_head_has_the_same_fields_and_ends(server):
    _, to_get = asked(server, sub_target("alice", "head"))
    client = server.http()
    client.send(request("HEAD", sub_target("alice", "head"), STREAM))
    to_head = client.head()
    assert client.read_to_end() == b""
    assert to_head.status == 200
    assert to_head.fields.keys() == to_get.fields.keys()
    receipt = server.http().publish("alice", "head", "x").json()
    assert receipt["subscribers"] == 1  # the GET


def test_a_client_of_http_1_0_gets_a_stream(server):
    client, answer = asked(server, sub_target("alice", "old"), version="1.0")
    assert answer.status == 200
    assert answer.field("Connection") == "close"
    assert answer.field("Transfer-Encoding") is None
    assert re.fullmatch(rb"retry: [0-9]+\nid: [0-9a-f-]+\n\n",
                        client.read_until(b"\n\n"))
    server.publish("alice", "old", "x")
    assert re.fullmatch(rb"id: [0-9a-f-]+\ndata: x\n\n",
                        client.read_until(b"\n\n"))


@pytest.mark.parametrize("topics", [["o1"], ["o2", "o3"]], ids=len)
@pytest.mark.parametrize("envelope", [None, "true"])
def test_http_1_0_gets_what_others_get_without_chunks(server, topics, envelope):
    target = sub_target("alice", *topics, envelope=envelope)
    old, _ = asked(server, target, version="1.0")
    stream = server.event_stream(target)
    stream.expect_id()
    old.read_until(b"\n\n")
    for i in range(20):
        server.publish("alice", topics[i % len(topics)], f"{i}\nb")
        event = stream.event()
        data = "".join(f"data: {line}\n" for line in event.data.split("\n"))
        assert old.read_until(b"\n\n") == (
            f"id: {event.id}\n{data}\n".encode())
    old.close()


@pytest.mark.parametrize("accept", [
    None, "*/*", "text/*", "text/event-stream", "TEXT/Event-Stream",
    "text/html, text/event-stream;q=0.1", "application/json;q=0, */*;q=0.5"])
def test_accept_allows_a_stream(server, accept):
    _, answer = asked(server, sub_target("alice", "news"), {"Accept": accept})
    assert answer.status == 200


@pytest.mark.parametrize("accept", [
    "text/html", "application/json", "text/event-stream;q=0",
    "*/*, text/event-stream;q=0.0", "text/*;q=0, application/*"])
def test_accept_that_allows_no_stream_is_answered_406(server, accept):
    response = server.ask("GET", sub_target("alice", "news"),
                          {"Accept": accept})
    assert response.status == 406
    assert "text/event-stream" in response.error()


def test_curl_receives(start):
    server = start()
    url = "http://%s:%d/sub?publisher=alice&topic=news" % server.address
    curl = subprocess.Popen(["curl", "-q", "-sN", "--noproxy", "*", url],
                            stdout=subprocess.PIPE)
    try:
        lines = iter(curl.stdout.readline, b"")
        assert next(lines).startswith(b"retry: ")
        next(line for line in lines if line.startswith(b"id: "))
        server.publish("alice", "news", "1 : 0")
        assert b"data: 1 : 0\n" in lines
    finally:
        curl.kill()
        curl.communicate()


# --- how it begins -----------------------------------------------------------


def test_retry_is_the_setting_and_up_to_half_as_much_more(start):
    server = start(SSE_RETRY=0.2)
    seen = set()
    for _ in range(20):
        stream = server.event_stream()
        stream.expect_id()
        assert 200 <= stream.retry_ms <= 300
        seen.add(stream.retry_ms)
        stream.close()
    assert len(seen) > 1  # else all come back at once


def test_by_default_a_client_waits_for_two_to_three_seconds(server):
    stream = server.event_stream()
    stream.expect_id()
    assert 2000 <= stream.retry_ms <= 3000


def test_it_begins_with_the_id_of_the_place_where_it_begins(server):
    before = server.http().publish("alice", "begin", "before").json()["id"]
    stream = server.event_stream(sub_target("alice", "begin"))
    assert stream.expect_id() == before
    after = server.http().publish("alice", "begin", "after").json()["id"]
    assert stream.event() == ("message", "after", after, True)


def test_a_client_that_saw_no_message_yet_resumes_all_the_same(server):
    stream = server.event_stream(sub_target("alice", "quiet"))
    stream.expect_id()
    server.publish("alice", "quiet", "while it was away")
    stream.reconnect()
    assert stream.data_of(1) == ["while it was away"]


def test_a_stream_is_in_force_once_it_has_begun(server):
    for i in range(50):
        stream = server.event_stream(sub_target("alice", f"force{i}"))
        receipt = server.http().publish("alice", f"force{i}", str(i)).json()
        assert receipt["subscribers"] == 1
        assert stream.data_of(1) == [str(i)]


def test_what_was_published_before_is_not_delivered(server):
    server.publish("alice", "late", "before")
    stream = server.event_stream(sub_target("alice", "late"))
    server.publish("alice", "late", "after")
    assert stream.data_of(1) == ["after"]


# --- events ------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    "", "x", "a\nb", "a\rb", "a\r\nb", "\n", "\r", "\r\n", "\n\n", "\n\r",
    "\r\r\n\n", "a\n", "\na", "a\r\n\r\nb\r", " leading", "  two", "\t",
    ":no comment", "id: 5", "data: x", "event: reset", "retry: 1",
    "a\nevent: close\n\nid: 7\n\n", "\ufeffbom", "\u2028\u2029\x85\v\f",
    "nul \0 inside", "\U0001f600", "é" * 70000], ids=ascii)
def test_data_arrives_with_lf_as_its_line_ends(server, data):
    stream = server.event_stream(sub_target("alice", "lines"))
    server.publish("alice", "lines", data)
    server.publish("alice", "lines", "next")
    expected = data.replace("\r\n", "\n").replace("\r", "\n")
    assert stream.data_of(2) == [expected, "next"]
    assert 2000 <= stream.retry_ms <= 3000


@pytest.mark.parametrize("data, text", [
    (None, "null"), (True, "true"), (-1.5, "-1.5"),
    ({"a": [1, "b\n"]}, '{"a":[1,"b\\n"]}')])
def test_another_value_arrives_as_its_compact_json_text(server, data, text):
    stream = server.event_stream(sub_target("alice", "values"))
    server.publish("alice", "values", data)
    assert stream.data_of(1) == [text]


def test_a_message_of_many_lines_arrives_whole(start):
    server = start(MAX_BODY="4M", MAX_BUFFERED="16M")
    stream = server.event_stream()
    data = "\n" * 500_000 + "x" * 1_000_000
    server.publish("alice", "news", data)
    assert stream.data_of(1) == [data]


def test_each_event_has_the_id_of_its_receipt(server):
    stream = server.event_stream(sub_target("alice", "ids"))
    receipts = [server.http().publish("alice", "ids", str(i)).json()["id"]
                for i in range(5)]
    events = stream.events(5)
    assert [event.id for event in events] == receipts
    assert all(event.has_id and event.type == "message" for event in events)
    first = number_of(receipts[0])
    assert [number_of(one) for one in receipts] == list(range(first,
                                                              first + 5))


def test_a_comment_comes_every_ping_interval(start):
    server = start(PING_INTERVAL=0.1 * SCALE)
    stream = server.event_stream()
    stream.expect_id()
    for _ in range(3):
        stream.expect_comment()
    server.publish("alice", "news", "x")
    assert stream.data_of(1) == ["x"]


def test_comments_do_not_split_events(start):
    server = start(PING_INTERVAL=0.1 * SCALE)
    stream = server.event_stream(sub_target("alice", "a", "b"))
    end = time.monotonic() + DEADLINE
    for i in itertools.count():
        server.publish("alice", "ab"[i % 2], f"{i}\n{i}")
        assert stream.data_of(1) == [f"{i}\n{i}"]
        if len(stream.comments) >= 5:
            break
        assert time.monotonic() < end


# --- several topics ----------------------------------------------------------


def test_ids_of_several_topics_have_a_number_for_each(server):
    stream = server.event_stream(sub_target("alice", "s1", "s2", "s3"))
    at = numbers_of(stream.expect_id())
    assert len(at) == 3
    for topic in (2, 0, 0, 1, 2):
        receipt = server.http().publish(
            "alice", f"s{topic + 1}", "x").json()["id"]
        at[topic] += 1
        event = stream.event()
        assert numbers_of(event.id) == at
        assert number_of(receipt) == at[topic]
        assert event.id.partition("-")[0] == receipt.partition("-")[0]


@pytest.mark.parametrize("by", ["Last-Event-ID", "since"])
def test_several_topics_resume_each_where_it_was(server, by):
    topics = [f"{by}{i}" for i in range(3)]
    for topic in topics:
        server.publish("alice", topic, "before")
    stream = server.event_stream(sub_target("alice", *topics))
    place = stream.expect_id()
    for i in range(9):
        server.publish("alice", topics[i % 3], str(i))
    seen = stream.events(4)
    if by == "since":
        again = server.event_stream(
            sub_target("alice", *topics, since=seen[-1].id))
    else:
        again = stream.reconnect()
    rest = again.events(5)
    for topic in range(3):  # of each, nothing is missing, nor twice
        assert [event.data for event in seen + rest
                if int(event.data) % 3 == topic] == [
                    str(i) for i in range(topic, 9, 3)]
    final = [n + 3 for n in numbers_of(place)]
    assert numbers_of(rest[-1].id) == final


def test_a_stream_may_have_as_many_topics_as_the_setting_says(start):
    server = start(MAX_SUBSCRIPTIONS=300)
    topics = [f"t{i}" for i in range(300)]
    stream = server.event_stream(sub_target("alice", *topics))
    assert numbers_of(stream.expect_id()) == [0] * 300
    order = random.sample(topics, 300)
    for topic in order:
        server.publish("alice", topic, topic)
    got = stream.data_of(150)
    stream.reconnect()  # with an id of 300 numbers
    assert sorted(got + stream.data_of(150)) == sorted(order)


def test_more_topics_than_that_are_answered_400(start):
    server = start(MAX_SUBSCRIPTIONS=3)
    server.event_stream(sub_target("alice", "a", "b", "c"))
    target = sub_target("alice", "a", "b", "c", "d")
    for fields in (STREAM, {}):
        response = server.ask("GET", target, fields)
        assert response.status == 400
        assert "too many topics" in response.error()
    client = server.websocket(open=False)
    client.send(handshake(target))
    assert client.response().status == 400


# --- envelopes ---------------------------------------------------------------


@pytest.mark.parametrize("data", ["text", "", "a\r\nb", None, 1.5, {"a": []}],
                         ids=repr)
def test_an_envelope_is_a_message_of_isimud_v1(server, data):
    stream = server.event_stream(
        sub_target("alice", "e ü", envelope="true"))
    receipt = server.http().publish("alice", "e ü", data).json()["id"]
    event = stream.event()
    assert json.loads(event.data) == {
        "type": "message", "publisher": "alice", "topic": "e ü",
        "id": receipt, "data": data}
    assert (event.type, event.id) == ("message", receipt)


def test_envelopes_name_the_topic_of_several(server):
    stream = server.event_stream(
        sub_target("alice", "e1", "e2", envelope="true"))
    stream.expect_id()
    for topic in ("e2", "e1"):
        receipt = server.http().publish("alice", topic, "x").json()["id"]
        event = stream.event()
        message = json.loads(event.data)
        assert (message["topic"], message["id"]) == (topic, receipt)
        assert len(numbers_of(event.id)) == 2


@pytest.mark.parametrize("value", ["false", "1", "TRUE", ""])
def test_another_value_of_envelope_is_none(server, value):
    stream = server.event_stream(
        sub_target("alice", "noenv", envelope=value))
    server.publish("alice", "noenv", "x")
    assert stream.data_of(1) == ["x"]


def test_all_forms_see_the_same_messages_in_one_order(start):
    """Raw, isimud.v1 and streams of all kinds, on both workers."""
    server = start()
    one = sub_target("alice", "a")
    two = sub_target("alice", "b", "a")
    raws = [server.websocket(target=one) for _ in range(4)]
    sessions = [server.websocket(target=one, subprotocols=["isimud.v1"])
                for _ in range(4)]
    streams = [server.event_stream(target) for target in (one, two)
               for _ in range(4)]
    envelopes = [server.event_stream(target + "&envelope=true")
                 for target in (one, two) for _ in range(4)]
    assert all(session.receive_json()["type"] == "subscribed"
               for session in sessions)
    publishers = [threading.Thread(
        target=server.http().publish_all,
        args=("alice", "a", [f"{who} {i}" for i in range(100)]))
        for who in range(3)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(DEADLINE)
    orders = [[raw.receive() for _ in range(300)] for raw in raws]
    orders += [[session.receive_json()["data"] for _ in range(300)]
               for session in sessions]
    orders += [stream.data_of(300) for stream in streams]
    orders += [[json.loads(data)["data"] for data in stream.data_of(300)]
               for stream in envelopes]
    assert len(set(orders[0])) == 300
    assert all(order == orders[0] for order in orders)


# --- names -------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "news", "a/b?c#d", "a&b=c", "50%", "a+b", "a b", "ü", "\U0001f600\u202e",
    "\0", "nul\0inside", "\r\n\t", '"\\', "", "%2e", "x" * 1024], ids=ascii)
def test_names_are_percent_decoded(server, name):
    stream = server.event_stream(sub_target(name, name))
    stream.expect_id()
    # A username has no colon and no control characters in HTTP.
    publisher = basic(name)
    response = server.ask("POST", "/pub", {
        "Authorization": publisher, "Content-Type": "application/json"},
        json.dumps({"topic": name, "data": "x"}).encode())
    assert response.json()["subscribers"] == 1
    assert stream.data_of(1) == ["x"]


def test_a_plus_is_a_space_and_hexadecimal_digits_have_no_case(server):
    stream = server.event_stream("/sub?topic=a+b%c3%BC&publisher=al%69ce")
    server.publish("alice", "a bü", "x")
    assert stream.data_of(1) == ["x"]


def test_a_reset_names_topics_of_any_text(server):
    topic = 'ü"\\\0\r\n\U0001f600'
    stream = server.event_stream(sub_target("ali\nce", topic),
                                 last_event_id=LOST)
    reset = json.loads(stream.event().data)
    assert (reset["publisher"], reset["topic"]) == ("ali\nce", topic)


# --- what is refused ---------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_handshake_without_upgrade_was_cut_by_a_proxy(server, version):
    """Not the start of a stream that nobody reads."""
    client = server.http()
    client.send(handshake(sub_target("alice", "news"), {
        "Upgrade": None, "Connection": "close"}, version=version))
    response = client.response()
    assert response.status == 426
    assert response.error() == "A proxy has removed Upgrade"
    assert response.field("Upgrade") == "websocket"
    client.read_to_end()


@pytest.mark.parametrize("query", [
    "publisher=a", "topic=a", "topic=a&topic=b",
    "publisher=a&publisher=b&topic=c", "publisher=a&publisher=a&topic=c",
    "publisher=a&topic=%", "publisher=a&topic=%4", "publisher=a&topic=%zz",
    "publisher=%ff&topic=a", "publisher=a&topic=%c3%28",
    "publisher=a&topic=%ed%a0%80",
    "publisher=a&topic=b&since=x", "publisher=a&topic=b&since=" + LOST + ".1",
    "publisher=a&topic=b&topic=c&since=" + LOST,
    "publisher=a&topic=b&since=0123456789ABCDEF-7",
    "publisher=a&topic=b&since=0123456789abcdef-07",
    "publisher=a&topic=b&since=0123456789abcdef-",
    "publisher=a&topic=b&since=0123456789abcdef-18446744073709551616",
    "publisher=a&topic=b&access_token=%zz", "since=" + LOST,
], ids=str)
def test_a_malformed_query_is_answered_400(server, query):
    response = server.ask("GET", "/sub?" + query, STREAM)
    assert response.status == 400 and response.error()
    client = server.websocket(open=False)
    client.send(handshake("/sub?" + query))
    response = client.response()
    assert response.status == 400 and response.error()


def test_unknown_parameters_are_ignored(server):
    stream = server.event_stream(
        "/sub?x=%zz&publisher=alice&&topic=extra&since=&=&y&Topic=z")
    server.publish("alice", "extra", "x")
    assert stream.data_of(1) == ["x"]


def test_a_stream_of_nothing_is_answered_400(server):
    for target in ("/sub", "/sub?", "/sub?envelope=true"):
        assert server.ask("GET", target, STREAM).status == 400


def test_neither_handshake_nor_topic_is_answered_426(server):
    for fields in ({}, {"Accept": "*/*"}, {"Accept": "text/html"}):
        response = server.ask("GET", "/sub", fields)
        assert response.status == 426
        assert response.field("Upgrade") == "websocket"
        assert response.field("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize("fields, status", [
    ({"Sec-WebSocket-Version": "8"}, 426), ({"Connection": "close"}, 426),
    ({"Sec-WebSocket-Key": None}, 400), ({"Sec-WebSocket-Key": "x"}, 400)])
def test_a_broken_handshake_is_no_stream(server, fields, status):
    client = server.websocket(open=False)
    client.send(handshake(sub_target("alice", "news"), {**fields, **STREAM}))
    assert client.response().status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_another_method_is_answered_405(server, method):
    response = server.ask(method, sub_target("alice", "news"), STREAM)
    assert response.status == 405
    assert response.field("Allow") == "GET, HEAD, OPTIONS"


def test_a_refused_client_may_ask_again_on_its_connection(server):
    client = server.http()
    assert client.ask("GET", "/sub?topic=a", STREAM).status == 400
    assert client.ask("GET", sub_target("alice", "again"),
                      {"Accept": "text/html"}).status == 406
    client.send(request("GET", sub_target("alice", "again"), STREAM))
    assert client.head().status == 200
    server.publish("alice", "again", "x")
    assert client.read_until(b"data: x\n\n")


# --- the peer's end ----------------------------------------------------------


def leave_by_close(stream):
    stream.close()


def leave_by_half_close(stream):
    stream.half_close()
    stream.wait_until_ended()


def leave_by_reset(stream):
    stream.abort()


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_half_close,
                                   leave_by_reset])
def test_a_client_that_leaves_is_forgotten(start, leave):
    server = start()
    stays = server.event_stream()
    for _ in range(10):
        stream = server.event_stream()
        stream.expect_id()
        leave(stream)
    server.wait_until(lambda: server.total("event_stream") == 1, "they left")
    receipt = server.http().publish("alice", "news", "x").json()
    assert receipt["subscribers"] == 1
    assert stays.data_of(1) == ["x"]


def test_a_half_close_right_behind_the_request_ends_it(server):
    client = server.http()
    client.send(request("GET", sub_target("alice", "half"), STREAM))
    client.half_close()
    client.wait_until_ended()
    client = server.http()
    client.send(request("HEAD", sub_target("alice", "half"), STREAM))
    client.half_close()
    assert client.head().status == 200  # what it asked for, it gets
    assert client.read_to_end() == b""


def test_what_a_client_says_on_a_stream_is_ignored(server):
    stream = server.event_stream(sub_target("alice", "said"))
    stream.send(publish_request("alice", "said", "never"))
    stream.send(b"\x00\xff" * 200_000)
    stream.send(frame(TEXT, b"x"))
    server.publish("alice", "said", "x")
    assert stream.data_of(1) == ["x"]


# --- the server's end --------------------------------------------------------


def test_a_server_that_stops_ends_streams_with_1001(start):
    server = start()
    streams = [server.event_stream() for _ in range(5)]
    server.publish("alice", "news", "last")
    server.terminate()
    for stream in streams:
        assert stream.data_of(1) == ["last"]
        assert "going away" in stream.expect_end(1001)


def test_a_drain_ends_streams_one_by_one(start):
    server = start(DRAIN_SECONDS=1 * SCALE)
    streams = [server.event_stream() for _ in range(8)]
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    server.publish("alice", "news", "while draining")
    for stream in streams:
        assert stream.data_of(1) == ["while draining"]
        stream.expect_end(1001)
        stream.close()


def fill(server, topic, times, size=65536, to_end=None):
    """Publishes numbered messages of `size`; 503 is fine. Returns those that
    were taken; stops once `to_end()` holds."""
    client = server.http()
    taken = []
    for i in range(times):
        data = f"{i} " + "x" * size
        status = client.publish("alice", topic, data).status
        assert status in (200, 503)
        if status == 200:
            taken.append(i)
        if to_end and i % 16 == 0 and to_end():
            break
    return taken


def read_numbers(stream):
    """The numbers of the messages up to the end of the stream, and the event
    that ended it."""
    *messages, close = stream.read_events()
    assert close.type == "close"
    assert all(event.type == "message" for event in messages)
    return ([int(event.data.partition(" ")[0]) for event in messages],
            json.loads(close.data))


def test_a_stream_that_is_not_read_is_ended_with_1013(start):
    server = start(MAX_BUFFERED="256K", CLOSE_TIMEOUT=DEADLINE)
    stalled = server.event_stream(rcvbuf=4096)
    fill(server, "news", 400,
         to_end=lambda: server.stats()["closed_slow"])
    assert server.stats()["closed_slow"] == 1
    got, close = read_numbers(stalled)
    assert close["code"] == 1013 and "too slow" in close["reason"]
    # Whole events, in order, from the first on; then the end.
    assert got == list(range(len(got)))


def test_a_laggard_comes_back_and_misses_nothing(start):
    server = start(MAX_BUFFERED="256K", HISTORY_SIZE=1000,
                   CLOSE_TIMEOUT=DEADLINE)
    stalled = server.event_stream(sub_target("alice", "news", "other"),
                                  rcvbuf=4096)
    taken = fill(server, "news", 400,
                 to_end=lambda: server.stats()["closed_slow"])
    got, _ = read_numbers(stalled)
    stalled.rcvbuf = None
    for _ in range(len(taken)):
        if len(got) == len(taken):
            break
        stalled.reconnect()
        # It may be too much at once for MAX_BUFFERED again; it gets on.
        try:
            while len(got) < len(taken):
                event = stalled.event()
                if event.type == "close":
                    break
                assert event.type == "message"
                got.append(int(event.data.partition(" ")[0]))
        except EOFError:
            pass
    assert got == taken


def test_a_stream_that_is_never_read_is_forgotten(start):
    server = start(MAX_BUFFERED="256K", CLOSE_TIMEOUT=0.2)
    stalled = server.event_stream(rcvbuf=4096)
    reader = server.event_stream(sub_target("alice", "other"))
    fill(server, "news", 400, to_end=lambda: server.stats()["closed_slow"])
    server.wait_until(
        lambda: server.total("closing") == 0
        and server.total("event_stream") == 1, "it is gone")
    assert server.stats()["closed_slow"] == 1
    server.publish("alice", "other", "x")
    assert reader.data_of(1) == ["x"]
    stalled.close()


def test_a_stream_that_takes_nothing_for_a_ping_interval_is_ended(start):
    server = start(PING_INTERVAL=0.3, MAX_BUFFERED="64M")
    server.event_stream(rcvbuf=4096)
    fill(server, "news", 100)
    server.wait_for_stat("closed_write_timeout")
    server.wait_until(lambda: server.total("event_stream") == 0, "it is gone")


def publish_and_read(server, readers, times, until=None):
    """Publishes numbered messages of 64 KiB, each of which all `readers` must
    have before the next: so they are no laggards, however busy the machine is.
    Stops once `until()` holds; returns how many there were."""
    for i in range(times):
        server.publish("alice", "news", f"{i} " + "x" * 65536)
        for reader in readers:
            event = reader.event()
            assert event.type == "message"
            assert event.data.partition(" ")[0] == str(i)
        if until and i % 16 == 0 and until():
            return i + 1
    return times


def test_streams_that_are_not_read_harm_nobody_else(start):
    server = start(MAX_BUFFERED="1M")
    stalled = [server.event_stream(target, rcvbuf=4096) for target in (
        sub_target("alice", "news"), sub_target("alice", "news", "b"),
        sub_target("alice", "news", envelope="true"))]
    readers = [server.event_stream(target) for target in (
        sub_target("alice", "news"), sub_target("alice", "b", "news"))]
    publish_and_read(server, readers, 400, until=lambda: (
        server.stats()["closed_slow"] == len(stalled)))
    assert server.stats()["closed_slow"] == len(stalled)


@pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                    reason="valgrind's own memory is in the resident set")
def test_where_memory_is_scarce_laggards_are_ended_with_1013(start):
    trial = Server(ADMIN_PORT=0, MEMORY_LIMIT="64G")
    used = trial.metrics()["isimud_memory_used_bytes"]
    trial.stop()
    server = start(ADMIN_PORT=0, MEMORY_LIMIT=int(used) + (38 << 20),
                   MAX_BUFFERED="1G", HISTORY_SIZE=0, CLOSE_TIMEOUT=DEADLINE)
    stalled = server.event_stream(rcvbuf=4096)
    count = publish_and_read(
        server, [server.event_stream()], 2000,
        until=lambda: server.stats()["closed_slow"])
    assert server.stats()["closed_slow"] == 1
    got, close = read_numbers(stalled)
    assert close["code"] == 1013
    assert got == list(range(len(got))) and len(got) < count
