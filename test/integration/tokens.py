"""What the tests of tokens share: an authority that can decide by URI, and the
rule that nobody but the authority's Authorization and Cookie may see a token.

Every token of these tests has MARK in it, which is looked for in all that the
server logs at LOG_LEVEL=debug, in all answers, and in all that the authority is
told besides."""
import json
import re
import urllib.parse

import pytest

import authority as behaviour
from client import CLOSE, DEADLINE, EventStream, handshake, request

MARK = "S3cret"
OWN_FIELDS = ("authorization", "cookie")


def token(name="any"):
    return f"{MARK}.{name}"


def bearer(name="any"):
    return {"Authorization": f"Bearer {token(name)}"}


def topic_uri(publisher, topic):
    """The URI that the authority is told of one topic."""
    def quote(text):
        return urllib.parse.quote(text, safe="")  # RFC 3986's unreserved stay
    return f"/sub?publisher={quote(publisher)}&topic={quote(topic)}"


def wait_then(rule):
    """Does what `rule` does, once the test sets `authority.release`."""
    def send(peer, authority):
        authority.release.wait(DEADLINE)
        rule(peer, authority)
    return send


class Authority(behaviour.Authority):
    """`by_uri[X-Forwarded-Uri]` comes before `rules[token]`."""

    def __init__(self):
        super().__init__()
        self.by_uri = {}
        self.leaks = []

    def take(self, head, content):
        for line in head.split("\r\n"):
            name = line.partition(":")[0].lower()
            if MARK in line and name not in OWN_FIELDS or "\n" in line:
                self.leaks.append(line)
        rule = super().take(head, content)
        uri = re.search("\r\nX-Forwarded-Uri: ([^\r]*)", head)
        return self.by_uri.get(uri and uri.group(1), rule)

    def next_uri(self):
        return self.next_asked()[2]["x-forwarded-uri"][0]

    def allow(self, *names):
        """By default all are; here, whoever has another token is not."""
        self.rules = Only({token(name): behaviour.allow for name in names})


class Only(dict):
    def get(self, key, _default=None):
        return super().get(key, behaviour.refuse)


@pytest.fixture
def authority():
    with Authority() as one:
        yield one
    assert not one.leaks


@pytest.fixture
def start(start):
    """Servers that log all they can, and of which no line may have a token."""
    servers = []

    def start_one(**settings):
        servers.append(start(**{"LOG_LEVEL": "debug", **settings}))
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop()
        assert MARK not in server.text()


def knock(server, target="/sub", fields=None, subprotocols=(), **kwargs):
    """Asks for a WebSocket; returns the connection, unanswered."""
    client = server.websocket(open=False, **kwargs)
    offer = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)}
    client.send(handshake(target, {**(offer if subprotocols else {}),
                                   **(fields or {})}))
    return client


def knock_for_stream(server, target, fields=None, **kwargs):
    """Asks for an event stream; returns the connection, unanswered."""
    client = server.http(**kwargs)
    client.send(request("GET", target, {**EventStream.ACCEPT,
                                        **(fields or {})}))
    return client


def answer(client):
    """The answer to one of these, without what follows a 101 or a stream."""
    response = client.head()
    length = response.field("Content-Length")
    if length is not None:
        response.body = client.read_exactly(int(length))
        assert MARK not in response.body.decode()
    chosen = response.fields.pop("sec-websocket-protocol", [])
    assert MARK not in str(response.fields)
    response.subprotocol = chosen[0] if chosen else None
    return response


def refusal(client):
    """The code and reason by which an event stream is refused, for now."""
    response = client.head()
    assert response.status == 200, response.status
    stream = client.read_to_end()
    match = re.fullmatch(
        rb"[0-9a-f]+\r\nretry: ([0-9]+)\n\r\n[0-9a-f]+\r\nevent: close\n"
        rb"data: (.*)\n\n\r\n0\r\n\r\n", stream)
    assert match, stream
    close = json.loads(match.group(2))
    assert close["code"] == 1013 and close["reason"]
    response.retry_ms = int(match.group(1))
    response.reason = close["reason"]
    return response


def close_of(client):
    """The code and reason of the Close right behind a handshake that was
    accepted."""
    assert answer(client).subprotocol == "isimud.v1"
    opcode, payload = client.read_frame()
    assert opcode == CLOSE
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def is_silent(client):
    """Whether the client has been sent nothing that it has not read."""
    client.socket.setblocking(False)
    try:
        return not client.buffer and not client.read_some()
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(DEADLINE)
