"""GET /topics and GET /topics/TOPIC."""
import json
import threading
import urllib.parse

import pytest

from client import SCALE, basic, request, sub_target
from publishing import (ALICE, WRONG, ask_topics, item, number, post,
                        publish_json, quoted, receipt)
from session import session, told
from threads import in_threads, join

# --- GET /topics -------------------------------------------------------------


def all_topics(server, limit, publisher="alice", **parameters):
    """What all pages have, as (publisher, topic)."""
    found, after = [], None
    while True:
        query = urllib.parse.urlencode({
            "limit": limit, **parameters, **({"after": after} if after else {})})
        topics, after = ask_topics(server, "?" + query, publisher)
        assert len(topics) <= limit
        found += [(topic["publisher"], topic["topic"]) for topic in topics]
        if after is None:
            return found


def test_there_are_no_topics_at_the_start(start):
    assert ask_topics(start()) == ([], None)


def test_a_topic_is_told_with_its_numbers(start):
    server = start(HISTORY_SIZE=5)
    subscribers = [server.subscribe("alice", "told") for _ in range(3)]
    answers = [post(server, "/pub/told").json() for _ in range(7)]
    assert ask_topics(server) == ([{
        "publisher": "alice", "topic": "told", "subscribers": 3,
        "id": answers[-1]["id"], "history": 5}], None)
    subscribers[0].close()
    server.wait_until(
        lambda: ask_topics(server)[0][0]["subscribers"] == 2, "one left")


def test_a_topic_that_was_only_subscribed_is_told(start):
    server = start()
    server.subscribe("alice", "quiet")
    [topic], _ = ask_topics(server)
    assert (topic["topic"], topic["subscribers"], topic["history"]) == (
        "quiet", 1, 0)
    before = int(topic["id"].partition("-")[2])
    assert number(post(server, "/pub/quiet")) == before + 1


def test_without_history_topics_last_as_long_as_subscribers(start):
    server = start(HISTORY_SIZE=0)
    post(server, "/pub/a")
    assert ask_topics(server) == ([], None)
    subscriber = server.subscribe("alice", "a")
    [topic], _ = ask_topics(server)
    assert (topic["subscribers"], topic["history"]) == (1, 0)
    subscriber.close()
    server.wait_until(lambda: ask_topics(server) == ([], None), "it is gone")


def test_messages_that_are_too_old_are_not_counted(start):
    server = start(HISTORY_TTL=0.3)
    server.subscribe("alice", "told")
    post(server, "/pub/told")
    server.wait_until(lambda: ask_topics(server)[0][0]["history"] == 0,
                      "it is too old")
    assert ask_topics(server)[0][0]["subscribers"] == 1


def test_topics_of_other_publishers_are_shown_only_if_all_are(start):
    server = start()
    for publisher in ("alice", "bob", "", "a"):
        post(server, "/pub/one", publisher=publisher)
    assert all_topics(server, 100) == [("alice", "one")]
    assert all_topics(server, 1, publisher="") == [("", "one")]
    assert all_topics(server, 1, publisher="Alice") == []
    assert all_topics(server, 1, all="false") == [("alice", "one")]
    assert sorted(all_topics(server, 1, all="true")) == [
        ("", "one"), ("a", "one"), ("alice", "one"), ("bob", "one")]


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_every_topic_is_told_once_whatever_the_limit(start, limit):
    server = start()
    names = [f"topic {i}" for i in range(150)]
    publish_json(server, [item(name, 1) for name in names])
    publish_json(server, [item(name, 1) for name in names], "bob")
    found = all_topics(server, limit)
    assert sorted(found) == sorted(("alice", name) for name in names)
    assert len(all_topics(server, limit, all="true")) == 300


def test_a_page_has_100_topics_if_no_limit_is_given(start):
    server = start()
    publish_json(server, [item(f"topic {i}", 1) for i in range(101)])
    topics, after = ask_topics(server)
    assert len(topics) == 100 and after is not None
    topics, after = ask_topics(server, f"?after={after}")
    assert len(topics) == 1 and after is None


def test_topics_of_names_of_all_kinds_are_told(start):
    server = start()
    names = {"", " ", "a/b", "\0", '"\\\n', "Ünï🦀", "\u2028", "x" * 1024}
    publish_json(server, [item(name, 1) for name in names])
    assert {name for _, name in all_topics(server, 3)} == names


def test_a_few_topics_are_found_among_many_of_others(start):
    server = start()
    for i in range(0, 20000 // SCALE, 4000):
        publish_json(server, [item(f"other {i + j}", 1) for j in range(4000)],
                     "bob")
    names = [f"topic {i}" for i in range(5)]
    publish_json(server, [item(name, 1) for name in names])
    assert sorted(all_topics(server, 10)) == sorted(
        ("alice", name) for name in names)
    assert server.stats()["topics"] > 4000


def test_a_page_of_long_names_has_fewer_topics(start):
    server = start()
    names = {f"{i} " + "\1" * 1000 for i in range(500)} | {"short"}
    for name in names:
        receipt(publish_json(server, item(name, 1)))
    topics, after = ask_topics(server, "?limit=1000")
    assert len(topics) <= 200 and after is not None
    found = all_topics(server, 1000)
    assert sorted(found) == sorted(("alice", name) for name in names)


def test_paging_tells_what_stays_once_while_others_come_and_go(start):
    """Tables grow and shrink: a large message takes the history of all others
    that have no subscriber."""
    server = start(WORKERS=4, HISTORY_BYTES="1M", MAX_SUBSCRIPTIONS=1024)
    stable = {f"stable {i}" for i in range(300)}
    session = server.websocket(subprotocols=["isimud.v1"])
    for topic in stable:
        assert session.command("subscribe", publisher="alice",
                               topic=topic)["type"] == "subscribed"
    rounds = {"alice": 0, "bob": 0}
    done = threading.Event()

    def come_and_go(publisher):
        client = server.http()
        many = json.dumps([item(f"{publisher} {j}", 1) for j in range(1500)])
        while not done.is_set():
            response = client.publish(publisher, body=many.encode())
            if response.status == 503:  # a worker is too far behind
                continue
            assert len(response.json()) == 1500
            assert client.publish(publisher, "large",
                                  "x" * 900000).status == 200
            server.event_stream(sub_target(
                publisher, *(f"short {j}" for j in range(50)))).close()
            rounds[publisher] += 1

    going = in_threads(*(lambda name=name: come_and_go(name)
                         for name in rounds))
    traversals = 0
    while min(rounds.values()) < 20 // SCALE or traversals < 2 + 8 // SCALE:
        assert all(thread.is_alive() for thread in going[0]), going[1]
        found = all_topics(server, [20, 300][traversals % 2],
                           **({"all": "true"} if traversals % 3 else {}))
        assert len(found) == len(set(found))
        assert {topic for publisher, topic in found
                if publisher == "alice"} >= stable
        traversals += 1
    done.set()
    join(going)


@pytest.mark.parametrize("query", [
    "limit=0", "limit=1001", "limit=-1", "limit=1.5", "limit=", "limit", "limit=x",
    "limit=00001", "limit=%31", "limit=99999999999999999999", "after=",
    "after=x", "after=1-1", "after=0x1", "after=00000000000000000",
    "limit=1&limit=0"])
def test_a_wrong_query_is_answered_400(server, query):
    response = server.ask("GET", "/topics?" + query, ALICE)
    assert response.status == 400
    assert query.partition("=")[0].strip() in response.error()


@pytest.mark.parametrize("query", [
    "?", "?x=1", "?limit=1", "?limit=1000", "?all", "?all=", "?all=1",
    "?after=0", "?after=ffffffffffffffff&limit=5", "?&&all=true&"])
def test_other_queries_are_answered(server, query):
    post(server, "/pub/asked", publisher="asker")
    topics, _ = ask_topics(server, query, "asker")
    if "after=f" not in query and "all=true" not in query:
        assert [topic["topic"] for topic in topics] == ["asked"]


@pytest.mark.parametrize("topic", [
    "a", " ", "a/b", "a//", "/", "..", "a\0b", "Ünï", "🦀", "%", "%41", "a+b",
    "a?b", "\"\\\n", "x" * 1024], ids=lambda topic: ascii(topic)[:20])
def test_one_topic_is_told_by_its_name(server, topic):
    answer = post(server, "/pub/" + quoted(topic)).json()
    response = server.ask("GET", "/topics/" + quoted(topic), ALICE)
    assert response.status == 200
    assert response.field("Cache-Control") == "no-store"
    assert response.json() == {
        "publisher": "alice", "topic": topic, "subscribers": 0,
        "id": answer["id"], "history": response.json()["history"]}
    assert response.json()["history"] >= 1


def test_one_topic_is_of_the_publisher_who_asks(server):
    post(server, "/pub/mine")
    assert server.ask("GET", "/topics/mine", ALICE).status == 200
    response = server.ask("GET", "/topics/mine",
                          {"Authorization": basic("bob")})
    assert response.status == 404
    assert response.error()


@pytest.mark.parametrize("target, status", [
    ("/topics/nope", 404), ("/topics/", 404), ("/topic", 404),
    ("/topics/%", 400), ("/topics/%zz", 400), ("/topics/%ff", 400)])
def test_no_topic_is_told(server, target, status):
    response = server.ask("GET", target, ALICE)
    assert response.status == status
    assert response.error()


@pytest.mark.parametrize("target", ["/topics", "/topics/a", "/topics?all=true"])
def test_who_asks_for_topics_needs_the_password(server, target):
    post(server, "/pub/a")
    for fields in ({}, WRONG, {"Authorization": "Bearer a"}):
        response = server.ask("GET", target, fields)
        assert response.status == 401
        assert response.field("WWW-Authenticate").startswith("Basic ")


@pytest.mark.parametrize("target", ["/topics", "/topics/head"])
def test_head_is_answered_as_get_without_content(server, target):
    post(server, "/pub/head", publisher="headed")
    fields = {"Authorization": basic("headed")}
    client = server.http()
    got = client.ask("GET", target, fields)
    client.send(request("HEAD", target, fields)
                + request("GET", target, fields))
    head = client.response("HEAD")
    assert head.status == 200
    assert head.field("Content-Length") == str(len(got.body))
    assert head.field("Content-Type") == "application/json"
    assert client.response().body == got.body


@pytest.mark.parametrize("target", ["/topics", "/topics/a"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_topics_are_only_looked_at(server, method, target):
    response = server.ask(method, target, ALICE)
    assert response.status == 405
    assert response.field("Allow") == "GET, HEAD, OPTIONS"
