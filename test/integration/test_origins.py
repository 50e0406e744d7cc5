"""ALLOWED_ORIGINS: what pages of browsers are let do, by the Fetch standard.

What a browser makes of it is test_browser.py's subject."""
import json

import pytest

from authority import refuse
from client import (PASSWORD, TEXT, EventStream, WebSocket, basic, frame,
                    handshake, publish_request, request, sub_target)
from conftest import lent, shared

OURS = "https://example.com"
ALSO_OURS = "http://127.0.0.1:8080"
EVIL = "https://evil.example"
ALICE = {"Authorization": basic("alice")}
JSON = {"Content-Type": "application/json"}
BODY = b'{"topic": "a", "data": 1}'
STREAM = EventStream.ACCEPT
CORS = "access-control-"

# (method, target, fields, body, status without an origin)
REQUESTS = [
    ("POST", "/pub", {**ALICE, **JSON}, BODY, 200),
    ("POST", "/pub/a", ALICE, b"x", 200),
    ("GET", "/topics", ALICE, None, 200),
    ("HEAD", "/topics", ALICE, None, 200),
    ("GET", "/topics/a", ALICE, None, 200),
    ("HEAD", "/sub?publisher=alice&topic=a", STREAM, None, 200),
    ("GET", "/sub", {}, None, 426),
]

module_listed = shared(ALLOWED_ORIGINS=f"{OURS}, {ALSO_OURS}")


@pytest.fixture
def listed(module_listed):
    """A server with a list of origins, shared by the module's tests."""
    yield from lent(module_listed)


def cors(response):
    """The fields that a browser looks at."""
    return {name[len(CORS):]: ", ".join(values)
            for name, values in response.fields.items()
            if name.startswith(CORS)}


def refused(server):
    return server.stats().get("origin_refused", 0)


EXPOSED = {"expose-headers": "Idempotency-Replayed, Retry-After"}
TO_ANYBODY = {"allow-origin": "*", **EXPOSED}


def to_page(origin):
    return {"allow-origin": origin, "allow-credentials": "true", **EXPOSED}


# --- any origin, the default -------------------------------------------------


@pytest.mark.parametrize("origin", [OURS, EVIL, "null", "x", ""])
@pytest.mark.parametrize("method, target, fields, body, status", [
    each for each in REQUESTS if each[1] != "/pub/a"])
def test_by_default_any_page_may_read_answers_and_never_with_credentials(
        server, method, target, fields, body, status, origin):
    server.publish("alice", "a", "x")
    client = server.http()
    client.send(request(method, target, {**fields, "Origin": origin}, body))
    answer = client.head()
    assert answer.status == status
    assert cors(answer) == TO_ANYBODY


@pytest.mark.parametrize("origin", [OURS, EVIL, "null"])
def test_by_default_any_page_may_subscribe(server, origin):
    fields = {"Origin": origin}
    stream = server.event_stream(sub_target("alice", "any"), fields=fields)
    raw = server.websocket(target=sub_target("alice", "any"), fields=fields)
    v1 = server.websocket(target=sub_target("alice", "any"), fields=fields,
                          subprotocols=["isimud.v1"])
    assert v1.receive_json()["type"] == "subscribed"
    assert cors(stream.answer) == TO_ANYBODY
    server.publish("alice", "any", "x")
    assert (stream.event().data, raw.receive(),
            v1.receive_json()["data"]) == ("x",) * 3


def test_errors_can_be_read_by_a_page_too(server, listed):
    for fields, body, status in (
            ({**ALICE, **JSON}, b"{", 400), ({**ALICE, **JSON}, b"{}", 422),
            (ALICE, BODY, 415), (JSON, BODY, 400),
            ({"Authorization": basic("alice", "wrong"), **JSON}, BODY, 401)):
        for one, expected in ((server, TO_ANYBODY), (listed, to_page(OURS))):
            response = one.ask("POST", "/pub", {**fields, "Origin": OURS}, body)
            assert response.status == status
            assert cors(response) == expected


# --- a list ------------------------------------------------------------------


@pytest.mark.parametrize("method, target, fields, body, status", REQUESTS)
def test_a_page_of_the_list_is_answered_with_its_origin(
        listed, method, target, fields, body, status):
    listed.publish("alice", "a", "x")
    for origin in (OURS, ALSO_OURS):
        client = listed.http()
        client.send(request(method, target, {**fields, "Origin": origin},
                            body))
        answer = client.head()
        assert answer.status == status
        assert cors(answer) == to_page(origin)
        assert "Origin" in answer.fields["vary"]


@pytest.mark.parametrize("method, target, fields, body, status", REQUESTS)
def test_another_page_gets_403_and_nothing_that_it_may_read(
        listed, method, target, fields, body, status):
    before = refused(listed)
    response = listed.ask(method, target, {**fields, "Origin": EVIL}, body)
    assert response.status == 403
    assert cors(response) == {}
    assert response.field("Vary") == "Origin"
    assert refused(listed) == before + 1


@pytest.mark.parametrize("method, target, fields, body, status", REQUESTS)
def test_what_has_no_origin_is_no_page_s(listed, method, target, fields, body,
                                         status):
    listed.publish("alice", "a", "x")
    client = listed.http()
    client.send(request(method, target, fields, body))
    answer = client.head()
    assert answer.status == status
    assert cors(answer) == {}


@pytest.mark.parametrize("target", ["/sub", sub_target("alice", "a")])
def test_a_websocket_of_another_page_gets_403(listed, target):
    client = listed.websocket(open=False)
    client.send(handshake(target, {"Origin": EVIL}))
    response = client.response()
    assert response.status == 403 and "Origin" in response.error()
    client.send(handshake(target, {"Origin": OURS}))
    WebSocket.check_opened(client.response(), offered=[])


@pytest.mark.parametrize("target", ["/sub", sub_target("alice", "a")])
def test_isimud_v1_tells_another_page_by_close(start, target):
    """Which a page can see. It is subscribed to nothing, nothing that it sends
    is read, and it takes no place."""
    server = start(ALLOWED_ORIGINS=OURS, MAX_CONNECTIONS=1)
    server.publish("alice", "a", "x")
    for _ in range(3):
        client = server.websocket(open=False)
        client.send(handshake(target, {
            "Sec-WebSocket-Protocol": "isimud.v1", "Origin": EVIL,
            "Authorization": basic("alice", PASSWORD)})
            + frame(TEXT, b'{"type":"publish","topic":"a","data":1}'))
        WebSocket.check_opened(client.response(), offered=["isimud.v1"])
        assert client.expect_close(4403) == "Origin is not allowed"
    server.websocket(target=target, fields={"Origin": OURS},
                     subprotocols=["isimud.v1"])
    stats = server.stats()
    assert stats["origin_refused"] == stats["closed_denied"] == 3
    assert stats["published"] == 1
    assert stats["password_wrong"] == stats["commands"] == 0


def test_a_handshake_of_another_page_that_is_none_is_426(listed):
    fields = {"Sec-WebSocket-Protocol": "isimud.v1", "Origin": EVIL,
              "Sec-WebSocket-Version": "12"}
    client = listed.websocket(open=False)
    client.send(handshake("/sub", fields))
    assert client.response().status == 426


def test_a_stream_of_another_page_gets_403(listed):
    target = sub_target("alice", "a")
    response = listed.ask("GET", target, {**STREAM, "Origin": EVIL})
    assert response.status == 403
    stream = listed.event_stream(target, fields={"Origin": OURS})
    assert cors(stream.answer) == to_page(OURS)


@pytest.mark.parametrize("origin, is_ours", [
    ("HTTPS://EXAMPLE.COM", True), ("https://example.com:443", True),
    ("http://127.0.0.1:8080", True), ("http://example.com", False),
    ("https://example.com:8443", False), ("https://example.com.evil", False),
    ("https://evilexample.com", False), ("https://www.example.com", False),
    ("https://example.com/", False), ("https://example.com@evil", False),
    ("https://example.com, https://evil.example", False),
    (f"{OURS},{ALSO_OURS}", False), ("http://127.0.0.1", False),
    ("null", False), ("*", False), ("", False), ("example.com", False),
    ("https://", False), ("x" * 4000, False), ("https://ex\xe4mple", False),
], ids=lambda value: ascii(value)[:40])
def test_an_origin_is_compared_whole(listed, origin, is_ours):
    response = listed.ask("GET", "/topics", {**ALICE, "Origin": origin})
    assert response.status == (200 if is_ours else 403)
    assert cors(response) == (to_page(origin) if is_ours else {})


def test_an_origin_that_is_there_twice_is_refused(listed):
    client = listed.http()
    client.send(request("GET", "/topics", ALICE)[:-2]
                + f"Origin: {OURS}\r\nOrigin: {EVIL}\r\n\r\n".encode())
    assert client.response().status == 400


def test_pages_without_an_origin_of_their_own_can_be_listed(start):
    server = start(ALLOWED_ORIGINS=f"null,{OURS}")
    response = server.ask("GET", "/topics", {**ALICE, "Origin": "null"})
    assert response.status == 200
    assert cors(response) == to_page("null")
    assert server.ask("GET", "/topics",
                      {**ALICE, "Origin": EVIL}).status == 403


def test_each_answer_of_a_connection_is_for_its_own_origin(listed):
    client = listed.http()
    statuses = []
    for origin in (OURS, EVIL, None, ALSO_OURS):
        response = client.ask("GET", "/topics", {**ALICE, "Origin": origin})
        statuses.append((response.status,
                         cors(response).get("allow-origin")))
    assert statuses == [(200, OURS), (403, None), (200, None),
                        (200, ALSO_OURS)]


def test_a_list_has_to_name_the_server_s_own_origin_too(listed):
    """Else a name that is made to point to the server would be let in."""
    own = {"Host": "push.example", "Origin": "http://push.example"}
    for method, target, fields, body, _ in REQUESTS:
        response = listed.ask(method, target, {**fields, **own}, body)
        assert response.status == 403


# --- preflights --------------------------------------------------------------

FOR_PUBLISHING = {"allow-methods": "POST", "max-age": "600",
                  "allow-headers":
                  "Authorization, Content-Type, Idempotency-Key, "
                  "Traceparent"}
FOR_READING = {"allow-methods": "GET, HEAD", "max-age": "600",
               "allow-headers": "Authorization, Cache-Control, Last-Event-ID"}
PREFLIGHTS = [("/pub", FOR_PUBLISHING),
              ("/pub/a", {**FOR_PUBLISHING, "allow-methods": "POST, PUT"}),
              ("/topics", FOR_READING), ("/topics/a", FOR_READING),
              ("/sub", FOR_READING), (sub_target("alice", "a"), FOR_READING)]


def preflight(origin, method="POST", headers="authorization,content-type"):
    return {"Origin": origin, "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers}


@pytest.mark.parametrize("target, allowed", PREFLIGHTS)
def test_a_preflight_is_answered(server, listed, target, allowed):
    response = server.ask("OPTIONS", target, preflight(EVIL))
    assert response.status == 204
    assert cors(response) == {**TO_ANYBODY, **allowed}
    response = listed.ask("OPTIONS", target, preflight(OURS))
    assert response.status == 204
    assert cors(response) == {**to_page(OURS), **allowed}
    assert response.field("Vary") == "Origin"


@pytest.mark.parametrize("unread, status", [
    ("GET /sub?" + "x" * 40000 + " HTTP/1.1\r\n", 414),
    ("GET /sub HTTP/1.1\r\nX: " + "x" * 20000, 431),
    ("GET /sub HTTP/1.1\r\nNo field\r\n\r\n", 400),
    ("GET /sub HTTP/1.1\r\nHost: x\r\n", 408)])
def test_a_page_may_read_why_its_head_was_not(start, unread, status):
    """Where any page may: of a list, nobody knows yet which it is, as its
    Origin has not come."""
    for allowed, expected in (("*", TO_ANYBODY), ("https://a.example", {})):
        server = start(ALLOWED_ORIGINS=allowed, HEADER_TIMEOUT=0.5)
        client = server.http()
        client.send_while_open(unread.encode())
        response = client.response()
        assert response.status == status
        assert cors(response) == expected


@pytest.mark.parametrize("unread, status", [
    ("Cookie: " + "x" * 20000, 431), ("X: y\r\n" * 120, 431),
    ("No field\r\n\r\n", 400), ("Cookie: x\r\n", 408),
    (f"Origin: {OURS}\r\n\r\n", 400)])
def test_a_page_of_the_list_may_read_it_if_its_origin_came_before(
        start, unread, status):
    server = start(ALLOWED_ORIGINS=OURS, HEADER_TIMEOUT=0.5)
    for origin in (OURS, EVIL):
        client = server.http()
        assert client.ask("GET", "/", {"Origin": OURS}).status == 303
        client.send_while_open(
            f"GET /sub HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n"
            f"{unread}".encode())
        response = client.response()
        assert response.status == status
        is_seen = origin == OURS and not unread.startswith("Origin")
        assert cors(response) == (to_page(OURS) if is_seen else {})


@pytest.mark.parametrize("start_line, status", [
    ("GET /sub?" + "x" * 40000 + " HTTP/1.1\r\n", 414),
    ("GET /sub HTTP/1.1\r\nCookie: " + "x" * 20000 + "\r\n", 431),
    ("GET /sub HTTP/1.1\r\nNo field\r\n", 400),
    ("GET /sub HTTP/3.1\r\n", 505)])
def test_a_page_of_the_list_may_read_it_if_its_origin_comes_with_it(
        start, start_line, status):
    server = start(ALLOWED_ORIGINS=OURS)
    for origin in (OURS, EVIL):
        client = server.http()
        client.send_while_open(
            f"{start_line}Host: x\r\nOrigin: {origin}\r\n\r\n".encode())
        response = client.response()
        assert response.status == status
        assert cors(response) == (to_page(OURS) if origin == OURS else {})


def test_a_page_that_asked_before_may_not_read_what_is_no_request(start):
    server = start(ALLOWED_ORIGINS=OURS)
    client = server.http()
    assert client.ask("GET", "/", {"Origin": OURS}).status == 303
    client.send_while_open(b"\r\n" * 10)
    response = client.response()
    assert response.status == 400 and cors(response) == {}


@pytest.mark.parametrize("target, allowed", PREFLIGHTS)
def test_a_preflight_of_another_page_gets_403(listed, target, allowed):
    response = listed.ask("OPTIONS", target, preflight(EVIL))
    assert response.status == 403
    assert cors(response) == {}


@pytest.mark.parametrize("missing", ["Origin",
                                     "Access-Control-Request-Method"])
def test_other_options_are_no_preflight(server, missing):
    response = server.ask("OPTIONS", "/pub",
                          {**preflight(OURS), missing: None})
    assert response.status == 204
    assert response.field("Allow") == "OPTIONS, POST"
    assert "allow-methods" not in cors(response)


@pytest.mark.parametrize("target, status", [
    ("/nope", 404), ("/pubx", 404), ("/", 204), ("/healthz", 204),
    ("/metrics", 204)])
def test_what_is_not_for_pages_has_no_preflight(server, target, status):
    response = server.ask("OPTIONS", target, preflight(OURS))
    assert response.status == status
    assert "allow-methods" not in cors(response)


def test_the_request_follows_its_preflight_on_one_connection(listed):
    client = listed.http()
    assert client.ask("OPTIONS", "/pub", preflight(OURS)).status == 204
    response = client.publish(fields={"Origin": OURS})
    assert response.status == 200
    assert cors(response) == to_page(OURS)


def test_a_preflight_asks_no_authority_and_needs_no_token(start, authority):
    server = start(AUTH_URL=authority.url)
    response = server.ask("OPTIONS", sub_target("alice", "a"),
                          preflight(OURS, "GET"))
    assert response.status == 204
    assert authority.asked.empty()


# --- what is refused before it costs anything --------------------------------


@pytest.mark.parametrize("target, fields", [
    ("/pub", {**ALICE, **JSON}), ("/pub/a", ALICE)])
def test_another_page_is_refused_before_its_content_is_read(
        listed, target, fields):
    fields = {**fields, "Origin": EVIL, "Content-Length": "1000000"}
    client = listed.http()
    client.send(request("POST", target, fields))
    assert client.response().status == 403
    # What it sends all the same is not the next request.
    client.send(publish_request("alice", "sneaked", "x").ljust(1000000))
    assert client.ask("GET", "/topics", ALICE).status == 200
    assert listed.ask("GET", "/topics/sneaked", ALICE).status == 404


def test_another_page_is_not_told_to_continue(listed):
    client = listed.http()
    client.send(request("POST", "/pub", {
        **ALICE, **JSON, "Origin": EVIL, "Content-Length": "10",
        "Expect": "100-continue"}))
    assert client.response().status == 403
    assert client.read_to_end() == b""


def test_another_page_is_refused_before_its_password_is_looked_at(listed):
    wrong = {"Authorization": basic("alice", "wrong")}
    for fields in (ALICE, wrong, {}):
        response = listed.ask("POST", "/pub", {**fields, **JSON,
                                               "Origin": EVIL}, BODY)
        assert response.status == 403


def test_another_page_is_refused_before_the_authority_is_asked(start,
                                                               authority):
    server = start(AUTH_URL=authority.url, ALLOWED_ORIGINS=OURS,
                   AUTH_COOKIE="true")
    target = sub_target("alice", "a", access_token="token")
    cookie = {"Cookie": "session=1"}
    response = server.ask("GET", target, {**STREAM, **cookie, "Origin": EVIL})
    assert response.status == 403
    client = server.websocket(open=False)
    client.send(handshake(target, {**cookie, "Origin": EVIL}))
    assert client.response().status == 403
    assert authority.asked.empty()


def test_a_refusal_of_the_authority_can_be_read_by_the_page(start, authority):
    server = start(AUTH_URL=authority.url, ALLOWED_ORIGINS=OURS)
    authority.rules["no"] = refuse
    target = sub_target("alice", "a", access_token="no")
    response = server.ask("GET", target, {**STREAM, "Origin": OURS})
    assert response.status == 401
    assert cors(response) == to_page(OURS)


# --- a password that the browser remembers -----------------------------------
# A form of any page can make a browser that knows the password send it along,
# with one of three media types, and no preflight.

FORM_TYPES = ["application/x-www-form-urlencoded", "text/plain", None]


def send_form(server, origin, media_type="text/plain", **fields):
    return server.ask("POST", "/pub/forms", {
        **ALICE, "Content-Type": media_type, "Origin": origin, **fields},
        b"x")


@pytest.mark.parametrize("media_type", FORM_TYPES)
@pytest.mark.parametrize("origin", [
    EVIL, OURS, "null", "", "x", "http://localhost:1",
    "http://localhost.evil.example", "file://localhost"])
def test_a_form_of_another_page_does_not_publish(server, origin, media_type):
    subscriber = server.subscribe("alice", "forms")
    before = refused(server)
    response = send_form(server, origin, media_type)
    assert response.status == 403 and "Origin" in response.error()
    assert refused(server) == before + 1
    server.publish("alice", "forms", "the first")
    assert subscriber.receive() == "the first"


def test_a_form_with_files_is_no_text(server):
    assert send_form(server, None, "multipart/form-data; boundary=x"
                     ).status == 415


@pytest.mark.parametrize("host, origin", [
    ("localhost", "http://localhost"), ("localhost", "https://localhost"),
    ("localhost:3000", "http://localhost:3000"),
    ("push.example:80", "http://push.example"),
    ("push.example", "https://push.example:443"),
    ("[::1]:3000", "http://[::1]:3000"),
    ("PUSH.example", "https://push.EXAMPLE")])
def test_a_page_of_the_server_s_own_origin_may_publish(server, host, origin):
    assert send_form(server, origin, Host=host).status == 200


@pytest.mark.parametrize("host, origin", [
    ("localhost:3000", "http://localhost"),
    ("localhost:3000", "http://localhost:3001"),
    ("push.example:443", "http://push.example"),
    ("a.push.example", "https://push.example")])
def test_another_port_or_name_is_another_origin(server, host, origin):
    assert send_form(server, origin, Host=host).status == 403


def test_what_is_no_page_publishes_as_ever(server):
    assert send_form(server, None).status == 200


def test_a_page_of_the_list_may_publish_by_a_form(listed):
    assert send_form(listed, OURS).status == 200
    assert send_form(listed, EVIL).status == 403


def test_a_form_cannot_publish_json(server):
    """So that /pub needs no look at the origin: only a request that was
    preceded by a preflight has this media type."""
    for media_type in FORM_TYPES + ["text/plain; application/json"]:
        response = server.ask("POST", "/pub", {
            **ALICE, "Content-Type": media_type, "Origin": EVIL}, BODY)
        assert response.status == 415


# --- isimud.v1, where a browser adds a remembered password, too


def command_publish(server, fields):
    socket = server.websocket(subprotocols=["isimud.v1"], fields=fields)
    return socket.command("publish", topic="v1", data="x")


@pytest.mark.parametrize("origin", [EVIL, OURS, "null", "", "x"])
def test_a_session_of_another_page_may_not_publish(server, origin):
    subscriber = server.subscribe("alice", "v1")
    answer = command_publish(server, {**ALICE, "Origin": origin})
    assert (answer["type"], answer["code"]) == ("error", "forbidden")
    server.publish("alice", "v1", "the first")
    assert subscriber.receive() == "the first"


def test_a_session_of_another_page_learns_nothing_of_the_password(server):
    wrong = {"Authorization": basic("alice", "wrong"), "Origin": EVIL}
    right = {**ALICE, "Origin": EVIL}
    assert command_publish(server, wrong) == command_publish(server, right)


@pytest.mark.parametrize("fields", [
    {}, {"Origin": "http://localhost"},
    {"Origin": "https://push.example", "Host": "push.example"}], ids=str)
def test_a_session_of_a_trusted_page_or_of_none_may_publish(server, fields):
    assert command_publish(server, {**ALICE, **fields})["type"] == "published"


def test_a_session_of_a_page_of_the_list_may_publish(listed):
    answer = command_publish(listed, {**ALICE, "Origin": OURS})
    assert answer["type"] == "published"


def test_a_session_of_another_page_may_subscribe(server):
    socket = server.websocket(subprotocols=["isimud.v1"],
                              fields={**ALICE, "Origin": EVIL})
    answer = socket.command("subscribe", publisher="alice", topic="v1s")
    assert answer["type"] == "subscribed"
    server.publish("alice", "v1s", json.dumps("x"))
    assert socket.receive_json()["data"] == '"x"'


# --- operators ---------------------------------------------------------------


def test_what_operators_ask_for_is_not_for_other_pages(listed):
    for target, fields in (("/healthz", {}), ("/readyz", {}),
                           ("/metrics", ALICE)):
        response = listed.ask("GET", target, {**fields, "Origin": EVIL})
        assert response.status == 200
        assert cors(response) == {}


def test_what_is_at_admin_port_is_for_no_page(start):
    server = start(ADMIN_PORT=0)
    for target in ("/healthz", "/readyz", "/metrics"):
        response = server.ask_admin("GET", target, {"Origin": OURS})
        assert response.status == 200
        assert cors(response) == {}
