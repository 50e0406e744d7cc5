"""Publishing and looking: POST /pub, POST /pub/TOPIC, receipts, batches,
Idempotency-Key, GET /topics."""
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from client import (DEADLINE, PASSWORD, SCALE, TEXT, basic, chunked,
                    handshake, publish_request, request, sub_target)
from session import expect_error, session, told
from threads import in_threads, join

ALICE = {"Authorization": basic("alice")}
WRONG = {"Authorization": basic("alice", "wrong")}
ID = re.compile("[0-9a-f]{16}-(0|[1-9][0-9]*)")


def quoted(topic):
    return urllib.parse.quote(topic, safe="")


def plain_request(target, body=b"hello", publisher="alice", **fields):
    """POST /pub/TOPIC; `fields` with _ for -, left out if None."""
    return request("POST", target, {
        "Authorization": basic(publisher),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }, body)


def post(server, target, body=b"hello", publisher="alice", **fields):
    """Sends it on a connection of its own."""
    client = server.http()
    client.send(plain_request(target, body, publisher, **fields))
    return client.response()


def publish_json(server, value, publisher="alice", **fields):
    """POST /pub with `value`, or the bytes of it."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return post(server, "/pub", body, publisher,
                **{"Content_Type": "application/json", **fields})


def item(topic, data):
    return {"topic": topic, "data": data}


def receipt(response):
    """Of a response that has one: its number and its subscribers."""
    assert response.status == 200, response.body
    return check_receipt(response.json())


def check_receipt(value):
    assert list(value) == ["id", "subscribers"]
    assert ID.fullmatch(value["id"]), value
    assert type(value["subscribers"]) is int
    return int(value["id"].partition("-")[2]), value["subscribers"]


def number(response):
    return receipt(response)[0]


# --- data --------------------------------------------------------------------


@pytest.mark.parametrize("data, text", [
    (b'"a string"', "a string"), (b'""', ""), (b'"1"', "1"),
    (rb'"\u00fc\ud83e\udd80\u0000\n"', "ü🦀\0\n"),
    (b"0", "0"), (b"-0", "-0"), (b"1.50", "1.50"), (b"1E+05", "1E+05"),
    (b"12345678901234567890123", "12345678901234567890123"),
    (b"true", "true"), (b"false", "false"), (b"null", "null"),
    (b"[]", "[]"), (b"{}", "{}"), (b"[ ]", "[]"), (b" { } ", "{}"),
    (b'[ 1 , "a b" , [ null ] ]', '[1,"a b",[null]]'),
    (b'{ "b" : 1 ,\r\n\t"a" : { "c d" : [ ] } }', '{"b":1,"a":{"c d":[]}}'),
    (b'{"a":1,"a":2}', '{"a":1,"a":2}'),
    (rb'["\u0041\/ \" ", "{ [ , : ]"]', rb'["\u0041\/ \" ","{ [ , : ]"]'
     .decode()),
    ('{"ü" : "🦀"}'.encode(), '{"ü":"🦀"}'),
], ids=ascii)
def test_data_of_every_kind_arrives_as_its_text(server, data, text):
    subscriber = server.subscribe("alice", "kinds")
    body = b'{"topic": "kinds", "data": ' + data + b"}"
    assert receipt(publish_json(server, body))[1] == 1
    assert subscriber.read_frame() == (TEXT, text.encode())


def test_large_data_that_is_no_string_arrives_whole(server):
    subscriber = server.subscribe("alice", "kinds")
    value = [{"number": i, "text": "ü" * 50} for i in range(3000)]
    assert receipt(publish_json(server, item("kinds", value)))[1] == 1
    assert subscriber.receive() == json.dumps(value, separators=(",", ":"))


# --- batches -----------------------------------------------------------------


def table(numbers):
    """JSON text of a table with so many numbers."""
    return "[" + ",".join(map(str, range(numbers))) + "]"


@pytest.mark.parametrize("text", [
    table(20_000), table(100_000), "[" * 511 + "]" * 511,
    '{"a":' * 511 + "1" + "}" * 511, "-0." + "1234567890" * 1000 + "e+100",
    "{" + ",".join(f'"m{i}":[]' for i in range(30_000)) + "}",
], ids=["table", "larger table", "arrays", "objects", "number", "members"])
def test_any_json_value_can_be_published(server, text):
    subscriber = server.subscribe("alice", "values")
    body = b'{"topic": "values", "data": ' + text.encode() + b"}"
    receipt(publish_json(server, body))
    assert subscriber.receive() == text


def test_json_that_is_nested_too_deep_is_not_called_not_json(server):
    body = b'{"topic": "t", "data": ' + b"[" * 512 + b"]" * 512 + b"}"
    response = publish_json(server, body)
    assert response.status == 400
    assert "nested more than 512 deep" in response.error()
    assert "not JSON" not in response.error()
    socket = session(server, "alice")
    socket.send_text('{"type": "publish", "topic": "t", "ref": 7, "data": '
                     + "[" * 512 + "]" * 512 + "}")
    value = told(socket)
    assert "nested more than 512 deep" in value["message"]
    expect_error(value, "bad_command")


def test_a_batch_is_published_in_order(server):
    subscriber = server.subscribe("alice", "batch")
    texts = [f"{i} " * (i % 50) for i in range(1000)]
    response = publish_json(server, [item("batch", text) for text in texts])
    receipts = [check_receipt(one) for one in response.json()]
    first = receipts[0][0]
    assert receipts == [(first + i, 1) for i in range(1000)]
    assert [subscriber.receive() for _ in texts] == texts


def test_a_batch_may_have_many_topics(server):
    topics = [f"batch {i % 40}" for i in range(200)]
    subscribers = {topic: server.subscribe("alice", topic)
                   for topic in sorted(set(topics))[::2]}
    response = publish_json(server, [item(topic, i)
                                     for i, topic in enumerate(topics)])
    numbers = {}
    for topic, one in zip(topics, response.json()):
        sequence, count = check_receipt(one)
        assert count == (topic in subscribers)
        assert sequence == numbers.get(topic, sequence - 1) + 1
        numbers[topic] = sequence
    for topic, subscriber in subscribers.items():
        expected = [str(i) for i, one in enumerate(topics) if one == topic]
        assert [subscriber.receive() for _ in expected] == expected


@pytest.mark.parametrize("body", [b"[]", b" [ ] "])
def test_an_empty_batch_has_an_empty_array_of_receipts(server, body):
    response = publish_json(server, body)
    assert response.status == 200
    assert response.body == b"[]"


def test_a_batch_of_one_has_an_array_of_one(server):
    check_receipt(*publish_json(server, [item("batch", 1)]).json())


@pytest.mark.parametrize("wrong, status, says", [
    ({"data": 1}, 422, "item 3: missing member `topic`"),
    ({"topic": "batch"}, 422, "item 3: missing member `data`"),
    ({"topic": 1, "data": 1}, 422, "item 3: `topic` must be a string"),
    ([], 422, "item 3: an object was expected"),
    ([item("batch", 1)], 422, "item 3: an object was expected"),
    (None, 422, "item 3: an object was expected"),
    ("x", 422, "item 3: an object was expected"),
], ids=str)
def test_a_batch_with_a_wrong_item_is_not_published_at_all(server, wrong,
                                                           status, says):
    subscriber = server.subscribe("alice", "batch")
    good = item("batch", "too early")
    response = publish_json(server, [good, good, wrong, good])
    assert response.status == status
    assert says in response.error()
    server.publish("alice", "batch", "after")
    assert subscriber.receive() == "after"


@pytest.mark.parametrize("body", [
    b'[{"topic":"batch","data":1},]', b'[{"topic":"batch","data":1}',
    b'[{"topic":"batch","data":1},{"topic":"batch","data":"\xff"}]',
    b'[{"topic":"batch","data":1}][]'], ids=repr)
def test_a_batch_that_is_not_json_is_not_published_at_all(server, body):
    subscriber = server.subscribe("alice", "batch")
    assert publish_json(server, body).status == 400
    server.publish("alice", "batch", "after")
    assert subscriber.receive() == "after"


def batch_request(batch, **fields):
    return publish_request(body=json.dumps(batch).encode(), fields=fields)


def test_a_batch_that_finds_no_room_is_not_published_at_all(start):
    # One worker: it does not look into its mailbox before all is published.
    server = start(MAX_MAILBOX="4K", WORKERS=1)
    subscriber = server.subscribe("alice", "full")
    batch = [item(topic, f"{i:0900}")
             for i in range(5) for topic in ("full", "other")]
    client = server.http()
    client.send(publish_request("alice", "full", "before")
                + batch_request(batch) + publish_request("alice", "full", "x")
                + publish_request("alice", "other", "y"))
    before = number(client.response())
    response = client.response()
    assert response.status == 503
    assert response.field("Retry-After") == "1"
    assert list(response.json()) == ["error"]
    assert number(client.response()) == before + 1
    assert number(client.response()) == 1
    assert [subscriber.receive() for _ in range(2)] == ["before", "x"]
    # Alone it is taken, as any message is.
    assert len(publish_json(server, batch).json()) == 10
    assert [int(subscriber.receive()) for _ in range(5)] == list(range(5))


def test_batches_of_several_publishers_are_each_whole(start):
    """Whatever they collide with: each is published once, in order, and the
    numbers of a refused one go to others."""
    server = start(MAX_MAILBOX="64K", WORKERS=4, MAX_BUFFERED="64M",
                   HISTORY_SIZE=10_000)
    topics = [f"topic {i}" for i in range(5)]
    readers = [server.websocket(target=sub_target("alice", topic),
                                subprotocols=["isimud.v1"])
               for topic in topics for _ in range(2)]
    for reader in readers:
        assert reader.receive_json()["type"] == "subscribed"
    taken = [0] * 4

    def publish(who):
        client = server.http()
        for n in range(60):
            batch = [item(topic, [who, n, i]) for i, topic in
                     enumerate(topics * 3)]
            batch[0]["data"].append("x" * 5000)
            while True:
                client.send(batch_request(
                    batch, **{"Idempotency-Key": f"{who} {n}"}))
                response = client.response()
                if response.status == 200:
                    break
                assert response.status == 503
                assert list(response.json()) == ["error"]
                time.sleep(0.001)
            assert len(response.json()) == len(batch)
            taken[who] += 1

    join(in_threads(*(lambda who=who: publish(who) for who in range(4))))
    assert taken == [60] * 4
    for k, reader in enumerate(readers):
        seen = {}
        for sequence in range(1, 60 * 4 * 3 + 1):
            message = reader.receive_json()
            assert int(message["id"].partition("-")[2]) == sequence
            who, n, i, *_ = message["data"]
            seen.setdefault(who, []).append((n, i))
        for who in range(4):
            at = k // 2
            assert seen[who] == [(n, at + 5 * round) for n in range(60)
                                 for round in range(3)]


def test_a_batch_may_hold_as_much_as_a_body(server):
    subscriber = server.subscribe("alice", "batch")
    texts = [chr(97 + i) * 65000 for i in range(16)]
    response = publish_json(server, [item("batch", text) for text in texts])
    assert len(response.json()) == 16
    assert [subscriber.receive() for _ in texts] == texts


# --- POST /pub/TOPIC ---------------------------------------------------------


@pytest.mark.parametrize("path, topic", [
    ("a", "a"), ("a%20b", "a b"), ("a+b", "a+b"), ("a%2Bb", "a+b"),
    ("a/b", "a/b"), ("a%2fb", "a/b"), ("a//b/", "a//b/"), ("/", "/"),
    ("..", ".."), ("%2e%2E/a", "../a"), ("a%00b", "a\0b"), ("%00", "\0"),
    ("%C3%9Cn%c3%af", "Ünï"), (quoted("日本語"), "日本語"), (quoted("🦀"), "🦀"),
    ("%25", "%"), ("%2525", "%25"), ("a%3Fb", "a?b"), ("a?b=c", "a"),
    ("a%23b", "a#b"), ("~!$&'()*,;=:@", "~!$&'()*,;=:@"), ("%0D%0A", "\r\n"),
    (quoted("x" * 1024), "x" * 1024), ("%EF%BB%BF", "\ufeff"),
], ids=lambda value: ascii(value)[:30])
def test_the_topic_of_a_path_is_percent_decoded(server, path, topic):
    subscriber = server.subscribe("alice", topic)
    assert receipt(post(server, "/pub/" + path))[1] == 1
    assert subscriber.receive() == "hello"


@pytest.mark.parametrize("path", [
    "%", "a%", "%2", "%zz", "%2g", "%%20", "%-1", "% 0".replace(" ", "+"),
    "%FF", "%C3", "%C3%28", "%C0%80", "%ED%A0%80", "%F4%90%80%80", "a%80",
])
def test_a_topic_that_is_not_percent_encoded_utf8_is_answered_400(server,
                                                                  path):
    response = post(server, "/pub/" + path)
    assert response.status == 400
    assert "topic" in response.error()


@pytest.mark.parametrize("body", [
    b"", b" ", b"\0", b"1 : 0", "Ünï🦀\ufeff\uffff".encode(), b'{"a": 1}',
    b"a=b&c=%20d+e", b"\r\n\r\n", b"x" * 65536, b"x" * (2 << 20),
], ids=lambda body: f"{body[:8]!r}x{len(body)}")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_a_body_is_published_as_it_is(server, body, is_chunked):
    subscriber = server.subscribe("alice", "plain")
    if is_chunked:
        response = post(server, "/pub/plain", chunked(body, 5000),
                        Transfer_Encoding="chunked")
    else:
        response = post(server, "/pub/plain", body)
    assert receipt(response)[1] == 1
    assert subscriber.read_frame() == (TEXT, body)


def test_a_publication_without_any_content_is_empty(server):
    subscriber = server.subscribe("alice", "plain")
    assert receipt(post(server, "/pub/plain", None))[1] == 1
    assert subscriber.receive() == ""


@pytest.mark.parametrize("body", [
    b"\xff", b"a\x80", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80"], ids=repr)
def test_a_body_that_is_not_utf8_is_answered_400(server, body):
    subscriber = server.subscribe("alice", "plain")
    response = post(server, "/pub/plain", body)
    assert response.status == 400
    assert "UTF-8" in response.error()
    server.publish("alice", "plain", "after")
    assert subscriber.receive() == "after"


@pytest.mark.parametrize("media_type", [
    None, "text/plain", "Text/Plain", "text/plain; charset=utf-8", "text/html",
    "text/event-stream", "text/x", "application/x-www-form-urlencoded",
    "Application/X-WWW-Form-URLEncoded; charset=UTF-8"], ids=str)
def test_a_plain_body_is_taken_by_its_media_type(server, media_type):
    subscriber = server.subscribe("alice", "plain")
    assert post(server, "/pub/plain", b"a=%20",
                Content_Type=media_type).status == 200
    assert subscriber.receive() == "a=%20"


@pytest.mark.parametrize("media_type", [
    "", "text", "text/", "textual/plain", "application/json",
    "application/octet-stream", "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded-not", "a/b; c=text/plain", "*/*",
], ids=str)
def test_a_plain_body_of_another_media_type_is_answered_415(server, media_type):
    response = post(server, "/pub/plain", b"{}", Content_Type=media_type)
    assert response.status == 415
    assert "text" in response.error()


def test_a_larger_plain_body_is_answered_413(server):
    client = server.http()
    client.send_while_open(plain_request("/pub/plain", b"x" * ((2 << 20) + 1)))
    response = client.response()
    assert response.status == 413
    assert response.error()


@pytest.mark.parametrize("target, methods, allow", [
    ("/pub", ["GET", "HEAD", "PUT", "DELETE"], "OPTIONS, POST"),
    ("/pub/a", ["GET", "HEAD", "PATCH", "DELETE"], "OPTIONS, POST, PUT")])
def test_other_methods_do_not_publish(server, target, methods, allow):
    for method in methods:
        response = server.ask(method, target, ALICE)
        assert response.status == 405
        assert response.field("Allow") == allow


def test_put_publishes_as_post_does(server):
    subscriber = server.subscribe("alice", "put")
    response = server.ask("PUT", "/pub/put", {**ALICE, "Idempotency-Key": "p"},
                          b"hello")
    assert receipt(response)[1] == 1
    assert subscriber.receive() == "hello"
    assert server.ask("PUT", "/pub/put", body=b"x").status == 400
    evil = {**ALICE, "Origin": "https://evil.example"}
    assert server.ask("PUT", "/pub/put", evil, b"x").status == 403


@pytest.mark.parametrize("media_type", [
    "application/json", "Application/JSON; charset=utf-8",
    "application/vnd.api+json", "application/cloudevents+JSON;x=y"])
def test_json_is_known_by_its_media_type(server, media_type):
    receipt(publish_json(server, item("a", 1), Content_Type=media_type))
    assert post(server, "/pub/a", b"{}", Content_Type=media_type).status == 415


@pytest.mark.parametrize("media_type", [
    "application/+json", "application/json+xml", "text/a+json", "a+json",
    "application/a+jsonx", "xapplication/a+json"])
def test_what_only_resembles_json_is_answered_415(server, media_type):
    assert publish_json(server, item("a", 1),
                        Content_Type=media_type).status == 415


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
@pytest.mark.parametrize("target", ["/pub", "/pub/a"])
def test_a_coded_content_is_answered_415(server, target, coding):
    response = post(server, target, b'{"topic": "a", "data": 1}',
                    Content_Encoding=coding,
                    Content_Type="application/json" if target == "/pub"
                    else None)
    assert response.status == 415
    assert response.field("Accept-Encoding") == "identity"
    assert response.error() == "Content-Encoding is not supported"


@pytest.mark.parametrize("coding", ["identity", "", "IDENTITY"])
def test_the_identity_is_no_coding(server, coding):
    receipt(post(server, "/pub/a", Content_Encoding=coding))


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_path_without_a_topic_is_answered_404(server, method):
    assert server.ask(method, "/pub/", ALICE, b"").status == 404


@pytest.mark.parametrize("target", ["/pub", "/pub/a"])
@pytest.mark.parametrize("authorization, status", [
    (None, 400), ("Bearer x", 400), (WRONG["Authorization"], 401)])
def test_who_publishes_needs_the_password(server, target, authorization,
                                          status):
    response = post(server, target, Authorization=authorization)
    assert response.status == status
    assert response.error()
    challenge = response.field("WWW-Authenticate")
    assert challenge.startswith("Basic ")


# --- names -------------------------------------------------------------------

LONG = ["x" * 1025, "é" * 512 + "x", "\0" * 1025]


@pytest.mark.parametrize("name", LONG, ids=ascii)
def test_a_name_has_at_most_1024_bytes(server, name):
    for response in (post(server, "/pub/" + quoted(name)),
                     post(server, "/pub/a", publisher=name),
                     publish_json(server, item("a", 1), publisher=name),
                     server.ask("GET", "/topics/" + quoted(name), ALICE),
                     server.ask("GET", "/topics",
                                {"Authorization": basic(name)}),
                     server.ask("GET", sub_target(name, "a")),
                     server.ask("GET", sub_target("a", "b", name))):
        assert response.status == 400
        assert response.error() == "A name has more than 1024 bytes"
    for value, says in (
            (item(name, 1), "`topic` has more than 1024 bytes"),
            ([item("a", 1), item(name, 1)],
             "item 2: `topic` has more than 1024 bytes")):
        response = publish_json(server, value)
        assert response.status == 422
        assert response.error() == says


@pytest.mark.parametrize("name", LONG, ids=ascii)
def test_a_name_in_a_message_has_at_most_1024_bytes(server, name):
    for publisher, topic in (("a", name), (name, "a")):
        raw = server.websocket()
        raw.send_json({"publisher": publisher, "topic": topic})
        raw.expect_close(1008)
        socket = session(server, "alice")
        for type in ("subscribe", "unsubscribe"):
            expect_error(socket.command(type, publisher=publisher, topic=topic),
                         "bad_command")
    expect_error(socket.command("publish", topic=name, data=1), "bad_command")
    # What a command has no use for may be anything.
    assert socket.command("ping", topic=name) == {"type": "pong"}


@pytest.mark.parametrize("name", ["é" * 512, "x" * 1024], ids=ascii)
def test_a_name_may_have_1024_bytes(server, name):
    subscriber = server.subscribe(name, name)
    assert post(server, "/pub/" + quoted(name), publisher=name).status == 200
    assert subscriber.receive() == "hello"


@pytest.mark.parametrize("name", [
    b"caf\xe9", b"\xff", b"\xc0\x80", b"\xed\xa0\x80"], ids=ascii)
def test_a_publisher_that_is_not_utf8_is_answered_400(server, name):
    """Python's requests sends what is in Latin-1."""
    authorization = basic(name)
    for response in (
            post(server, "/pub/a", publisher=name),
            publish_json(server, item("a", 1), publisher=name),
            server.ask("GET", "/topics", {"Authorization": authorization})):
        assert response.status == 400
        assert response.error() == "The username is not UTF-8"
    socket = server.websocket(open=False)
    socket.send(handshake(fields={"Sec-WebSocket-Protocol": "isimud.v1",
                                  "Authorization": authorization}))
    assert socket.response().status == 400
    ask_topics(server, "?all=true")  # which must be UTF-8
    # Without the password nobody is told more than that.
    wrong = basic(name, "wrong")
    assert server.ask("GET", "/topics", {"Authorization": wrong}).status == 401


def test_both_ways_of_publishing_meet_in_one_topic(server):
    subscriber = server.subscribe("alice", "both")
    assert receipt(post(server, "/pub/both", b"1"))[1] == 1
    server.publish("alice", "both", "2")
    assert [subscriber.receive(), subscriber.receive()] == ["1", "2"]


def test_others_who_come_during_the_content_do_not_become_its_publisher(start):
    server = start(WORKERS=1)
    of_alice = server.subscribe("alice", "slow")
    whole = plain_request("/pub/slow", b"of alice")
    others = [
        plain_request("/pub/slow", b"of bob", "bob"),
        plain_request("/pub/slow", b"x", Authorization=basic("bob", "wrong")),
        plain_request("/pub/slow", b"x", Authorization="Basic x"),
        request("GET", "/topics", {"Authorization": basic("bob")}),
        request("GET", "/metrics", {"Authorization": basic("bob")}),
        handshake(fields={"Authorization": basic("bob"),
                          "Sec-WebSocket-Protocol": "isimud.v1"})]
    client = server.http()
    for other in others:
        client.send(whole[:-3])
        one = server.http()
        one.send(other)
        one.head()
        one.close()
        client.send(whole[-3:])
        assert receipt(client.response())[1] == 1
        assert of_alice.receive() == "of alice"


# --- curl --------------------------------------------------------------------


def curl(server, path, *arguments):
    """What curl prints for what README says."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    result = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *arguments,
         f"http://{server.address[0]}:{server.address[1]}{path}"],
        capture_output=True, text=True, timeout=DEADLINE, check=True)
    body, _, status = result.stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_curl_publishes_json_as_the_readme_has_it(server):
    subscriber = server.subscribe("news", "sports")
    status, answer = curl(server, "/pub", "-u", f"news:{PASSWORD}", "--json",
                          '{"topic": "sports", "data": "1 : 0"}')
    assert (status, check_receipt(answer)[1]) == (200, 1)
    assert subscriber.receive() == "1 : 0"


def test_curl_publishes_text_as_the_readme_has_it(server):
    subscriber = server.subscribe("news", "sports")
    status, answer = curl(server, "/pub/sports", "-u", f"news:{PASSWORD}",
                          "-d", "1 : 0")
    assert (status, check_receipt(answer)[1]) == (200, 1)
    assert subscriber.receive() == "1 : 0"


def test_curl_publishes_a_file_of_any_size(server, tmp_path):
    subscriber = server.subscribe("news", "sports")
    text = "line ü\r\n" * 100000
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    status, answer = curl(server, "/pub/sports", "-u", f"news:{PASSWORD}",
                          "--data-binary", f"@{path}")
    assert (status, check_receipt(answer)[1]) == (200, 1)
    assert subscriber.receive() == text


def test_curl_is_told_what_is_wrong(server):
    status, answer = curl(server, "/pub/sports", "-u", "news:wrong", "-d", "x")
    assert (status, answer) == (401, {"error": "Wrong credentials"})


# --- receipts ----------------------------------------------------------------


@pytest.mark.parametrize("ttl", [60, 0])
def test_ids_of_a_topic_count_up_by_one(start, ttl):
    server = start(WORKERS=4, HISTORY_TTL=ttl)
    server.subscribe("alice", "counted")
    first = number(post(server, "/pub/counted"))
    publishers = [server.http() for _ in range(8)]
    for i in range(1, 100):
        client = publishers[i % 8]
        client.send(plain_request("/pub/counted"))
        assert receipt(client.response()) == (first + i, 1)


def test_an_id_is_the_one_that_subscribers_see(server):
    stream = server.event_stream(sub_target("alice", "seen"))
    answer = post(server, "/pub/seen").json()
    assert stream.event().id == answer["id"]


def test_all_ids_of_a_server_have_one_epoch_and_no_other_server_has_it(start):
    def epochs(server):
        return {post(server, f"/pub/t{i}").json()["id"].partition("-")[0]
                for i in range(20)}

    one, other = epochs(start()), epochs(start())
    assert len(one) == len(other) == 1
    assert one != other


def test_topics_are_numbered_each_by_itself(server):
    first = {topic: number(post(server, "/pub/" + topic))
             for topic in ("one", "two")}
    for i in range(1, 10):
        assert number(post(server, "/pub/one")) == first["one"] + i
    assert number(post(server, "/pub/two")) == first["two"] + 1
    assert number(post(server, "/pub/one", publisher="bob")) < (
        number(post(server, "/pub/one", publisher="bob")))
    assert number(post(server, "/pub/one")) == first["one"] + 10


def test_a_topic_without_subscribers_is_numbered_while_it_has_history(server):
    first = number(post(server, "/pub/lonely"))
    for i in range(1, 10):
        assert receipt(post(server, "/pub/lonely")) == (first + i, 0)
    server.subscribe("alice", "lonely")
    assert receipt(post(server, "/pub/lonely")) == (first + 10, 1)


def test_without_history_numbers_still_never_come_back(start):
    server = start(HISTORY_TTL=0)
    numbers = []
    for i in range(5):
        numbers += [number(post(server, "/pub/lonely")) for _ in range(3)]
        subscriber = server.subscribe("alice", "lonely")
        numbers += [number(post(server, "/pub/lonely")) for _ in range(3)]
        assert numbers[-1] == numbers[-2] + 1
        subscriber.close()
        server.wait_until(lambda: server.stats()["topics"] == 0, "it is gone")
    assert all(a < b for a, b in zip(numbers, numbers[1:]))


def test_subscribers_of_all_workers_are_counted(start):
    server = start(WORKERS=4)
    raw = [server.subscribe("alice", "counted") for _ in range(11)]
    streams = [server.event_stream(sub_target("alice", "counted", "other"))
               for _ in range(5)]
    session = server.websocket(subprotocols=["isimud.v1"])
    assert session.command("subscribe", publisher="alice",
                           topic="counted")["type"] == "subscribed"
    server.subscribe("bob", "counted")
    assert receipt(post(server, "/pub/counted"))[1] == 17
    assert receipt(post(server, "/pub/other"))[1] == 5
    for client in raw[:6] + streams[:2]:
        client.close()
    server.wait_until(lambda: receipt(post(server, "/pub/counted"))[1] == 9,
                      "those that left are not counted")
    assert receipt(post(server, "/pub/other"))[1] == 3


def test_each_publisher_at_once_gets_a_number_of_its_own(start):
    server = start(WORKERS=4)
    publishers = [server.http() for _ in range(8)]
    numbers = []
    for client in publishers:
        client.send(plain_request("/pub/contended") * 50)
    for client in publishers:
        own = [number(client.response()) for _ in range(50)]
        assert own == sorted(own)
        numbers += own
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 400))


# --- Idempotency-Key ---------------------------------------------------------


def replayed(response):
    """Whether a response of 200 is the answer to an earlier request."""
    assert response.status == 200, response.body
    value = response.field("Idempotency-Replayed")
    assert value in (None, "true")
    return value == "true"


def repeat(server, target="/pub/once", body=b"hello", key="k", **arguments):
    return post(server, target, body, Idempotency_Key=key, **arguments)


def test_a_repeated_request_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    client = server.http()
    answers = []
    for _ in range(5):
        client.send(plain_request("/pub/once", Idempotency_Key="repeated"))
        answers.append(client.response())
    assert [replayed(answer) for answer in answers] == [False] + 4 * [True]
    assert len({answer.body for answer in answers}) == 1
    assert {answer.field("Content-Type") for answer in answers} == {
        "application/json"}
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_a_repeat_is_known_on_every_worker(start):
    server = start(WORKERS=4)
    subscriber = server.subscribe("alice", "once")
    answers = [repeat(server) for _ in range(16)]
    assert [replayed(answer) for answer in answers] == [False] + 15 * [True]
    assert len({answer.body for answer in answers}) == 1
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_of_many_equal_requests_at_once_one_is_published(start):
    server = start(WORKERS=4)
    subscriber = server.subscribe("alice", "once")
    clients = [server.http() for _ in range(20)]
    for i in range(20):
        for client in clients:
            client.send(plain_request("/pub/once", b"%d" % i,
                                      Idempotency_Key=f"storm {i}"))
        answers = [client.response() for client in clients]
        assert [replayed(answer) for answer in answers].count(False) == 1
        assert len({answer.body for answer in answers}) == 1
        assert subscriber.receive() == str(i)
    server.publish("alice", "once", "after")
    assert subscriber.receive() == "after"


def test_a_repeat_of_json_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    first = publish_json(server, item("once", 1), Idempotency_Key="json")
    again = publish_json(server, item("once", 1), Idempotency_Key="json")
    assert (replayed(first), replayed(again)) == (False, True)
    assert first.body == again.body
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["1", "after"]


def test_a_repeat_of_a_batch_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    batch = [item("once", i) for i in range(10)]
    first = publish_json(server, batch, Idempotency_Key="batch")
    again = publish_json(server, batch, Idempotency_Key="batch")
    assert (replayed(first), replayed(again)) == (False, True)
    assert first.body == again.body and len(first.json()) == 10
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(11)] == [
        *map(str, range(10)), "after"]


def test_a_repeat_of_an_empty_batch_is_a_repeat(server):
    answers = [publish_json(server, [], Idempotency_Key="empty")
               for _ in range(2)]
    assert [replayed(answer) for answer in answers] == [False, True]
    assert answers[1].body == b"[]"


@pytest.mark.parametrize("other", [
    {"body": b"hallo"}, {"body": b""}, {"target": "/pub/another"},
    {"target": "/pub/once/"}, {"target": "/pub", "body": b"[]",
                               "Content_Type": "application/json"},
], ids=str)
def test_a_key_of_another_request_is_answered_422(server, other):
    key = f"another {other}".replace("'", "")
    subscriber = server.subscribe("alice", "once")
    assert not replayed(repeat(server, key=key))
    response = repeat(server, **{"key": key, **other})
    assert response.status == 422
    assert "Idempotency-Key" in response.error()
    assert response.field("Idempotency-Replayed") is None
    assert replayed(repeat(server, key=key))
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_a_key_means_nothing_to_another_publisher(server):
    answers = [repeat(server, key="mine", publisher=publisher)
               for publisher in ("alice", "bob", "alice", "bob", "")]
    assert [replayed(answer) for answer in answers] == [
        False, False, True, True, False]
    assert answers[0].body == answers[2].body
    assert answers[1].body == answers[3].body


def test_keys_are_told_apart_to_the_last_character(server):
    keys = ["a", "A", "a ,", "aa", '"a"', "x" * 254, "x" * 255, "x" * 253 + "y"]
    assert not any(replayed(repeat(server, key="apart" + key if len(key) < 9
                                   else key)) for key in keys)


def test_publisher_and_key_are_not_run_together(server):
    assert not replayed(repeat(server, key="b-run", publisher="run-a"))
    assert not replayed(repeat(server, key="a" + "b-run", publisher="run-"))


@pytest.mark.parametrize("key", [
    "", "x" * 256, "a\tb", "a\xe9", "\x80"], ids=ascii)
def test_a_malformed_key_is_answered_400(server, key):
    response = repeat(server, key=key)
    assert response.status == 400
    assert "Idempotency-Key" in response.error()


@pytest.mark.parametrize("key", ["a\x7fb", "a\x00b"], ids=ascii)
def test_a_key_that_is_no_field_value_is_answered_400(server, key):
    assert repeat(server, key=key).status == 400


def test_two_keys_are_answered_400(server):
    client = server.http()
    client.send(b"POST /pub/once HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
                b"Authorization: " + basic("alice").encode() +
                b"\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n")
    assert client.response().status == 400


def test_a_request_that_was_wrong_may_be_sent_right(server):
    for wrong in ({"body": b"\xff"}, {"target": "/pub/%zz"},
                  {"Content_Type": "a/b"}, {"Authorization": "Basic x"},
                  {"Authorization": WRONG["Authorization"]}):
        response = repeat(server, **{"key": "wrong", **wrong})
        assert response.status in (400, 401, 415)
    response = publish_json(server, [item("once", 1), {}],
                            Idempotency_Key="wrong")
    assert response.status == 422
    assert not replayed(repeat(server, key="wrong"))
    assert replayed(repeat(server, key="wrong"))


def test_a_request_that_found_no_room_may_come_again(start):
    # One worker: it does not look into its mailbox before all is published.
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe("alice", "full")
    wanted = plain_request("/pub/full", b"y" * 900, Idempotency_Key="full")
    client = server.http()
    client.send(plain_request("/pub/full", b"x" * 900) + wanted)
    assert [client.response().status for _ in range(2)] == [200, 503]
    answers = []
    for _ in range(2):
        client.send(wanted)
        answers.append(client.response())
    assert [replayed(answer) for answer in answers] == [False, True]
    assert [subscriber.receive()[0] for _ in range(2)] == ["x", "y"]


def test_a_batch_that_was_refused_is_published_once_by_a_retry(start):
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe("alice", "full")
    batch = [item("full", f"{i:0900}") for i in range(3)]
    again = batch_request(batch, **{"Idempotency-Key": "whole"})
    client = server.http()
    client.send(publish_request("alice", "full", "before") + again + again)
    assert [client.response().status for _ in range(3)] == [200, 503, 503]
    client.send(again)
    taken = client.response()
    assert [check_receipt(one) for one in taken.json()] == [
        (number + 2, 1) for number in range(3)]
    client.send(again)
    repeated = client.response()
    assert replayed(repeated) and repeated.body == taken.body
    assert subscriber.receive() == "before"
    assert [int(subscriber.receive()) for _ in range(3)] == [0, 1, 2]


def test_a_key_is_forgotten_after_its_time(start):
    server = start(IDEMPOTENCY_TTL=0.3)
    subscriber = server.subscribe("alice", "once")
    assert not replayed(repeat(server))
    # Repeats do not make it live longer, or this would have no end.
    server.wait_until(lambda: not replayed(repeat(server)), "it is forgotten")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "hello"]


def test_a_forgotten_key_may_be_used_for_another_request(start):
    server = start(IDEMPOTENCY_TTL=0.3)
    assert not replayed(repeat(server))
    server.wait_until(
        lambda: repeat(server, body=b"another").status == 200,
        "it is forgotten")


def test_nothing_is_left_of_keys_after_their_time(start):
    server = start(IDEMPOTENCY_TTL=0.2, ADMIN_PORT=0)
    for i in range(100):
        assert not replayed(repeat(server, key=f"{i}"))
    server.wait_until(
        lambda: server.metrics()["isimud_idempotency_keys"] == 0,
        "all are forgotten")
    assert server.metrics()["isimud_idempotency_bytes"] == 0


def test_no_more_keys_are_kept_than_there_is_room_for(start):
    server = start(IDEMPOTENCY_BYTES="64K", ADMIN_PORT=0)
    client = server.http()
    for i in range(0, 2000, 50):
        client.send(b"".join(
            plain_request("/pub/once", Idempotency_Key=f"{j}")
            for j in range(i, i + 50)))
        assert not any(replayed(client.response()) for _ in range(50))
        assert server.metrics()["isimud_idempotency_bytes"] <= 64 << 10
    assert 100 < server.metrics()["isimud_idempotency_keys"] < 1000
    assert replayed(repeat(server, key="1999"))
    assert not replayed(repeat(server, key="0"))


def test_an_answer_that_is_larger_than_all_the_room_is_not_kept(start):
    server = start(IDEMPOTENCY_BYTES="4K", ADMIN_PORT=0)
    batch = [item("once", i) for i in range(500)]
    for _ in range(2):
        assert not replayed(publish_json(server, batch, Idempotency_Key="k"))
    assert server.metrics()["isimud_idempotency_keys"] == 0


@pytest.mark.parametrize("setting", ["IDEMPOTENCY_TTL", "IDEMPOTENCY_BYTES"])
def test_without_time_or_room_every_request_is_published(start, setting):
    server = start(**{setting: 0})
    subscriber = server.subscribe("alice", "once")
    for i in range(3):
        assert not replayed(repeat(server, body=b"%d" % i))
    assert [subscriber.receive() for _ in range(3)] == ["0", "1", "2"]
    assert repeat(server, key="").status == 400


# --- GET /topics -------------------------------------------------------------


def ask_topics(server, query="", publisher="alice"):
    response = server.ask("GET", "/topics" + query,
                          {"Authorization": basic(publisher)})
    assert response.status == 200, response.body
    page = response.json()
    assert list(page) == ["topics", "next"]
    for topic in page["topics"]:
        assert list(topic) == ["publisher", "topic", "subscribers", "id",
                               "history"]
        assert ID.fullmatch(topic["id"])
    return page["topics"], page["next"]


def all_topics(server, limit, publisher="alice", **parameters):
    """What all pages have, as (publisher, topic)."""
    found, after = [], None
    while True:
        query = urllib.parse.urlencode({
            "limit": limit, **parameters, **({"after": after} if after else {})})
        topics, after = ask_topics(server, "?" + query, publisher)
        assert len(topics) <= limit
        found += [(topic["publisher"], topic["topic"]) for topic in topics]
        if after is None:
            return found


def test_there_are_no_topics_at_the_start(start):
    assert ask_topics(start()) == ([], None)


def test_a_topic_is_told_with_its_numbers(start):
    server = start(HISTORY_SIZE=5)
    subscribers = [server.subscribe("alice", "told") for _ in range(3)]
    answers = [post(server, "/pub/told").json() for _ in range(7)]
    assert ask_topics(server) == ([{
        "publisher": "alice", "topic": "told", "subscribers": 3,
        "id": answers[-1]["id"], "history": 5}], None)
    subscribers[0].close()
    server.wait_until(
        lambda: ask_topics(server)[0][0]["subscribers"] == 2, "one left")


def test_a_topic_that_was_only_subscribed_is_told(start):
    server = start()
    server.subscribe("alice", "quiet")
    [topic], _ = ask_topics(server)
    assert (topic["topic"], topic["subscribers"], topic["history"]) == (
        "quiet", 1, 0)
    before = int(topic["id"].partition("-")[2])
    assert number(post(server, "/pub/quiet")) == before + 1


def test_without_history_topics_last_as_long_as_subscribers(start):
    server = start(HISTORY_SIZE=0)
    post(server, "/pub/a")
    assert ask_topics(server) == ([], None)
    subscriber = server.subscribe("alice", "a")
    [topic], _ = ask_topics(server)
    assert (topic["subscribers"], topic["history"]) == (1, 0)
    subscriber.close()
    server.wait_until(lambda: ask_topics(server) == ([], None), "it is gone")


def test_messages_that_are_too_old_are_not_counted(start):
    server = start(HISTORY_TTL=0.3)
    server.subscribe("alice", "told")
    post(server, "/pub/told")
    server.wait_until(lambda: ask_topics(server)[0][0]["history"] == 0,
                      "it is too old")
    assert ask_topics(server)[0][0]["subscribers"] == 1


def test_topics_of_other_publishers_are_shown_only_if_all_are(start):
    server = start()
    for publisher in ("alice", "bob", "", "a"):
        post(server, "/pub/one", publisher=publisher)
    assert all_topics(server, 100) == [("alice", "one")]
    assert all_topics(server, 1, publisher="") == [("", "one")]
    assert all_topics(server, 1, publisher="Alice") == []
    assert all_topics(server, 1, all="false") == [("alice", "one")]
    assert sorted(all_topics(server, 1, all="true")) == [
        ("", "one"), ("a", "one"), ("alice", "one"), ("bob", "one")]


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_every_topic_is_told_once_whatever_the_limit(start, limit):
    server = start()
    names = [f"topic {i}" for i in range(150)]
    publish_json(server, [item(name, 1) for name in names])
    publish_json(server, [item(name, 1) for name in names], "bob")
    found = all_topics(server, limit)
    assert sorted(found) == sorted(("alice", name) for name in names)
    assert len(all_topics(server, limit, all="true")) == 300


def test_a_page_has_100_topics_if_no_limit_is_given(start):
    server = start()
    publish_json(server, [item(f"topic {i}", 1) for i in range(101)])
    topics, after = ask_topics(server)
    assert len(topics) == 100 and after is not None
    topics, after = ask_topics(server, f"?after={after}")
    assert len(topics) == 1 and after is None


def test_topics_of_names_of_all_kinds_are_told(start):
    server = start()
    names = {"", " ", "a/b", "\0", '"\\\n', "Ünï🦀", "\u2028", "x" * 1024}
    publish_json(server, [item(name, 1) for name in names])
    assert {name for _, name in all_topics(server, 3)} == names


def test_a_few_topics_are_found_among_many_of_others(start):
    server = start()
    for i in range(0, 20000 // SCALE, 4000):
        publish_json(server, [item(f"other {i + j}", 1) for j in range(4000)],
                     "bob")
    names = [f"topic {i}" for i in range(5)]
    publish_json(server, [item(name, 1) for name in names])
    assert sorted(all_topics(server, 10)) == sorted(
        ("alice", name) for name in names)
    assert server.stats()["topics"] > 4000


def test_a_page_of_long_names_has_fewer_topics(start):
    server = start()
    names = {f"{i} " + "\1" * 1000 for i in range(500)} | {"short"}
    for name in names:
        receipt(publish_json(server, item(name, 1)))
    topics, after = ask_topics(server, "?limit=1000")
    assert len(topics) <= 200 and after is not None
    found = all_topics(server, 1000)
    assert sorted(found) == sorted(("alice", name) for name in names)


def test_paging_tells_what_stays_once_while_others_come_and_go(start):
    """Tables grow and shrink: a large message takes the history of all others
    that have no subscriber."""
    server = start(WORKERS=4, HISTORY_BYTES="1M", MAX_SUBSCRIPTIONS=1024)
    stable = {f"stable {i}" for i in range(300)}
    session = server.websocket(subprotocols=["isimud.v1"])
    for topic in stable:
        assert session.command("subscribe", publisher="alice",
                               topic=topic)["type"] == "subscribed"
    rounds = {"alice": 0, "bob": 0}
    done = threading.Event()

    def come_and_go(publisher):
        client = server.http()
        many = json.dumps([item(f"{publisher} {j}", 1) for j in range(1500)])
        while not done.is_set():
            response = client.publish(publisher, body=many.encode())
            if response.status == 503:  # a worker is too far behind
                continue
            assert len(response.json()) == 1500
            assert client.publish(publisher, "large",
                                  "x" * 900000).status == 200
            server.event_stream(sub_target(
                publisher, *(f"short {j}" for j in range(50)))).close()
            rounds[publisher] += 1

    going = in_threads(*(lambda name=name: come_and_go(name)
                         for name in rounds))
    traversals = 0
    while min(rounds.values()) < 20 // SCALE or traversals < 2 + 8 // SCALE:
        assert all(thread.is_alive() for thread in going[0]), going[1]
        found = all_topics(server, [20, 300][traversals % 2],
                           **({"all": "true"} if traversals % 3 else {}))
        assert len(found) == len(set(found))
        assert {topic for publisher, topic in found
                if publisher == "alice"} >= stable
        traversals += 1
    done.set()
    join(going)


@pytest.mark.parametrize("query", [
    "limit=0", "limit=1001", "limit=-1", "limit=1.5", "limit=", "limit", "limit=x",
    "limit=00001", "limit=%31", "limit=99999999999999999999", "after=",
    "after=x", "after=1-1", "after=0x1", "after=00000000000000000",
    "limit=1&limit=0"])
def test_a_wrong_query_is_answered_400(server, query):
    response = server.ask("GET", "/topics?" + query, ALICE)
    assert response.status == 400
    assert query.partition("=")[0].strip() in response.error()


@pytest.mark.parametrize("query", [
    "?", "?x=1", "?limit=1", "?limit=1000", "?all", "?all=", "?all=1",
    "?after=0", "?after=ffffffffffffffff&limit=5", "?&&all=true&"])
def test_other_queries_are_answered(server, query):
    post(server, "/pub/asked", publisher="asker")
    topics, _ = ask_topics(server, query, "asker")
    if "after=f" not in query and "all=true" not in query:
        assert [topic["topic"] for topic in topics] == ["asked"]


@pytest.mark.parametrize("topic", [
    "a", " ", "a/b", "a//", "/", "..", "a\0b", "Ünï", "🦀", "%", "%41", "a+b",
    "a?b", "\"\\\n", "x" * 1024], ids=lambda topic: ascii(topic)[:20])
def test_one_topic_is_told_by_its_name(server, topic):
    answer = post(server, "/pub/" + quoted(topic)).json()
    response = server.ask("GET", "/topics/" + quoted(topic), ALICE)
    assert response.status == 200
    assert response.field("Cache-Control") == "no-store"
    assert response.json() == {
        "publisher": "alice", "topic": topic, "subscribers": 0,
        "id": answer["id"], "history": response.json()["history"]}
    assert response.json()["history"] >= 1


def test_one_topic_is_of_the_publisher_who_asks(server):
    post(server, "/pub/mine")
    assert server.ask("GET", "/topics/mine", ALICE).status == 200
    response = server.ask("GET", "/topics/mine",
                          {"Authorization": basic("bob")})
    assert response.status == 404
    assert response.error()


@pytest.mark.parametrize("target, status", [
    ("/topics/nope", 404), ("/topics/", 404), ("/topic", 404),
    ("/topics/%", 400), ("/topics/%zz", 400), ("/topics/%ff", 400)])
def test_no_topic_is_told(server, target, status):
    response = server.ask("GET", target, ALICE)
    assert response.status == status
    assert response.error()


@pytest.mark.parametrize("target", ["/topics", "/topics/a", "/topics?all=true"])
def test_who_asks_for_topics_needs_the_password(server, target):
    post(server, "/pub/a")
    for fields in ({}, WRONG, {"Authorization": "Bearer a"}):
        response = server.ask("GET", target, fields)
        assert response.status == 401
        assert response.field("WWW-Authenticate").startswith("Basic ")


@pytest.mark.parametrize("target", ["/topics", "/topics/head"])
def test_head_is_answered_as_get_without_content(server, target):
    post(server, "/pub/head", publisher="headed")
    fields = {"Authorization": basic("headed")}
    client = server.http()
    got = client.ask("GET", target, fields)
    client.send(request("HEAD", target, fields)
                + request("GET", target, fields))
    head = client.response("HEAD")
    assert head.status == 200
    assert head.field("Content-Length") == str(len(got.body))
    assert head.field("Content-Type") == "application/json"
    assert client.response().body == got.body


@pytest.mark.parametrize("target", ["/topics", "/topics/a"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_topics_are_only_looked_at(server, method, target):
    response = server.ask(method, target, ALICE)
    assert response.status == 405
    assert response.field("Allow") == "GET, HEAD, OPTIONS"
