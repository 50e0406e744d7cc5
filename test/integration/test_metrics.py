"""/metrics: the format, and that the numbers are those of what happened."""
import os
import re
import resource
import shutil
import subprocess

import pytest

from authority import answer, refuse
from client import DEADLINE, basic, handshake, publish_request

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
NAME = r"(?:isimud|process)_[a-z0-9_]+"
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? "
                    r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)")


def page(server):
    return server.ask("GET", "/metrics",
                      {"Authorization": basic("prometheus")})


def parse(text):
    """Checks the text format 0.0.4: {name: (type, [(name, labels, value)])}."""
    families = {}
    assert text.endswith("\n")
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            assert re.fullmatch(NAME, name) and words
            assert name not in families, "a family in two pieces"
            kind = next(lines).removeprefix(f"# TYPE {name} ")
            assert kind in ("counter", "gauge", "histogram")
            families[name] = (kind, [])
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        kind, samples = families[name]
        suffix = match[1].removeprefix(name)
        assert suffix in (("_bucket", "_sum", "_count")
                          if kind == "histogram" else ("",)), line
        samples.append((match[1], match[2] or "", float(match[3])))
    return families


def families_of(server):
    return parse(page(server).body.decode("ascii"))


def test_the_page_is_in_prometheus_text_format(server):
    response = page(server)
    assert response.status == 200
    assert response.field("Content-Type") == (
        "text/plain; version=0.0.4; charset=utf-8")
    families = parse(response.body.decode("ascii"))
    assert len(families) > 20
    for name, (kind, samples) in families.items():
        assert samples, f"{name} has no value"
        assert len(set(s[:2] for s in samples)) == len(samples), name
        assert (kind == "counter") == name.endswith("_total")


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not in PATH")
def test_promtool_accepts_the_page(server):
    result = subprocess.run([PROMTOOL, "check", "metrics"],
                            input=page(server).body, capture_output=True,
                            timeout=DEADLINE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout + result.stderr == b""


def test_a_process_says_that_it_is_alone(server):
    assert server.metrics()["isimud_alone"] == 1


@pytest.mark.parametrize("name, is_told", [
    ("isimud-1", True), ("isimud-0", False), ("isimud", False),
    ("isimud-7d9f5c6b8-24567", False), ("isimud-1x", False)])
def test_a_second_replica_of_a_stateful_set_says_that_it_is_alone(
        start, name, is_told):
    server = start(HOSTNAME=name, KUBERNETES_SERVICE_HOST="10.0.0.1")
    server.wait_for_event("listening")
    assert bool(server.events("replica_alone")) == is_told
    assert not start(HOSTNAME=name).events("replica_alone")


def change(server, *names):
    """Returns a function that tells by how much the metrics have risen."""
    before = server.metrics()

    def rise():
        after = server.metrics()
        return [after[name] - before[name] for name in names]
    return rise


def test_publications_are_counted_by_result(start):
    server = start()
    rise = change(server, *(f'isimud_publishes_total{{result="{result}"}}'
                            for result in ("ok", "denied", "invalid", "full")))
    server.publish("alice", "news", "x", times=3)
    wrong = {"Authorization": basic("alice", "wrong")}
    for fields in (wrong, wrong, {"Authorization": None}):
        assert server.http().publish(fields=fields).status in (400, 401)
    for body, status in ((b"{", 400), (b"{}", 422), (b"\xff", 400)):
        assert server.http().publish(body=body).status == status
    text = {"Content-Type": "text/plain"}
    assert server.http().publish(fields=text).status == 415
    assert rise() == [3, 3, 4, 0]


def test_a_publication_that_finds_no_room_is_counted_as_full(start):
    """MEMORY_LIMIT is below what the program needs to start."""
    server = start(MEMORY_LIMIT="1M", ADMIN_PORT=0, WORKERS=1)
    assert server.ask_admin("GET", "/readyz").body == b"memory is tight\n"
    client = server.http()
    client.send(handshake())
    assert client.response().status == 503
    assert server.metrics()["isimud_connections_refused_total"] == 1
    assert server.http().publish().status == 503
    assert server.metrics()[
        'isimud_publishes_total{result="full"}'] == 1


def test_deliveries_and_subscriptions_are_counted(start):
    server = start()
    subscribers = [server.subscribe("alice", f"topic {i % 2}")
                   for i in range(6)]
    rise = change(server, "isimud_deliveries_total", "isimud_subscribed_total",
                  "isimud_delivery_seconds_count")
    server.publish("alice", "topic 0", "x")
    for subscriber in subscribers[::2]:
        subscriber.receive()
    server.wait_until(lambda: rise()[0] == 3, "3 deliveries")
    assert rise()[1] == 0
    assert 1 <= rise()[2] <= 2  # once a worker
    metrics = server.metrics()
    assert metrics["isimud_topics"] == 2
    assert sum(metrics[f'isimud_subscriptions{{worker="{w}"}}']
               for w in range(2)) == 6


def test_bytes_and_requests_are_counted(start):
    server = start()
    rise = change(server, "isimud_received_bytes_total",
                  "isimud_sent_bytes_total", "isimud_http_requests_total",
                  'isimud_http_responses_total{status="303"}',
                  "isimud_writes_total")
    client = server.http()
    sent = 10 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client.send(sent)
    for _ in range(10):
        assert client.response().status == 303
    received, written, requests, redirects, writes = rise()
    assert len(sent) <= received < len(sent) + 500
    assert written > 10 * len("HTTP/1.1 303 See Other\r\n\r\n")
    assert requests == 11  # with that for the metrics
    assert redirects == 10
    assert 1 <= writes <= 15


def test_answers_are_counted_by_status(start):
    server = start()
    asked = {101: server.websocket,
             303: lambda: server.ask("GET", "/"),
             400: lambda: server.http().publish(body=b"x"),
             401: lambda: server.ask("GET", "/metrics"),
             404: lambda: server.ask("GET", "/nothing"),
             405: lambda: server.ask("PUT", "/pub"),
             415: lambda: server.http().publish(
                 fields={"Content-Type": "text/plain"}),
             426: lambda: server.ask("GET", "/sub")}
    rise = change(server, *(f'isimud_http_responses_total{{status="{status}"}}'
                            for status in asked))
    for ask in asked.values():
        ask()
    assert rise() == [1] * len(asked)


def test_ends_are_counted_by_reason(start):
    server = start(CLOSE_TIMEOUT=0.2, IDLE_TIMEOUT=0.2, PING_INTERVAL=0.5)
    reasons = ("binary", "bad_data", "policy", "peer_gone", "peer_closed",
               "bad_request", "idle_timeout", "ping_timeout", "protocol")
    rise = change(server,
                  *(f'isimud_connections_closed_total{{reason="{reason}"}}'
                    for reason in reasons))
    server.websocket().send_frame(0x2, b"x")
    server.websocket().send_text("{")
    server.websocket().send_text("{}")
    server.websocket().abort()
    server.websocket().send_close(1000)
    server.http().send(b"nonsense\r\n\r\n")
    server.ask("GET", "/")
    server.websocket().answers_pings = False
    server.websocket().send(b"\xff\xff\xff\xff")

    def each_came_once():
        counts = dict(zip(reasons, rise()))
        counts["idle_timeout"] = min(1, counts["idle_timeout"])  # /metrics too
        return set(counts.values()) == {1}

    server.wait_until(each_came_once, "every reason")


def test_checks_are_counted_by_result_and_timed(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3, WORKERS=1)
    authority.rules.update({"no": refuse, "odd": answer(500),
                            "late": lambda peer, a: a.release.wait(DEADLINE)})
    names = [f'isimud_auth_checks_total{{result="{result}"}}'
             for result in ("yes", "no", "failed")]
    rise = change(server, *names, "isimud_auth_check_seconds_count",
                  "isimud_auth_check_seconds_sum",
                  'isimud_auth_check_seconds_bucket{le="0.25"}')
    for token, status in (("yes", 101), ("no", 401), ("odd", 503),
                          ("late", 500)):
        client = server.websocket(open=False)
        client.send(handshake(fields={"Authorization": f"Bearer {token}"}))
        assert client.response().status == status
    yes, no, failed, count, seconds, quick = rise()
    assert (yes, no, failed, count) == (1, 1, 2, 4)
    assert 0.3 <= seconds
    assert quick <= 3


def test_histograms_are_cumulative_and_complete(start):
    server = start()
    subscriber = server.subscribe()
    server.publish("alice", "news", "x", times=50)
    for _ in range(50):
        subscriber.receive()
    families = families_of(server)
    histograms = {name: samples for name, (kind, samples) in families.items()
                  if kind == "histogram"}
    assert len(histograms) == 3
    for name, samples in histograms.items():
        buckets = [s for s in samples if s[0] == f"{name}_bucket"]
        values = [value for _, _, value in buckets]
        bounds = [float(labels[4:-1]) for _, labels, _ in buckets]
        assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf")
        assert values == sorted(values)
        (total,) = [s[2] for s in samples if s[0] == f"{name}_count"]
        assert total == values[-1]
        (seconds,) = [s[2] for s in samples if s[0] == f"{name}_sum"]
        assert seconds <= total * 60


def test_connections_are_shown_by_kind_and_worker(start):
    server = start(WORKERS=2)
    for _ in range(4):
        server.subscribe()

    def websockets():
        metrics = server.metrics()
        return [metrics[f'isimud_connections{{kind="websocket",worker="{w}"}}']
                for w in range(2)]

    server.wait_until(lambda: websockets() == [2, 2], "two each")


def test_what_a_subscriber_does_not_read_is_shown(start):
    # With a limit, so that the kernel takes little.
    server = start(WORKERS=1, MEMORY_LIMIT="1G")
    server.subscribe(read=False)
    server.publish("alice", "news", "x" * 60000, times=10)

    def backlog():
        metrics = server.metrics()
        return [metrics[f'isimud_buffered_{name}{{worker="0"}}']
                for name in ("bytes", "worst_bytes")]

    server.wait_until(lambda: backlog()[0] > 300000, "its backlog")
    all_bytes, worst = backlog()
    assert worst == all_bytes


def test_no_name_that_a_client_chose_is_ever_shown(start):
    server = start()
    names = ['evil"} 1\nisimud_topics 666', "marker\\", "márker", "{marker=",
             "marker\x00\x1b[31m"]
    for name in names:
        subscriber = server.subscribe(name.replace(":", ""), name)
        server.http().send(publish_request(name.replace(":", ""), name, "x"))
        assert subscriber.receive() == "x"
    server.ask("GET", "/marker")
    text = page(server).body
    for part in (b"marker", b"evil", b"666", b"\x1b", "márker".encode()):
        assert part not in text
    families = parse(text.decode("ascii"))
    labels = {label.partition("=")[0] for _, samples in families.values()
              for _, all_labels, _ in samples
              for label in all_labels.split(",") if label}
    assert labels == {"worker", "kind", "reason", "status", "result", "le",
                      "direction", "version", "revision"}


def test_reading_the_metrics_changes_nothing_but_what_they_count(start):
    server = start(ADMIN_PORT=0)
    names = ("isimud_publishes_total", "isimud_connections_closed_total",
             "isimud_deliveries_total", "isimud_connections_refused_total")
    before = server.metrics()
    for _ in range(20):
        after = server.metrics()
    for name, value in after.items():
        if name.startswith(names) and "done" not in name \
                and "peer_gone" not in name:
            assert value == before[name], name


def test_what_every_program_tells_is_told_of_this_one(server):
    metrics = server.metrics()
    assert abs(metrics["process_start_time_seconds"] - os.stat(
        f"/proc/{server.pid}").st_ctime) < 5
    assert metrics["process_max_fds"] == resource.prlimit(
        server.pid, resource.RLIMIT_NOFILE)[0]
    assert metrics["process_cpu_seconds_total"] > 0
    # Two looks, between which it may have grown.
    assert abs(metrics["process_resident_memory_bytes"] -
               metrics["isimud_process_resident_memory_bytes"]) < 1 << 20
    assert metrics["process_resident_memory_bytes"] > 1 << 20
    assert metrics["process_threads"] == len(
        os.listdir(f"/proc/{server.pid}/task"))


def test_open_descriptors_are_counted(server):
    client = server.http()
    client.ask("GET", "/")
    before = server.metrics()["process_open_fds"]
    others = [server.subscribe() for _ in range(10)]
    # The look before is a connection that is still there.
    assert server.metrics()["process_open_fds"] == before + len(others) + 1


def test_the_limit_of_subscribers_is_told(start):
    assert start(MAX_CONNECTIONS=321).metrics()[
        "isimud_connections_limit"] == 321


def test_bytes_published_and_delivered_are_counted(server):
    for _ in range(3):
        server.subscribe("bytes", "t")
    rise = change(server, "isimud_published_bytes_total",
                  "isimud_delivered_bytes_total")
    server.publish("bytes", "t", "x" * 100, times=5)
    server.publish("bytes", "nobody", "x" * 1000)
    server.wait_until(lambda: rise() == [1500, 3 * 5 * 102],
                      "all is counted, with headers of two bytes")


def test_the_build_is_told(server):
    name, = (name for name in server.metrics()
             if name.startswith("isimud_build_info{"))
    assert re.fullmatch(r'isimud_build_info\{version="\d+\.\d+\.\d+",'
                        r'revision="([0-9a-f]{12}|unknown)"\}', name)
