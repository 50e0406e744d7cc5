"""Several nodes with one log: what each fault may cost, and what it may not
(README, "Several nodes")."""
import http.client
import os
import signal
import time

import pytest

from client import DEADLINE, SCALE, basic
from cluster import (CAN_CUT, HAS_NATS, NATS, PUBLISHER, TOPIC, Cluster, Nats,
                     Node, place_of, publish)
from program import Program, ISIMUD, environment

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


def expect_no_start(nats, wanted, **settings):
    program = Program(ISIMUD, {"PASSWORD": "x", "PORT": 0,
                               "NATS_URL": nats.url, **settings})
    assert program.wait() == 2
    assert wanted in program.text()
    assert len(program.lines) < 6
    program.kill()


def test_a_stream_that_is_missing_or_does_not_fit_is_one_line():
    nats = Nats(1)
    try:
        expect_no_start(nats, "there is no stream ISIMUD",
                        MAX_BODY="512K")
        expect_no_start(nats, "max_payload", MAX_BODY="2M",
                        BUS_CREATE="true")
    finally:
        nats.stop()
