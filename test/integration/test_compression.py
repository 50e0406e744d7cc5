"""permessage-deflate (RFC 7692) and event streams in gzip: what is agreed, that
what is compressed is what was published, and that nobody pays for others."""
import json
import random
import zlib

import pytest

from client import (BINARY, CLOSE, CONTINUATION, PING, PONG, SCALE, TEXT,
                    deflate, frame, handshake, request, sub_target)

DEFLATE = "permessage-deflate; client_max_window_bits"
GZIP = {"Accept-Encoding": "gzip"}
SMALL = "permessage-deflate; server_max_window_bits=9"


def json_of(length, seed=1):
    """Data like an application's, of about so many bytes."""
    choose = random.Random(seed)
    return [{"id": choose.randrange(10**6),
             "user": "user-%d" % choose.randrange(1000),
             "price": choose.random(),
             "type": choose.choice(["trade", "quote"])}
            for _ in range(1 + length // 75)]


def subscribed(server, topic="news", **kwargs):
    return server.subscribe("alice", topic, **kwargs)


# --- the handshake -----------------------------------------------------------


@pytest.mark.parametrize("offer,answer", [
    ("permessage-deflate", ""),
    (DEFLATE, ""),
    ("permessage-deflate; client_max_window_bits=10", ""),
    ("permessage-deflate; server_max_window_bits=10", "10"),
    ('permessage-deflate; server_max_window_bits="15"', "15"),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ""),
    ("x-webkit-deflate-frame, permessage-deflate; unknown", None),
    ("permessage-deflate; server_max_window_bits=8", None),
    ("", None),
])
def test_an_offer_is_answered(server, offer, answer):
    socket = server.websocket(extensions=offer)
    if answer is None:
        assert socket.extension is None
    else:
        assert socket.extension.partition("bits=")[2] == answer
    socket.subscribe("alice", "offers")
    server.publish("alice", "offers", "x" * 1000)
    assert socket.receive() == "x" * 1000
    assert socket.was_compressed == (answer is not None)


def test_offers_may_stand_in_several_lines(server):
    client = server.http()
    client.send(handshake().removesuffix(b"\r\n") + b"".join(
        b"Sec-WebSocket-Extensions: %b\r\n" % offer
        for offer in (b"mux", b"permessage-deflate; unknown",
                      b"permessage-deflate")) + b"\r\n")
    assert client.head().field("Sec-WebSocket-Extensions").startswith(
        "permessage-deflate;")


def test_what_is_no_list_of_extensions_is_400(server):
    fields = {"Sec-WebSocket-Extensions": "permessage-deflate; =1"}
    client = server.http()
    client.send(handshake(fields=fields))
    answer = client.response()
    assert answer.status == 400
    assert "Sec-WebSocket-Extensions" in answer.error()


def test_it_can_be_turned_off(start):
    server = start(COMPRESS_MIN=0)
    socket = server.websocket(extensions="; nonsense")
    assert socket.extension is None
    stream = server.event_stream(fields=GZIP)
    assert stream.inflater is None
    socket.subscribe("alice", "news")
    server.publish("alice", "news", "x" * 1000)
    assert socket.receive() == stream.event().data == "x" * 1000
    socket.send_frame(TEXT, deflate(b"hello"), rsv=4)
    socket.expect_close(1002)
    assert server.metrics()["isimud_deflated_total"] == 0


# --- what is sent ------------------------------------------------------------


def test_what_is_compressed_is_what_was_published(server):
    """To each kind of client, in the same order; other kinds get it plain."""
    sockets = [subscribed(server, "kinds", extensions=offer)
               for offer in (DEFLATE, SMALL, None)]
    v1 = [server.websocket(subprotocols=["isimud.v1"], extensions=offer)
          for offer in (DEFLATE, SMALL, None)]
    for socket in v1:
        socket.command("subscribe", publisher="alice", topic="kinds")
    streams = [server.event_stream(sub_target("alice", "kinds", **how),
                                   fields=fields)
               for how in ({}, {"envelope": "true"})
               for fields in (GZIP, None)]
    published = ["", "short", "ä" * 200, "a\nb\r\n" * 300, json_of(300),
                 json_of(5000), "y" * 30_000, json_of(100_000),
                 json_of(300_000)]
    for data in published:
        server.publish("alice", "kinds", data)
    for data in published:
        text = data if isinstance(data, str) else json.dumps(
            data, separators=(",", ":"))
        for socket in sockets:
            got = socket.receive()
            assert got == text if isinstance(data, str) else (
                json.loads(got) == data)
        for socket in v1:
            assert socket.receive_json()["data"] == data
        for stream in streams:
            got = stream.event().data
            if "envelope" in stream.target:
                assert json.loads(got)["data"] == data
            elif isinstance(data, str):
                assert got == "\n".join(data.replace("\r\n", "\n")
                                       .split("\n"))
            else:
                assert json.loads(got) == data


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257])
def test_messages_under_compress_min_are_not_compressed(server, length):
    socket = subscribed(server, "min", extensions=DEFLATE)
    server.publish("alice", "min", "x" * length)
    assert socket.receive() == "x" * length
    assert socket.was_compressed == (length >= 256)


def test_compress_min_and_level_are_settings(start):
    server = start(COMPRESS_MIN=10, COMPRESS_LEVEL=9)
    socket = subscribed(server, extensions=DEFLATE)
    for length in (9, 10, 100):
        server.publish("alice", "news", "x" * length)
        assert socket.receive() == "x" * length
        assert socket.was_compressed == (length >= 10)


def test_what_does_not_get_shorter_is_not_compressed(server):
    socket = subscribed(server, "noise", extensions=DEFLATE)
    noise = "".join(random.Random(1).choices(
        [chr(c) for c in range(0x10000, 0x10ffff)], k=5000))
    server.publish("alice", "noise", noise)
    assert socket.receive() == noise
    assert socket.wire_bytes <= len(noise.encode())


def test_a_message_is_compressed_once_for_all(start):
    """By two workers, for many subscribers, and for who comes back."""
    server = start(WORKERS=2)
    sockets = [subscribed(server, extensions=DEFLATE) for _ in range(8)]
    before = server.metrics()
    for i in range(20):
        server.publish("alice", "news", json_of(1000, i))
    for socket in sockets:
        for i in range(20):
            assert json.loads(socket.receive()) == json_of(1000, i)
            assert socket.was_compressed
    late = server.websocket(target=sub_target("alice", "news", last=20),
                            extensions=DEFLATE)
    for i in range(20):
        assert json.loads(late.receive()) == json_of(1000, i)
        assert late.was_compressed
    after = server.metrics()
    assert after["isimud_deflated_total"] - before[
        "isimud_deflated_total"] == 20
    sent = after['isimud_deflate_bytes_total{direction="out"}']
    assert 0 < sent < after['isimud_deflate_bytes_total{direction="in"}'] / 2


def test_a_window_that_the_client_asks_for_is_kept_to(server):
    """client.py inflates with no larger one."""
    for bits in range(9, 16):
        socket = subscribed(
            server, "window", extensions="permessage-deflate; "
            f"server_max_window_bits={bits}")
        assert socket.wbits == bits
        data = json_of(20_000, bits)
        server.publish("alice", "window", data)
        assert json.loads(socket.receive()) == data
        assert socket.was_compressed


def test_history_of_long_messages_is_sent_compressed_in_turns(start):
    server = start(WORKERS=1)
    data = [json_of(200_000, i) for i in range(10)]
    for one in data:
        server.publish("alice", "news", one)
    sockets = [server.websocket(target=sub_target("alice", "news", last=10),
                                extensions=offer)
               for offer in (DEFLATE, SMALL)]
    for socket in sockets:
        for one in data:
            assert json.loads(socket.receive()) == one
            assert socket.was_compressed


def test_drops_are_told_and_the_rest_is_compressed(start):
    server = start(MAX_BUFFERED="64K")
    socket = server.websocket(subprotocols=["isimud.v1"], extensions=DEFLATE,
                              rcvbuf=4096)
    socket.command("subscribe", publisher="alice", topic="news", slow="drop")
    noise = random.Random(2)
    count = 0
    while not server.stats()["dropped"]:
        assert count < 3000
        for _ in range(20):
            server.publish("alice", "news", [count, "%x" % noise.getrandbits(
                80_000)])
            count += 1
    expected = 0
    while expected < count:
        message = socket.receive_json()
        if message["type"] == "gap":
            first, last = (int(message[end].partition("-")[2])
                           for end in ("from", "to"))
            assert first == expected + 1
            expected = last
        else:
            assert socket.was_compressed
            assert message["data"][0] == expected
            expected += 1


# --- what is received --------------------------------------------------------


def v1(server, **kwargs):
    return server.websocket(subprotocols=["isimud.v1"], extensions=DEFLATE,
                            **kwargs)


def ping_command(ref, padding=0):
    return json.dumps({"type": "ping", "ref": ref,
                       "pad": "x" * padding}).encode()


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("wbits", [9, 15])
@pytest.mark.parametrize("padding", [0, 100, 60_000])
def test_a_compressed_command_is_read(server, level, wbits, padding):
    socket = v1(server)
    for ref in range(3):
        socket.send_frame(TEXT, deflate(ping_command(ref, padding), level,
                                        wbits), rsv=4)
        assert socket.receive_json() == {"type": "pong", "ref": ref}
    socket.send_frame(TEXT, ping_command(9))  # it need not be
    assert socket.receive_json()["ref"] == 9


def test_a_compressed_message_may_be_fragmented_anywhere(server):
    socket = v1(server)
    payload = deflate(ping_command(1, 50))
    for cut in range(len(payload) + 1):
        socket.send_frame(TEXT, payload[:cut], fin=False, rsv=4)
        socket.send_frame(PING, b"between")
        socket.send_frame(CONTINUATION, payload[cut:])
        socket.expect_pong(b"between")
        assert socket.receive_json()["type"] == "pong"


def test_a_last_block_is_no_end(server):
    socket = v1(server)
    for ref in range(2):
        socket.send_frame(TEXT, deflate(ping_command(ref),
                                        flush=zlib.Z_FINISH) + b"\0", rsv=4)
        assert socket.receive_json()["ref"] == ref


def test_connections_of_a_worker_share_an_inflater(start):
    server = start(WORKERS=1)
    sockets = [v1(server) for _ in range(20)]
    payloads = [deflate(ping_command(i, 1000 + i)) for i in range(20)]
    for i, socket in enumerate(sockets):
        socket.send_frame(TEXT, payloads[i][:10], fin=False, rsv=4)
    for i, socket in enumerate(sockets):
        socket.send_frame(CONTINUATION, payloads[i][10:])
    for i, socket in enumerate(sockets):
        assert socket.receive_json()["ref"] == i


def test_a_raw_client_may_compress_its_subscription(server):
    socket = server.websocket(extensions=DEFLATE)
    socket.send_frame(TEXT, deflate(
        b'{"publisher": "alice", "topic": "raw"}'), rsv=4)
    socket.send_frame(PING, b"barrier")
    socket.expect_pong(b"barrier")
    server.publish("alice", "raw", "hello")
    assert socket.receive() == "hello"


@pytest.mark.parametrize("frames,code", [
    ([(PING, b"", {"rsv": 4})], 1002),
    ([(PONG, b"", {"rsv": 4})], 1002),
    ([(CLOSE, b"\x03\xe8", {"rsv": 4})], 1002),
    ([(TEXT, b"\0", {"rsv": 2})], 1002),
    ([(TEXT, b"\0", {"rsv": 6})], 1002),
    ([(TEXT, b"\0", {"rsv": 4, "fin": False}),
      (CONTINUATION, b"\0", {"rsv": 4})], 1002),
    ([(TEXT, b"a", {"fin": False}),
      (CONTINUATION, b"\0", {"rsv": 4})], 1002),
    ([(TEXT, b"nonsense", {"rsv": 4})], 1007),
    ([(TEXT, deflate(b"truncated" * 20)[:-5], {"rsv": 4})], 1007),
    ([(TEXT, deflate(b"\xff\xfe"), {"rsv": 4})], 1007),
    ([(BINARY, deflate(b"x"), {"rsv": 4})], 1003),
    ([(TEXT, deflate(b" " * 65537), {"rsv": 4})], 1009),
    ([(TEXT, deflate(bytes(64 << 20), 9), {"rsv": 4})], 1009),
])
def test_what_is_wrong_is_closed(server, frames, code):
    socket = v1(server)
    for opcode, payload, how in frames:
        socket.send_while_open(frame(opcode, payload, **how))
    assert socket.read_to_close() == code


def test_bombs_cost_no_memory(start):
    server = start(WORKERS=1)
    bomb = deflate(bytes(50 << 20), 9)  # 50 MB in 50 KB
    v1(server).close()
    before = server.rss_bytes()
    for _ in range(30):
        socket = v1(server)
        socket.send_while_open(frame(TEXT, bomb, rsv=4))
        assert socket.read_to_close() == 1009
    if SCALE == 1:
        assert server.rss_bytes() - before < 4 << 20
    assert server.stats()["closed_too_big"] == 30


# --- event streams -----------------------------------------------------------


@pytest.mark.parametrize("accepted,is_gzip", [
    ("gzip", True),
    ("gzip, deflate, br, zstd", True),
    ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
    ("*", True),
    ("identity;q=0, gzip;q=0.1", True),
    ("identity", False),
    ("identity, gzip;q=0.5", False),
    ("gzip;q=0", False),
    ("br, zstd", False),
    ("", False),
    (None, False),
])
def test_a_stream_is_gzip_where_that_is_accepted(server, accepted, is_gzip):
    stream = server.event_stream(sub_target("alice", "gzip"),
                                 fields={"Accept-Encoding": accepted})
    assert (stream.inflater is not None) == is_gzip
    stream.expect_id()
    server.publish("alice", "gzip", "x" * 1000)
    assert stream.event().data == "x" * 1000
    assert (stream.wire_bytes < 300) == is_gzip


def test_http_1_0_gets_no_gzip(server):
    client = server.http()
    client.send(request("GET", sub_target("alice", "old"), {
        "Accept": "text/event-stream", **GZIP}, version="1.0"))
    assert client.head().field("Content-Encoding") is None
    assert client.read_until(b"\n").startswith(b"retry: ")


def test_head_tells_of_gzip_and_ends(server):
    client = server.http()
    client.send(request("HEAD", sub_target("alice", "news"), {
        "Accept": "text/event-stream", **GZIP}))
    head = client.head()
    assert head.field("Content-Encoding") == "gzip"
    assert client.read_to_end() == b""


def test_a_gzip_stream_shows_life_and_ends(start):
    server = start(PING_INTERVAL=0.2, DRAIN_SECONDS=0)
    stream = server.event_stream(fields=GZIP)
    stream.expect_id()
    assert stream.retry_ms
    stream.expect_comment()
    server.publish("alice", "news", "z" * 500)
    assert stream.event().data == "z" * 500
    server.terminate()
    stream.expect_end(1001)


def test_a_gzip_stream_of_several_topics_has_its_own_ids(server):
    """The rest of each event is shared with who has another id."""
    topics = ["several-a", "several-b"]
    both = server.event_stream(sub_target("alice", *topics), fields=GZIP)
    turned = server.event_stream(sub_target("alice", *topics[::-1]),
                                 fields=GZIP)
    plain = server.event_stream(sub_target("alice", *topics))
    before = server.metrics()["isimud_deflated_total"]
    for i in range(6):
        server.publish("alice", topics[i % 2], json_of(2000, i))
        event = both.event()
        assert event == plain.event()
        other = turned.event()
        assert json.loads(event.data) == json.loads(other.data) == json_of(
            2000, i)
        epoch, _, numbers = event.id.partition("-")
        assert event.has_id and other.has_id
        assert other.id == epoch + "-" + ".".join(numbers.split(".")[::-1])
    assert server.metrics()["isimud_deflated_total"] == before + 6
    both.reconnect({**GZIP, "Last-Event-ID": event.id})
    both.expect_id()
    server.publish("alice", topics[0], "on")
    assert both.event().data == "on"


def test_a_gzip_stream_that_can_not_be_served_says_so(start):
    server = start(MAX_CONNECTIONS=1)
    server.subscribe("alice", "news")
    refused = server.event_stream(fields=GZIP)
    refused.expect_end(1013)


def test_a_slow_gzip_stream_is_ended_at_a_whole_event(start):
    server = start(MAX_BUFFERED="64K")
    stream = server.event_stream(fields=GZIP, rcvbuf=4096)
    stream.expect_id()
    noise = random.Random(3)
    count = 0
    while not server.stats()["closed_slow"]:
        assert count < 3000
        server.publish("alice", "news", "%x" % noise.getrandbits(100_000))
        count += 1
    events = stream.read_events()
    assert events[-1].type == "close"
    assert json.loads(events[-1].data)["code"] == 1013


# --- memory ------------------------------------------------------------------


def test_idle_subscribers_cost_the_same(start):
    """A bit says that a connection has it."""
    if SCALE > 1:
        pytest.skip("a sanitizer's memory says nothing")
    sizes = {}
    for extensions in (None, DEFLATE):
        server = start(WORKERS=1)
        server.subscribe("alice", "warm", extensions=extensions)
        server.publish("alice", "warm", "w" * 1000)
        before = server.own_bytes()
        sockets = [subscribed(server, extensions=extensions)
                   for _ in range(1500)]
        server.publish("alice", "news", "x" * 1000)
        for socket in sockets:
            assert socket.receive() == "x" * 1000
        sizes[extensions] = (server.own_bytes() - before) / 1500
        server.stop()
    # A context of zlib has 40 KB and more.
    assert sizes[DEFLATE] < sizes[None] + 500, sizes
