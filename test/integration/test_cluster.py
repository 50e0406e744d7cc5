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

import faults
from client import DEADLINE, SCALE, basic
from cluster import (CAN_CUT, KEEPS_WHAT_IT_ACKS, PUBLISHER, Nats, marks,
                     place_of)
from program import ROOT, Program, ISIMUD, environment
from session import ASYNCAPI

pytestmark = marks


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


def told_of(one):
    """How many subscribers were told of a loss."""
    return sum(("reset",) in s.told for s in one.ledger.subscribers)


def epochs(one):
    return {place_of(s.last)[0] for s in one.ledger.subscribers if s.last}


def mark(name):
    marks = [pytest.mark.skipif(
        name in faults.NEED_IPTABLES and not CAN_CUT,
        reason="iptables needs root"), pytest.mark.skipif(
        name in faults.NEED_CARE and not KEEPS_WHAT_IT_ACKS,
        reason="nats-server before 2.10.23 can acknowledge what it loses")]
    if name not in SHORT:
        marks.append(all_of_it)
    return marks


# CI takes these, `make cluster-test` all.
all_of_it = pytest.mark.skipif(os.environ.get("CLUSTER") != "all",
                               reason="make cluster-test")
SHORT = ("leader_killed", "all_servers_killed", "log_wiped", "leader_cut_off",
         "leader_frozen", "node_killed", "node_frozen", "node_cut_off",
         "node_slow", "nodes_restarted", "servers_restarted")
# So much of the log is lost that everybody must be told.
LOSE_ALL = {"file": {"log_wiped"},
            "memory": {"log_wiped", "all_servers_killed"}}


def endure(one, name):
    one.begin()
    one.publishes(50)
    faults.run(one, name)
    one.publishes(50, 60 * SCALE)
    one.end()


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=mark(name)) for name in faults.FAULTS])
def test_a_fault_costs_no_message_that_nobody_is_told_of(cluster, name):
    one = cluster(DRAIN_SECONDS=1, HISTORY_SIZE=10000)
    endure(one, name)
    if name in LOSE_ALL["file"]:
        assert len(epochs(one)) == 1
        assert told_of(one) == 6
    elif KEEPS_WHAT_IT_ACKS:
        assert told_of(one) == 0


@all_of_it
@pytest.mark.parametrize("name", [
    name for name in faults.FAULTS
    if name.endswith("killed") or name == "servers_restarted"])
def test_servers_that_keep_the_log_in_memory(cluster, name):
    one = cluster(DRAIN_SECONDS=1, HISTORY_SIZE=10000, storage="memory")
    endure(one, name)
    if name in LOSE_ALL["memory"]:
        assert told_of(one) == 6


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


def test_the_stream_of_readme_fits(cluster):
    one = cluster(nodes=0)
    answer = one.nats.make_stream({**stream_of_readme(), "max_bytes": 10**8})
    assert "error" not in answer, answer
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
