"""The contract: each row of its table, as a client sees it."""
import asyncio
import json

import pytest
import websockets

from client import BINARY, TEXT, basic, publish_request

# --- POST /pub ---------------------------------------------------------------


def test_a_publication_reaches_its_subscriber_as_one_text_message(server):
    subscriber = server.subscribe("alice", "news")
    assert server.http().publish("alice", "news", "hello").status == 200
    assert subscriber.read_frame() == (TEXT, b"hello")


def test_a_publication_reaches_every_subscriber_of_its_topic(server):
    subscribers = [server.subscribe("alice", "news") for _ in range(10)]
    server.publish("alice", "news", "hello")
    assert [s.receive() for s in subscribers] == ["hello"] * 10


def test_a_publication_without_subscribers_is_answered_200(server):
    assert server.http().publish("alice", "nobody", "x").status == 200


def test_a_publication_is_not_kept_for_later_subscribers(server):
    server.publish("alice", "late", "before")
    subscriber = server.subscribe("alice", "late")
    server.publish("alice", "late", "after")
    assert subscriber.receive() == "after"


def test_a_topic_has_no_subscribers_under_another_publisher(server):
    of_alice = server.subscribe("alice", "news")
    of_bob = server.subscribe("bob", "news")
    server.publish("bob", "news", "from bob")
    server.publish("alice", "news", "from alice")
    assert of_alice.receive() == "from alice"
    assert of_bob.receive() == "from bob"


def test_publisher_and_topic_are_not_run_together(server):
    other = server.subscribe("ab", "c")
    server.publish("a", "bc", "not for you")
    server.publish("ab", "c", "for you")
    assert other.receive() == "for you"


def test_topics_and_publishers_are_case_sensitive(server):
    subscriber = server.subscribe("alice", "news")
    server.publish("alice", "News", "wrong topic")
    server.publish("Alice", "news", "wrong publisher")
    server.publish("alice", "news", "right")
    assert subscriber.receive() == "right"


@pytest.mark.parametrize("topic", [
    "", " ", "a/b", "Ünïcödé", "日本語", "🦀", "a\u0000b", "\u0000", "\ufeff",
    "\"\\/\b\f\n\r\t", "\U0010ffff", "x" * 1024], ids=ascii)
def test_a_topic_may_be_any_text(server, topic):
    subscriber = server.subscribe("alice", topic)
    server.publish("alice", topic, "hello")
    assert subscriber.receive() == "hello"


def test_topics_that_differ_behind_a_nul_are_different(server):
    subscriber = server.subscribe("alice", "a\u0000b")
    server.publish("alice", "a", "cut")
    server.publish("alice", "a\u0000c", "other")
    server.publish("alice", "a\u0000b", "right")
    assert subscriber.receive() == "right"


@pytest.mark.parametrize("data", [
    "", " ", "null", "Ünïcödé", "🦀" * 1000, "a\u0000b", "\u0000" * 100,
    "\ufeff", "\ufffe\uffff", "\U0010ffff", "\"\\/\b\f\n\r\t\x7f\u2028",
    "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, "é" * 40000],
    ids=lambda data: f"{data[:4]!a}x{len(data)}")
@pytest.mark.parametrize("ascii_only", [True, False],
                         ids=["escaped", "raw"])
def test_data_arrives_as_it_was_sent(server, data, ascii_only):
    subscriber = server.subscribe("alice", "data")
    body = json.dumps({"topic": "data", "data": data},
                      ensure_ascii=ascii_only).encode()
    assert server.http().publish("alice", body=body).status == 200
    assert subscriber.read_frame() == (TEXT, data.encode())


def test_members_of_other_names_are_ignored(server):
    subscriber = server.subscribe("alice", "news")
    body = b'{"id": [1, {"data": 2}], "data": "x", "topic": "news", "z": null}'
    assert server.http().publish("alice", body=body).status == 200
    assert subscriber.receive() == "x"


def test_escaped_member_names_are_the_same_names(server):
    subscriber = server.subscribe("alice", "news")
    body = rb'{"t\u006fpic": "news", "d\u0061ta": "x"}'
    assert server.http().publish("alice", body=body).status == 200
    assert subscriber.receive() == "x"


def test_space_around_a_publication_is_allowed(server):
    body = b' \t\r\n{ "topic" : "news" ,\n"data":"x"}\r\n '
    assert server.http().publish("alice", body=body).status == 200


def test_a_query_behind_the_path_changes_nothing(server):
    assert server.http().publish(target="/pub?trace=1").status == 200


# --- credentials


@pytest.mark.parametrize("username", [
    "", "alice", "al ice", "Ünïcödé", "a\u0000b", "a;=,\"\\\n", "x" * 1024],
    ids=lambda name: ascii(name)[:20])
def test_the_username_is_the_publisher(server, username):
    subscriber = server.subscribe(username, "news")
    server.publish(username, "news", "hello")
    assert subscriber.receive() == "hello"


def test_a_username_of_any_characters_may_publish(server):
    name = "".join(map(chr, set(range(0x180)) - {ord(":")}))
    response = server.http().publish(fields={"Authorization": basic(name)})
    assert response.status == 200


def test_the_password_may_have_colons(start):
    server = start(PASSWORD=":a:b::")
    right = {"Authorization": basic("alice", ":a:b::")}
    assert server.http().publish(fields=right).status == 200
    wrong = {"Authorization": basic("alice", ":a:b:")}
    assert server.http().publish(fields=wrong).status == 401


def test_the_password_may_be_unicode(start):
    server = start(PASSWORD="pässwörd🦀")
    right = {"Authorization": basic("alice", "pässwörd🦀")}
    assert server.http().publish(fields=right).status == 200


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_may_be_in_any_case(server, scheme):
    value = basic("alice").replace("Basic", scheme)
    response = server.http().publish(fields={"Authorization": value})
    assert response.status == 200


@pytest.mark.parametrize("password", [
    "", "Secret", "secre", "secrets", " secret", "secret\0", "x" * 2000],
    ids=lambda password: ascii(password)[:20])
def test_a_wrong_password_is_answered_401(server, password):
    fields = {"Authorization": basic("alice", password)}
    response = server.http().publish(fields=fields)
    assert response.status == 401
    assert response.error() == "Wrong credentials"
    assert response.field("WWW-Authenticate").startswith("Basic ")


@pytest.mark.parametrize("value", [
    None, "", "Basic", "Basic ", "Basic !!!!", "Basic YWxpY2U6c2VjcmV",
    "Basic YWxpY2U6c2VjcmV0=", "Basic YWxpY2U6c2Vj cmV0",
    "Basic YWxpY2U=",  # "alice": no colon
    "Bearer YWxpY2U6c2VjcmV0", "YWxpY2U6c2VjcmV0", "BasicYWxpY2U6c2VjcmV0",
], ids=str)
def test_missing_or_broken_credentials_are_answered_400(server, value):
    response = server.http().publish(fields={"Authorization": value})
    assert response.status == 400
    assert response.error() == "Missing credentials"


def test_a_refused_publication_reaches_nobody(server):
    subscriber = server.subscribe("alice", "news")
    wrong = {"Authorization": basic("alice", "wrong")}
    assert server.http().publish(fields=wrong).status == 401
    server.publish("alice", "news", "right")
    assert subscriber.receive() == "right"


# --- the body


@pytest.mark.parametrize("media_type", [
    "application/json", "Application/JSON", "application/json; charset=utf-8",
    "application/json ;charset=\"utf-8\""])
def test_json_is_taken_by_its_media_type(server, media_type):
    response = server.http().publish(fields={"Content-Type": media_type})
    assert response.status == 200


@pytest.mark.parametrize("media_type", [
    None, "", "text/plain", "application/jsonx", "application/json-seq",
    "text/json", "application/x-www-form-urlencoded", "application",
    "text/plain; a=application/json"], ids=str)
def test_another_media_type_is_answered_415(server, media_type):
    response = server.http().publish(fields={"Content-Type": media_type})
    assert response.status == 415
    assert response.error()


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"}", b"hello", b"{'topic':'a','data':'b'}",
    b'{"topic":"a","data":"b"} x', b'{"topic":"a","data":"b"}{}',
    b'{"topic":"a","data":"b",}', b'{"topic":"a" "data":"b"}',
    b'{"topic":"a","data":"b","n":01}', b'{"topic":"a","data":"b","n":1.}',
    b'{"topic":"a","data":"b","n":NaN}', b'{"topic":"a","data":"b\n"}',
    b'{"topic":"a","data":"b\x00"}', b'{"topic":"a","data":"b"}\x00',
    b'{"topic":"a","data":"\xff"}', b'{"topic":"a","data":"\xc0\x80"}',
    b'{"topic":"a","data":"\xed\xa0\x80"}',
    b'{"topic":"a","data":"\xf4\x90\x80\x80"}',
    rb'{"topic":"a","data":"\ud800"}', rb'{"topic":"a","data":"\udc00\ud800"}',
    rb'{"topic":"a","data":"\x41"}', rb'{"topic":"a","data":"\u00"}',
    b'\xef\xbb\xbf{"topic":"a","data":"b"}',
    b'{"topic":"a","data":"b","n":' + b"[" * 2000 + b"]" * 2000 + b"}",
], ids=lambda body: repr(body)[:40])
def test_a_body_that_is_not_json_is_answered_400(server, body):
    response = server.http().publish(body=body)
    assert response.status == 400
    assert response.error()


@pytest.mark.parametrize("body", [
    b"null", b"1", b'"x"', b"{}", b'{"topic":"a"}', b'{"data":"b"}',
    b'{"topic":1,"data":"b"}', b'{"topic":null,"data":"b"}',
    b'{"topic":["a"],"data":"b"}', b'{"Topic":"a","data":"b"}',
    b'{"topic":"a","DATA":"b"}', b'{"topic":"a","topic":"b","data":"c"}',
    b'{"topic":"a","data":"b","data":"c"}',
    rb'{"topic":"a","data":"b","d\u0061ta":"c"}',
], ids=repr)
def test_json_that_is_no_publication_is_answered_422(server, body):
    response = server.http().publish(body=body)
    assert response.status == 422
    assert response.error()


@pytest.mark.parametrize("body, name", [
    (b'{"data":"b"}', "topic"), (b'{"topic":"a"}', "data"),
    (b'{"topic":1,"data":"b"}', "topic")])
def test_an_error_names_the_member(server, body, name):
    assert name in server.http().publish(body=body).error()


def body_of_size(size):
    start, end = b'{"topic":"big","data":"', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


def test_a_body_of_two_mebibytes_is_taken(server):
    body = body_of_size(2 << 20)
    assert server.http().publish(body=body).status == 200


def test_a_larger_body_is_answered_413(server):
    client = server.http()
    client.send_while_open(publish_request(body=body_of_size((2 << 20) + 1)))
    response = client.response()
    assert response.status == 413
    assert response.error()


# --- GET /sub ----------------------------------------------------------------


def test_a_handshake_and_a_subscribe_message_subscribe(server):
    socket = server.websocket()
    socket.send_text('{"publisher": "alice", "topic": "news"}')
    socket.send_frame(0x9, b"now")
    socket.expect_pong(b"now")
    server.publish("alice", "news", "hello")
    assert socket.receive() == "hello"


def test_messages_arrive_in_the_order_they_were_published(server):
    subscriber = server.subscribe("alice", "many")
    texts = [str(i) for i in range(1000)]
    server.http().publish_all("alice", "many", texts)
    assert [subscriber.receive() for _ in texts] == texts


@pytest.mark.parametrize("text", [
    "", "hello", "{", "[", '{"publisher":"a","topic":"b"} x',
    '{"publisher":"a","topic":"b\n"}', r'{"publisher":"a","topic":"\ud800"}'],
    ids=repr)
def test_a_subscribe_message_that_is_not_json_is_closed_with_1007(server, text):
    socket = server.websocket()
    socket.send_text(text)
    socket.expect_close(1007)


def test_a_subscribe_message_that_is_not_utf8_is_closed_with_1007(server):
    socket = server.websocket()
    socket.send_frame(TEXT, b'{"publisher":"a","topic":"\xff"}')
    socket.expect_close(1007)


@pytest.mark.parametrize("text", [
    "null", "1", '"x"', "[]", "{}", '{"publisher":"a"}', '{"topic":"a"}',
    '{"publisher":1,"topic":"a"}', '{"publisher":"a","topic":null}',
    '{"Publisher":"a","topic":"b"}',
    '{"publisher":"a","topic":"b","topic":"c"}'], ids=repr)
def test_a_subscribe_message_of_wrong_shape_is_closed_with_1008(server, text):
    socket = server.websocket()
    socket.send_text(text)
    socket.expect_close(1008)


def test_a_binary_message_is_closed_with_1003(server):
    socket = server.websocket()
    socket.send_frame(BINARY, b'{"publisher":"a","topic":"b"}')
    socket.expect_close(1003)


def test_a_binary_message_after_subscribing_is_closed_with_1003(server):
    subscriber = server.subscribe()
    subscriber.send_frame(BINARY, b"x")
    subscriber.expect_close(1003)


def test_text_after_subscribing_is_closed_with_1008(server):
    subscriber = server.subscribe()
    subscriber.send_text('{"publisher":"alice","topic":"other"}')
    subscriber.expect_close(1008)


def test_a_library_client_subscribes_and_receives(server):
    async def transcript():
        url = f"ws://{server.address[0]}:{server.address[1]}/sub"
        async with websockets.connect(url) as socket:
            await socket.send('{"publisher": "alice", "topic": "library"}')
            await asyncio.wait_for(await socket.ping(), 10)
            await asyncio.to_thread(server.publish, "alice", "library", "ü🦀")
            return await socket.recv()

    assert asyncio.run(transcript()) == "ü🦀"


def test_a_library_client_sees_the_code_and_the_reason(server):
    async def transcript():
        url = f"ws://{server.address[0]}:{server.address[1]}/sub"
        async with websockets.connect(url) as socket:
            await socket.send("no JSON")
            await socket.wait_closed()
            return socket.close_code, socket.close_reason

    code, reason = asyncio.run(transcript())
    assert code == 1007 and reason


# --- GET / and the rest ------------------------------------------------------


@pytest.mark.parametrize("value", [None, "true", "t", "1"], ids=str)
def test_the_root_redirects_to_the_project_page(start, value):
    response = start(HOMEPAGE=value).ask("GET", "/")
    assert response.status == 303
    assert response.field("Location").startswith("https://")


@pytest.mark.parametrize("value", ["false", "f", "0"])
def test_the_root_is_unknown_without_a_homepage(start, value):
    response = start(HOMEPAGE=value).ask("GET", "/")
    assert response.status == 404
    assert response.field("Location") is None


@pytest.mark.parametrize("path", [
    "/nope", "/pubs", "/pub/", "/sub/", "/PUB", "//pub", "/%70ub", "/./pub"])
def test_an_unknown_path_is_answered_404(server, path):
    response = server.http().publish(target=path)
    assert response.status == 404
    assert response.error()


@pytest.mark.parametrize("method, path, allowed", [
    ("GET", "/pub", "POST"), ("PUT", "/pub", "POST"),
    ("DELETE", "/pub", "POST"), ("POST", "/sub", "GET"),
    ("DELETE", "/sub", "GET"), ("POST", "/", "GET"), ("PATCH", "/", "GET")])
def test_a_wrong_method_is_answered_405_with_allow(server, method, path,
                                                   allowed):
    response = server.ask(method, path)
    assert response.status == 405
    assert response.error()
    assert allowed in response.field("Allow").replace(" ", "").split(",")
    assert method not in response.field("Allow").replace(" ", "").split(",")


READ, ALL = "GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS, POST, PUT"
METHODS = {"/": READ, "*": ALL, "/sub": READ, "/topics": READ,
           "/topics/a": READ, "/healthz": READ, "/readyz": READ,
           "/metrics": READ, "/pub": "OPTIONS, POST",
           "/pub/a": "OPTIONS, POST, PUT"}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", METHODS)
def test_options_tells_the_methods(server, path, version):
    """HAProxy's checks are OPTIONS / HTTP/1.0, without Host."""
    response = server.ask("OPTIONS", path, {
        "Host": None if version == "1.0" else "localhost"}, version=version)
    assert response.status == 204
    assert response.field("Allow") == METHODS[path]


def test_options_of_the_root_tells_the_server_s_without_a_homepage(start):
    server = start(HOMEPAGE="false", ADMIN_PORT=0)
    assert server.ask("OPTIONS", "/").field("Allow") == ALL
    # There it is the console's.
    assert server.ask_admin("OPTIONS", "/").field(
        "Allow") == "GET, HEAD, OPTIONS"
    for ask in (server.ask, server.ask_admin):
        assert ask("OPTIONS", "/nope").status == 404


def test_a_log_holds_no_secret_and_no_raw_client_byte(start):
    server = start(LOG_LEVEL="debug", PASSWORD="open-sesame")
    value = basic("alice", "open-sesame")
    fields = {"Authorization": value}
    assert server.http().publish(fields=fields).status == 200
    fields = {"Authorization": basic("alice", "guess-work")}
    assert server.http().publish(fields=fields).status == 401
    client = server.http()
    client.send(b"GET /\x1b[31m\xff HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 400
    subscriber = server.subscribe("alice", "t\n\x1b\u0000")
    subscriber.send_close(1000, b"\x1b[31m")
    subscriber.expect_close(1000)
    server.stop()
    for secret in ("open-sesame", "guess-work", value.split()[1]):
        assert secret not in server.text()
    for line in server.lines:
        assert line.isprintable() and line.isascii()
