"""Who is let in: subscribers as far as there are places for them, publishers and
probes always."""
import socket
import threading
import time

import pytest

import authority as behaviour
from client import (DEADLINE, SCALE, Http, basic, handshake, request,
                    sub_target)
from program import ISIMUD, Program
from test_fairness import p90, waits

PLACES = 50
CROWD = 400  # well above the reserve of 128


def subscribe_status(server, to=None):
    """What a client that wants to subscribe is told."""
    client = server.http(to=to)
    client.send(handshake(sub_target("alice", "news")))
    return client.response()


def nothing(server):
    """Connections that send nothing."""
    return server.http()


def slow_head(server):
    client = server.http()
    client.send_while_open(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    return client


def kept_alive(server):
    client = server.http()
    client.send_while_open(request("GET", "/"))
    return client


def unread_answers(server):
    client = server.http(rcvbuf=4096)
    client.socket.setblocking(False)
    try:
        client.send_while_open(request("GET", "/") * 2000)
    except BlockingIOError:
        pass
    return client


def slow_body(server):
    """It has no password, so the content is dropped: but it has to come."""
    client = server.http()
    client.send_while_open(request("POST", "/pub", {
        "Authorization": basic("mallory", "wrong"),
        "Content-Type": "application/json", "Content-Length": "100000"}))
    return client


def shut_down(server):
    """Answered and told to go, but it stays."""
    client = server.http()
    client.send_while_open(request("GET", "/", {"Connection": "close"}))
    return client


KINDS = [nothing, slow_head, kept_alive, unread_answers, slow_body, shut_down]


@pytest.fixture
def full(start, tmp_path):
    """All places are taken by idle subscribers."""
    path = f"{tmp_path}/socket"
    server = start(MAX_CONNECTIONS=PLACES, LISTEN=f"127.0.0.1:0,unix:{path}",
                   HEADER_TIMEOUT=600, BODY_TIMEOUT=600, WRITE_TIMEOUT=600,
                   IDLE_TIMEOUT=600, CLOSE_TIMEOUT=600, WORKERS=2)
    server.path = path
    server.idle = [server.subscribe() for _ in range(PLACES)]
    return server


def assert_all_is_served_but_subscribing(server):
    for to in (None, server.path):
        begin = time.monotonic()
        assert server.http(to=to).publish(data="x").status == 200
        assert time.monotonic() - begin < SCALE
        auth = {"Authorization": basic("alice")}
        assert server.http(to=to).ask("GET", "/topics", auth).status == 200
        assert server.http(to=to).ask("GET", "/healthz").status == 200
        assert server.http(to=to).ask("GET", "/metrics", auth).status == 200
        for subscriber in server.idle:
            assert subscriber.receive() == "x"
    refused = subscribe_status(server)
    assert (refused.status, refused.field("Retry-After")) == (503, "1")


def test_idle_subscribers_lock_no_publisher_out(full):
    assert_all_is_served_but_subscribing(full)
    assert full.ask("GET", "/readyz").body == b"too many connections\n"


def test_a_refused_subscriber_may_go_on_with_its_connection(full):
    client = full.http()
    client.send(handshake(sub_target("alice", "news")))
    assert client.response().status == 503
    assert client.publish(data="x").status == 200
    full.idle[0].close()
    full.wait_until(lambda: full.ask("GET", "/readyz").status == 200,
                    "a place is free")
    client.send(handshake(sub_target("alice", "news")))
    assert client.response().status == 101
    assert subscribe_status(full).status == 503


def test_a_subscriber_on_a_unix_socket_takes_no_place_of_tcp(full):
    assert subscribe_status(full, full.path).status == 101
    assert subscribe_status(full).status == 503
    full.idle.pop().close()
    full.wait_until(lambda: subscribe_status(full).status == 101,
                    "a place is free")


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_do_not_subscribe_lock_nobody_out(full, kind):
    crowd = [kind(full) for _ in range(CROWD)]
    for _ in range(3):
        assert_all_is_served_but_subscribing(full)
    if kind not in (shut_down, slow_body):  # these were told to go already
        assert full.stats()["closed_displaced"] > CROWD - 200
    assert full.total("websocket") == PLACES
    assert len(crowd) == CROWD


def test_the_one_that_is_quiet_for_longest_makes_room(start):
    """Of one worker: among several, each looks at its own."""
    full = start(MAX_CONNECTIONS=PLACES, WORKERS=1)
    full.idle = [full.subscribe() for _ in range(PLACES)]
    crowd = [kept_alive(full) for _ in range(100)]
    for client in crowd:
        assert client.response().status == 303
    # In another order than that of coming; it is far from the limit yet.
    for client in crowd[:50]:
        assert client.ask("GET", "/").status == 303
    newer = [nothing(full) for _ in range(60)]
    full.wait_for_stat("closed_displaced", 20)
    for client in crowd[:50]:
        assert client.ask("GET", "/").status == 303
    assert len(newer) == 60


def test_a_publisher_keeps_its_connection_whatever_comes(full):
    publishers = [full.http() for _ in range(20)]
    for publisher in publishers:
        assert publisher.publish(topic="quiet").status == 200
    for kind in (nothing, kept_alive):
        crowd = [kind(full) for _ in range(CROWD)]
        for publisher in publishers:
            assert publisher.publish(topic="quiet").status == 200
        assert len(crowd) == CROWD


def test_publishing_goes_on_in_a_flood_of_connections(full):
    stopping = threading.Event()

    def flood():
        while not stopping.wait(0.01):
            for one in [socket.create_connection(full.address)
                        for _ in range(50)]:
                one.close()

    held = [nothing(full) for _ in range(CROWD)]
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        for i in range(100):
            # Each on a connection of its own, that has done nothing before.
            assert full.http().publish(data=str(i)).status == 200
    finally:
        stopping.set()
        thread.join(DEADLINE)
    assert [full.idle[0].receive() for _ in range(100)] == [
        str(i) for i in range(100)]
    assert len(held) == CROWD


def test_a_storm_of_subscribers_displaces_nobody(start):
    """Places that are free may all be asked for at once."""
    server = start(MAX_CONNECTIONS=600, WORKERS=2)
    clients = [server.http() for _ in range(600)]
    for client in clients:
        client.send(handshake(sub_target("alice", "news")))
    for client in clients:
        assert client.response().status == 101
    assert server.stats()["closed_displaced"] == 0


def test_who_is_refused_by_the_authority_gives_its_place_back(start, authority):
    authority.rules["no"] = behaviour.refuse
    server = start(MAX_CONNECTIONS=1, AUTH_URL=authority.url)
    client = server.http()
    for _ in range(5):
        client.send(handshake(sub_target("alice", "news"), {
            "Authorization": "Bearer no"}))
        assert client.response().status == 401
    server.websocket(fields={"Authorization": "Bearer yes"})


def test_a_check_under_way_has_a_place(start, authority):
    authority.rules["slow"] = behaviour.wait_for_release
    server = start(MAX_CONNECTIONS=1, AUTH_URL=authority.url,
                   AUTH_TIMEOUT=60 * SCALE)
    waiting = server.http()
    waiting.send(handshake(sub_target("alice", "news"), {
        "Authorization": "Bearer slow"}))
    server.wait_until(lambda: server.total("pending") == 1, "it is checked")
    assert subscribe_status(server).status == 503
    crowd = [nothing(server) for _ in range(CROWD)]
    assert server.http().publish().status == 200
    authority.release.set()
    assert waiting.response().status in (101, 200)
    assert len(crowd) == CROWD


# --- descriptors -------------------------------------------------------------


def probe_seconds(server):
    """What 90 of 100 probes take at most, each on a connection of its own."""
    def probe():
        assert server.ask_admin("GET", "/readyz").status in (200, 503)

    return p90(waits(server, probe))


def test_silent_clients_of_the_admin_port_keep_no_probe_waiting(start):
    server = start(ADMIN_PORT=0)
    crowd = [Http(server.admin) for _ in range(600)]
    assert probe_seconds(server) < 0.1 * SCALE
    assert server.stats()["closed_displaced"] > 500
    assert server.http().publish().status == 200
    for client in crowd:
        client.close()


def test_with_few_descriptors_and_an_authority_probes_are_answered(
        start, authority):
    server = start(nofile=700, AUTH_URL=authority.url, ADMIN_PORT=0)
    crowd = [server.http() for _ in range(560)]
    for client in crowd[:300]:
        client.send_while_open(handshake(sub_target("alice", "news"), {
            "Authorization": "Bearer yes"}))
    assert probe_seconds(server) < 0.1 * SCALE
    assert server.http().publish().status == 200
    assert server.stats()["accept_paused"] == 0


def test_many_workers_and_few_descriptors_leave_nobody_waiting(start):
    server = start(nofile=1024, WORKERS=64, ADMIN_PORT=0)
    idle = []
    while subscribe_status(server).status == 101:
        idle.append(server.clients[-1])
    assert 200 < len(idle) < 1024 - 4 * 64
    crowd = [server.http() for _ in range(1200)]
    assert server.http().publish().status == 200
    assert probe_seconds(server) < 0.1 * SCALE
    assert subscribe_status(server).status == 503
    assert server.stats()["accept_paused"] == 0
    assert len(crowd) == 1200


def test_too_few_descriptors_are_told_at_the_start():
    program = Program(ISIMUD, {"PASSWORD": "x", "PORT": 0, "WORKERS": 64},
                      nofile=200)
    try:
        assert program.wait() == 2
        assert ("200 descriptors (ulimit -n) are too few: these settings need"
                in program.text())
    finally:
        program.kill()


def test_places_that_descriptors_do_not_allow_are_told_at_the_start(start):
    server = start(nofile=200, MAX_CONNECTIONS=1000, WORKERS=1)
    server.wait_for_line(r"MAX_CONNECTIONS is 1000, but 200 descriptors "
                         r"\(ulimit -n\) allow \d+ subscribers")
