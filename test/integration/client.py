"""Clients on plain sockets, which can do what a well-behaved library cannot.

They are strict about what the server sends: every assertion in this file is a
rule of RFC 9112, of RFC 6455 or of the HTML standard's event streams that the
server broke.
"""
import base64
import collections
import hashlib
import json
import os
import re
import socket
import struct
import time
import urllib.parse
import zlib

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


def sub_target(publisher, *topics, **parameters):
    """The target of GET /sub that subscribes by its URL; `parameters` are
    since, envelope, access_token, … and left out if None."""
    pairs = [("publisher", publisher)] + [("topic", topic) for topic in topics]
    pairs += [pair for pair in parameters.items() if pair[1] is not None]
    return "/sub?" + urllib.parse.urlencode(pairs)


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

    def json(self):
        """The value of an answer in JSON."""
        assert self.field("Content-Type") == "application/json"
        return json.loads(self.body)

    def error(self):
        """The text of an error answer."""
        answer = self.json()
        assert list(answer) == ["error"] and isinstance(answer["error"], str)
        assert answer["error"]
        return answer["error"]


class Http(Connection):
    """One HTTP/1.1 connection."""

    def head(self):
        """Reads the head of the next response."""
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
        return Response(int(status), fields, b"")

    def response(self, to="GET"):
        """Reads the next response, to a request of the method `to`."""
        response = self.head()
        length = response.field("Content-Length")
        if response.status < 200 or response.status in (204, 304):
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


# --- compression -------------------------------------------------------------

DEFLATE_TAIL = b"\0\0\xff\xff"  # what RFC 7692 7.2.1 takes off


def deflate(data, level=6, wbits=15, flush=zlib.Z_SYNC_FLUSH):
    """The payload of a compressed message (RFC 7692 7.2.1)."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -wbits)
    out = deflater.compress(data) + deflater.flush(flush)
    assert flush != zlib.Z_SYNC_FLUSH or out.endswith(DEFLATE_TAIL)
    return out.removesuffix(DEFLATE_TAIL)


def inflate(payload, wbits=15):
    """What a payload stands for, which refers to nothing before it."""
    inflater = zlib.decompressobj(-wbits)
    data = inflater.decompress(payload + DEFLATE_TAIL)
    assert not inflater.unconsumed_tail and not inflater.unused_data
    return data


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
    """A WebSocket; with `open` False, one that has sent nothing yet.

    `subprotocols` are those that it offers, in order of preference; then
    `subprotocol` is the one that the server chose. It may choose none, by RFC
    6455: None; a test that counts on one looks there.

    `extensions`: the value of Sec-WebSocket-Extensions; then `extension` is what
    was agreed, or None, and messages may be compressed: `was_compressed` tells
    it of the last one, `wire_bytes` what their payloads came to."""

    def __init__(self, address, target="/sub", fields=None, rcvbuf=None,
                 open=True, subprotocols=(), extensions=None):
        super().__init__(address, rcvbuf)
        self.extensions = extensions
        self.extension = None
        self.wbits = 15
        self.was_compressed = False
        self.wire_bytes = 0
        self.answers_pings = True
        self.close_sent = False
        self.pings = 0
        self.pongs = []
        self.subprotocol = None
        if open:
            self.open(target, fields, subprotocols)

    def open(self, target="/sub", fields=None, subprotocols=()):
        key = base64.b64encode(os.urandom(16)).decode()
        offer = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)}
        if self.extensions is not None:
            fields = {"Sec-WebSocket-Extensions": self.extensions,
                      **(fields or {})}
        self.send(handshake(target, {"Sec-WebSocket-Key": key,
                                     **(offer if subprotocols else {}),
                                     **(fields or {})}))
        response = self.response()
        if self.extensions is not None:
            self.check_extension(response.fields.pop(
                "sec-websocket-extensions", None))
        self.subprotocol = self.check_opened(response, key, subprotocols)

    def check_extension(self, answers):
        """What the server may agree to: RFC 7692 7.1."""
        if answers is None:
            return
        assert len(answers) == 1
        match = re.fullmatch(
            "permessage-deflate; server_no_context_takeover; "
            "client_no_context_takeover"
            "(; server_max_window_bits=(9|1[0-5]))?", answers[0])
        assert match, answers
        if match[2]:
            self.wbits = int(match[2])
            assert f"server_max_window_bits={self.wbits}" in (
                self.extensions.replace('"', "")), "nobody asked for it"
        self.extension = answers[0]

    @staticmethod
    def check_opened(response, key="dGhlIHNhbXBsZSBub25jZQ==", offered=()):
        """Checks the server's opening handshake (RFC 6455 4.2.2). Returns the
        subprotocol: one that was `offered`, or None."""
        assert response.status == 101, response.body
        assert response.field("Upgrade").lower() == "websocket"
        assert response.field("Connection").lower() == "upgrade"
        digest = hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        accept = response.field("Sec-WebSocket-Accept")
        assert accept == base64.b64encode(digest).decode()
        assert response.field("Sec-WebSocket-Extensions") is None
        subprotocol = response.field("Sec-WebSocket-Protocol")
        assert subprotocol is None or subprotocol in offered
        return subprotocol

    def send_frame(self, *args, **kwargs):
        self.send(frame(*args, **kwargs))

    def send_text(self, text):
        self.send_frame(TEXT, text.encode())

    def send_json(self, value):
        self.send_text(json.dumps(value))

    def receive_json(self):
        """The value of the next message, a text. Raises Closed."""
        text = self.receive()
        assert isinstance(text, str), "a binary message"
        return json.loads(text)

    def command(self, type, **members):
        """Sends a command of isimud.v1. Returns its answer, which must be the
        very next message; "ref", if it has one, must be repeated."""
        self.send_json({"type": type, **members})
        answer = self.receive_json()
        assert answer["type"] not in ("message", "gap"), answer
        assert answer.get("ref") == members.get("ref"), answer
        return answer

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
        if self.extension and opcode in (TEXT, BINARY):
            assert first & 0x30 == 0, "reserved bits are set (5.2)"
        else:
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
        payload = self.read_exactly(length)
        if opcode >= CLOSE:
            return opcode, payload
        self.was_compressed = bool(first & 0x40)
        self.wire_bytes += length
        return opcode, (inflate(payload, self.wbits) if self.was_compressed
                        else payload)

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


# --- event streams -----------------------------------------------------------

# `type` is "message" unless the event names one; `id` is what the client would
# send as Last-Event-ID from here on; `has_id` says whether it came with this
# event.
Event = collections.namedtuple("Event", "type data id has_id")


class EventStream(Http):
    """What `new EventSource(target)` does, by the HTML standard (WHATWG), 9.2,
    one event at a time and with deadlines: every wait fails with TimeoutError
    after DEADLINE seconds, whatever else arrives meanwhile.

    It is open once it is made (`open` False: it has sent nothing yet), which
    takes an answer of 200 and text/event-stream; look at other answers with
    server.ask("GET", target, EventStream.ACCEPT). It does not connect again by
    itself: that is reconnect().

        stream = server.event_stream(sub_target("alice", "news"))
        server.publish("alice", "news", "hello")
        assert stream.event().data == "hello"
    """
    ACCEPT = {"Accept": "text/event-stream"}

    def __init__(self, address, target="/sub", fields=None, rcvbuf=None,
                 open=True, last_event_id=""):
        super().__init__(address, rcvbuf)
        self.address = address
        self.target = target
        self.fields = fields
        self.rcvbuf = rcvbuf
        self.last_event_id = last_event_id  # as of the last block that ended
        self.forget()
        if open:
            self.open()

    def forget(self):
        """What a new connection starts with."""
        self.inflater = None  # if it is gzip
        self.wire_bytes = 0   # inside chunks
        self.retry_ms = None  # the last `retry`
        self.comments = []    # their texts
        self.places = []      # ids that came without an event
        self.answer = None    # the head of the answer
        self.lines_read = 0
        self.data = []
        self.type = ""
        self.id = self.last_event_id
        self.has_id = False
        self.had_cr = False
        self.raw = None       # if it is chunked: bytes of unfinished chunks
        self.is_whole = False  # the last chunk has come

    def open(self):
        fields = {**self.ACCEPT, "Cache-Control": "no-store"}
        if self.last_event_id:
            fields["Last-Event-ID"] = self.last_event_id
        self.send(request("GET", self.target, {**fields,
                                               **(self.fields or {})}))
        self.answer = self.head()
        self.check_opened(self.answer)

    def check_opened(self, answer):
        if answer.status != 200:
            length = int(answer.field("Content-Length") or 0)
            raise AssertionError(
                f"{answer.status}: {self.read_exactly(length)!r:.300}")
        media_type = answer.field("Content-Type").replace(" ", "").lower()
        assert media_type in ("text/event-stream",
                              "text/event-stream;charset=utf-8")
        assert answer.field("Cache-Control") == "no-store, no-transform"
        assert answer.field("Content-Length") is None
        assert "Accept-Encoding" in answer.fields["vary"]
        coding = answer.field("Content-Encoding")
        assert coding in (None, "gzip")
        if coding:
            self.inflater = zlib.decompressobj(16 + 15)
        assert answer.field("Transfer-Encoding") == "chunked"
        assert answer.field("Connection").lower() == "close"
        self.raw, self.buffer = self.buffer, bytearray()
        self.take_chunks()

    def read_some(self):
        if self.raw is None:
            return super().read_some()
        data = self.socket.recv(1 << 18)
        self.raw += data
        self.take_chunks()
        return bool(data)

    def take_chunks(self):
        """Moves the data of whole chunks to the buffer (RFC 9112 7.1)."""
        while (end := self.raw.find(b"\r\n")) >= 0:
            assert not self.is_whole, "something follows the last chunk"
            size = bytes(self.raw[:end])
            assert re.fullmatch(rb"0|[1-9a-f][0-9a-f]{0,7}", size), size
            start, after = end + 2, end + 2 + int(size, 16)
            if len(self.raw) < after + 2:
                return
            assert self.raw[after:after + 2] == b"\r\n", "a chunk's end"
            self.is_whole = after == start
            self.wire_bytes += after - start
            self.buffer += self.decode(bytes(self.raw[start:after]))
            del self.raw[:after + 2]
        assert len(self.raw) <= 9, "a chunk's size is too long"

    def decode(self, data):
        """Every chunk can be decoded to its end at once."""
        if not self.inflater:
            return data
        out = self.inflater.decompress(data)
        # Go's decoder hands out what comes before an empty stored block.
        assert data.endswith(DEFLATE_TAIL) or not out, "it is not flushed"
        assert not self.inflater.eof, "the gzip stream has ended"
        return out

    def reconnect(self, fields=None):
        """Closes the connection and opens another one with the same target,
        which says Last-Event-ID if there is one. `fields`: instead of those
        before."""
        self.close()
        if fields is not None:
            self.fields = fields
        Connection.__init__(self, self.address, self.rcvbuf)
        self.forget()
        self.open()
        return self

    def line(self, end):
        """The next line, without the CR LF, LF or CR that ends it."""
        while True:
            if self.had_cr and self.buffer:
                self.had_cr = False
                if self.buffer[0] == 0x0A:
                    del self.buffer[0]
            match = re.search(rb"[\r\n]", self.buffer)
            if match:
                line = self.read_exactly(match.start())
                self.had_cr = self.read_exactly(1) == b"\r"
                self.lines_read += 1
                text = line.decode("utf-8")
                return text.removeprefix("\ufeff") if (
                    self.lines_read == 1) else text
            if time.monotonic() > end:
                raise TimeoutError("no event in time")
            if not self.read_some():
                raise EOFError(f"stream ended in {bytes(self.buffer)!r:.200}")

    def step(self, end):
        """Takes one line; returns the event that it ends, else None."""
        line = self.line(end)
        if not line:
            return self.dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:])
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self.data.append(value)
        elif name == "event":
            self.type = value
        elif name == "id" and "\0" not in value:
            self.id = value
            self.has_id = True
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            self.retry_ms = int(value)
        return None

    def dispatch(self):
        self.last_event_id = self.id
        event = Event(self.type or "message", "\n".join(self.data), self.id,
                      self.has_id) if self.data else None
        if self.has_id and not event:
            self.places.append(self.id)
        self.data = []
        self.type = ""
        self.has_id = False
        return event

    def event(self):
        """The next event. EOFError if the stream ends, which drops what is not
        ended by an empty line, as a browser does."""
        end = time.monotonic() + DEADLINE
        while not (event := self.step(end)):
            pass
        return event

    def events(self, count):
        """The next `count` of them."""
        return [self.event() for _ in range(count)]

    def data_of(self, count):
        """The data of the next `count` events, which must be of the type
        "message"."""
        events = self.events(count)
        assert all(event.type == "message" for event in events), events
        return [event.data for event in events]

    def expect_comment(self):
        """Waits for the next comment, before which no event may come. Returns
        its text."""
        end = time.monotonic() + DEADLINE
        count = len(self.comments)
        while len(self.comments) == count:
            event = self.step(end)
            assert event is None, event
        return self.comments[-1]

    def expect_id(self):
        """Waits for the next id without an event, before which no event may
        come: the place where the stream begins. Returns it."""
        end = time.monotonic() + DEADLINE
        count = len(self.places)
        while len(self.places) == count:
            event = self.step(end)
            assert event is None, event
        return self.places[-1]

    def read_events(self):
        """All events up to the end of the stream: the last chunk, then FIN."""
        events = []
        try:
            while True:
                events.append(self.event())
        except EOFError:
            assert not self.buffer, "it ends within a line"
            assert not self.data, "it ends within an event"
            assert self.is_whole and not self.raw, "it was cut"
            return events

    def expect_end(self, code):
        """The next event is `close` with this code, and the last thing that
        comes. Returns its reason."""
        events = self.read_events()
        assert [event.type for event in events] == ["close"], events
        assert not events[0].has_id
        close = json.loads(events[0].data)
        assert close["code"] == code and close["reason"], close
        return close["reason"]
