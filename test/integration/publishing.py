"""Publishing over HTTP, and reading receipts."""
import json
import re
import urllib.parse

from client import basic, publish_request, request

ALICE = {"Authorization": basic("alice")}
WRONG = {"Authorization": basic("alice", "wrong")}
ID = re.compile("[0-9a-f]{16}-(0|[1-9][0-9]*)")


def quoted(topic):
    return urllib.parse.quote(topic, safe="")


def plain_request(target, body=b"hello", publisher="alice", **fields):
    """POST /pub/TOPIC; `fields` with _ for -, left out if None."""
    return request("POST", target, {
        "Authorization": basic(publisher),
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }, body)


def post(server, target, body=b"hello", publisher="alice", **fields):
    """Sends it on a connection of its own."""
    client = server.http()
    client.send(plain_request(target, body, publisher, **fields))
    return client.response()


def publish_json(server, value, publisher="alice", **fields):
    """POST /pub with `value`, or the bytes of it."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return post(server, "/pub", body, publisher,
                **{"Content_Type": "application/json", **fields})


def item(topic, data):
    return {"topic": topic, "data": data}


def receipt(response):
    """Of a response that has one: its number and its subscribers."""
    assert response.status == 200, response.body
    return check_receipt(response.json())


def check_receipt(value):
    assert list(value) == ["id", "subscribers"]
    assert ID.fullmatch(value["id"]), value
    assert type(value["subscribers"]) is int
    return int(value["id"].partition("-")[2]), value["subscribers"]


def number(response):
    return receipt(response)[0]


def batch_request(batch, **fields):
    return publish_request(body=json.dumps(batch).encode(), fields=fields)


def ask_topics(server, query="", publisher="alice"):
    response = server.ask("GET", "/topics" + query,
                          {"Authorization": basic(publisher)})
    assert response.status == 200, response.body
    page = response.json()
    assert list(page) == ["topics", "next"]
    for topic in page["topics"]:
        assert list(topic) == ["publisher", "topic", "subscribers", "id",
                               "history"]
        assert ID.fullmatch(topic["id"])
    return page["topics"], page["next"]
