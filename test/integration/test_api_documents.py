"""scripts/api/*.yaml: what they say is what the server does.

Each answer and each message that arrives here is held against the documents,
and may have nothing that they do not name; each example of theirs is tried.
"""
import json
import urllib.parse

import pytest

from authority import answer, wait_until_left
from client import (BINARY, SCALE, TEXT, EventStream, WebSocket, basic,
                    frame, handshake, publish_request, request, sub_target)
from documents import AsyncApi, Mismatch, OpenApi

OPENAPI, ASYNCAPI = OpenApi(), AsyncApi()
ALICE = {"Authorization": basic("alice")}
WRONG = {"Authorization": basic("alice", "wrong")}
JSON = {"Content-Type": "application/json"}
LOST = "0123456789abcdef-7"  # of an epoch that never was

# --- is it strict? -----------------------------------------------------------

ERROR = b'{"error": "x"}'
RECEIPT = b'{"id": "0123456789abcdef-7", "subscribers": 3}'
OF_JSON = {"content-type": ["application/json"]}


@pytest.mark.parametrize("path, method, status, fields, body", [
    ("/pub", "post", 200, OF_JSON, RECEIPT),
    ("/pub", "post", 400, OF_JSON, ERROR),
    ("/pub", "post", 408, OF_JSON, ERROR),
    ("/pub", "put", 405, {**OF_JSON, "allow": ["POST"]}, ERROR),
    ("/pub", "post", 503, {**OF_JSON, "retry-after": ["1"]}, ERROR),
    (None, "get", 404, {**OF_JSON, "vary": ["Origin"]}, ERROR),
    ("/", "get", 303, {"location": ["https://example.com"]}, b""),
])
def test_what_is_documented_is_accepted(path, method, status, fields, body):
    OPENAPI.check_response(path, method, status, fields, body)


@pytest.mark.parametrize("path, method, status, fields, body", [
    ("/pub", "post", 201, OF_JSON, RECEIPT),
    ("/pub", "post", 426, OF_JSON, ERROR),
    ("/pub", "get", 200, OF_JSON, RECEIPT),
    (None, "get", 200, OF_JSON, RECEIPT),
    ("/pub", "post", 200, {}, b""),
    ("/pub", "post", 200, {"content-type": ["text/plain"]}, RECEIPT),
    ("/pub", "post", 200, OF_JSON, b'{"id": "7", "subscribers": 3}'),
    ("/pub", "post", 200, OF_JSON, RECEIPT.replace(b"}", b', "x": 1}')),
    ("/pub", "post", 200, {**OF_JSON, "x-new": ["1"]}, RECEIPT),
    ("/pub", "post", 200, {**OF_JSON, "idempotency-replayed": ["1"]}, RECEIPT),
    ("/pub", "post", 401, OF_JSON, ERROR),
    ("/pub", "post", 503, {**OF_JSON, "retry-after": ["soon"]}, ERROR),
    ("/", "get", 303, {"location": ["https://example.com"]}, b"x"),
    ("/", "get", 303, {}, b""),
])
def test_what_is_not_documented_is_noticed(path, method, status, fields, body):
    with pytest.raises(Mismatch):
        OPENAPI.check_response(path, method, status, fields, body)


@pytest.mark.parametrize("message", [
    "pong", [], {}, {"type": "ping"}, {"type": "pang"},
    {"type": "pong", "ref": None}, {"type": "pong", "more": 1},
    {"type": "error", "code": "new", "message": "x"},
    {"type": "published", "id": LOST}, {"type": "published", "id": "7",
                                        "subscribers": 1},
], ids=str)
def test_a_message_that_is_not_documented_is_noticed(message):
    with pytest.raises(Mismatch):
        ASYNCAPI.check_server_message("v1", message)


@pytest.mark.parametrize("kind, data", [
    ("reset", "{}"), ("close", '{"code": 1000, "reason": "x"}'), ("new", "{}"),
    ("message", '{"type": "message"}')])
def test_an_event_that_is_not_documented_is_noticed(kind, data):
    with pytest.raises(Mismatch):
        OPENAPI.check_event(kind, data)


# --- OpenAPI -----------------------------------------------------------------


def checked(path, response, status, method="get"):
    """Holds a response against openapi.yaml; returns its JSON, or its text."""
    assert response.status == status, response.body
    return OPENAPI.check_response(path, method, response.status,
                                  response.fields, response.body)


def ask(server, path, status, fields=None, target=None, method="get",
        body=None):
    """Asks for `target`, by default `path`, and holds the response against what
    openapi.yaml has for `path`."""
    response = server.ask(method.upper(), target or path, fields, body)
    return checked(path, response, status, method)


def publish(server, body, status=200, fields=None):
    return ask(server, "/pub", status, {**ALICE, **JSON, **(fields or {})},
               method="post", body=body)


def publish_content(server, body, status=200, fields=None,
                    target="/pub/documents"):
    return ask(server, "/pub/{topic}", status, {**ALICE, **(fields or {})},
               target, "post", body)


def request_examples(path):
    content = OPENAPI.tree["paths"][path]["post"]["requestBody"]["content"]
    for media_type, entry in content.items():
        for example in entry.get("examples", {}).values():
            yield media_type, example["value"]
        if "example" in entry:
            yield media_type, entry["example"]


@pytest.mark.parametrize("media_type, value", request_examples("/pub"),
                         ids=str)
def test_an_example_of_a_publication_gets_a_receipt(server, media_type, value):
    receipt = publish(server, json.dumps(value).encode(),
                      fields={"Content-Type": media_type})
    assert isinstance(receipt, list) == isinstance(value, list)
    if isinstance(value, list):
        assert len(receipt) == len(value)


@pytest.mark.parametrize("media_type, value", request_examples("/pub/{topic}"),
                         ids=str)
def test_an_example_of_a_content_gets_a_receipt(server, media_type, value):
    publish_content(server, value.encode(), fields={
        "Content-Type": media_type.replace("*", "html")})


def test_a_receipt_says_how_many_subscribers_there_were(server):
    subscribers = [server.subscribe("alice", "counted") for _ in range(3)]
    receipt = publish_content(server, b"x", target="/pub/counted")
    assert receipt["subscribers"] == len(subscribers)


def test_a_repeated_publication_says_so(server):
    key = {"Idempotency-Key": "documents-1"}
    body = b'{"topic": "documents", "data": "x"}'
    first = server.ask("POST", "/pub", {**ALICE, **JSON, **key}, body)
    again = server.ask("POST", "/pub", {**ALICE, **JSON, **key}, body)
    assert checked("/pub", again, 200, "post") == checked(
        "/pub", first, 200, "post")
    assert first.field("Idempotency-Replayed") is None
    assert again.field("Idempotency-Replayed") == "true"
    publish(server, b'{"topic": "documents", "data": "y"}', 422, key)


@pytest.mark.parametrize("body, fields, status", [
    (b"{", {}, 400),
    (b"\xff", {}, 400),
    (b'{"topic": "a", "data": 1}', {"Authorization": None}, 400),
    (b'{"topic": "a", "data": 1}', WRONG, 401),
    (b"x" * ((2 << 20) + 1), {}, 413),
    (b'{"topic": "a", "data": 1}', {"Content-Type": "a/b"}, 415),
    (b'{"topic": "a"}', {}, 422),
    (b'[{"topic": "a", "data": 1}, {"topic": 2, "data": 1}]', {}, 422),
], ids=lambda value: repr(value)[:30])
def test_a_publication_is_refused_as_documented(server, body, fields, status):
    client = server.http()
    client.send_while_open(request("POST", "/pub", {**ALICE, **JSON, **fields},
                                   body))
    checked("/pub", client.response(), status, "post")


@pytest.mark.parametrize("target, body, fields, status", [
    ("/pub/a%2", b"x", {}, 400),
    ("/pub/a", b"\xff", {}, 400),
    ("/pub/a", b"x", {"Authorization": None}, 400),
    ("/pub/a", b"x", WRONG, 401),
    ("/pub/a", b"x", {"Origin": "https://evil.example"}, 403),
    ("/pub/a", b"x", {"Content-Type": "application/json"}, 415),
], ids=lambda value: repr(value)[:30])
def test_a_content_is_refused_as_documented(server, target, body, fields,
                                            status):
    publish_content(server, body, status, fields, target)


def test_too_much_for_a_worker_is_refused_as_documented(start):
    # One worker: it does not look into its mailbox before all is published.
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    server.subscribe("alice", "full")
    client = server.http()
    client.send(publish_request("alice", "full", "x" * 900) * 3)
    statuses = []
    for _ in range(3):
        response = client.response()
        checked("/pub", response, response.status, "post")
        statuses.append(response.status)
    assert 503 in statuses


# --- topics


def test_pages_of_topics_are_as_documented(start):
    server = start()
    names = {f"t{i}" for i in range(7)}
    for name in names:
        server.publish("alice", name, "x")
    server.publish("bob", "other", "x")
    page = ask(server, "/topics", 200, ALICE)
    assert {topic["topic"] for topic in page["topics"]} == names
    assert page["next"] is None
    seen, after = [], None
    while True:
        query = urllib.parse.urlencode(
            {"limit": 3, "all": "true", **({"after": after} if after else {})})
        page = ask(server, "/topics", 200, ALICE, f"/topics?{query}")
        seen += page["topics"]
        after = page["next"]
        if after is None:
            break
    assert {topic["topic"] for topic in seen} == names | {"other"}


def test_a_topic_is_as_documented(server):
    server.publish("alice", "a/b ü", "x")
    topic = ask(server, "/topics/{topic}", 200, ALICE,
                "/topics/" + urllib.parse.quote("a/b ü", safe=""))
    assert (topic["publisher"], topic["topic"]) == ("alice", "a/b ü")


@pytest.mark.parametrize("path, target, fields, status", [
    ("/topics", "/topics", {}, 401),
    ("/topics", "/topics?limit=0", ALICE, 400),
    ("/topics", "/topics", WRONG, 401),
    ("/topics/{topic}", "/topics/nope", ALICE, 404),
    ("/topics/{topic}", "/topics/nope", {}, 401),
    ("/topics/{topic}", "/topics/nope", WRONG, 401),
    ("/topics/{topic}", "/topics/%zz", ALICE, 400),
], ids=lambda value: repr(value)[:30])
def test_topics_are_refused_as_documented(server, path, target, fields, status):
    ask(server, path, status, fields, target)


# --- what a subscriber is answered


@pytest.mark.parametrize("target, fields, status", [
    ("/sub", {}, 426),
    (sub_target("alice", "a"), {"Accept": "text/html"}, 406),
    ("/sub?publisher=alice&topic=%zz", EventStream.ACCEPT, 400),
    (sub_target("alice", "a", since="x"), EventStream.ACCEPT, 400),
], ids=lambda value: repr(value)[:60])
def test_a_subscription_is_refused_as_documented(server, target, fields,
                                                 status):
    ask(server, "/sub", status, fields, target)


def test_a_handshake_is_answered_as_documented(server):
    for subprotocols in ((), ["isimud.v1"], ["bearer.abc", "isimud.v1"],
                         ["bearer.abc"]):
        client = server.websocket(open=False)
        client.send(request("GET", "/sub", {
            "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": ", ".join(subprotocols) or None}))
        response = client.response()
        checked("/sub", response, 101)
        chosen = WebSocket.check_opened(response, offered=subprotocols)
        assert chosen == ("isimud.v1" if "isimud.v1" in subprotocols
                          else subprotocols[0] if subprotocols else None)


def test_the_authority_s_verdicts_are_answered_as_documented(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3 * SCALE)
    authority.rules["refused"] = answer(403)
    authority.rules["silent"] = wait_until_left
    authority.rules["away"] = answer(502)
    for token, status in ((None, 400), ("refused", 401)):
        ask(server, "/sub", status, EventStream.ACCEPT,
            sub_target("alice", "a", access_token=token))
    for token, status in ((None, 400), ("refused", 401), ("silent", 500),
                          ("away", 503)):
        client = server.http()
        client.send(handshake(sub_target("alice", "a", access_token=token)))
        checked("/sub", client.response(), status)


def test_too_many_checks_are_answered_as_documented(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_MAX_CHECKS=1, AUTH_QUEUE=0,
                   WORKERS=1)
    authority.rules["silent"] = wait_until_left
    server.http().send(request("GET", sub_target(
        "alice", "a", access_token="silent"), EventStream.ACCEPT))
    authority.next_asked()
    client = server.http()
    client.send(handshake(sub_target("alice", "b", access_token="another")))
    checked("/sub", client.response(), 503)


# --- browsers

OF_PAGES = [("/pub", "/pub", "POST"), ("/pub/{topic}", "/pub/a", "POST"),
            ("/topics", "/topics", "GET"),
            ("/isimud.js", "/isimud.js", "GET"),
            ("/topics/{topic}", "/topics/a", "GET"), ("/sub", "/sub", "GET")]


@pytest.mark.parametrize("path, target, method", OF_PAGES)
def test_a_preflight_is_answered_as_documented(start, path, target, method):
    server = start(ALLOWED_ORIGINS="https://example.com")
    fields = {"Origin": "https://example.com",
              "Access-Control-Request-Method": method,
              "Access-Control-Request-Headers": "authorization"}
    response = server.ask("OPTIONS", target, fields)
    checked(path, response, 204, "options")
    assert response.field("Access-Control-Allow-Origin") == (
        "https://example.com")
    ask(server, path, 403, {**fields, "Origin": "https://evil.example"},
        target, "options")


@pytest.mark.parametrize("path, target, method", OF_PAGES)
def test_another_origin_is_refused_as_documented(start, path, target, method):
    server = start(ALLOWED_ORIGINS="https://example.com")
    fields = {**ALICE, "Origin": "https://evil.example"}
    if path == "/pub":
        fields.update(JSON)
    ask(server, path, 403, fields, target, method.lower(),
        b"" if method == "POST" else None)


@pytest.mark.parametrize("origins, status", [
    ("*", 200), ("https://example.com", 200)])
def test_answers_to_a_page_are_as_documented(start, origins, status):
    server = start(ALLOWED_ORIGINS=origins)
    page = {"Origin": "https://example.com"}
    publish(server, b'{"topic": "a", "data": 1}', status, page)
    publish(server, b"{", 400, page)
    ask(server, "/topics", 200, {**ALICE, **page})
    ask(server, "/sub", 426, page)


# --- the rest


def test_the_homepage_is_as_documented(start):
    ask(start(), "/", 303)
    ask(start(HOMEPAGE="false"), "/", 404)


def test_the_library_is_as_documented(server):
    ask(server, "/isimud.js", 200)
    for coding in ("identity", "gzip", "br"):
        fields = {"Accept-Encoding": coding}
        response = server.ask("HEAD", "/isimud.js", fields)
        checked("/isimud.js", response, 200, "head")
        tag = response.field("ETag")
        for method in ("get", "head"):
            ask(server, "/isimud.js", 304, {**fields, "If-None-Match": tag},
                method=method)


def test_probes_and_metrics_are_as_documented(server):
    for path, fields in (("/healthz", {}), ("/readyz", {}),
                         ("/metrics", ALICE), ("/status", ALICE),
                         ("/status/recent", ALICE),
                         ("/console", ALICE), ("/console.css", ALICE),
                         ("/console.js", ALICE)):
        ask(server, path, 200, fields)
        ask(server, path, 200, fields, method="head")
    for path in ("/metrics", "/status", "/status/recent", "/console"):
        ask(server, path, 401)
        ask(server, path, 401, WRONG)
    tag = server.ask("GET", "/console", ALICE).field("ETag")
    ask(server, "/console", 304, {**ALICE, "If-None-Match": tag})


def test_draining_is_told_as_documented(start):
    server = start(DRAIN_SECONDS=10 * SCALE)
    server.subscribe()  # for whom it waits
    server.terminate()
    server.wait_until(
        lambda: server.ask("GET", "/readyz").status == 503, "it is draining")
    ask(server, "/readyz", 503)


@pytest.mark.parametrize("sent, status", [
    (request("GET", "/nope"), 404),
    (request("DELETE", "/pub"), 405),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (request("GET", "/" + "x" * 33000), 414),
    (request("GET", "/", {"X": "y" * 17000}), 431),
    (request("GET", "/", {"Transfer-Encoding": "gzip, chunked"}), 501),
    (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
], ids=lambda value: repr(value)[:30])
def test_what_any_request_may_get_is_as_documented(server, sent, status):
    client = server.http()
    client.send_while_open(sent)
    checked(None, client.response(), status)


def test_a_host_that_is_not_served_is_answered_as_documented(start):
    server = start(ALLOWED_HOSTS="push.example.com")
    checked(None, server.http().ask("GET", "/"), 421)


def test_a_request_that_is_too_slow_is_answered_as_documented(start):
    client = start(HEADER_TIMEOUT=0.1).http()
    client.send(b"GET / HTTP/1.1\r\n")
    checked(None, client.response(), 408)


def test_too_many_connections_are_answered_as_documented(start):
    server = start(MAX_CONNECTIONS=1)
    server.websocket()
    client = server.http()
    client.send(handshake())
    checked("/sub", client.response(), 503)


@pytest.mark.parametrize("path, method, operation", OPENAPI.operations(),
                         ids=lambda value: value if isinstance(value, str)
                         else "")
def test_each_operation_is_there(server, path, method, operation):
    """Whatever it says: not that there is none."""
    response = server.ask(method.upper(), path.replace("{topic}", "a"), {
        "Origin": "https://example.com",
        "Access-Control-Request-Method": "GET"},
        b"" if method in ("post", "put") else None)
    assert response.status != 405
    assert response.status != 404 or "404" in operation["responses"]
    checked(path, response, response.status, method)


# --- event streams -----------------------------------------------------------


def check_stream(stream):
    """Holds the head of a stream against the document."""
    answered = stream.answer
    content = OPENAPI.check_response("/sub", "get", answered.status,
                                     answered.fields, b"")
    assert content == ""
    return stream


def test_an_event_s_data_is_as_documented(server):
    stream = check_stream(server.event_stream(
        sub_target("alice", "events", envelope="true")))
    for data in ("text", "", {"a": [1, None]}, None, True, 1.5, "\r\n\u2028"):
        server.publish("alice", "events", data)
        event = stream.event()
        message = OPENAPI.check_event(event.type, event.data)
        assert (message["data"], message["id"]) == (data, event.id)
        assert event.has_id


def test_ids_of_several_topics_are_as_documented(server):
    stream = check_stream(server.event_stream(sub_target("alice", "e1", "e2")))
    server.publish("alice", "e2", "x")
    event = stream.event()
    OPENAPI.check({"$ref": "#/components/schemas/Cursor"}, event.id, "id")
    assert event.id.count(".") == 1


def test_a_reset_is_as_documented(server):
    stream = check_stream(server.event_stream(
        sub_target("alice", "events"), last_event_id=LOST))
    event = stream.event()
    assert event.type == "reset" and not event.has_id
    OPENAPI.check_event("reset", event.data)


def test_the_end_of_a_stream_is_as_documented(start):
    server = start()
    stream = check_stream(server.event_stream())
    server.terminate()
    event = stream.event()
    assert event.type == "close" and not event.has_id
    assert OPENAPI.check_event("close", event.data)["code"] == 1001


# --- AsyncAPI ----------------------------------------------------------------


class Session:
    """An isimud.v1 session, each message of which is held against the document;
    `seen` has the names of all that came."""

    def __init__(self, server, publisher=None, target="/sub", **kwargs):
        fields = {"Authorization": basic(publisher)} if publisher else {}
        self.socket = server.websocket(
            target=target, subprotocols=[ASYNCAPI.subprotocol("v1")],
            fields=fields, **kwargs)
        assert self.socket.subprotocol == ASYNCAPI.subprotocol("v1")
        self.seen = set()

    def receive(self):
        message = self.socket.receive_json()
        self.seen.add(ASYNCAPI.check_server_message("v1", message))
        return message

    def command(self, command):
        """The answer, which must be the very next message, one of those that
        the document has for it, and repeat `ref`."""
        self.socket.send_json(command)
        message = self.receive()
        assert message["type"] in ASYNCAPI.answers_to("v1", command["type"])
        assert message.get("ref") == command.get("ref")
        assert ("ref" in message) == ("ref" in command)
        return message

    def fail(self, text):
        """The code of the error that is the answer to `text`."""
        self.socket.send_text(text)
        message = self.receive()
        assert message["type"] == "error", message
        return message["code"]


def examples_of(channel):
    return [(name, example) for name in ASYNCAPI.from_clients(channel)
            for example in ASYNCAPI.examples(channel, name)]


@pytest.mark.parametrize("name, command", examples_of("v1"), ids=str)
def test_an_example_of_a_command_is_answered(server, name, command):
    session = Session(server, "news")
    if name == "unsubscribe":
        session.command({**command, "type": "subscribe"})
    assert session.command(command)["type"] != "error"


@pytest.mark.parametrize("name, message", examples_of("raw"), ids=str)
def test_an_example_of_the_raw_protocol_subscribes(server, name, message):
    subscriber = server.websocket()
    subscriber.send_json(message)
    subscriber.send_frame(0x9, b"now")
    subscriber.expect_pong(b"now")
    for data in [*ASYNCAPI.examples("raw", "data"), {"a": 1}]:
        server.publish(message["publisher"], message["topic"], data)
        ASYNCAPI.check(ASYNCAPI.payload("raw", "data"), subscriber.receive(),
                       "raw data")


def test_a_whole_session_is_as_documented(server):
    session = Session(server, "alice")
    topic = {"publisher": "alice", "topic": "session"}
    started = session.command({"type": "subscribe", "ref": "a", **topic})
    assert "resumed" not in started
    for data in ("text", "", {"a": [1, None]}, None, False, -1.5e3, "\u0000"):
        session.socket.send_json({"type": "publish", "ref": 1.5,
                                  "topic": "session", "data": data})
        both = [session.receive(), session.receive()]
        by_type = {message["type"]: message for message in both}
        assert by_type["message"]["data"] == data
        assert by_type["message"]["id"] == by_type["published"]["id"]
        assert by_type["published"]["subscribers"] == 1
    session.command({"type": "ping"})
    session.command({"type": "unsubscribe", "ref": 0, **topic})
    again = session.command({"type": "subscribe", "ref": 1, **topic,
                             "since": started["id"]})
    assert again["resumed"] is True and again["id"] == started["id"]
    assert session.receive()["type"] == "message"
    assert session.seen == set(ASYNCAPI.from_server("v1")) - {"gap", "error",
                                                            "reset"}


def test_a_loss_is_told_as_documented(server):
    answered = Session(server).command({
        "type": "subscribe", "publisher": "alice", "topic": "lost",
        "since": LOST})
    assert answered["resumed"] is False


def test_topics_of_the_url_are_answered_as_documented(server):
    session = Session(server, target=sub_target("alice", "u1", "u2"))
    for topic in ("u1", "u2"):
        message = session.receive()
        assert (message["type"], message["topic"]) == ("subscribed", topic)
        assert "ref" not in message


def number_of(message_id):
    return int(message_id.partition("-")[2])


def test_a_gap_is_as_documented(start):
    server = start()
    session = Session(server, rcvbuf=4096)
    started = session.command({"type": "subscribe", "publisher": "alice",
                               "topic": "fast", "slow": "drop"})
    server.http().publish_all("alice", "fast", ["x" * 65536] * 400)
    server.publish("alice", "fast", "last")
    at = number_of(started["id"])
    while message := session.receive():
        assert number_of(message.get("from") or message["id"]) == at + 1
        at = number_of(message.get("to") or message["id"])
        if message.get("data") == "last":
            break
    assert "gap" in session.seen


# --- errors


def subscribe_text(topic, **members):
    return json.dumps({"type": "subscribe", "publisher": "alice",
                       "topic": topic, **members})


@pytest.mark.parametrize("text, code", [
    ("", "bad_json"), ("{", "bad_json"), ("{} x", "bad_json"),
    ("[]", "bad_command"), ("{}", "bad_command"),
    ('{"type": 1}', "bad_command"), ('{"type": "subscribe"}', "bad_command"),
    (subscribe_text("a", ref=[]), "bad_command"),
    (subscribe_text("a", ref="x" * 200), "bad_command"),
    (subscribe_text("a", since="x"), "bad_command"),
    (subscribe_text("a", slow="maybe"), "bad_command"),
    ('{"type": "publish", "topic": "a"}', "bad_command"),
    ('{"type": "nope", "ref": 1}', "unknown_type"),
    ('{"type": "unsubscribe", "publisher": "a", "topic": "b"}',
     "not_subscribed"),
    ('{"type": "publish", "topic": "a", "data": 1}', "forbidden"),
], ids=lambda value: repr(value)[:40])
def test_a_command_fails_as_documented(server, text, code):
    session = Session(server)
    assert session.fail(text) == code
    assert session.command({"type": "ping"})["type"] == "pong"


def test_subscriptions_fail_as_documented(start):
    session = Session(start(MAX_SUBSCRIPTIONS=1))
    session.command(json.loads(subscribe_text("a")))
    assert session.fail(subscribe_text("a", ref=1)) == "already_subscribed"
    assert session.fail(subscribe_text("b", ref=1)) == "too_many_subscriptions"


def test_refusals_of_the_authority_are_as_documented(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_PER_TOPIC="true",
                   AUTH_TIMEOUT=0.3 * SCALE)
    target = sub_target("alice", "a", access_token="token")
    session = Session(server, target=target)
    assert session.receive()["type"] == "subscribed"
    authority.rules["token"] = answer(403)
    assert session.fail(subscribe_text("b")) == "forbidden"
    authority.rules["token"] = wait_until_left
    assert session.fail(subscribe_text("c")) == "auth_failed"


def test_publishing_too_much_fails_as_documented(start):
    session = Session(start(MAX_MAILBOX="1K", WORKERS=1), "alice")
    session.command(json.loads(subscribe_text("full")))
    command = {"type": "publish", "topic": "full", "data": "x" * 900}
    session.socket.send(frame(TEXT, json.dumps(command).encode()) * 3)
    while (message := session.receive())["type"] != "error":
        pass
    assert message["code"] == "busy"


# --- the ends


def test_why_a_token_is_refused_is_closed_as_documented(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3 * SCALE)
    authority.rules.update({"no": answer(401), "forbidden": answer(403),
                            "silent": wait_until_left, "away": answer(500)})
    for token, code in (("no", 4401), ("forbidden", 4403), ("silent", 4408),
                        ("away", 1013)):
        socket = server.websocket(fields={"Authorization": f"Bearer {token}"},
                                  subprotocols=["isimud.v1"])
        assert socket.read_to_close() == code
        assert code in ASYNCAPI.close_codes("v1")


def test_a_stream_that_is_refused_is_as_documented(start, authority):
    server = start(AUTH_URL=authority.url)
    authority.rules["away"] = answer(500)
    stream = server.event_stream(sub_target("alice", "a", access_token="away"))
    checked("/sub", stream.answer, 200)
    stream.expect_end(1013)


def test_the_ends_of_a_connection_are_as_documented(start):
    server = start()

    def code_of(socket, channel):
        code = socket.read_to_close()
        assert code in ASYNCAPI.close_codes(channel)
        return code

    raw = server.websocket()
    raw.send_text("no JSON")
    assert code_of(raw, "raw") == 1007
    raw = server.subscribe()
    raw.send_text("{}")
    assert code_of(raw, "raw") == 1008
    raw = server.websocket(target=sub_target("alice", "a", since=LOST))
    assert code_of(raw, "raw") == 4410
    v1 = Session(server).socket
    v1.send_frame(BINARY, b"{}")
    assert code_of(v1, "v1") == 1003
    v1 = Session(server).socket
    v1.send_frame(TEXT, b"{}", rsv=4)
    assert code_of(v1, "v1") == 1002
    v1 = Session(server).socket
    v1.send_text("x" * 65537)
    assert code_of(v1, "v1") == 1009
    v1 = Session(server).socket
    server.terminate()
    assert code_of(v1, "v1") == 1001
