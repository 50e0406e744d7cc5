"""Several nodes: what clients are told, where one node differs from several
(README, "What is different"), and faults that need a hand of their own."""
import concurrent.futures
import json
import signal
import statistics
import threading
import time

import pytest

from client import DEADLINE, SCALE, EventStream, basic, sub_target
from cluster import CAN_CUT, PUBLISHER, Nats, marks, place_of, stream_config
from program import ISIMUD, Program
from session import ASYNCAPI

pytestmark = marks
AUTH = {"Authorization": basic(PUBLISHER)}
JSON = {**AUTH, "Content-Type": "application/json"}


def bus(node, name):
    return node.metrics()["isimud_bus_" + name]


def say(node, text, **fields):
    """Publishes to alice's news; the response."""
    return node.ask("POST", "/pub/news", {**AUTH, **fields}, text.encode())


def say_batch(node, texts, topics=("news",), **fields):
    return node.ask("POST", "/pub", {**JSON, **fields}, json.dumps(
        [{"topic": topics[i % len(topics)], "data": text}
         for i, text in enumerate(texts)]).encode())


def session(node, **kwargs):
    return node.websocket(fields=AUTH, subprotocols=["isimud.v1"], **kwargs)


def subscribe(client, **members):
    return client.command("subscribe", publisher=PUBLISHER, topic="news",
                          **members)


# --- resuming at another node

def test_a_client_goes_on_at_another_node_wherever_it_was(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    stream = a.event_stream()
    begin = stream.expect_id()
    texts = [f"m{i}" for i in range(20)]
    for text in texts[:10]:
        assert say(a, text).status == 200
    assert say_batch(b, texts[10:]).status == 200
    ids = [begin] + [event.id for event in stream.events(20)]
    for node in (a, b):
        for i, since in enumerate(ids):
            there = node.event_stream(sub_target(PUBLISHER, "news",
                                                 since=since))
            client = session(node)
            assert subscribe(client, since=since)["resumed"] is True
            assert there.data_of(20 - i) == texts[i:]
            assert [client.receive_json()["data"] for _ in texts[i:]] == \
                texts[i:]
    assert say(a, "end").status == 200
    for node in (a, b):
        for client in node.clients:
            if isinstance(client, EventStream) and client is not stream:
                assert client.event().data == "end"


def test_a_traceparent_goes_through_the_log(cluster):
    one = cluster(nodes=2, servers=1, LOG_LEVEL="debug")
    a, b = one.nodes
    here, there = session(a), session(b)
    subscribe(here), subscribe(there)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    receipt = say(a, "traced", Traceparent=trace).json()
    assert say_batch(a, ["plain"]).status == 200
    assert session(a).command("publish", topic="news", data="own",
                              traceparent=trace)["type"] == "published"
    for client in (here, there):
        got = [client.receive_json() for _ in range(3)]
        assert [(m["data"], m.get("traceparent")) for m in got] == [
            ("traced", trace), ("plain", None), ("own", trace)]
        assert got[0]["id"] == receipt["id"]
    lines = a.wait_for_event("published", count=3)
    assert [(line["id"], line.get("traceparent")) for line in lines] == [
        (m["id"], m.get("traceparent")) for m in got]


@pytest.mark.skipif(not CAN_CUT, reason="iptables needs root")
def test_a_client_that_is_ahead_of_a_node_goes_on_there_without_a_loss(
        cluster):
    one = cluster(nodes=2, servers=3)
    a, b = one.nodes
    stream = a.event_stream()
    assert say(a, "before").status == 200
    stream.event()
    one.nats.run("part", b.pid)
    try:
        texts = [f"ahead{i}" for i in range(5)]
        ids = [say(a, text).json()["id"] for text in texts]
        busy, clients = 0, []
        end = time.monotonic() + 4 * DEADLINE
        for i, since in enumerate(ids):
            while True:
                assert time.monotonic() < end
                client = session(b)
                answer = subscribe(client, since=since)
                if answer["type"] == "subscribed":
                    break
                assert answer["code"] == "busy"
                busy += 1
            assert answer["resumed"] is True
            clients.append((i, client))
    finally:
        one.nats.run("heal")
    assert say(a, "end").status == 200
    for i, client in clients:
        assert [client.receive_json()["data"] for _ in range(5 - i)] == \
            texts[i + 1:] + ["end"]


def test_an_id_that_no_node_has_given_is_busy_after_a_second(cluster):
    one = cluster(nodes=1, servers=1)
    node, = one.nodes
    epoch, number = place_of(say(node, "x").json()["id"])
    ahead = f"{epoch}-{number + (1 << 40)}"
    client = session(node)
    client.send_json({"type": "subscribe", "ref": 1, "publisher": PUBLISHER,
                      "topic": "news", "since": ahead})
    client.send_json({"type": "ping", "ref": 2})
    begin = time.monotonic()
    answer = client.receive_json()
    ASYNCAPI.check_server_message("v1", answer)
    assert (answer["ref"], answer["code"]) == (1, "busy")
    assert 0.5 < time.monotonic() - begin < 3 * SCALE
    assert client.receive_json() == {"type": "pong", "ref": 2}  # in order
    assert node.ask("GET", sub_target(PUBLISHER, "news", since=ahead), {
        "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}).status == 503
    # One without credentials has no session before.
    nobody = node.websocket(subprotocols=["isimud.v1"])
    assert subscribe(nobody, since=ahead)["code"] == "busy"
    # It can leave meanwhile, and so can the server.
    client.send_json({"type": "subscribe", "publisher": PUBLISHER,
                      "topic": "news", "since": ahead})
    client.close()
    session(node).send_json({"type": "subscribe", "publisher": PUBLISHER,
                             "topic": "news", "since": ahead})


def test_an_id_of_another_epoch_is_told_once_that_is_certain(cluster):
    one = cluster(nodes=1, servers=1)
    node, = one.nodes
    id = say(node, "x").json()["id"]
    client = session(node)
    answer = subscribe(client, since="0123456789abcdef-5")
    assert answer["resumed"] is False
    assert place_of(answer["id"])[0] == place_of(id)[0]
    # Not while the log is away: the epoch may be another by now.
    one.nats.run("kill", 1)
    other = session(node)
    answer = subscribe(other, since="0123456789abcdef-5")
    assert answer["code"] == "busy"
    one.nats.run("add", 1)


# --- a log that is cut back

def purge(nats, below):
    answer = nats.ask("$JS.API.STREAM.PURGE.ISIMUD",
                      json.dumps({"seq": below} if below else {}).encode())
    assert answer["success"], answer


def last_marker(nats):
    return nats.ask("$JS.API.STREAM.MSG.GET.ISIMUD", json.dumps(
        {"last_by_subj": "isimud.log.e"}).encode())["message"]["seq"]


def last_sequence(nats):
    return nats.ask("$JS.API.STREAM.INFO.ISIMUD")["state"]["last_seq"]


def test_what_was_cut_off_the_log_while_a_node_was_away_is_told(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    here, there = a.event_stream(), b.event_stream()
    raw = b.subscribe()
    client = session(b)
    subscribe(client)
    assert say(a, "before").status == 200
    for stream in (here, there):
        assert stream.event().data == "before"
    assert raw.receive() == client.receive_json()["data"] == "before"
    b.process.send_signal(signal.SIGSTOP)
    try:
        # From here on nothing comes by way of its old connection.
        one.nats.run("term", 1)
        one.nats.wait_for_end(1)
        one.nats.run("add", 1)
        one.wait_until(lambda: say(a, "lost").status == 200, "it goes on")
        for _ in range(20):
            assert say(a, "lost").status == 200
        # A log without a marker would be another one.
        lost = last_sequence(one.nats)
        one.wait_until(lambda: last_marker(one.nats) > lost, "a marker")
        purge(one.nats, last_marker(one.nats))
        assert say(a, "after").status == 200
    finally:
        b.process.send_signal(signal.SIGCONT)
    while (event := here.event()).data != "after":
        assert event.type == "message" and event.data == "lost"
    event = there.event()
    assert event.type == "reset"
    assert place_of(json.loads(event.data)["id"])[0] == place_of(here.last_event_id)[0]
    assert there.event().data == "after"
    assert client.receive_json()["type"] == "reset"
    assert client.receive_json()["data"] == "after"
    raw.expect_close(1012)
    assert bus(b, "lost_records_total") > 20
    assert bus(a, "lost_records_total") == 0
    # The same ids mean the same at both.
    assert say(b, "end").status == 200
    assert here.event().data == there.event().data == "end"
    assert here.last_event_id == there.last_event_id


def test_a_log_that_is_emptied_behind_all_nodes_is_told(cluster):
    one = cluster(nodes=2, servers=1)
    streams = [node.event_stream() for node in one.nodes]
    assert say(one.nodes[0], "before").status == 200
    for stream in streams:
        assert stream.event().data == "before"
    purge(one.nats, None)
    one.wait_until(lambda: all(bus(node, "epochs_total") == 2
                               for node in one.nodes), "a new epoch", 60)
    one.wait_until(lambda: say(one.nodes[1], "after").status == 200,
                   "it goes on")
    for stream in streams:
        assert stream.event().type == "reset"
        assert stream.event().data == "after"
    assert streams[0].last_event_id == streams[1].last_event_id


def test_what_is_no_record_is_skipped_by_all(cluster):
    one = cluster(nodes=2, servers=1)
    streams = [node.event_stream() for node in one.nodes]
    for subject in ("isimud.log.0", "isimud.log.e", "isimud.log.x"):
        for body in (b"", b"x", b"\x01\x01" + 60 * b"\xff", 100000 * b"y"):
            assert one.nats.ask(subject, body)["seq"] > 0
    assert say(one.nodes[0], "after").status == 200
    for stream in streams:
        assert stream.event().data == "after"
    # The nodes go on writing markers behind what is none.
    time.sleep(5 * SCALE)
    assert say(one.nodes[1], "later").status == 200
    for stream in streams:
        assert stream.event().data == "later"
    for node in one.nodes:
        assert bus(node, "epochs_total") == 1
        assert bus(node, "up") == 1
    one.nats.ask("isimud.log.e", b"x")
    third = one.start_node()
    assert say(third, "third").status == 200
    assert streams[0].event().data == "third"


# --- unknown outcomes, servers that hang, the end

def test_what_is_unknown_is_published_once_if_repeated_at_another_node(
        cluster):
    one = cluster(nodes=2, servers=1, BUS_TIMEOUT=1)
    a, b = one.nodes
    streams = [a.event_stream(), b.event_stream()]
    one.nats.run("freeze", 1)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(
                lambda i: say(a, f"k{i}", **{"Idempotency-Key": f"k{i}"})
                .status, range(8)))
    finally:
        one.nats.run("thaw", 1)
    assert set(answers) == {504}
    ids = {}
    for i in range(8):
        def is_taken():
            response = say(b, f"k{i}", **{"Idempotency-Key": f"k{i}"})
            if response.status == 200:
                ids[f"k{i}"] = response.json()["id"]
            return response.status == 200
        one.wait_until(is_taken, "it is taken")
    assert say(a, "end").status == 200
    for stream in streams:
        events = [stream.event() for _ in range(9)]
        assert events[-1].data == "end"
        assert {event.data: event.id for event in events[:-1]} == ids


def latencies(node, count=60):
    """Of requests that need nothing of the log, milliseconds, sorted."""
    client, all = node.http(), []
    for _ in range(count):
        begin = time.monotonic()
        assert client.ask("GET", "/healthz").status == 200
        all.append(1000 * (time.monotonic() - begin))
    return sorted(all)


def test_a_server_that_hangs_costs_the_workers_no_time(cluster):
    one = cluster(nodes=1, servers=1, BUS_PENDING="64K", BUS_TIMEOUT=3)
    node, = one.nodes
    stream = node.event_stream()
    before = latencies(node)
    statuses, is_over = [], threading.Event()

    def flood():
        while not is_over.is_set():
            statuses.append(say(node, 2000 * "x").status)

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(60)]
    one.nats.run("freeze", 1)
    try:
        for thread in threads:
            thread.start()
        one.wait_until(lambda: 503 in statuses, "the queue is full")
        during = latencies(node)
        assert bus(node, "pending_bytes") <= 65536
        one.wait_until(lambda: bus(node, "up") == 0, "it is down")
        begin = time.monotonic()
        assert say(node, "x").status == 503
        assert time.monotonic() - begin < 1 * SCALE
    finally:
        is_over.set()
        one.nats.run("thaw", 1)
    for thread in threads:
        thread.join(4 * DEADLINE)
    assert set(statuses) <= {200, 503, 504}
    # nats.c alone would hold its caller for 500 ms a publication.
    assert statistics.median(during) < statistics.median(before) + 100 * SCALE
    assert during[-1] < 1000 * SCALE
    one.wait_until(lambda: say(node, "end").status == 200, "it goes on")
    while stream.event().data != "end":
        pass
    assert bus(node, "pending_bytes") == 0


def test_a_publication_that_waits_for_the_log_at_the_end_is_answered_504(
        cluster):
    one = cluster(nodes=1, servers=1, BUS_TIMEOUT=30)
    node, = one.nodes
    client = node.http()
    one.nats.run("freeze", 1)
    try:
        client.send(b"POST /pub/news HTTP/1.1\r\nHost: x\r\n"
                    b"Authorization: %s\r\nContent-Length: 1\r\n\r\nx" %
                    basic(PUBLISHER).encode())
        one.wait_until(lambda: bus(node, "pending_bytes") > 0, "it waits")
        node.terminate()
        response = client.response()
        assert response.status == 504
        assert "Idempotency-Key" in response.error()
    finally:
        one.nats.run("thaw", 1)


@pytest.mark.parametrize("drain", [0, 2])
def test_so_is_one_of_isimud_v1_before_its_close(cluster, drain):
    one = cluster(nodes=1, servers=1, BUS_TIMEOUT=30, DRAIN_SECONDS=drain)
    node, = one.nodes
    socket = node.websocket(subprotocols=["isimud.v1"],
                            fields={"Authorization": basic(PUBLISHER)})
    assert socket.command("ping")["type"] == "pong"
    one.nats.run("freeze", 1)
    try:
        for ref in (1, 2):
            socket.send_text('{"type": "publish", "ref": %d, "topic": "news",'
                             ' "data": 1}' % ref)
        one.wait_until(lambda: bus(node, "pending_bytes") > 0, "it waits")
        node.terminate()
        answer = socket.receive_json()
        assert (answer["ref"], answer["code"]) == (1, "unknown_outcome")
        socket.expect_close(1001)  # the second was not looked at
    finally:
        one.nats.run("thaw", 1)


def test_a_publication_that_the_log_takes_while_the_node_drains_is_told(
        cluster):
    one = cluster(nodes=1, servers=1, BUS_TIMEOUT=30, DRAIN_SECONDS=3)
    node, = one.nodes
    socket = node.websocket(subprotocols=["isimud.v1"],
                            fields={"Authorization": basic(PUBLISHER)})
    one.nats.run("freeze", 1)
    try:
        socket.send_text('{"type": "publish", "ref": 1, "topic": "news",'
                         ' "data": 1}')
        one.wait_until(lambda: bus(node, "pending_bytes") > 0, "it waits")
        node.terminate()
        node.wait_for_event("draining")
    finally:
        one.nats.run("thaw", 1)
    assert socket.receive_json()["type"] == "published"
    socket.expect_close(1001)


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_of_the_bus_have_fields(cluster, form):
    one = cluster(nodes=1, servers=1, LOG_FORMAT=form)
    node, = one.nodes
    id = say(node, "x").json()["id"]
    assert node.events("bus_epoch")[-1]["epoch"] == id.split("-")[0]
    assert int(node.events("bus_live")[0]["sequence"]) > 0
    one.nats.run("kill", 1)
    assert node.wait_for_event("bus_down")[0]["reason"]
    assert node.wait_for_event("bus_unreachable")[0]["error"]
    one.nats.run("add", 1)
    server = node.wait_for_event("bus_connected")[0]["server"]
    assert server.endswith(one.nats.url.split(":")[-1])


# --- the same as in one process, or as README says

def test_a_batch_is_one_everywhere_with_receipts_of_all_nodes(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    streams = [node.event_stream(sub_target(PUBLISHER, "news", "sport"))
               for node in one.nodes]
    one.wait_until(lambda: [r["subscribers"] for r in say_batch(
        b, ["x", "x"], ("news", "sport")).json()] == [2, 2],
        "it knows of the other's subscribers")
    receipts = say_batch(b, [f"m{i}" for i in range(6)],
                         ("news", "sport")).json()
    assert [r["subscribers"] for r in receipts] == 6 * [2]
    numbers = [place_of(r["id"])[1] for r in receipts]
    assert numbers == [numbers[0] + i for i in range(6)]
    for stream in streams:
        while (event := stream.event()).data == "x":
            pass
        got = [event.data] + stream.data_of(5)
        # In order in a topic; of two topics in any.
        assert [d for d in got if int(d[1]) % 2 == 0] == ["m0", "m2", "m4"]
        assert [d for d in got if int(d[1]) % 2 == 1] == ["m1", "m3", "m5"]
    assert say_batch(a, 1025 * ["x"]).status == 413
    # Each has its publisher's name: more than max_payload in all.
    long = {"Authorization": basic(1024 * "n")}
    assert say_batch(a, 1024 * ["x"], **long).status == 413
    assert say_batch(a, []).json() == []
    assert say_batch(a, [], **{"Idempotency-Key": "k"}).json() == []


def test_a_batch_with_a_key_is_answered_alike_by_all_nodes(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    first = say_batch(a, ["x", "y"], **{"Idempotency-Key": "k"})
    again = say_batch(b, ["x", "y"], **{"Idempotency-Key": "k"})
    assert first.status == again.status == 200
    assert again.field("Idempotency-Replayed") == "true"
    assert again.json() == first.json()
    assert say_batch(b, ["x", "z"],
                     **{"Idempotency-Key": "k"}).status == 422


def test_without_receipts_a_key_publishes_again(cluster):
    one = cluster(nodes=2, servers=1, IDEMPOTENCY_TTL=0)
    ids = [say(node, "x", **{"Idempotency-Key": "k"}).json()["id"]
           for node in one.nodes]
    assert ids[0] != ids[1]


def test_a_key_is_known_for_as_long_as_the_log_knows_it(cluster):
    one = cluster(nodes=2, servers=1, IDEMPOTENCY_TTL=1)
    a, b = one.nodes
    first = say(a, "x", **{"Idempotency-Key": "k"})
    time.sleep(2)  # longer than IDEMPOTENCY_TTL
    again = say(b, "x", **{"Idempotency-Key": "k"})
    assert again.status == 200, again.body
    assert again.json()["id"] == first.json()["id"]


def test_a_session_publishes_to_all_nodes_in_order(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    client, other = session(a), session(b)
    subscribe(other)
    for i in range(20):  # without waiting for an answer
        client.send_json({"type": "publish", "ref": i, "topic": "news",
                          "data": {"n": i}})
    answers = [client.receive_json() for _ in range(20)]
    messages = [other.receive_json() for _ in range(20)]
    assert [answer["ref"] for answer in answers] == list(range(20))
    assert [m["data"] for m in messages] == [{"n": i} for i in range(20)]
    assert [m["id"] for m in messages] == [a["id"] for a in answers]


def test_last_begins_with_the_history_of_all_nodes(cluster):
    one = cluster(nodes=2, servers=1)
    a, b = one.nodes
    for i in range(6):
        assert say(one.nodes[i % 2], f"m{i}").status == 200
    def has_all(node):
        topic = node.ask("GET", "/topics/news", AUTH)
        return topic.status == 200 and topic.json()["history"] == 6

    for node in one.nodes:
        one.wait_until(lambda: has_all(node), "it has all messages")
        client = session(node)
        assert subscribe(client, last=3)["type"] == "subscribed"
        assert [client.receive_json()["data"] for _ in range(3)] == \
            ["m3", "m4", "m5"]
        stream = node.event_stream(sub_target(PUBLISHER, "news", last=2))
        assert stream.data_of(2) == ["m4", "m5"]


def test_retain_is_each_nodes_own(cluster):
    one = cluster(nodes=1, servers=1, RETAIN="true", HISTORY_TTL=1)
    node, = one.nodes
    assert say(node, "kept").status == 200
    time.sleep(4 * SCALE)  # older than HISTORY_TTL, and another is not
    for i in range(3):
        assert node.ask("POST", "/pub/other", AUTH, b"x").status == 200
    later = one.start_node()
    stream = node.event_stream(sub_target(PUBLISHER, "news", last=1))
    assert stream.event().data == "kept"
    new = later.event_stream(sub_target(PUBLISHER, "news", last=1))
    assert say(node, "next").status == 200
    assert new.event().data == "next"  # README: it has not what is older
    assert stream.event().data == "next"


# --- what does not fit

WRONG = [
    ("subject", {"subjects": ["isimud.log.0", "isimud.log.e"]}),
    ("retention", {"retention": "interest"}),
    ("discard old", {"discard": "new", "max_bytes": 10**7}),
    ("deny_delete", {"deny_delete": False}),
    ("per subject", {"max_msgs_per_subject": 10}),
    ("max_age", {"max_age": 60 * 10**9}),
    ("duplicate window", {"duplicate_window": 10**9}),
    ("max_msg_size", {"max_msg_size": 1000}),
]


@pytest.fixture(scope="module")
def server():
    nats = Nats(1)
    yield nats
    nats.stop()


def expect_no_start(nats, wanted, **settings):
    program = Program(ISIMUD, {"PASSWORD": "x", "PORT": 0, "MAX_BODY": "512K",
                               "NATS_URL": nats.url, **settings})
    assert program.wait() == 2
    assert wanted in program.text(), program.text()
    assert len(program.lines) < 6
    program.kill()


@pytest.mark.parametrize("wanted,more", WRONG, ids=[w[0] for w in WRONG])
def test_a_stream_that_does_not_fit_is_one_line(server, wanted, more):
    answer = server.make_stream(stream_config(num_replicas=1, **more))
    assert "error" not in answer, answer
    try:
        expect_no_start(server, wanted)
        expect_no_start(server, wanted, BUS_CREATE="true")
    finally:
        server.ask("$JS.API.STREAM.DELETE.ISIMUD")


def test_credentials_are_in_no_line(server):
    host = server.url.removeprefix("nats://")
    for url in (f"nats://me:hush-hush@{host}", "nats://me:hush-hush@[::1:x",
                "nats://hush-hush@127.0.0.1:1", "hush-hush@@:70000"):
        program = Program(ISIMUD, {"PASSWORD": "x", "PORT": 0,
                                   "LOG_LEVEL": "debug", "NATS_URL": url})
        program.wait_for_line("bus:|can't|NATS|server|stream")
        program.process.terminate()
        program.wait()
        assert "hush-hush" not in program.text()
        program.kill()
