"""POST /pub and POST /pub/TOPIC: data, batches, plain bodies, names."""
import json
import shutil
import subprocess
import time

import pytest

from client import (DEADLINE, PASSWORD, TEXT, basic, chunked, handshake,
                    publish_request, request, sub_target)
from publishing import (ALICE, WRONG, ask_topics, batch_request, check_receipt,
                        item, number, plain_request, post, publish_json,
                        quoted, receipt)
from session import expect_error, session, told
from threads import in_threads, join

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
