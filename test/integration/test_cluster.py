"""Several nodes with one log: what each fault may cost, and what it may not
(README, "Several nodes")."""
import http.client
import json
import os
import re
import shlex
import signal
import socket
import time

import pytest

from client import DEADLINE, SCALE, basic
from cluster import (CAN_CUT, HAS_NATS, KEEPS_WHAT_IT_ACKS, NATS, PUBLISHER, TOPIC, Cluster, Nats,
                     Node, place_of, publish)
from program import ROOT, Program, ISIMUD, environment
from session import ASYNCAPI

pytestmark = [
    pytest.mark.skipif(not HAS_NATS, reason=f"no {NATS}"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it runs one thread at a time")]


@pytest.fixture
def cluster():
    """cluster(nodes=3, servers=3) starts one; its nodes must end well."""
    clusters, nodes = [], []

    def start_node(nats, **settings):
        nodes.append(Node(nats, **settings))
        return nodes[-1]

    def start(**kwargs):
        clusters.append(Cluster(start_node, **kwargs))
        return clusters[-1]

    yield start
    try:
        for node in nodes:
            if node.is_up:
                node.stop()
    finally:
        for node in nodes:
            node.kill()
        for one in clusters:
            one.stop()


def test_publications_reach_subscribers_of_all_nodes_in_one_order(cluster):
    one = cluster()
    one.begin()
    one.publishes(300)
    one.end()
    assert one.ledger.count(0) == one.ledger.count(503) == 0


def test_a_key_publishes_once_whichever_node_is_asked(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    first = a.ask("POST", "/pub", {"Authorization": basic(PUBLISHER),
                                   "Content-Type": "application/json",
                                   "Idempotency-Key": "k"},
                  b'{"topic":"t","data":1}')
    assert first.status == 200
    again = b.ask("POST", "/pub", {"Authorization": basic(PUBLISHER),
                                   "Content-Type": "application/json",
                                   "Idempotency-Key": "k"},
                  b'{"topic":"t","data":1}')
    assert again.status == 200
    assert again.field("Idempotency-Replayed") == "true"
    assert again.json()["id"] == first.json()["id"]
    other = b.ask("POST", "/pub", {"Authorization": basic(PUBLISHER),
                                   "Content-Type": "application/json",
                                   "Idempotency-Key": "k"},
                  b'{"topic":"t","data":2}')
    assert other.status == 422


def test_a_killed_node_costs_nobody_else_a_message(cluster):
    one = cluster()
    one.begin()
    one.publishes(50)
    one.kill_node(0)
    one.publishes(100)
    one.replace_node(0)
    one.publishes(50)
    one.end()


@pytest.mark.parametrize("victims", [[1], [2], [1, 2, 3]],
                         ids=["one", "another", "all"])
def test_killed_servers_that_come_back_cost_no_message(cluster, victims):
    one = cluster()
    one.begin()
    one.publishes(50)
    one.nats.run("kill", *victims)
    time.sleep(2)
    for i in victims:
        one.nats.run("add", i)
    one.publishes(50, 60 * SCALE)
    one.end()


def test_a_log_that_is_lost_is_told_to_everybody(cluster):
    one = cluster()
    one.begin()
    one.publishes(50)
    epochs = {place_of(s.last)[0] for s in one.ledger.subscribers if s.last}
    assert len(epochs) == 1
    one.nats.run("kill", 1, 2, 3)
    one.nats.run("wipe", 1, 2, 3)
    for i in (1, 2, 3):
        one.nats.run("add", i)
    one.publishes(50, 60 * SCALE)
    one.end()
    epochs |= {place_of(s.last)[0] for s in one.ledger.subscribers if s.last}
    assert len(epochs) == 2  # exactly one new one
    for s in one.ledger.subscribers:
        assert s.last is None or ("reset",) in s.told


keeps_what_it_acks = pytest.mark.skipif(
    not KEEPS_WHAT_IT_ACKS,
    reason="nats-server before 2.10.23 can acknowledge what it loses")


@keeps_what_it_acks
def test_a_frozen_server_stops_no_node_for_good(cluster):
    one = cluster()
    one.begin()
    one.publishes(50)
    one.nats.run("freeze", 1)
    one.publishes(50, 60 * SCALE)
    one.nats.run("thaw", 1)
    one.publishes(50, 60 * SCALE)
    one.end()


def test_a_frozen_node_catches_up(cluster):
    one = cluster()
    one.begin()
    one.publishes(50)
    one.nodes[0].is_up = False
    one.nodes[0].process.send_signal(signal.SIGSTOP)
    one.publishes(100)
    one.nodes[0].process.send_signal(signal.SIGCONT)
    one.nodes[0].is_up = True
    one.publishes(50)
    one.end()


@keeps_what_it_acks
@pytest.mark.skipif(not CAN_CUT, reason="iptables needs root")
def test_a_server_that_is_cut_off_costs_no_message(cluster):
    one = cluster()
    one.begin()
    one.publishes(50)
    one.nats.run("cut", 3)
    one.publishes(50, 60 * SCALE)
    one.nats.run("heal")
    one.publishes(50, 60 * SCALE)
    one.end()


def test_nodes_restart_one_after_the_other_without_a_loss(cluster):
    one = cluster(DRAIN_SECONDS=1)
    one.begin()
    for i in range(3):
        one.publishes(30)
        old = one.nodes[i]
        old.is_up = False
        old.terminate()
        assert old.wait() == 0
        one.replace_node(i)
    one.publishes(30)
    one.end()


def test_an_engine_that_is_away_refuses_publications_at_once(cluster):
    one = cluster(nodes=1, servers=1)
    node, = one.nodes
    stream = node.event_stream()
    one.nats.run("kill", 1)
    node.wait_until(lambda: node.ask(
        "POST", "/pub/news", {"Authorization": basic(PUBLISHER)},
        b"x").status == 503, "publishing is refused")
    begin = time.monotonic()
    response = node.ask("POST", "/pub/news",
                        {"Authorization": basic(PUBLISHER)}, b"x")
    assert response.status == 503 and response.field("Retry-After")
    assert time.monotonic() - begin < 1 * SCALE
    one.nats.run("add", 1)
    node.wait_until(lambda: node.ask(
        "POST", "/pub/news", {"Authorization": basic(PUBLISHER)},
        b"back").status == 200, "publishing goes on")
    assert stream.event().data == "back"


def test_what_nobody_can_tell_is_said_to_be_unknown(cluster):
    one = cluster(nodes=1, servers=1, BUS_TIMEOUT=1)
    node, = one.nodes
    client = node.websocket(fields={"Authorization": basic(PUBLISHER)},
                            subprotocols=["isimud.v1"])
    one.nats.run("freeze", 1)
    try:
        client.send_json({"type": "publish", "ref": 1, "topic": "news",
                          "data": 1})
        response = node.ask("POST", "/pub/news",
                            {"Authorization": basic(PUBLISHER)}, b"x")
        assert response.status == 504, response.body
        assert "Idempotency-Key" in response.json()["error"]
        answer = json.loads(client.receive())
        ASYNCAPI.check_server_message("v1", answer)
        assert answer["ref"] == 1 and answer["code"] == "unknown_outcome"
        assert bus(node, "unknown_total") == 2
        assert node.metrics()['isimud_http_responses_total{status="504"}'] == 1
    finally:
        one.nats.run("thaw", 1)


def expect_no_start(nats, wanted, **settings):
    program = Program(ISIMUD, {"PASSWORD": "x", "PORT": 0,
                               "NATS_URL": nats.url, **settings})
    assert program.wait() == 2
    assert wanted in program.text()
    assert len(program.lines) < 6
    program.kill()


def stream_of_readme():
    """README's `nats stream add`, as what that command sends."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
        text = re.search(r"^    (nats stream add (?:.*\\\n)*.*)",
                         readme.read(), re.MULTILINE).group(1)
    words = shlex.split(text.replace("\\\n", " "))
    flags = iter(" ".join(words[4:]).replace("=", " ").split())
    config = {"name": words[3]}
    seconds = {"s": 1, "m": 60}
    for flag in flags:
        key = flag[2:].replace("-", "_")
        if key == "defaults":
            continue
        if key == "deny_delete":
            config[key] = True
            continue
        value = next(flags)
        if key in ("max_age", "dupe_window"):
            value = int(value[:-1]) * seconds[value[-1]] * 10**9
        elif key.startswith("max_") or key == "replicas":
            value = int(value.replace("GB", "000000000"))
        key = {"dupe_window": "duplicate_window",
               "replicas": "num_replicas"}.get(key, key)
        config[key] = [value] if key == "subjects" else value
    return config


def make_stream(nats, config):
    """Asks until the servers have a leader; returns the answer."""
    body = json.dumps(config).encode()
    request = b"PUB $JS.API.STREAM.CREATE.%s answer %d\r\n%s\r\n" % (
        config["name"].encode(), len(body), body)
    host, port = nats.urls[0].removeprefix("nats://").split(":")
    end = time.monotonic() + 4 * DEADLINE
    with socket.create_connection((host, int(port)), 1) as s:
        s.sendall(b"CONNECT {\"verbose\":false}\r\nSUB answer 1\r\n")
        answer = b""
        while b"stream_create_response" not in answer:
            assert time.monotonic() < end, answer
            s.sendall(request)
            try:
                answer += s.recv(65536)
            except TimeoutError:
                pass
        while not answer.endswith(b"\r\n"):
            answer += s.recv(65536)
    return answer


def test_the_stream_of_readme_fits(cluster):
    one = cluster(nodes=0)
    answer = make_stream(one.nats, {**stream_of_readme(), "max_bytes": 10**8})
    assert b'"error"' not in answer, answer
    node = one.start_node(BUS_CREATE="false", MAX_BODY="512K")
    assert node.ask("POST", "/pub/news", {"Authorization": basic(PUBLISHER)},
                    b"x").status == 200


def test_a_stream_that_is_missing_or_does_not_fit_is_one_line():
    nats = Nats(1)
    try:
        expect_no_start(nats, "there is no stream ISIMUD",
                        MAX_BODY="512K")
        expect_no_start(nats, "max_payload", MAX_BODY="2M",
                        BUS_CREATE="true")
    finally:
        nats.stop()


def bus(node, name):
    return node.metrics()["isimud_bus_" + name]


def subscribers(node, path="/topics/news"):
    response = node.ask("GET", path, {"Authorization": basic(PUBLISHER)})
    return response.json()["subscribers"] if response.status == 200 else None


def test_all_nodes_count_the_subscribers_of_all(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    one.wait_until(lambda: bus(a, "nodes") == 2 and
                 bus(b, "nodes") == 2, "they know each other")
    streams = [a.event_stream(), b.event_stream()]
    end = time.monotonic() + 2 * SCALE
    while not subscribers(a) == subscribers(b) == 2:
        assert time.monotonic() < end, "two seconds are over"
        time.sleep(0.02)
    for node in one.nodes:
        receipt = node.ask("POST", "/pub/news",
                           {"Authorization": basic(PUBLISHER),
                            "Idempotency-Key": "k" + str(node.address)}, b"x")
        assert receipt.json()["subscribers"] == 2
    repeated = a.ask("POST", "/pub/news",
                     {"Authorization": basic(PUBLISHER),
                      "Idempotency-Key": "k" + str(b.address)}, b"x")
    assert repeated.field("Idempotency-Replayed") == "true"
    assert repeated.json()["subscribers"] == 2
    page = a.ask("GET", "/topics",
                 {"Authorization": basic(PUBLISHER)}).json()
    assert page["nodes"] == 2
    assert [t["subscribers"] for t in page["topics"]] == [2]

    # A topic that only another node's subscribers make exist.
    quiet = b.event_stream(f"/sub?publisher={PUBLISHER}&topic=quiet")
    one.wait_until(lambda: subscribers(a, "/topics/quiet") == 1,
                 "the other node knows it")
    assert subscribers(a, "/topics/none") is None

    b.is_up = False
    b.kill()
    one.wait_until(lambda: subscribers(a) == 1 and
                 bus(a, "nodes") == 1, "it is forgotten",
                 15 * SCALE)
    for stream in [*streams, quiet]:
        stream.close()


def test_a_node_tells_how_its_bus_is(cluster):
    one = cluster(nodes=1, servers=1)
    node, = one.nodes
    for _ in range(3):
        assert node.ask("POST", "/pub/news",
                        {"Authorization": basic(PUBLISHER)},
                        b"x").status == 200
    assert bus(node, "up") == 1
    assert bus(node, "applied_sequence") >= 3
    assert bus(node, "ack_seconds_count") == 3
    assert bus(node, "pending_bytes") == 0
    assert bus(node, 'joins_total{reason="start"}') == 1
    for direction in ("in", "out"):
        one.wait_until(lambda: bus(
            node, f'publications_total{{direction="{direction}"}}') == 3,
            "they are counted")
    one.nats.run("kill", 1)
    one.wait_until(lambda: bus(node, "up") == 0, "it is down")
    one.wait_until(lambda: bus(node, "lag_seconds") > 0,
                    "it is behind")
