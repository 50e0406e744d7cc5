"""/healthz and /readyz, and where they are."""
import os
import signal
import subprocess

import pytest

from client import PASSWORD, SCALE, Http, basic
from program import ISIMUD, WRAPPER, environment

PATHS = ["/healthz", "/readyz", "/metrics"]
# Only a debug build has the signal that makes a worker stand still.
IS_DEBUG = os.environ.get("FLAVOUR", "release") in ("asan", "tsan", "debug")


def is_answered_in_full(response, status):
    assert response.status == status
    assert response.field("Cache-Control") == "no-store"
    assert response.field("Content-Type") == "text/plain"
    return True


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_server_that_is_well_says_so(server, path):
    response = server.ask("GET", path)
    assert is_answered_in_full(response, 200)
    assert response.body in (b"ok\n", b"ready\n")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_head_is_answered_without_content(server, path):
    client = server.http()
    response = client.ask("HEAD", path)
    assert is_answered_in_full(response, 200)
    assert int(response.field("Content-Length")) > 0
    assert client.ask("GET", path).status == 200  # and nothing in between


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_not_allowed(server, path, method):
    response = server.ask(method, path)
    assert response.status == 405
    assert response.field("Allow") == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/healthz/", "/health", "/READYZ",
                                  "/metrics/x", "//metrics"])
def test_similar_paths_are_not_found(server, path):
    assert server.ask("GET", path).status == 404


def test_probes_need_no_password_but_metrics_do(server):
    assert server.ask("GET", "/healthz").status == 200
    missing = server.ask("GET", "/metrics")
    assert missing.status == 401
    assert missing.field("WWW-Authenticate").startswith("Basic ")
    wrong = server.ask("GET", "/metrics",
                       {"Authorization": basic("x", "wrong")})
    assert wrong.status == 401
    assert wrong.error() == "Wrong credentials"
    assert wrong.field("WWW-Authenticate").startswith("Basic ")
    right = {"Authorization": basic("any name")}
    assert server.ask("GET", "/metrics", right).status == 200


def test_head_of_metrics_needs_the_password_too(server):
    assert server.ask("HEAD", "/metrics").status == 401
    response = server.ask("HEAD", "/metrics", {"Authorization": basic("x")})
    assert response.status == 200
    assert int(response.field("Content-Length")) > 1000


def test_with_an_admin_port_they_are_there_and_nowhere_else(start):
    server = start(ADMIN_PORT=0)
    for path in PATHS:
        assert server.ask_admin("GET", path).status == 200
        assert server.ask("GET", path).status == 404
        assert server.ask("GET", path,
                          {"Authorization": basic("x")}).status == 404


def test_the_admin_port_serves_no_clients(start):
    server = start(ADMIN_PORT=0)
    for path in ("/pub", "/sub", "/nope"):
        assert server.ask_admin("GET", path).status == 404
    assert Http(server.admin).publish().status == 404


def test_over_max_connections_it_is_not_ready_but_well(start):
    server = start(ADMIN_PORT=0, MAX_CONNECTIONS=3)
    assert server.ask_admin("GET", "/readyz").status == 200
    for _ in range(5):  # who does not subscribe takes no place
        server.http()
    crowd = [server.websocket() for _ in range(3)]
    response = server.ask_admin("GET", "/readyz")
    assert is_answered_in_full(response, 503)
    assert response.body == b"too many connections\n"
    assert server.ask_admin("GET", "/healthz").status == 200
    assert server.http().publish().status == 200
    crowd[0].close()
    server.wait_until(
        lambda: server.ask_admin("GET", "/readyz").status == 200,
        "it is ready again")


def test_clients_of_the_admin_port_take_no_ones_place(start):
    server = start(ADMIN_PORT=0, MAX_CONNECTIONS=2)
    probes = [server.http(to=server.admin) for _ in range(10)]
    for probe in probes:
        assert probe.ask("GET", "/readyz").status == 200
    assert server.ask("GET", "/").status == 303


@pytest.mark.skipif(not IS_DEBUG, reason="it takes a debug build (FLAVOUR)")
def test_a_stuck_worker_turns_healthz_503_until_it_turns_again(start):
    server = start(WORKERS=2, ADMIN_PORT=0)
    # Connections are dealt out in turn: one of these two is on worker 1.
    probes = [server.http(to=server.admin) for _ in range(2)]
    for probe in probes:
        assert probe.ask("GET", "/healthz").status == 200
    server.process.send_signal(signal.SIGUSR2)

    def statuses():
        found = set()
        for probe in probes:
            probe.socket.settimeout(0.2 * SCALE)
            try:
                found.add(probe.ask("GET", "/healthz").status)
            except TimeoutError:
                pass  # this one waits behind worker 0; it is asked again
        return found

    server.wait_until(lambda: 503 in statuses(), "healthz says 503")
    for probe in probes:
        probe.close()
    server.wait_until(
        lambda: server.ask_admin("GET", "/healthz").status == 200,
        "healthz says 200 again")


def healthcheck(settings):
    return subprocess.run(WRAPPER + [ISIMUD, "healthcheck"],
                          env=environment(settings), capture_output=True,
                          text=True, timeout=20 * SCALE).returncode


def test_the_programs_own_probe_knows_whether_it_is_well(start):
    server = start()
    port = server.address[1]
    assert healthcheck({"PORT": port}) == 0
    server.stop()
    assert healthcheck({"PORT": port}) == 1


def test_the_programs_own_probe_takes_every_door(start, tmp_path):
    path = f"{tmp_path}/socket"
    server = start(LISTEN=f"unix:{path}", PASSWORD=PASSWORD)
    assert healthcheck({"LISTEN": f"unix:{path}"}) == 0
    server = start(ADMIN_PORT=0)
    assert healthcheck({"ADMIN_PORT": server.admin[1]}) == 0
