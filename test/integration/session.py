"""Clients of isimud.v1, and what one of them may be told of a topic."""
import itertools

from client import basic
from documents import AsyncApi

SUBPROTOCOL = "isimud.v1"
ASYNCAPI = AsyncApi()
ELSEWHERE = "0123456789abcdef"  # an epoch that never was
NEWS = {"publisher": "alice", "topic": "news"}


def session(server, publisher=None, target="/sub", fields=None, **kwargs):
    """An open WebSocket that speaks isimud.v1; with a publisher's credentials
    if there is a `publisher`."""
    if publisher is not None:
        fields = {"Authorization": basic(publisher), **(fields or {})}
    socket = server.websocket(target=target, fields=fields,
                              subprotocols=[SUBPROTOCOL], **kwargs)
    assert socket.subprotocol == SUBPROTOCOL
    return socket


def told(socket):
    """The next message, which must be as asyncapi.yaml has it."""
    value = socket.receive_json()
    ASYNCAPI.check_server_message("v1", value)
    return value


def ask(socket, type, **members):
    """The answer to a command, both of which must be as documented."""
    answer = socket.command(type, **members)
    ASYNCAPI.check_server_message("v1", answer)
    return answer


def say(socket, text):
    """Sends a text; returns the text of the answer."""
    socket.send_text(text)
    return socket.receive()


def expect_error(answer, code, **members):
    """It has this code, a sentence, and what else is named."""
    assert answer.pop("message")
    assert answer == {"type": "error", "code": code, **members}


def fresh(name, numbers=itertools.count()):
    """A topic that no other test has."""
    return f"{name} {next(numbers)}"


def subscribe(socket, publisher="alice", topic="news", **members):
    """Subscribes, and returns a Follower of what will come."""
    answer = ask(socket, "subscribe", publisher=publisher, topic=topic,
                 **members)
    assert answer["type"] == "subscribed", answer
    return Follower(answer)


def epoch_of(id):
    return id.partition("-")[0]


def number_of(id):
    return int(id.partition("-")[2])


def id_of(id, number):
    """The id of the same epoch that has this number."""
    return f"{epoch_of(id)}-{number}"


class Follower:
    """What was told of one topic from its `subscribed` on: each number must be
    a message's or be named by a gap notice, once, and in order."""

    def __init__(self, subscribed):
        self.publisher = subscribed["publisher"]
        self.topic = subscribed["topic"]
        self.epoch = epoch_of(subscribed["id"])
        self.last = number_of(subscribed["id"])
        self.data = []   # of the messages, in order
        self.gaps = []   # (from, to)
        self.lost = 0

    def take(self, value):
        """Takes a message or a gap notice."""
        assert (value["publisher"], value["topic"]) == (
            self.publisher, self.topic), value
        if value["type"] == "message":
            self.take_range(value["id"], value["id"])
            self.data.append(value["data"])
        else:
            assert value["type"] == "gap", value
            first, last = self.take_range(value["from"], value["to"])
            self.gaps.append((first, last))
            self.lost += last - first + 1

    def take_range(self, first, last):
        assert epoch_of(first) == epoch_of(last) == self.epoch
        first, last = number_of(first), number_of(last)
        assert first == self.last + 1, (first, self.last)
        assert last >= first
        self.last = last
        return first, last

    def read_to(self, socket, number):
        """Reads from a socket that has this subscription alone until it was
        told of `number`."""
        while self.last < number:
            self.take(socket.receive_json())
        assert self.last == number
        return self
