"""The echo program: the same HTTP and WebSocket code, with both directions in
use and a limit of 16 MiB."""
import asyncio
import os

import pytest
import websockets

from client import (BINARY, CONTINUATION, PING, SCALE, TEXT, WebSocket, deflate,
                    frame)

LIMIT = 16 << 20
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, 1 << 20, LIMIT]


def connect(echo, **kwargs) -> WebSocket:
    return echo.websocket(target="/", **kwargs)


@pytest.mark.parametrize("size", SIZES)
def test_a_text_message_of_any_size_is_echoed(echo, size):
    client = connect(echo)
    text = ("0123456789é🦀" * (size // 16 + 1)).encode()[:size]
    text = text.decode(errors="ignore").encode().ljust(size, b".")
    client.send_frame(TEXT, text)
    assert client.read_frame() == (TEXT, text)


@pytest.mark.parametrize("size", SIZES)
def test_a_binary_message_of_any_size_is_echoed(echo, size):
    client = connect(echo)
    data = os.urandom(size)
    client.send_frame(BINARY, data)
    assert client.read_frame() == (BINARY, data)


def test_many_messages_are_echoed_in_order(echo):
    client = connect(echo)
    for i in range(20):
        client.send(b"".join(frame(TEXT, b"%d" % j) for j in range(100)))
        for j in range(100):
            assert client.receive() == str(j)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_fragmented_message_is_echoed_whole(echo, opcode):
    client = connect(echo)
    data = b"0123456789" * 100
    client.send(frame(opcode, b"", fin=False)
                + b"".join(frame(CONTINUATION, data[i:i + 1], fin=False)
                           for i in range(len(data)))
                + frame(CONTINUATION))
    assert client.read_frame() == (opcode, data)


def test_pings_are_answered_between_fragments(echo):
    client = connect(echo)
    client.send(frame(BINARY, b"a", fin=False) + frame(PING, b"1")
                + frame(CONTINUATION, b"b", fin=False) + frame(PING, b"2")
                + frame(CONTINUATION, b"c"))
    client.expect_pong(b"1")
    client.expect_pong(b"2")
    assert client.receive() == b"abc"


def test_a_message_over_16_mib_is_closed_with_1009(echo):
    client = connect(echo)
    client.send_frame(BINARY, b"x", length=LIMIT + 1)
    client.expect_close(1009)


def test_fragments_over_16_mib_are_closed_with_1009(echo):
    client = connect(echo)
    client.send(frame(BINARY, bytes(LIMIT), fin=False))
    client.send_while_open(frame(CONTINUATION, b"x"))
    client.expect_close(1009)


def test_text_that_is_not_utf8_is_closed_with_1007(echo):
    client = connect(echo)
    client.send_frame(TEXT, b"x" * 70000 + b"\xff", length=1 << 20)
    client.expect_close(1007)


def test_a_close_is_answered(echo):
    client = connect(echo)
    client.send_close(4321, b"bye")
    client.expect_close(4321)


def test_another_path_is_answered_404(echo):
    assert echo.ask("GET", "/nope").status == 404


def test_a_library_client_is_echoed(echo):
    async def transcript():
        url = f"ws://{echo.address[0]}:{echo.address[1]}/"
        async with websockets.connect(url, max_size=None) as socket:
            for message in ("", "ü🦀", b"\x00\xff", "x" * 300000):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.send(["frag", "men", "ted"])
            assert await socket.recv() == "fragmented"

    asyncio.run(transcript())


# --- compressed: what Autobahn's cases 12 and 13 do ---------------------------

# 12.x, 13.x: what the client offers; its own window, what it asks of ours.
OFFERS = {
    "12": ("permessage-deflate; client_max_window_bits", 15),
    "13.1": ("permessage-deflate", 15),
    "13.2": ("permessage-deflate; server_no_context_takeover", 15),
    "13.3": ("permessage-deflate; server_max_window_bits=9", 15),
    "13.4": ("permessage-deflate; server_max_window_bits=15", 15),
    "13.5": ("permessage-deflate; server_no_context_takeover; "
             "server_max_window_bits=9; client_max_window_bits=9", 9),
    "13.6": ("permessage-deflate; server_no_context_takeover; "
             "server_max_window_bits=15; client_max_window_bits=15", 15),
    "13.7": ("permessage-deflate; server_no_context_takeover; "
             "server_max_window_bits=9; client_max_window_bits, "
             "permessage-deflate; server_no_context_takeover, "
             "permessage-deflate", 15),
}
# x.x.1 to 10, and 11 to 18: length, bytes of a fragment (0: not fragmented).
CASES = [(16, 0), (64, 0), (256, 0), (1024, 0), (4096, 0), (8192, 0),
         (16384, 0), (32768, 0), (65536, 0), (131072, 0), (8192, 256),
         (16384, 256), (32768, 256), (65536, 256), (131072, 256), (131072, 1024),
         (131072, 4096), (131072, 32768)]


def payloads(length):
    """Text that is repetitive, JSON, and bytes that get no shorter."""
    text = ("Lorem ipsum dolor sit amet, consectetur " * (length // 40 + 1))
    rows = "".join('{"id":%d,"v":%d},' % (i, i * 7919 % 1000)
                   for i in range(length // 12 + 1))
    yield TEXT, text[:length].encode()
    yield TEXT, rows[:length].encode()
    yield BINARY, os.urandom(length)


def fragments(opcode, payload, size):
    """The frames of a compressed message."""
    parts = [payload[i:i + size] for i in range(0, len(payload), size)] if (
        size) else [payload]
    for i, part in enumerate(parts):
        yield frame(CONTINUATION if i else opcode, part, rsv=0 if i else 4,
                    fin=i == len(parts) - 1)


@pytest.mark.parametrize("length,fragment", CASES)
@pytest.mark.parametrize("case", OFFERS)
def test_compressed_messages_are_echoed(echo, case, length, fragment):
    """As many as Autobahn's thousand, where the machine is fast."""
    offer, wbits = OFFERS[case]
    client = connect(echo, extensions=offer)
    assert client.extension
    count = max(3, min(100, (1 << 20) // length // SCALE))
    for _ in range(count // 3):
        for opcode, data in payloads(length):
            client.send(b"".join(fragments(
                opcode, deflate(data, 6, wbits), fragment)))
            assert client.read_frame() == (opcode, data)
            if opcode == TEXT and length >= 1024:
                assert client.was_compressed


def test_messages_that_are_compressed_and_that_are_not_may_alternate(echo):
    client = connect(echo, extensions="permessage-deflate")
    for i in range(50):
        data = b"%d " % i * 200
        if i % 2:
            client.send_frame(TEXT, deflate(data), rsv=4)
        else:
            client.send_frame(TEXT, data)
        assert client.read_frame() == (TEXT, data)


def test_python_websockets_speaks_it(echo):
    """A client that compresses all it sends."""
    async def talk():
        async with websockets.connect(
                "ws://%s:%d/" % echo.address, max_size=None) as socket:
            for length in (0, 1, 1000, 100_000, 1_000_000):
                text = "0123456789é🦀" * (length // 12)
                await socket.send(text)
                assert await socket.recv() == text

    asyncio.run(asyncio.wait_for(talk(), 60 * SCALE))
