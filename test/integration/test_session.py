"""The subprotocol isimud.v1: each sentence of README about commands and their
answers, and each row of its table. test_session_*.py have the rest."""
import glob
import json

import pytest

from client import (BINARY, CONTINUATION, PING, TEXT, close_frame, frame,
                    handshake)
from session import (ASYNCAPI, NEWS, SUBPROTOCOL, ask, expect_error, fresh,
                     say, session, subscribe, told)

# --- the handshake -----------------------------------------------------------


@pytest.mark.parametrize("offer", [
    ["isimud.v1"], ["chat", "isimud.v1"], ["isimud.v1", "bearer.token"],
    ["bearer.token", "isimud.v1"]])
def test_the_subprotocol_is_chosen_wherever_it_is_offered(server, offer):
    socket = server.websocket(subprotocols=offer)
    assert socket.subprotocol == SUBPROTOCOL
    assert socket.command("ping") == {"type": "pong"}


@pytest.mark.parametrize("offer", [[], ["chat"], ["isimud.v2"],
                                   ["isimud.v10"], ["isimud"],
                                   ["ISIMUD.V1"]])
def test_without_it_the_protocol_is_the_raw_one(server, offer):
    topic = fresh("raw")
    socket = server.websocket(subprotocols=offer)
    assert socket.subprotocol is None
    socket.subscribe("alice", topic)
    server.publish("alice", topic, "x")
    assert socket.receive() == "x"


def test_commands_may_come_with_the_handshake(server):
    socket = server.websocket(open=False)
    socket.send(handshake(fields={"Sec-WebSocket-Protocol": SUBPROTOCOL})
                + frame(TEXT, b'{"type": "ping", "ref": 1}')
                + frame(TEXT, b'{"type": "ping", "ref": 2}'))
    socket.check_opened(socket.response(), offered=[SUBPROTOCOL])
    assert [told(socket)["ref"] for _ in range(2)] == [1, 2]


# --- each command, with and without a ref ------------------------------------

# As they are written, and so repeated.
REFS = [None, '1', '0', '-0', '1.50', '-2.5e+10', '1e400', '9' * 128, '"a"',
        '""', '"\\u0041\\u0000"', '"é\\"\\\\\\/"', '"' + 126 * 'x' + '"',
        '"' + 21 * '\\u2028' + '"']


def with_ref(type, ref, **members):
    """The text of a command whose `ref` is JSON text."""
    text = json.dumps({"type": type, **members})
    return text if ref is None else text[:-1] + f', "ref": {ref}}}'


def check_ref(text, ref):
    """An answer has the ref as it was written; it is returned without it."""
    value = json.loads(text)
    ASYNCAPI.check_server_message("v1", value)
    assert ("ref" in value) == (ref is not None)
    if ref is not None:
        assert f',"ref":{ref},' in text or f',"ref":{ref}}}' in text
        del value["ref"]
    return value


@pytest.mark.parametrize("ref", REFS)
def test_each_answer_repeats_the_ref(server, ref):
    socket = session(server, "alice")
    key = {"publisher": "bob", "topic": fresh("refs")}
    own = {"publisher": "alice", "topic": key["topic"]}

    def answer_to(type, **members):
        return check_ref(say(socket, with_ref(type, ref, **members)), ref)

    assert answer_to("ping") == {"type": "pong"}
    subscribed = answer_to("subscribe", **key)
    assert subscribed == {"type": "subscribed", **key, "id": subscribed["id"]}
    published = answer_to("publish", topic=key["topic"], data=1)
    assert published == {"type": "published", "id": published["id"],
                         "subscribers": 0}
    resumed = answer_to("subscribe", **own, since=published["id"])
    assert resumed == {"type": "subscribed", **own, "id": published["id"],
                       "resumed": True}
    assert answer_to("unsubscribe", **key) == {"type": "unsubscribed", **key}
    expect_error(answer_to("unsubscribe", **key), "not_subscribed")
    expect_error(answer_to("nonsense"), "unknown_type")
    expect_error(answer_to("subscribe", publisher="bob"), "bad_command")


@pytest.mark.parametrize("ref", [
    'null', 'true', 'false', '[]', '[1]', '{}', '{"a": 1}',
    129 * '1', '"' + 127 * 'x' + '"', '"' + 64 * 'é' + '"', '"' + 22 * '\\u2028' + '"'])
def test_a_ref_that_cannot_be_is_not_repeated(server, ref):
    socket = session(server, "alice")
    for type, members in (("ping", {}), ("subscribe", NEWS),
                          ("unsubscribe", NEWS),
                          ("publish", {"topic": "news", "data": 1})):
        answer = json.loads(say(socket, with_ref(type, ref, **members)))
        expect_error(answer, "bad_command")
    assert ask(socket, "ping", ref=1) == {"type": "pong", "ref": 1}
    expect_error(ask(socket, "unsubscribe", **NEWS), "not_subscribed")


def test_members_that_are_not_named_are_ignored(server):
    socket = session(server, "alice")
    more = {"more": 1, "Type": "x", "REF": [], "": None}
    topic = fresh("members")
    key = {"publisher": "alice", "topic": topic}
    assert ask(socket, "ping", ref=1, **more, data=1, topic=2, since=[],
               slow=None, publisher={}) == {"type": "pong", "ref": 1}
    assert ask(socket, "subscribe", **key, **more, data=[],
               id=7)["type"] == "subscribed"
    assert ask(socket, "unsubscribe", **key, **more, since=1, slow="x",
               data=0) == {"type": "unsubscribed", **key}
    # Above all, nobody publishes in another's name.
    assert ask(socket, "publish", topic=topic, data=1, **more,
               publisher="bob", since=1)["type"] == "published"
    subscribe(socket, "alice", topic)
    subscribe(socket, "bob", topic)
    assert ask(socket, "publish", topic=topic, data=1,
               publisher="bob")["subscribers"] == 1
    assert told(socket)["publisher"] == "alice"


def test_answers_come_in_the_order_of_the_commands(server):
    socket = session(server, "alice")
    topic = fresh("order")
    key = {"publisher": "bob", "topic": topic}
    commands = [("ping", {}), ("subscribe", key), ("nonsense", {}),
                ("publish", {"topic": topic, "data": 1}), ("unsubscribe", key),
                ("unsubscribe", key), ("subscribe", {}), ("ping", {})]
    for ref, (type, members) in enumerate(commands * 20):
        socket.send_json({"type": type, "ref": ref, **members})
    expected = ["pong", "subscribed", "unknown_type", "published",
                "unsubscribed", "not_subscribed", "bad_command", "pong"]
    for ref, kind in enumerate(expected * 20):
        value = told(socket)
        assert (value["ref"], value.get("code", value["type"])) == (ref, kind)


# --- what is no command ------------------------------------------------------


@pytest.mark.parametrize("text", [
    "", " ", "{", "}", "nul", "ping", "'x'", '{"type": "ping"', '{"type":}',
    '{"type": "ping",}', '{"type": "ping"} x', '{"type": "ping"}{}',
    '{type: "ping"}', '{"type": "ping" "ref": 1}', '\ufeff{"type": "ping"}',
    '{"type": "ping", "x": 01}', '{"type": "ping", "x": NaN}',
    '{"type": "ping", "x": "\t"}', '{"type": "ping\\u0000", "x": "\\x"}',
    '{"type": "ping", "ref": "\\ud800"}',
    '{"type": "publish", "topic": "a", "data": "\\udc00\\ud800"}',
    '{"type": "publish", "topic": "a", "data": [1, 2}', "\0",
])
def test_what_is_not_json_is_answered_and_the_connection_stays(server, text):
    socket = session(server, "alice")
    expect_error(json.loads(say(socket, text)), "bad_json")
    assert ask(socket, "ping", ref=1) == {"type": "pong", "ref": 1}


@pytest.mark.parametrize("text", [
    "null", "true", "1", '"ping"', "[]", '[{"type": "ping"}]', "{}",
    '{"Type": "ping"}', '{"type": null}', '{"type": 1}', '{"type": ["ping"]}',
    '{"type": "ping", "type": "ping"}', '{"type": "subscribe"}',
    '{"type": "subscribe", "publisher": "a"}',
    '{"type": "subscribe", "topic": "a"}',
    '{"type": "subscribe", "publisher": 1, "topic": "a"}',
    '{"type": "subscribe", "publisher": "a", "topic": null}',
    '{"type": "subscribe", "publisher": "a", "topic": "b", "slow": "wait"}',
    '{"type": "subscribe", "publisher": "a", "topic": "b", "slow": ""}',
    '{"type": "subscribe", "publisher": "a", "topic": "b", "slow": true}',
    '{"type": "subscribe", "publisher": "a", "topic": "b", "since": 1}',
    '{"type": "subscribe", "publisher": "a", "topic": "b", "since": null}',
    '{"type": "unsubscribe"}', '{"type": "unsubscribe", "publisher": "a"}',
    '{"type": "unsubscribe", "publisher": "a", "topic": {}}',
    '{"type": "publish"}', '{"type": "publish", "topic": "a"}',
    '{"type": "publish", "data": "a"}',
    '{"type": "publish", "topic": 1, "data": "a"}',
])
def test_what_is_not_a_command_is_answered_and_the_connection_stays(server,
                                                                    text):
    socket = session(server, "alice")
    expect_error(json.loads(say(socket, text)), "bad_command")
    assert ask(socket, "ping", ref=1) == {"type": "pong", "ref": 1}


@pytest.mark.parametrize("type", ["", "PING", "ping ", "message", "pong",
                                  "subscribed", "error", "ping\0", "é"])
def test_an_unknown_type_is_answered_and_the_connection_stays(server, type):
    socket = session(server)
    expect_error(ask(socket, type, ref="a"), "unknown_type", ref="a")
    assert ask(socket, "ping", ref=1) == {"type": "pong", "ref": 1}


def test_what_it_had_of_an_invalid_command_changes_nothing(server):
    socket = session(server)
    expect_error(ask(socket, "subscribe", **NEWS, slow="no"), "bad_command")
    expect_error(ask(socket, "subscribe", **NEWS, since="no"), "bad_command")
    expect_error(ask(socket, "unsubscribe", **NEWS), "not_subscribed")


# --- frames ------------------------------------------------------------------


def padded(size):
    """A ping command of as many bytes."""
    text = '{"type":"ping","ref":1,"pad":""}'
    return text.replace('""', '"' + (size - len(text)) * "x" + '"').encode()


def test_a_message_of_64_kib_is_a_command(server):
    socket = session(server)
    socket.send_frame(TEXT, padded(65536))
    assert told(socket) == {"type": "pong", "ref": 1}


def test_a_longer_message_is_closed_with_1009(server):
    socket = session(server)
    socket.send(frame(TEXT, padded(65537)))
    socket.expect_close(1009)
    socket = session(server)
    socket.send(frame(TEXT, padded(65536), fin=False)
                + frame(CONTINUATION, b" "))
    socket.expect_close(1009)


def test_the_largest_publication_arrives_whole(server):
    topic = fresh("large")
    socket, reader = session(server, "alice"), session(server)
    subscribe(reader, topic=topic)
    start = f'{{"type":"publish","topic":"{topic}","data":"'
    data = (65536 - len(start) - 2) * "x"
    assert json.loads(say(socket, start + data + '"}'))["subscribers"] == 1
    assert told(reader)["data"] == data


def test_a_binary_message_is_closed_with_1003_and_ends_its_subscriptions(
        server):
    topic = fresh("binary")
    socket = session(server)
    subscribe(socket, topic=topic)
    socket.send_frame(BINARY, b'{"type": "ping"}')
    socket.expect_close(1003)
    assert server.http().publish("alice", topic).json()["subscribers"] == 0


def test_what_is_not_utf8_is_closed_with_1007(server):
    socket = session(server)
    socket.send_frame(TEXT, b'{"type": "\xff"}')
    socket.expect_close(1007)


def test_commands_before_an_error_are_answered_and_those_behind_are_not(
        server):
    socket = session(server)
    ping = frame(TEXT, b'{"type": "ping"}')
    socket.send(ping * 3 + frame(BINARY, b"x") + ping * 3)
    messages, closed = socket.read_all()
    assert [json.loads(m) for m in messages] == 3 * [{"type": "pong"}]
    assert closed.code == 1003


def test_a_close_is_answered_behind_the_answers(server):
    socket = session(server)
    socket.close_sent = True
    socket.send(frame(TEXT, b'{"type": "ping"}') * 3 + close_frame(4000))
    messages, closed = socket.read_all()
    assert len(messages) == 3 and closed.code == 4000


def test_a_command_may_come_in_fragments(server):
    socket = session(server)
    text = json.dumps({"type": "ping", "ref": "é\u20ac"},
                      ensure_ascii=False).encode()
    for size in (1, 2, 3, 7):
        parts = [text[i:i + size] for i in range(0, len(text), size)]
        stream = b""
        for i, part in enumerate(parts):
            stream += frame(CONTINUATION if i else TEXT, part,
                            fin=i == len(parts) - 1)
            stream += frame(PING, b"%d" % i)  # between the fragments
        socket.pongs.clear()
        socket.send(stream)
        assert told(socket) == {"type": "pong", "ref": "é\u20ac"}
        assert ask(socket, "ping") == {"type": "pong"}
        assert socket.pongs == [b"%d" % i for i in range(len(parts))]


def test_commands_may_come_byte_by_byte(server):
    topic = fresh("bytes")
    socket = session(server, "alice")
    commands = [{"type": "subscribe", "publisher": "alice", "topic": topic},
                {"type": "publish", "topic": topic, "data": "x"},
                {"type": "nonsense"}]
    for command in commands:
        socket.send_bytewise(frame(TEXT, json.dumps(command).encode()))
    values = [told(socket) for _ in range(4)]
    assert sorted(value["type"] for value in values) == [
        "error", "message", "published", "subscribed"]


def test_a_hundred_commands_in_one_segment_are_answered_each(server):
    topic = fresh("segment")
    socket = session(server, "alice")
    commands = []
    for ref in range(25):
        name = f"{topic} {ref}"
        commands += [
            {"type": "subscribe", "publisher": "alice", "topic": name},
            {"type": "publish", "topic": name, "data": ref},
            {"type": "ping"}, {"type": "ping", "ref": []}]
    for ref, command in enumerate(commands):
        command.setdefault("ref", ref)
    socket.send(b"".join(frame(TEXT, json.dumps(command).encode())
                         for command in commands))
    answers, messages = [], []
    while len(answers) < 100 or len(messages) < 25:
        value = told(socket)
        (messages if value["type"] == "message" else answers).append(value)
    assert [a["type"] for a in answers] == 25 * [
        "subscribed", "published", "pong", "error"]
    assert [a.get("ref") for a in answers] == [
        ref if ref % 4 < 3 else None for ref in range(100)]
    assert [m["data"] for m in messages] == list(range(25))


@pytest.mark.parametrize("subprotocols", [[], [SUBPROTOCOL]])
def test_a_burst_is_answered_where_little_may_wait(start, subprotocols):
    """The answers are more than MAX_BUFFERED, but they are read."""
    server = start(MAX_BUFFERED="1K")
    socket = server.websocket(subprotocols=subprotocols)
    payloads = [b"%0120d" % i for i in range(100)]
    socket.send(b"".join(frame(PING, payload) for payload in payloads))
    for payload in payloads:
        socket.expect_pong(payload)
    if subprotocols:
        socket.send(b"".join(frame(TEXT, b'{"type": "ping", "ref": %d}' % i)
                             for i in range(500)))
        assert [told(socket)["ref"] for _ in range(500)] == list(range(500))


def test_every_command_is_counted_and_every_error(start):
    server = start()
    socket = session(server)
    for _ in range(3):
        ask(socket, "ping")
    for text in ("x", "{}", '{"type": "x"}', '{"type": "subscribe"}'):
        say(socket, text)
    ask(socket, "publish", topic="a", data=1)
    metrics = server.metrics()
    assert metrics["isimud_commands_total"] == 8
    assert metrics["isimud_command_errors_total"] == 5


def test_no_code_is_documented_that_is_not_tested():
    tests = ""
    for path in [*glob.glob(__file__.replace(".py", "*.py")),
                 __file__.replace("test_session", "test_cluster")]:
        with open(path, encoding="utf-8") as file:
            tests += file.read()
    for code in ASYNCAPI.error_codes():
        assert f'"{code}"' in tests, code
