"""A process of clients that take as much of a server as they are given.

usage: hostile.py HOST PORT KIND COUNT

Opens COUNT connections, and sends on each what KIND says, as fast as the server
reads, taking all that comes. Prints a line once the server has read from each of
them, and goes on until its standard input ends. A process of its own, so that
what it does takes no time from the one that measures.
"""
import base64
import os
import select
import selectors
import socket
import struct
import sys

FIELDS = ("Host: localhost\r\n"
          "Connection: Upgrade\r\n"
          "Upgrade: websocket\r\n"
          "Sec-WebSocket-Version: 13\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
          "Sec-WebSocket-Protocol: isimud.v1\r\n")
UPGRADE = f"GET /sub HTTP/1.1\r\n{FIELDS}\r\n".encode()
SUBSCRIBE = f"GET /sub?publisher=alice&topic=mail HTTP/1.1\r\n{FIELDS}\r\n"


def frame(text):
    """A masked text frame; a mask of zeros changes nothing."""
    data = text.encode()
    if len(data) < 126:
        return struct.pack("!BB4x", 0x81, 0x80 | len(data)) + data
    return struct.pack("!BBH4x", 0x81, 0x80 | 126, len(data)) + data


def nested():
    inner = "[[[[[[[[]]]]]]]],"
    return frame('{"type":"x","a":[' + inner * 3840 + "0]}")


def publication():
    """The password is that of the tests (client.py)."""
    credentials = base64.b64encode(b"alice:secret").decode()
    data = "x" * 100
    return ("POST /pub/mail HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Basic {credentials}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(data)}\r\n"
            f"\r\n{data}").encode()


# What is sent first, and then for ever.
KINDS = {
    "nested": (UPGRADE, nested()),
    "commands": (UPGRADE, frame('{"type":"ping"}') * 2000),
    "fragments": (UPGRADE, struct.pack("!BB4x", 0x89, 0x80) * 10000),
    "requests": (b"", b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n" * 1000),
    "publishers": (b"", publication() * 300),
    "subscribers": (SUBSCRIBE.encode(), b""),
}


class Client:
    def __init__(self, address, first, then):
        self.socket = socket.create_connection(address)
        self.socket.sendall(first)
        if first:
            self.socket.recv(1 << 16)
        self.socket.setblocking(False)
        self.then = then
        self.at = 0
        self.rounds = 0

    def turn(self, events):
        try:
            if events & selectors.EVENT_READ:
                self.socket.recv(1 << 18)
            if events & selectors.EVENT_WRITE:
                self.at += self.socket.send(self.then[self.at:])
        except BlockingIOError:
            pass
        if self.at == len(self.then):
            self.at = 0
            self.rounds += 1


def visit(address, count):
    """Clients that come all at once, become subscribers, every third of them,
    and leave all at once; again and again."""
    is_ready = False
    while True:
        crowd = []
        for i in range(count):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            crowd.append(one)
        for i, one in enumerate(crowd):
            if i % 3 != 0 and select.select([], [one], [], 1)[1]:
                one.send(SUBSCRIBE.encode()[:None if i % 3 == 1 else 50])
        for i, one in enumerate(crowd):
            if i % 3 == 1:
                select.select([one], [], [], 1)
            one.close()
        if not is_ready:
            is_ready = True
            print("ready", flush=True)
        if select.select([0], [], [], 0)[0]:
            return


def knock(address, count):
    """Connections that say nothing: so many are open, and as fast as that goes a
    new one takes the place of the oldest."""
    crowd = []
    is_ready = False
    while not select.select([0], [], [], 0)[0]:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(address)
        crowd.append(one)
        if len(crowd) > count:
            crowd.pop(0).close()
            if not is_ready:
                is_ready = True
                print("ready", flush=True)


def main():
    host, port, kind, count = sys.argv[1:]
    if kind in ("visitors", "knocks"):
        (visit if kind == "visitors" else knock)((host, int(port)), int(count))
        return
    first, then = KINDS[kind]
    then = memoryview(then)
    selector = selectors.DefaultSelector()
    clients = [Client((host, int(port)), first, then)
               for _ in range(int(count))]
    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if then else 0)
    for client in clients:
        selector.register(client.socket, events, client)
    selector.register(sys.stdin, selectors.EVENT_READ)
    is_ready = False
    while True:
        # Before select(): who sends nothing may wait there for long.
        if not is_ready and (not then or all(c.rounds > 1 for c in clients)):
            is_ready = True
            print("ready", flush=True)
        for key, mask in selector.select():
            if key.data is not None:
                key.data.turn(mask)
            elif not os.read(0, 1):
                return


if __name__ == "__main__":
    main()
