"""isimud.v1: the errors that the machine, or the authority, is the cause of."""
import itertools
import json
import time

from authority import answer, hang_up, wait_for_release
from client import DEADLINE, PING, TEXT, frame
from program import Server
from session import (NEWS, SUBPROTOCOL, ask, expect_error, number_of, session,
                     subscribe, told)


def test_publishing_is_busy_while_too_much_waits_for_a_worker(start):
    # One worker: it does not look into its mailbox before all is published.
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    reader, socket = session(server), session(server, "alice")
    follower = subscribe(reader)
    command = json.dumps({"type": "publish", "topic": "news",
                          "data": 900 * "x"}).encode()
    socket.send(frame(TEXT, command) * 3)
    answers = [told(socket) for _ in range(3)]
    ids = [number_of(a["id"]) for a in answers if a["type"] == "published"]
    assert ids and len(ids) < 3
    for value in answers:
        if value["type"] == "error":
            expect_error(value, "busy")
    follower.read_to(reader, ids[-1])
    assert len(follower.data) == len(ids)
    assert ask(socket, "publish", topic="news", data=1)["type"] == "published"


def test_tight_memory_refuses_subscriptions_until_it_is_not(start):
    """A topic keeps its name, and no subscriber is ended for that; so names
    must not take what publishing needs."""
    settings = dict(ADMIN_PORT=0, MAX_SUBSCRIPTIONS=1024, HISTORY_SIZE=0)
    trial = Server(MEMORY_LIMIT="64G", **settings)
    limit = int(trial.metrics()["isimud_memory_used_bytes"]) + (12 << 20)
    trial.stop()
    server = start(MEMORY_LIMIT=limit, **settings)
    greedy, small = [], session(server, "alice")
    end = time.monotonic() + DEADLINE
    for n in itertools.count():
        assert time.monotonic() < end
        if n % 1024 == 0:
            greedy.append(session(server))
        value = greedy[-1].command("subscribe", ref=1, publisher="x" * 1024,
                                   topic=f"{n:01024}")
        if value["type"] == "error":
            break
    expect_error(value, "no_memory", ref=1)
    expect_error(ask(small, "subscribe", ref=2, publisher="b", topic="c"),
                 "no_memory", ref=2)
    assert ask(small, "publish", topic="a", data=1)["type"] == "published"
    for socket in greedy:
        assert ask(socket, "ping") == {"type": "pong"}
        socket.close()
    server.wait_until(lambda: ask(small, "subscribe", publisher="b", topic="c")[
        "type"] == "subscribed", "there is memory again")


def guarded(start, authority, token, **settings):
    """A server that asks about each topic, and a client with this token."""
    server = start(AUTH_URL=authority.url, AUTH_PER_TOPIC="true", **settings)
    socket = server.websocket(subprotocols=[SUBPROTOCOL, f"bearer.{token}"])
    assert socket.subprotocol == SUBPROTOCOL
    authority.next_asked()  # about the handshake
    return server, socket


def test_a_topic_that_the_authority_refuses_is_forbidden(start, authority):
    server, socket = guarded(start, authority, "mine")
    authority.rules["mine"] = answer(403)
    expect_error(ask(socket, "subscribe", ref=1, **NEWS), "forbidden", ref=1)
    authority.rules["mine"] = answer(200)
    assert ask(socket, "subscribe", ref=2, **NEWS)["type"] == "subscribed"


def test_an_authority_that_does_not_answer_is_told(start, authority):
    server, socket = guarded(start, authority, "mine")
    authority.rules["mine"] = hang_up
    expect_error(ask(socket, "subscribe", ref=1, **NEWS), "auth_failed", ref=1)
    assert ask(socket, "ping") == {"type": "pong"}


def test_too_many_checks_are_busy(start, authority):
    server, socket = guarded(start, authority, "slow", AUTH_MAX_CHECKS=1,
                             AUTH_QUEUE=0)
    other = server.websocket(subprotocols=[SUBPROTOCOL, "bearer.other"])
    authority.next_asked()
    authority.rules["slow"] = wait_for_release
    socket.send_json({"type": "subscribe", **NEWS})
    authority.next_asked()
    expect_error(ask(other, "subscribe", ref=1, publisher="b", topic="c"),
                 "busy", ref=1)
    authority.release.set()
    assert told(socket)["type"] == "subscribed"
    server.wait_until(lambda: ask(other, "subscribe", publisher="b", topic="c")[
        "type"] == "subscribed", "the check is over")


def test_commands_behind_a_check_are_answered_behind_it(start, authority):
    server, socket = guarded(start, authority, "slow")
    assert ask(socket, "subscribe", publisher="a",
               topic="b")["type"] == "subscribed"
    authority.next_asked()
    authority.rules["slow"] = wait_for_release
    key = {"publisher": "b", "topic": "c"}
    for command in ({"type": "ping", "ref": 1},
                    {"type": "subscribe", "ref": 2, **NEWS},
                    {"type": "ping", "ref": 3}, {"type": "nonsense", "ref": 4},
                    {"type": "subscribe", "ref": 5, **NEWS},
                    {"type": "unsubscribe", "ref": 6, **NEWS},
                    {"type": "subscribe", "ref": 7, **key}):
        socket.send_json(command)
    socket.send_frame(PING, b"barrier")
    assert told(socket)["ref"] == 1
    authority.next_asked()
    server.publish("a", "b", "meanwhile")
    assert told(socket)["data"] == "meanwhile"
    authority.release.set()
    answers = [told(socket) for _ in range(6)]
    assert [a["ref"] for a in answers] == [2, 3, 4, 5, 6, 7]
    assert [a.get("code", a["type"]) for a in answers] == [
        "subscribed", "pong", "unknown_type", "already_subscribed",
        "unsubscribed", "subscribed"]
    socket.expect_pong(b"barrier")


def test_a_client_may_leave_while_it_is_checked(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_PER_TOPIC="true")
    for leave in ("close", "abort", "half_close"):
        socket = server.websocket(
            subprotocols=[SUBPROTOCOL, f"bearer.{leave}"])
        for topic in ("a", "b"):
            subscribe(socket, topic=topic, slow="drop")
        while not authority.asked.empty():
            authority.next_asked()
        authority.rules[leave] = wait_for_release
        socket.send_json({"type": "subscribe", **NEWS})
        socket.send_json({"type": "ping"})
        authority.next_asked()
        getattr(socket, leave)()
    server.publish("alice", "a", "x")
    authority.release.set()
    server.wait_until(lambda: server.total("websocket") == 0, "all are gone")
    receipt = server.http().publish("alice", "news").json()
    assert receipt["subscribers"] == 0
