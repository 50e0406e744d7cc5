"""Clients on plain sockets, which can do what a well-behaved library cannot.

They are strict about what the server sends: every assertion in this file is a
rule of RFC 9112 or RFC 6455 that the server broke.
"""
import base64
import hashlib
import json
import os
import socket
import struct

# A sanitizer makes the server slower, and every deadline longer.
SCALE = {"asan": 4, "tsan": 8, "valgrind": 20}.get(os.environ.get("FLAVOUR"), 1)
# Seconds in which an event has to come. No test waits for it to pass.
DEADLINE = 8 * SCALE

PASSWORD = "secret"


def family_of(address):
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


class Connection:
    """A TCP connection, or one to the path of a Unix socket. `rcvbuf` makes the
    kernel hold little that is unread."""

    def __init__(self, address, rcvbuf=None):
        self.socket = socket.socket(family_of(address))
        self.socket.settimeout(DEADLINE)
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.connect(address)
        self.buffer = bytearray()

    def send(self, data):
        self.socket.sendall(data)

    def send_bytewise(self, data):
        for i in range(len(data)):
            self.socket.sendall(data[i:i + 1])

    def send_while_open(self, data):
        """Sends, but takes it if the server closes meanwhile."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def abort(self):
        """Ends the connection with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.socket.close()

    def read_some(self):
        """Adds to the buffer; False at the end of the stream."""
        data = self.socket.recv(1 << 18)
        self.buffer += data
        return bool(data)

    def read_exactly(self, count):
        while len(self.buffer) < count:
            if not self.read_some():
                raise EOFError(f"stream ended in {bytes(self.buffer)!r:.200}")
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read_until(self, mark):
        while (end := self.buffer.find(mark)) < 0:
            if not self.read_some():
                raise EOFError(f"stream ended in {bytes(self.buffer)!r:.200}")
        return self.read_exactly(end + len(mark))

    def read_to_end(self):
        """All that comes before FIN; a reset is an error."""
        while self.read_some():
            pass
        return self.read_exactly(len(self.buffer))

    def wait_until_ended(self):
        """Waits for FIN or RST, whatever comes before."""
        try:
            while self.read_some():
                self.buffer.clear()
        except ConnectionError:
            pass


# --- HTTP --------------------------------------------------------------------


def basic(username, password=PASSWORD):
    """The value of Authorization; both may be text or bytes."""
    username = username.encode() if isinstance(username, str) else username
    password = password.encode() if isinstance(password, str) else password
    return "Basic " + base64.b64encode(username + b":" + password).decode()


def request(method="GET", target="/", fields=None, body=None, version="1.1"):
    """An encoded request. A field of value None is left out."""
    lines = {"Host": "localhost"}
    if body is not None and "Transfer-Encoding" not in (fields or {}):
        lines["Content-Length"] = str(len(body))
    lines.update(fields or {})
    head = f"{method} {target} HTTP/{version}\r\n"
    for name, value in lines.items():
        if value is not None:
            head += f"{name}: {value}\r\n"
    return head.encode("latin-1") + b"\r\n" + (body or b"")


def publish_request(publisher="alice", topic="news", data="hello",
                    body=None, fields=None, target="/pub"):
    """A publication; `body` and `fields` replace or add to what is right."""
    if body is None:
        body = json.dumps({"topic": topic, "data": data}).encode()
    return request("POST", target, {
        "Authorization": basic(publisher),
        "Content-Type": "application/json",
        **(fields or {}),
    }, body)


def chunked(body, size=7, extension=b"", trailers=b""):
    """`body` in the chunked transfer coding (RFC 9112 7.1)."""
    out = b""
    for i in range(0, len(body), size):
        part = body[i:i + size]
        out += b"%x%b\r\n%b\r\n" % (len(part), extension, part)
    return out + b"0\r\n" + trailers + b"\r\n"


class Response:
    def __init__(self, status, fields, body):
        self.status = status
        self.fields = fields  # in lower case -> list of values
        self.body = body

    def field(self, name):
        """The value of a field that must be there at most once."""
        values = self.fields.get(name.lower(), [])
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def error(self):
        """The text of an error answer."""
        assert self.field("Content-Type") == "application/json"
        answer = json.loads(self.body)
        assert list(answer) == ["error"] and isinstance(answer["error"], str)
        assert answer["error"]
        return answer["error"]


class Http(Connection):
    """One HTTP/1.1 connection."""

    def response(self, to="GET"):
        """Reads the next response, to a request of the method `to`."""
        head = self.read_until(b"\r\n\r\n").decode("ascii")
        assert "\n" not in head.replace("\r\n", ""), "a bare LF"
        start, *lines = head[:-4].split("\r\n")
        version, status, _ = start.split(" ", 2)
        assert version == "HTTP/1.1" and len(status) == 3
        fields = {}
        for line in lines:
            name, value = line.split(":", 1)
            assert name and name == name.strip()
            fields.setdefault(name.lower(), []).append(value.strip())
        response = Response(int(status), fields, b"")
        length = response.field("Content-Length")
        if response.status < 200 or response.status == 204:
            assert length is None
        else:
            assert length is not None and length.isdigit()
            if to != "HEAD":
                response.body = self.read_exactly(int(length))
        return response

    def ask(self, *args, **kwargs):
        """Sends request(...) and reads its response."""
        self.send(request(*args, **kwargs))
        return self.response(args[0] if args else "GET")

    def publish(self, *args, **kwargs):
        """Sends publish_request(...) and reads its response."""
        self.send(publish_request(*args, **kwargs))
        return self.response()

    def publish_all(self, publisher, topic, data, window=32):
        """Publishes each of `data`, `window` requests at a time."""
        data = list(data)
        for i in range(0, len(data), window):
            part = data[i:i + window]
            self.send(b"".join(
                publish_request(publisher, topic, one) for one in part))
            for _ in part:
                assert self.response().status == 200


# --- WebSocket ---------------------------------------------------------------

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
NO_STATUS = 1005  # stands for a Close without a code (RFC 6455 7.1.5)


class Closed(Exception):
    """The server's Close."""

    def __init__(self, code, reason):
        super().__init__(f"closed with {code}: {reason}")
        self.code = code
        self.reason = reason


def mask_bytes(payload, mask):
    """Masks or unmasks `payload` (RFC 6455 5.3)."""
    count = len(payload)
    pattern = (mask * (count // 4 + 1))[:count]
    return (int.from_bytes(payload, "big")
            ^ int.from_bytes(pattern, "big")).to_bytes(count, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, length=None,
          length_bytes=None):
    """An encoded client's frame, with every way to get it wrong.

    `length` is what the header claims; `length_bytes` (0, 2 or 8) is the size
    of its extension, by default the shortest that fits.
    """
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + mask_bytes(payload, mask)


def close_frame(code, reason=b""):
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def subscription(publisher, topic):
    """The text of a subscribe message."""
    return json.dumps({"publisher": publisher, "topic": topic}).encode()


def handshake(target="/sub", fields=None, method="GET", version="1.1"):
    """An opening handshake with a fixed key: RFC 6455 1.3's example."""
    return request(method, target, {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(fields or {}),
    }, version=version)


class WebSocket(Http):
    """A WebSocket; with `open` False, one that has sent nothing yet."""

    def __init__(self, address, target="/sub", fields=None, rcvbuf=None,
                 open=True):
        super().__init__(address, rcvbuf)
        self.answers_pings = True
        self.close_sent = False
        self.pings = 0
        self.pongs = []
        if open:
            self.open(target, fields)

    def open(self, target="/sub", fields=None):
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(handshake(target, {"Sec-WebSocket-Key": key,
                                     **(fields or {})}))
        self.check_opened(self.response(), key)

    @staticmethod
    def check_opened(response, key="dGhlIHNhbXBsZSBub25jZQ=="):
        """Checks the server's opening handshake (RFC 6455 4.2.2)."""
        assert response.status == 101, response.body
        assert response.field("Upgrade").lower() == "websocket"
        assert response.field("Connection").lower() == "upgrade"
        digest = hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        accept = response.field("Sec-WebSocket-Accept")
        assert accept == base64.b64encode(digest).decode()
        assert response.field("Sec-WebSocket-Extensions") is None
        assert response.field("Sec-WebSocket-Protocol") is None

    def send_frame(self, *args, **kwargs):
        self.send(frame(*args, **kwargs))

    def send_text(self, text):
        self.send_frame(TEXT, text.encode())

    def send_close(self, code, reason=b""):
        self.close_sent = True
        self.send_while_open(close_frame(code, reason))

    def subscribe(self, publisher, topic):
        """Subscribes and waits until it is in force: promise 4."""
        self.send(frame(TEXT, subscription(publisher, topic))
                  + frame(PING, b"subscribed?"))
        self.expect_pong(b"subscribed?")
        return self

    def read_frame(self):
        """The next frame as (opcode, payload). All are whole messages."""
        first, second = self.read_exactly(2)
        opcode, length = first & 0x0F, second & 0x7F
        assert first & 0x70 == 0, "reserved bits are set (5.2)"
        assert second & 0x80 == 0, "a server must not mask (5.1)"
        assert opcode in (TEXT, BINARY, CLOSE, PING, PONG)
        assert first & 0x80, "the server never fragments"
        if opcode >= CLOSE:
            assert length <= 125, "a long control frame (5.5)"
        if length == 126:
            length = int.from_bytes(self.read_exactly(2), "big")
            assert length > 125, "not the shortest length (5.2)"
        elif length == 127:
            length = int.from_bytes(self.read_exactly(8), "big")
            assert 65535 < length < 1 << 63, "not the shortest length (5.2)"
        return opcode, self.read_exactly(length)

    def receive(self):
        """The next message: text as str, binary as bytes. Raises Closed."""
        while True:
            opcode, payload = self.read_frame()
            if opcode == TEXT:
                return payload.decode("utf-8")
            if opcode == BINARY:
                return payload
            self.on_control(opcode, payload)

    def on_control(self, opcode, payload):
        if opcode == PING:
            self.pings += 1
            if self.answers_pings:
                self.send_while_open(frame(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            assert len(payload) != 1, "a Close of one byte (5.5.1)"
            code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
            assert code != NO_STATUS or not payload, "1005 is never sent (7.4)"
            raise Closed(code, payload[2:].decode("utf-8"))

    def expect_pong(self, payload):
        """The very next frame but for pings is this pong."""
        while True:
            opcode, body = self.read_frame()
            if opcode == PING:
                self.on_control(opcode, body)
                continue
            if opcode == CLOSE:
                self.on_control(opcode, body)
            assert (opcode, body) == (PONG, payload)
            return

    def expect_ping(self):
        """Waits for the server's next ping, and answers it."""
        opcode, payload = self.read_frame()
        assert opcode == PING
        self.on_control(opcode, payload)

    def read_all(self):
        """All messages up to the server's Close, and that as Closed. Answers
        it, and closes the connection once the server has (7.1.1)."""
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except Closed as closed:
            if not self.close_sent:
                self.send_close(1000 if closed.code == NO_STATUS
                                else closed.code)
            self.wait_until_ended()
            self.close()
            return messages, closed

    def read_to_close(self):
        """The code of the server's Close, whatever comes before it."""
        return self.read_all()[1].code

    def expect_close(self, code):
        """The next message is a Close with this code and, unless it answers
        ours, a reason. Returns the reason."""
        messages, closed = self.read_all()
        assert messages == []
        assert closed.code == code, closed
        assert closed.reason or self.close_sent
        return closed.reason
