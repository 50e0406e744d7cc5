"""isimud.v1: publishing, and data of every kind."""
import json
import signal

import pytest

from client import TEXT, basic, frame, sub_target
from session import (ASYNCAPI, SUBPROTOCOL, ask, expect_error, fresh, id_of,
                     number_of, say, session, subscribe, told)

# --- publishing --------------------------------------------------------------


def test_published_is_the_receipt(server):
    topic = fresh("receipt")
    socket = session(server, "alice")
    first = ask(socket, "publish", topic=topic, data="x", ref=1)
    assert first["subscribers"] == 0
    readers = [session(server) for _ in range(2)]
    followers = [subscribe(reader, topic=topic) for reader in readers]
    raw = server.subscribe("alice", topic)
    stream = server.event_stream(sub_target("alice", topic))
    second = ask(socket, "publish", topic=topic, data="y", ref=2)
    assert second == {"type": "published", "ref": 2, "subscribers": 4,
                      "id": id_of(first["id"], number_of(first["id"]) + 1)}
    for reader, follower in zip(readers, followers):
        follower.read_to(reader, number_of(second["id"]))
    assert raw.receive() == "y"
    assert stream.event().id == second["id"]


def test_a_publisher_publishes_as_itself(server):
    topic = fresh("whose")
    reader = session(server)
    followers = {name: subscribe(reader, name, topic)
                 for name in ("alice", "bob", "", "é:\0")}
    for name in ("bob", "alice", ""):
        assert ask(session(server, name), "publish", topic=topic,
                   data=name)["subscribers"] == 1
        value = told(reader)
        assert value["data"] == name
        followers[name].take(value)


def test_a_wrong_password_is_told_by_close(server):
    """A page does not see the status of a handshake."""
    socket = server.websocket(open=False)
    socket.open(subprotocols=[SUBPROTOCOL],
                fields={"Authorization": basic("alice", "wrong")})
    socket.send(frame(TEXT, b'{"type":"publish","topic":"a","data":1}'))
    published = server.stats()["published"]
    assert socket.expect_close(4401) == "Wrong credentials"
    assert server.stats()["published"] == published


@pytest.mark.parametrize("authorization", [
    None, "Basic", "Basic !", "Basic YWxpY2U=", "Bearer token", "x"])
def test_without_credentials_publishing_is_forbidden(server, authorization):
    topic = fresh("forbidden")
    reader = session(server)
    follower = subscribe(reader, "", topic)
    socket = session(server, fields={"Authorization": authorization})
    expect_error(ask(socket, "publish", topic=topic, data=1, ref=1),
                 "forbidden", ref=1)
    assert ask(socket, "subscribe", publisher="alice",
               topic=topic)["type"] == "subscribed"
    assert ask(session(server, ""), "publish", topic=topic,
               data=2)["subscribers"] == 1
    follower.take(told(reader))
    assert follower.data == [2]


def test_credentials_of_a_page_whose_origin_is_not_named_do_not_count(start):
    for origins, origin, may in (
            ("*", None, True), ("*", "https://example.com", False),
            ("*", "http://localhost", True),
            ("https://example.com", "https://example.com", True)):
        server = start(ALLOWED_ORIGINS=origins)
        socket = session(server, "alice", fields={"Origin": origin})
        answer = ask(socket, "publish", topic="a", data=1)
        assert (answer["type"] == "published") == may, (origins, origin)
        if not may:
            expect_error(answer, "forbidden")


def test_credentials_end_when_the_password_changes(start, tmp_path):
    path = tmp_path / "password"
    path.write_bytes(b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)

    def reload():
        mark = len(server.lines)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_line("(?i)password", after=mark)

    def with_password(password):
        return session(server, fields={
            "Authorization": basic("alice", password)})

    old = with_password("old")
    subscribe(old, topic="a")
    reload()  # and nothing has changed
    assert ask(old, "publish", topic="b", data=1)["type"] == "published"
    path.write_bytes(b"new\n")
    reload()
    for _ in range(2):
        expect_error(ask(old, "publish", topic="a", data=1), "forbidden")
    new = with_password("new")
    assert ask(new, "publish", topic="a", data=2)["subscribers"] == 1
    assert told(old)["data"] == 2  # what it subscribed to goes on
    path.unlink()
    reload()  # which fails, so that all stays
    assert ask(new, "publish", topic="a", data=3)["type"] == "published"
    expect_error(ask(new, "publish", topic="a"), "bad_command")


def test_a_publisher_may_have_a_token_too(start, authority):
    server = start(AUTH_URL=authority.url)
    socket = server.websocket(subprotocols=[SUBPROTOCOL, "bearer.mine"],
                              fields={"Authorization": basic("alice")})
    assert authority.next_asked()[2]["authorization"] == ["Bearer mine"]
    follower = subscribe(socket)
    assert ask(socket, "publish", topic="news", data=1)["subscribers"] == 1
    follower.take(told(socket))


def test_a_publisher_gets_its_own_message_once(server):
    topic = fresh("own")
    socket = session(server, "alice")
    follower = subscribe(socket, topic=topic)
    for i in range(50):
        socket.send_json({"type": "publish", "topic": topic, "data": i,
                          "ref": i})
    receipts = []
    while len(receipts) < 50 or len(follower.data) < 50:
        value = told(socket)
        if value["type"] == "message":
            follower.take(value)
        else:
            assert value == {"type": "published", "ref": len(receipts),
                             "id": id_of(value["id"], number_of(value["id"])),
                             "subscribers": 1}
            receipts.append(number_of(value["id"]))
    assert follower.data == list(range(50))
    assert receipts == list(range(follower.last - 49, follower.last + 1))
    assert ask(socket, "ping") == {"type": "pong"}


def test_an_empty_publisher_may_publish_too(server):
    assert ask(session(server, ""), "publish", topic="x",
               data=1)["type"] == "published"


# --- data --------------------------------------------------------------------

# What is sent, and what comes: as it was written, but for space.
VALUES = [
    ("null", "null"), ("true", "true"), ("false", "false"), ("0", "0"),
    ("-0", "-0"), ("1.50", "1.50"), ("1E+400", "1E+400"),
    ("12345678901234567890123456789", "12345678901234567890123456789"),
    ("0.1000000000000000055511151231257827",
     "0.1000000000000000055511151231257827"), ('""', '""'), ('"x"', '"x"'),
    ("[]", "[]"), ("{}", "{}"), (' [ 1 , [ null ] ] ', "[1,[null]]"),
    ('{ "b" : 1 , "a" : { "" : [ ] } }', '{"b":1,"a":{"":[]}}'),
    ('{"a": 1, "a": 2}', '{"a":1,"a":2}'),
    ('["\\u0041\\/\\u0000"]', '["\\u0041\\/\\u0000"]'),
]


def data_of(message):
    """The text of a message's data."""
    at = message.index(',"data":') + len(',"data":')
    assert message[-1] == "}"
    return message[at:-1]


@pytest.mark.parametrize("sent, expected", VALUES)
def test_data_is_of_the_type_that_was_published(server, sent, expected):
    topic = fresh("data")
    socket, reader = session(server, "alice"), session(server)
    raw = server.subscribe("alice", topic)
    subscribe(reader, topic=topic)
    assert json.loads(say(socket, f'{{"data":{sent},"type":"publish",'
                          f'"topic":{json.dumps(topic)}}}'))["subscribers"] == 2
    body = f'{{"topic":{json.dumps(topic)},"data":{sent}}}'.encode()
    assert server.http().publish(body=body).status == 200
    for _ in range(2):
        message = reader.receive()
        ASYNCAPI.check_server_message("v1", json.loads(message))
        assert data_of(message) == expected
        assert raw.receive() == (json.loads(expected) if sent[0] == '"'
                                 else expected)


TEXTS = ["", "\0", "a\0b\0", "é\u20ac\U0001f600", "\u2028\u2029", "\r\n\t\x7f",
         '"\\', "\ufeff", "\ufffe\uffff", "".join(map(chr, range(256))),
         "x" * 60000, "\0" * 10000]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:20])
@pytest.mark.parametrize("ascii", [True, False])
def test_a_string_arrives_whole(server, text, ascii):
    topic = fresh("text")
    socket, reader = session(server, "alice"), session(server)
    raw = server.subscribe("alice", topic)
    subscribe(reader, topic=topic)
    socket.send_text(json.dumps({"type": "publish", "topic": topic,
                                 "data": text}, ensure_ascii=ascii))
    assert told(socket)["subscribers"] == 2
    assert told(reader)["data"] == text
    assert raw.receive() == text


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\udc00\\ud800",
                                    "\\ud800x", "\\ud800\\u0041"])
def test_half_a_character_is_refused(server, escape):
    topic = fresh("surrogates")
    socket, reader = session(server, "alice"), session(server)
    follower = subscribe(reader, topic=topic)
    for data in (f'"{escape}"', f'["a{escape}"]', f'{{"{escape}":1}}'):
        text = say(socket, f'{{"type":"publish","topic":"{topic}",'
                   f'"data":{data}}}')
        expect_error(json.loads(text), "bad_json")
    assert ask(socket, "publish", topic=topic, data=1)["subscribers"] == 1
    follower.take(told(reader))
