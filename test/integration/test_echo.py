"""The echo program: the same HTTP and WebSocket code, with both directions in
use and a limit of 16 MiB."""
import asyncio
import os

import pytest
import websockets

from client import (BINARY, CONTINUATION, PING, TEXT, WebSocket, frame)

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
