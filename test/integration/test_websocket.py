"""WebSocket on the wire: RFC 6455, sections 4 to 8."""
import time

import pytest

from client import (BINARY, CLOSE, CONTINUATION, DEADLINE, NO_STATUS, PING,
                    PONG, SCALE, TEXT, close_frame, frame, handshake, request,
                    subscription)

NEWS = subscription("alice", "news")
LIMIT = 65536  # bytes of a client's message


# --- the opening handshake ---------------------------------------------------


def knock(server, **kwargs):
    """The response to an opening handshake with some fields changed."""
    client = server.http()
    client.send(handshake(**kwargs))
    return client.response()


def test_the_accept_value_is_that_of_the_rfc(server):
    response = knock(server)
    assert response.status == 101
    assert response.field("Sec-WebSocket-Accept") == (
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  # RFC 6455 1.3


@pytest.mark.parametrize("fields", [
    {"Connection": "upgrade"}, {"Connection": "keep-alive, Upgrade"},
    {"Connection": "Upgrade,keep-alive"}, {"Connection": " ,, Upgrade ,"},
    {"Upgrade": "WebSocket"}, {"Upgrade": "h2c, websocket"},
    {"Origin": "https://example.com"}, {"Sec-WebSocket-Protocol": "chat"},
    {"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context="
     "takeover"}], ids=repr)
def test_a_handshake_may_be_written_in_many_ways(server, fields):
    client = server.websocket(open=False)
    client.send(handshake(fields=fields))
    client.check_opened(client.response())


@pytest.mark.parametrize("fields", [
    {"Upgrade": None}, {"Upgrade": "h2c"}, {"Upgrade": "websockets"}],
    ids=repr)
def test_without_an_upgrade_the_answer_is_426(server, fields):
    response = knock(server, fields=fields)
    assert response.status == 426
    assert response.field("Upgrade").lower() == "websocket"
    assert response.error()


def test_a_plain_get_is_answered_426(server):
    response = server.ask("GET", "/sub")
    assert response.status == 426
    assert response.field("Upgrade").lower() == "websocket"


@pytest.mark.parametrize("fields", [
    {"Connection": None}, {"Connection": "keep-alive"},
    {"Connection": "Upgraded"}], ids=repr)
def test_an_upgrade_that_connection_does_not_name_is_refused(server, fields):
    assert knock(server, fields=fields).status in (400, 426)


@pytest.mark.parametrize("version", [None, "", "8", "12", "14", "13, 8", "x"],
                         ids=str)
def test_another_version_is_answered_426_with_ours(server, version):
    response = knock(server, fields={"Sec-WebSocket-Version": version})
    assert response.status == 426
    assert response.field("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize("key", [
    None, "", "short", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=",
    "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZSE=",
    "dGhlIHNhbXBsZSBub24=", "!GhlIHNhbXBsZSBub25jZQ==",
    "dGhlIHNhbXBsZSBub25j ZQ=="], ids=str)
def test_a_bad_key_is_answered_400(server, key):
    response = knock(server, fields={"Sec-WebSocket-Key": key})
    assert response.status == 400
    assert response.error()


def test_two_keys_are_answered_400(server):
    client = server.http()
    client.send(handshake().replace(
        b"Sec-WebSocket-Version",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version"))
    assert client.response().status == 400


def test_http_1_0_is_not_upgraded(server):
    assert knock(server, version="1.0").status in (400, 426)


def test_post_is_not_upgraded(server):
    response = knock(server, method="POST")
    assert response.status == 405


def test_a_handshake_may_follow_other_requests(server):
    client = server.websocket(open=False)
    client.send(request("GET", "/") + handshake())
    assert client.response().status == 303
    client.check_opened(client.response())


def test_frames_in_one_segment_with_the_handshake_are_read(server):
    client = server.websocket(open=False)
    client.send(handshake() + frame(TEXT, NEWS) + frame(PING, b"1"))
    client.check_opened(client.response())
    client.expect_pong(b"1")
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


# --- frames ------------------------------------------------------------------


def test_frames_may_come_byte_by_byte(server):
    client = server.websocket(open=False)
    client.send_bytewise(handshake() + frame(PING, b"1") + frame(TEXT, NEWS)
                         + frame(PING, b"2"))
    client.check_opened(client.response())
    client.expect_pong(b"1")
    client.expect_pong(b"2")
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


def fragments(payload, size, opcode=TEXT):
    parts = [payload[i:i + size] for i in range(0, len(payload), size)]
    return [frame(opcode if i == 0 else CONTINUATION, part,
                  fin=i == len(parts) - 1) for i, part in enumerate(parts)]


def expect_subscribed(server, client):
    client.send_frame(PING, b"subscribed?")
    client.expect_pong(b"subscribed?")
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


@pytest.mark.parametrize("size", [1, 2, 10, 25])
def test_a_message_may_be_fragmented(server, size):
    client = server.websocket()
    client.send(b"".join(fragments(NEWS, size)))
    expect_subscribed(server, client)


def test_fragments_may_split_a_character(server):
    client = server.websocket()
    text = '{"publisher":"ü","topic":"🦀"}'.encode()
    client.send(b"".join(fragments(text, 1)))
    client.send_frame(PING)
    client.expect_pong(b"")
    server.publish("ü", "🦀", "hello")
    assert client.receive() == "hello"


def test_fragments_may_be_empty(server):
    client = server.websocket()
    client.send(frame(TEXT, b"", fin=False) + frame(CONTINUATION, fin=False)
                + frame(CONTINUATION, NEWS, fin=False) + frame(CONTINUATION))
    expect_subscribed(server, client)


def test_pings_inside_a_fragmented_message_are_answered_at_once(server):
    client = server.websocket()
    for i, part in enumerate(fragments(NEWS, 5)):
        client.send(part + frame(PING, b"%d" % i))
        client.expect_pong(b"%d" % i)
    expect_subscribed(server, client)


@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_a_pong_has_the_payload_of_its_ping(server, size):
    client = server.websocket()
    payload = bytes(range(256))[-size:] if size else b""
    client.send_frame(PING, payload)
    client.expect_pong(payload)


def test_a_pong_nobody_asked_for_is_ignored(server):
    client = server.websocket()
    client.send(frame(PONG) + frame(PONG, b"x" * 125))
    client.send_frame(TEXT, NEWS)
    expect_subscribed(server, client)


BROKEN = {
    "unmasked": frame(TEXT, NEWS, masked=False),
    "unmasked ping": frame(PING, masked=False),
    "reserved bit 1": frame(TEXT, NEWS, rsv=4),
    "reserved bit 2": frame(TEXT, NEWS, rsv=2),
    "reserved bit 3": frame(TEXT, NEWS, rsv=1),
    "reserved bit of a ping": frame(PING, rsv=4),
    **{f"reserved opcode {code}": frame(code, b"x")
       for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented close": frame(CLOSE, b"", fin=False),
    "long ping": frame(PING, b"x" * 126),
    "long close": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "long pong": frame(PONG, b"x" * 65536),
    "2-byte length of 125": frame(TEXT, b" " * 125, length_bytes=2),
    "2-byte length of 0": frame(TEXT, b"", length_bytes=2),
    "8-byte length of 65535": frame(TEXT, b" " * 65535, length_bytes=8),
    "8-byte length of 5": frame(TEXT, b"hello", length_bytes=8),
    "length of 2^63": frame(TEXT, length=1 << 63),
    "length of 2^64 - 1": frame(BINARY, length=(1 << 64) - 1),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "unfinished continuation of nothing": frame(CONTINUATION, b"x", fin=False),
    "text inside text": frame(TEXT, b"x", fin=False) + frame(TEXT, NEWS),
    "binary inside text": frame(TEXT, b"x", fin=False) + frame(BINARY, b"x"),
    "close of one byte": frame(CLOSE, b"\x03"),
    **{f"close with {code}": close_frame(code) for code in (
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_protocol_error_is_closed_with_1002(server, name):
    client = server.websocket()
    client.send_while_open(BROKEN[name])
    client.expect_close(1002)


@pytest.mark.parametrize("name", ["unmasked", "long ping", "close of one byte",
                                  "continuation of nothing"])
def test_a_protocol_error_of_a_subscriber_is_closed_with_1002(server, name):
    client = server.subscribe()
    client.send_while_open(BROKEN[name])
    client.expect_close(1002)
    server.publish("alice", "news", "to nobody")


# --- UTF-8 -------------------------------------------------------------------

NOT_UTF8 = [
    b"\xff", b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80", b"\xf5", b"\xc3(", b"\xe2\x82(", b"a\xfe"]


@pytest.mark.parametrize("text", NOT_UTF8 + [b"\xc3", b"\xe2\x82",
                                             b"\xf0\x9f\xa6"], ids=repr)
def test_text_that_is_not_utf8_is_closed_with_1007(server, text):
    client = server.websocket()
    client.send_frame(TEXT, text)
    client.expect_close(1007)


@pytest.mark.parametrize("text", NOT_UTF8, ids=repr)
def test_text_fails_at_the_fragment_that_is_not_utf8(server, text):
    client = server.websocket()
    client.send_frame(TEXT, text, fin=False)
    client.expect_close(1007)


@pytest.mark.parametrize("text", NOT_UTF8, ids=repr)
def test_text_fails_inside_the_frame_that_is_not_utf8(server, text):
    client = server.websocket()
    client.send_frame(TEXT, text, length=1000)
    client.expect_close(1007)


def test_a_character_may_not_be_cut_by_the_end_of_a_message(server):
    client = server.websocket()
    client.send_frame(TEXT, b'{"\xf0\x9f', fin=False)
    client.send_frame(CONTINUATION, b"\xa6")
    client.expect_close(1007)


# --- closing -----------------------------------------------------------------


@pytest.mark.parametrize("code", [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000,
    4999])
def test_a_close_is_answered_with_its_code(server, code):
    client = server.websocket()
    client.send_close(code, "tschüß".encode())
    client.expect_close(code)


def test_a_close_without_a_code_is_answered_without_a_code(server):
    client = server.websocket()
    client.close_sent = True
    client.send_frame(CLOSE)
    client.expect_close(NO_STATUS)


def test_a_close_reason_may_be_123_bytes(server):
    client = server.websocket()
    client.send_close(1000, b"x" * 123)
    client.expect_close(1000)


@pytest.mark.parametrize("reason", NOT_UTF8, ids=repr)
def test_a_close_reason_that_is_not_utf8_is_closed_with_1007(server, reason):
    client = server.websocket()
    client.send(close_frame(1000, reason))
    client.expect_close(1007)


def test_the_server_closes_the_connection_after_the_close(server):
    client = server.websocket()
    client.send_close(1000)
    opcode, _ = client.read_frame()
    assert opcode == CLOSE
    assert client.read_to_end() == b""


def test_nothing_is_read_after_a_close(server):
    client = server.subscribe()
    client.close_sent = True
    client.send(close_frame(1000) + frame(PING, b"late") + b"\xff" * 100)
    client.expect_close(1000)
    assert client.pongs == []


def test_a_close_inside_a_fragmented_message_ends_it(server):
    client = server.websocket()
    client.send_frame(TEXT, b'{"publ', fin=False)
    client.send_close(1000)
    client.expect_close(1000)


def test_no_message_follows_a_close(server):
    client = server.subscribe()
    client.send_frame(BINARY, b"x")
    opcode, _ = client.read_frame()
    assert opcode == CLOSE
    server.publish("alice", "news", "too late")
    client.send_close(1000)
    assert client.read_to_end() == b""


def test_a_peer_that_does_not_answer_close_is_dropped(start):
    server = start(CLOSE_TIMEOUT=0.3)
    client = server.websocket()
    begin = time.monotonic()
    client.send_frame(BINARY, b"x")
    opcode, _ = client.read_frame()
    assert opcode == CLOSE
    client.wait_until_ended()
    assert time.monotonic() - begin >= 0.28


def test_a_peer_that_vanishes_is_forgotten(start):
    server = start()
    for leave in ("close", "abort") * 10:
        getattr(server.subscribe(), leave)()
    server.wait_until_empty()
    server.publish("alice", "news", "to nobody")


def test_a_half_closed_subscriber_is_ended(server):
    client = server.subscribe()
    client.half_close()
    client.wait_until_ended()


# --- limits ------------------------------------------------------------------


def test_a_message_of_64_kib_is_taken(server):
    client = server.websocket()
    client.send_frame(TEXT, NEWS + b" " * (LIMIT - len(NEWS)))
    expect_subscribed(server, client)


def test_a_fragmented_message_of_64_kib_is_taken(server):
    client = server.websocket()
    text = NEWS + b" " * (LIMIT - len(NEWS))
    client.send(b"".join(fragments(text, 1000)))
    expect_subscribed(server, client)


def test_a_larger_message_is_closed_with_1009(server):
    client = server.websocket()
    client.send_while_open(frame(TEXT, NEWS + b" " * (LIMIT + 1 - len(NEWS))))
    client.expect_close(1009)


@pytest.mark.parametrize("length", [LIMIT + 1, 1 << 31, 1 << 40, (1 << 63) - 1])
def test_a_larger_length_is_closed_with_1009_before_the_message(server,
                                                                length):
    client = server.websocket()
    client.send_frame(TEXT, b"x", length=length)
    client.expect_close(1009)


def test_fragments_over_the_limit_are_closed_with_1009(server):
    client = server.websocket()
    client.send(frame(TEXT, b" " * 40000, fin=False))
    client.send_while_open(frame(CONTINUATION, b" " * 40000, fin=False))
    client.expect_close(1009)


def test_claimed_lengths_cost_no_memory(start):
    server = start()
    before = server.rss_bytes()
    for _ in range(500):
        server.websocket().send_frame(TEXT, b"x", length=LIMIT)
    server.wait_until(lambda: server.total("websocket") == 500, "500 open")
    if SCALE == 1:  # a sanitizer's own memory says nothing
        assert server.rss_bytes() - before < 500 * 20000


def test_a_ping_flood_of_a_client_that_never_reads_ends_it(start):
    server = start(WRITE_TIMEOUT=1, CLOSE_TIMEOUT=1, MAX_BUFFERED="64K")
    client = server.websocket(rcvbuf=4096)
    other = server.subscribe()
    before = server.rss_bytes()
    pings = frame(PING, b"x" * 125) * 1000
    end = time.monotonic() + 2 * DEADLINE
    with pytest.raises(ConnectionError):
        while time.monotonic() < end:
            client.send(pings)
    if SCALE == 1:
        assert server.rss_bytes() - before < 16 << 20
    server.publish("alice", "news", "hello")
    assert other.receive() == "hello"


def test_a_ping_flood_of_a_client_that_reads_is_answered(server):
    client = server.websocket()
    for i in range(100):
        client.send(b"".join(frame(PING, b"%d.%d" % (i, j))
                             for j in range(20)))
        for j in range(20):
            client.expect_pong(b"%d.%d" % (i, j))


# --- keep-alive --------------------------------------------------------------


def test_a_subscriber_that_answers_pings_stays(start):
    server = start(PING_INTERVAL=0.1 * SCALE)
    client = server.subscribe()
    for _ in range(5):
        client.expect_ping()
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


def test_a_subscriber_that_does_not_answer_pings_is_ended(start):
    server = start(PING_INTERVAL=0.2, CLOSE_TIMEOUT=0.2)
    client = server.subscribe()
    client.answers_pings = False
    begin = time.monotonic()
    client.read_to_close()
    assert time.monotonic() - begin >= 0.35
    assert client.pings >= 1


def test_a_message_that_never_ends_is_closed_with_1008(start):
    server = start(PING_INTERVAL=0.2, CLOSE_TIMEOUT=1)
    client = server.websocket()
    client.send_frame(TEXT, b"{", fin=False)  # pings are answered all the while
    client.expect_close(1008)
    server.wait_for_stat("closed_message_timeout")


def test_the_server_drops_the_connection_once_both_have_sent_close(start):
    server = start(CLOSE_TIMEOUT=3600)
    client = server.websocket()
    client.send_close(1000)
    client.expect_close(1000)
    server.wait_until_empty()  # though our side stays open (RFC 6455 7.1.1)


# --- stopping ----------------------------------------------------------------


def test_a_stopping_server_closes_subscribers_with_1001(start):
    server = start()
    clients = [server.subscribe() for _ in range(20)]
    clients.append(server.websocket())
    server.terminate()
    for client in clients:
        client.expect_close(1001)
    assert server.wait() == 0


def test_a_stopping_server_does_not_wait_for_ever(start):
    server = start(CLOSE_TIMEOUT=0.3, HEADER_TIMEOUT=1, BODY_TIMEOUT=1)
    server.subscribe()
    server.http().send(b"POST /pub HTTP/1.1\r\n")
    server.websocket().send_frame(TEXT, b"{", fin=False)
    server.terminate()
    assert server.wait() == 0


def test_published_messages_come_before_the_close_of_a_stopping_server(start):
    server = start(WORKERS=4)
    subscribers = [server.subscribe() for _ in range(8)]
    texts = [str(i) for i in range(200)]
    server.http().publish_all("alice", "news", texts)
    server.terminate()
    for subscriber in subscribers:
        messages, closed = subscriber.read_all()
        assert closed.code == 1001
        assert messages == texts
