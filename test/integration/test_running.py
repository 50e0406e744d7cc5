"""`isimud healthcheck` and `isimud reload` with one that runs: they find it,
its flags and its environment, by /proc alone."""
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from client import DEADLINE, PASSWORD
from program import ISIMUD, WRAPPER, environment, Program
from test_healthcheck import OK, Fake, assert_unwell, assert_well

pytestmark = pytest.mark.skipif(
    bool(WRAPPER), reason="/proc shows the wrapper's program")


@pytest.fixture
def program(tmp_path):
    """A program file of this test's own: other tests' servers are not its."""
    path = str(tmp_path / "isimud")
    shutil.copy(ISIMUD, path)
    return path


@pytest.fixture
def serve(program):
    """serve("--port", …, NAME=value) starts one, and waits until it listens."""
    running = []

    def begin(*arguments, **settings):
        one = Program(program, {"PASSWORD": PASSWORD, "WORKERS": 1,
                                "DRAIN_SECONDS": 0, **settings}, arguments)
        running.append(one)
        one.wait_for_line("listening on")
        return one

    yield begin
    for one in running:
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0, one.text()
        one.kill()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def ask(program, *arguments, **settings):
    return subprocess.run([program, *arguments], env=environment(settings),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE)


# --- healthcheck


def test_the_flags_of_the_one_that_runs_are_found(program, serve):
    serve("--ip", "127.0.0.2", f"--port={free_port()}")
    assert_well(ask(program, "healthcheck"))


def test_so_is_its_admin_port(program, serve):
    port, admin = free_port(), free_port()
    serve("--port", port, "--admin-port", admin)
    assert_well(ask(program, "healthcheck"))
    # /healthz is nowhere else then, so that is whom it asked.
    assert_unwell(ask(program, "healthcheck", "--port", str(port)),
                  "answered 404")


def test_so_is_its_environment(program, serve, tmp_path):
    serve(ISIMUD_LISTEN=f"unix:{tmp_path}/socket")
    assert_well(ask(program, "healthcheck"))


def test_as_in_a_container_flags_and_the_same_environment(program, serve):
    serve("--port", free_port(), IP="0.0.0.0")
    assert_well(ask(program, "healthcheck", IP="0.0.0.0"))


def test_what_the_caller_says_of_places_counts(program, serve):
    serve("--port", free_port())
    with Fake(b"HTTP/1.1 500 No\r\n\r\n") as fake:
        assert_unwell(ask(program, "healthcheck", f"--port={fake.port}"),
                      "answered 500")
        assert_unwell(ask(program, "healthcheck", PORT=fake.port),
                      "answered 500")


def test_of_two_that_run_none_is_taken(program, serve):
    one, two = free_port(), free_port()
    serve(PORT=one)
    serve(PORT=two)
    assert_unwell(ask(program, "healthcheck", IP="127.0.0.9"), "127.0.0.9:")
    # But this says which.
    assert_well(ask(program, "healthcheck", PORT=two))


def test_one_of_another_program_is_none_of_ours(program, serve, tmp_path):
    serve("--port", free_port())
    other = str(tmp_path / "other")
    shutil.copy(program, other)
    with Fake(OK) as fake:
        assert_well(ask(other, "healthcheck", PORT=fake.port))
    assert ask(other, "reload").returncode == 1


def test_a_program_that_was_replaced_is_still_found(program, serve):
    serve("--port", free_port())
    shutil.copy(program, program + ".new")  # as a package's upgrade does it
    os.rename(program + ".new", program)
    assert_well(ask(program, "healthcheck"))
    assert ask(program, "reload").returncode == 0


# --- reload


def test_reload_makes_it_read_its_password_again(program, serve, tmp_path):
    path = tmp_path / "password"
    path.write_text("old")
    server = serve("--password-file", path, "--port", "0", PASSWORD=None)
    result = ask(program, "reload")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == f"process {server.pid} reads its password again\n"
    server.wait_for_line("the password was read again")


def test_reload_needs_one_that_runs(program):
    result = ask(program, "reload")
    assert result.returncode == 1
    assert "no isimud runs here" in result.stderr
    assert result.stderr.count("\n") == 1


def test_reload_of_two_is_refused(program, serve):
    for _ in range(2):
        serve("--port", "0")
    result = ask(program, "reload")
    assert result.returncode == 1 and "2 run here" in result.stderr


def test_reload_never_ends_one_that_is_just_starting(program):
    """SIGHUP would, before it is blocked."""
    for _ in range(20):
        one = Program(program, {"PASSWORD": PASSWORD, "WORKERS": 1,
                                "DRAIN_SECONDS": 0, "PORT": 0})
        try:
            until = time.monotonic() + DEADLINE
            while ask(program, "reload").returncode != 0:
                assert one.process.poll() is None, one.process.returncode
                assert time.monotonic() < until
            one.wait_for_line("the password was read again")
            one.process.send_signal(signal.SIGTERM)
            assert one.wait() == 0
        finally:
            one.kill()
