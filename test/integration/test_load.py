"""scripts/load: each scenario against the real server, small. With k6, if it is
in PATH or K6 names it; those of isimud.v1 and event streams in node, too."""
import os
import re
import shutil
import subprocess

import pytest

from client import PASSWORD, SCALE
from program import ROOT

SCRIPTS = os.path.join(ROOT, "scripts", "load")
K6 = os.environ.get("K6") or shutil.which("k6")
SMALL = {
    "publish": dict(PUBLISHERS=4), "subscribe": dict(SUBSCRIBERS=50, MESSAGES=10),
    "v1": dict(SESSIONS=20, TOPICS=3, MESSAGES=10),
    "stream": dict(STREAMS=10, MESSAGES=10),
    "fanout_latency": dict(TOPICS=2, SUBSCRIBERS=5, RATE=20),
    "resume": dict(CLIENTS=20, RATE=20),
    "reconnect_storm": dict(CLIENTS=50, STORMS=2),
    "tokens": dict(CLIENTS=40, ROUNDS=2),
    "limit": dict(SESSIONS=20, FIRST_RATE=20, STEPS=2, STEP_SECONDS=1,
                  LIMIT_MS=int(2000 * SCALE)),
}
IN_NODE = ["v1", "stream", "resume", "tokens", "limit"]


def settings(server, name):
    return {"URL": f"http://{server.address[0]}:{server.address[1]}",
            "PASSWORD": PASSWORD, "SECONDS": 2, **SMALL[name]}


@pytest.fixture
def serve(start):
    """A server for a script: tokens needs an authority, the one of load.sh."""
    processes = []

    def serve(name, **environment):
        if name != "tokens":
            return start()
        process = subprocess.Popen(
            [os.path.join(SCRIPTS, "authority.py")], text=True,
            stdout=subprocess.PIPE, env={**os.environ, **environment})
        processes.append(process)
        return start(AUTH_URL=process.stdout.readline().strip())

    yield serve
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def has_sse():
    return K6 and "xk6-sse" in subprocess.run(
        [K6, "version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(K6 is None, reason="k6 is not in PATH")
@pytest.mark.parametrize("name", sorted(SMALL))
def test_k6_runs_each_script(serve, name):
    if name == "stream" and not has_sse():
        pytest.skip("k6 was not built with xk6-sse")
    server = serve(name)
    values = [f"{key}={value}" for key, value in settings(server, name).items()]
    run = subprocess.run(
        [K6, "run", "--no-usage-report", "--no-color", "--quiet", "--address", "",
         *[part for value in values for part in ("-e", value)],
         os.path.join(SCRIPTS, name + ".js")],
        capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 or (
        name == "limit" and run.returncode == 99), run.stdout + run.stderr


# --- without k6


def in_node(server, name, **more):
    """What the script prints; its status says whether a threshold failed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not in PATH")
    flag = "--experimental-websocket"
    if flag not in subprocess.run([node, "--help"], capture_output=True,
                                  text=True).stdout:
        pytest.skip("node has no WebSocket")
    values = {**settings(server, name), **more}
    run = subprocess.run(
        [node, "--no-warnings", flag, os.path.join(ROOT, "test/load/k6.mjs"),
         os.path.join(SCRIPTS, name + ".js"),
         *[f"{key}={value}" for key, value in values.items()]],
        capture_output=True, text=True, timeout=120)
    assert run.returncode in (0, 99), run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("name", IN_NODE)
def test_node_runs_those_that_k6_mjs_can(serve, name):
    """What is counted is exact; times are those of a busy machine."""
    text = in_node(serve(name), name)
    if name == "limit":
        assert re.search(r"^limit: (above )?\d+ publications/s$", text, re.M)
        assert re.search(r"^20/s: p50 [0-9.]+ ms", text, re.M), text
        return
    counts = [line for line in text.splitlines() if " count" in line.split("{")[0]]
    assert len(counts) >= 3, text
    assert [line for line in counts if not line.startswith("ok")] == []


def test_a_script_fails_where_the_server_does_not_do_what_it_must(serve):
    """An authority that lets the bad ones in, and not the good ones."""
    text = in_node(serve("tokens", GOOD_TOKEN="bad"), "tokens")
    assert re.search(r"^FAIL wrong_answers count==0", text, re.M), text
    assert re.search(r"^FAIL admitted", text, re.M), text


def test_a_limit_is_found_where_there_is_one(serve):
    """No delivery is as fast as that."""
    text = in_node(serve("limit"), "limit", LIMIT_MS=-1)
    assert "(too late)" in text
    assert text.endswith("limit: 0 publications/s\n")


def test_each_script_and_setting_is_documented():
    with open(os.path.join(SCRIPTS, "README.md"), encoding="utf-8") as file:
        rows = {row.split("`")[1]: row for row in file if row.startswith("| `")}
    scripts = {name[:-3] for name in os.listdir(SCRIPTS)
               if name.endswith(".js") and name != "common.js"}
    assert set(rows) == scripts == set(SMALL)
    for name in scripts:
        with open(os.path.join(SCRIPTS, name + ".js"), encoding="utf-8") as file:
            text = file.read()
        read = set(re.findall(r'number\("(\w+)"', text)) | set(
            re.findall(r"__ENV\.(\w+)", text))
        assert {f"`{one}`" for one in read} <= set(
            re.findall(r"`[A-Z_]+`", rows[name])), name
