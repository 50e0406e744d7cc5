"""Asking for event streams, and filling them."""
import re

from client import EventStream, request

STREAM = EventStream.ACCEPT
LOST = "0123456789abcdef-7"  # of an epoch that never was
ID = re.compile("[0-9a-f]{16}-[0-9]+")


def number_of(message_id):
    """The SEQ of an id of one topic."""
    return int(message_id.partition("-")[2])


def numbers_of(cursor):
    """The SEQs of an id of several topics."""
    return [int(number) for number in cursor.partition("-")[2].split(".")]


def asked(server, target, fields=STREAM, **kwargs):
    """The client and the head of the answer; what follows is not read."""
    client = server.http()
    client.send(request("GET", target, fields, **kwargs))
    return client, client.head()
