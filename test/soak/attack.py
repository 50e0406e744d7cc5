"""What a hostile or broken client sends: good streams, then spoilt."""
import json
import socket
import struct

from client import (BINARY, CLOSE, CONTINUATION, PASSWORD, PING, PONG, TEXT,
                    basic, chunked, close_frame, frame, handshake,
                    publish_request, request, sub_target, subscription)

# What parsers trip over.
TOKENS = [b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b" ", b"\t", b":", b",",
          b"0", b"-1", b"ffffffffffffffff", b"18446744073709551616", b"%00",
          b"%", b"%2F", b"&", b"=", b"?", b"//", b"\\u0000", b"\\ud800", b'"',
          b"[", b"{", b"}", b"]", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
          b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
          b"Connection: close\r\n", b"Connection: Upgrade\r\n",
          b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n",
          b"Last-Event-ID: 0-1\r\n", b"Idempotency-Key: k\r\n",
          b"Origin: null\r\n", b"HTTP/1.0", b"HTTP/2.0", b"topic=fuzz",
          b"since=0123456789abcdef-1", b"last=3", b"\x88\x80", b"\x89\xfe",
          b"\x81\xff", b"\x00\x80"]
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "CONNECT", "M"]
TARGETS = ["/", "/pub", "/sub", "/topics", "/topics/fuzz", "/pub/fuzz",
           "/healthz", "/readyz", "/metrics", "*", "/sub?publisher=alice",
           "/topics?all=true&limit=3", "http://x/pub", "/sub?access_token=a"]


class Attacker:
    """Makes the same streams for the same random numbers."""

    def __init__(self, rng):
        self.rng = rng
        self.makers = [self.plain_request, self.publication, self.upload,
                       self.stream, self.pipeline, self.raw_socket,
                       self.session, self.frames, self.noise]

    # --- good streams; each returns pieces, between which answers may come

    def topic(self):
        return self.rng.choice(["fuzz", "f\u2603", "a/b", "x" * 300, ""])

    def value(self):
        return self.rng.choice(["hello", "x" * self.rng.randrange(1, 20000),
                                {"a": [1, None, {"b": "\u2603\n"}]}, 1e300,
                                [[[[1]]]] * 20, "\u0000\u2028"])

    def plain_request(self):
        fields = {"Authorization": basic("alice"),
                  "Accept": self.rng.choice(["*/*", "text/event-stream;q=0.1"]),
                  "Cookie": "a=b"}
        return [request(self.rng.choice(METHODS), self.rng.choice(TARGETS),
                        fields, version=self.rng.choice(["1.0", "1.1"]))]

    def publication(self):
        one = {"topic": self.topic(), "data": self.value()}
        body = one if self.rng.random() < 0.7 else [one] * 3
        fields = {"Idempotency-Key": f"k{self.rng.randrange(9)}"} \
            if self.rng.random() < 0.2 else {}
        return [publish_request(body=json.dumps(body).encode(),
                                fields=fields)]

    def upload(self):
        body = b"x" * self.rng.choice([0, 1, 100, 9000, 70000, 200000])
        fields = {"Authorization": basic("alice"),
                  "Transfer-Encoding": "chunked"}
        if self.rng.random() < 0.3:
            fields["Expect"] = "100-continue"
        coded = chunked(body, size=self.rng.choice([7, 1000, 65536]),
                        extension=self.rng.choice([b"", b";a=b"]),
                        trailers=self.rng.choice([b"", b"A: b\r\n"])) \
            if len(body) < 10000 else chunked(body, size=30000)
        return [request("POST", "/pub/fuzz", fields), coded]

    def stream(self):
        target = sub_target("alice", "fuzz", since=self.rng.choice(
            [None, "0123456789abcdef-1", "junk"]), envelope=self.rng.choice(
                [None, "true"]))
        return [request("GET", target, {"Accept": "text/event-stream"})]

    def pipeline(self):
        return [b"".join(piece for _ in range(self.rng.randrange(2, 30))
                         for piece in self.publication())
                + b"".join(self.plain_request())]

    def raw_socket(self):
        pieces = [handshake()]
        if self.rng.random() < 0.8:
            pieces.append(frame(TEXT, subscription("alice", "fuzz"))
                          + frame(PING, b"p"))
        return pieces + self.frames()

    def session(self):
        pieces = [handshake(fields={"Sec-WebSocket-Protocol": "isimud.v1",
                                    "Authorization": basic("alice")})]
        commands = ["subscribe", "unsubscribe", "publish", "ping", "other"]
        data = b""
        for ref in range(self.rng.randrange(1, 12)):
            command = {"type": self.rng.choice(commands), "ref": ref,
                       "publisher": "alice", "topic": self.topic(),
                       "data": self.value(),
                       "slow": self.rng.choice(["close", "drop", 1])}
            text = json.dumps(command)
            for word in ("publisher", "slow", "ref"):
                if self.rng.random() < 0.2:
                    text = text.replace(word, word[1:])
            data += frame(TEXT, text.encode())
        return pieces + [data] + self.frames()

    def frames(self):
        data = b""
        for _ in range(self.rng.randrange(6)):
            opcode = self.rng.choice([TEXT, BINARY, CONTINUATION, PING, PONG,
                                      CLOSE, 3, 11])
            payload = self.rng.randbytes(self.rng.choice([0, 1, 5, 125, 126,
                                                          4000]))
            data += frame(opcode, payload, fin=self.rng.random() < 0.8,
                          rsv=self.rng.choice([0, 0, 0, 4]),
                          masked=self.rng.random() < 0.95,
                          length=self.rng.choice(
                              [None, None, None, 70000, 1 << 62]))
        if self.rng.random() < 0.3:
            data += close_frame(self.rng.choice([1000, 1001, 999, 4999]))
        return [data]

    def noise(self):
        return [self.rng.randbytes(self.rng.randrange(1, 600))]

    # --- spoiling

    def spoil(self, data):
        data = bytearray(data)
        for _ in range(self.rng.choice([0, 1, 1, 1, 2, 4, 16])):
            at = self.rng.randrange(len(data) + 1)
            how = self.rng.randrange(6)
            if how == 0 and data:
                data[at % len(data)] ^= 1 << self.rng.randrange(8)
            elif how == 1:
                del data[at:at + self.rng.choice([1, 2, 8, 200])]
            elif how == 2:
                data[at:at] = self.rng.choice(TOKENS)
            elif how == 3:
                data[at:at] = data[at:at + self.rng.randrange(1, 60)]
            elif how == 4:
                data[at:at] = self.rng.choice(TOKENS) * self.rng.randrange(
                    1, 300)
            else:
                other = self.rng.randrange(len(data) + 1)
                data[at:at] = data[other:other + 100]
        return bytes(data)

    def run(self, address):
        """One connection. Returns what the server said first."""
        pieces = self.rng.choice(self.makers)()
        if self.rng.random() < 0.85:
            pieces = [self.spoil(piece) for piece in pieces]
        peer = socket.socket()
        said = b""
        try:
            if self.rng.random() < 0.2:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.settimeout(3)
            peer.connect(address)
            for piece in pieces:
                self.send(peer, piece)
                said += self.listen(peer)
            said += self.leave(peer)
        except OSError:  # reset, not connected any more, no room: all the same
            pass
        finally:
            peer.close()
        return said

    def send(self, peer, data):
        how = self.rng.randrange(4)
        if how == 0 and len(data) < 2000:
            for i in range(len(data)):
                peer.sendall(data[i:i + 1])
        elif how == 1:
            at = self.rng.randrange(len(data) + 1)
            peer.sendall(data[:at])
            peer.sendall(data[at:])
        else:
            peer.sendall(data)

    def listen(self, peer):
        """What comes at once, most of the time."""
        if self.rng.random() < 0.2:
            return b""
        peer.settimeout(self.rng.choice([0.002, 0.02, 0.1]))
        try:
            return peer.recv(65536)
        except (TimeoutError, BlockingIOError):
            return b""
        finally:
            peer.settimeout(3)

    def leave(self, peer):
        how = self.rng.randrange(4)
        if how == 0:  # RST
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))
        elif how == 1:
            peer.shutdown(socket.SHUT_WR)
            return self.listen(peer)
        elif how == 2:
            return self.listen(peer)
        return b""


assert PASSWORD  # of basic()
