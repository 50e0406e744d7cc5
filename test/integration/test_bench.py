"""`isimud bench`: that it measures, and that it notices what a server does
wrong. Whether it notices every kind of fault, `make bench-selftest` asks."""
import json
import os
import pty
import subprocess

import pytest

from authority import answer
from client import DEADLINE, PASSWORD
from program import ISIMUD, WRAPPER, environment
from test_commands import command, url  # noqa: F401

SHORT = ("--duration", "0.3", "--warmup", "0.05")
MODES = ("fanout", "publish", "latency", "idle", "storm")


def bench(server, *arguments, status=0, **settings):
    """The object that `isimud bench --json` prints."""
    done = subprocess.run(
        WRAPPER + [ISIMUD, "bench", "--json", "--url", url(server, ""),
                   *map(str, arguments)],
        env=environment({"PASSWORD": PASSWORD, **settings}), text=True,
        capture_output=True, timeout=DEADLINE * 4)
    assert done.returncode == status, done
    return json.loads(done.stdout) if status in (0, 1) and done.stdout else \
        done.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", ("raw", "v1", "sse"))
def test_each_mode_measures_and_finds_nothing_wrong(server, mode, protocol):
    people = () if mode == "publish" else ("--subscribers", 9)
    rate = ("--rate", 50) if mode == "latency" else ()
    found = bench(server, mode, *people, *rate, *SHORT, "--protocol", protocol,
                  "--pid", server.pid)
    assert found["mode"] == mode and found["protocol"] == protocol
    assert found["ok"] and found["lost"] == 0
    if mode in ("fanout", "latency"):
        assert found["deliveries"] > 0 and found["deliveries_per_s"] > 0
    if mode == "publish":
        assert found["publications_per_s"] > 0
    if mode == "latency":
        assert 0 < found["p50_us"] <= found["p99_us"] <= found["max_us"]
    if mode == "storm":
        assert 0 < found["open_s"] <= found["ready_s"]
    assert found["rss"] > 0


def test_topics_threads_and_publishers_are_dealt_out(server):
    found = bench(server, "fanout", "--subscribers", 20, "--topics", 7,
                  "--threads", 3, "--publishers", 2, "--size", 1000,
                  "--count", 210)
    # 6 topics have 3 subscribers, and one has 2.
    assert found["deliveries"] == 30 * 20 and found["ok"]


def test_a_count_ends_it_and_all_of_it_is_measured(server):
    found = bench(server, "fanout", "--subscribers", 5, "--count", 100,
                  "--window", 8)
    assert found["deliveries"] == 500


def test_those_that_stalled_do_not_disturb(server):
    found = bench(server, "fanout", "--subscribers", 5, "--count", 2000,
                  "--size", 1000, "--stalled", 3)
    assert found["deliveries"] == 5 * 2000 and found["ok"]


def test_topics_are_called_as_one_likes(start):
    server = start()
    assert bench(server, "fanout", "--topics", 2, "--count", 10, "--topic",
                 "our_")["ok"]
    shown = subprocess.run(
        WRAPPER + [ISIMUD, "topics", "--publisher", "bench", "--url",
                   url(server, "")], env=environment({"PASSWORD": PASSWORD}),
        check=True, capture_output=True, text=True, timeout=DEADLINE).stdout
    assert "our_000000" in shown and "our_000001" in shown


def test_a_publisher_of_any_name(server):
    for protocol in ("raw", "v1", "sse"):
        assert bench(server, "fanout", "--publisher", 'a "b" ü/&?', "--count",
                     20, "--protocol", protocol)["ok"]


def test_people_read_a_summary_without_a_bar(server, command):
    done = command("bench", "idle", "--subscribers", 3, "--url", url(server, ""))
    shown = done.finish()
    assert shown.startswith("isimud bench idle, raw: 3 subscribers, 1 topic")
    assert "nothing lost, doubled, damaged, misrouted or out of order" in shown
    assert done.lines["stderr"] == []


def test_a_terminal_gets_a_progress_bar(server):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        WRAPPER + [ISIMUD, "bench", "fanout", "--subscribers", "3", *SHORT,
                   "--url", url(server, ""), "--json"],
        env=environment({"PASSWORD": PASSWORD}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the last one to write has gone
    os.close(ours)
    assert json.loads(process.communicate(timeout=DEADLINE)[0])["ok"]
    assert b"\rfan-out " in shown and b"[#" in shown and b"..]" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_it_finds_the_server_it_stands_beside(start, command):
    beside = start()
    done = command("bench", "fanout", "--json", "--subscribers", 2, "--count",
                   10, PORT=beside.address[1])
    assert json.loads(done.finish())["ok"]


def test_a_unix_socket(start, command, tmp_path):
    start(LISTEN=f"unix:{tmp_path}/s")
    done = command("bench", "fanout", "--json", "--subscribers", 2, "--count",
                   10, "--url", f"unix:{tmp_path}/s")
    assert json.loads(done.finish())["ok"]


def test_a_wrong_password_is_status_3(server):
    said = bench(server, "fanout", status=3, PASSWORD="another")
    assert "refuses to publish: 401" in said and "another" not in said


def test_a_server_that_is_away_is_status_1(command):
    done = command("bench", "fanout", "--url", "http://127.0.0.1:1")
    assert done.finish(1) == ""
    assert "connection refused" in done.lines["stderr"][0]


def test_a_server_that_ends_meanwhile_is_status_1(start, command):
    server = start()
    done = command("bench", "fanout", "--subscribers", 3, "--duration", 60,
                   "--url", url(server, ""))
    server.wait_until(
        lambda: sum(value for name, value in server.metrics().items() if
                    name.startswith("isimud_deliveries_total")) > 1000,
        "deliveries")
    server.terminate()
    assert done.wait() == 1
    assert "connection ended" in done.lines["stderr"][0]


@pytest.mark.parametrize("arguments, said", [
    (("nothing",), "fanout, publish, latency, idle or storm"),
    (("fanout", "--protocol", "mqtt"), "one of raw v1 sse"),
    (("fanout", "--size", "30"), "--size must be from 31"),
    (("fanout", "--topics", "101"), "--topics must be from 1 to 100"),
    (("publish", "--subscribers", "1"), "no subscribers"),
    (("fanout", "--pid", "999999999"), "no such process"),
    (("fanout", "--subscribers", "99999999"), "open files"),
    (("fanout", "--token", "a\nb"), "none may have"),
    (("fanout", "--topic", "a b"), "--topic takes up to"),
    (("idle", "--stalled", "1"), "--stalled is for fanout"),
])
def test_what_makes_no_sense_is_status_2(command, arguments, said):
    done = command("bench", *arguments, "--url", "http://127.0.0.1:1")
    assert done.finish(2) == ""
    assert said in done.lines["stderr"][0]


def test_subscribers_show_their_token(start, authority):
    authority.rules["no"] = answer(403)
    server = start(AUTH_URL=authority.url)
    for protocol in ("raw", "v1", "sse"):
        assert bench(server, "fanout", "--subscribers", 3, "--count", 10,
                     "--token", "yes", "--protocol", protocol)["ok"]
        said = bench(server, "fanout", "--subscribers", 3, "--token", "no",
                     "--protocol", protocol, status=3)
        assert "a subscriber 401" in said or "connection: 4403" in said
