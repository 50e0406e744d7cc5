"""LISTEN: TCP of both kinds and Unix sockets, side by side."""
import os
import re
import shutil
import socket
import stat
import subprocess

import pytest

from client import DEADLINE, PING, TEXT, Http, frame, subscription
from program import ISIMUD, WRAPPER, Server, environment


@pytest.fixture
def path(tmp_path):
    return f"{tmp_path}/isimud.sock"


def try_to_start(listen):
    """Runs a server that is expected not to start."""
    return subprocess.run(
        WRAPPER + [ISIMUD],
        env=environment({"PASSWORD": "secret", "LISTEN": listen}),
        capture_output=True, text=True, timeout=DEADLINE)


def test_a_message_goes_from_every_door_to_every_door(start, path):
    server = start(LISTEN=f"unix:{path},127.0.0.1:0,[::1]:0")
    assert [type(a) for a in server.addresses] == [str, tuple, tuple]
    assert [a[0] for a in server.addresses[1:]] == ["127.0.0.1", "::1"]
    subscribers = [server.subscribe(to=address)
                   for address in server.addresses for _ in range(2)]
    for i, address in enumerate(server.addresses):
        assert server.http(to=address).publish(data=str(i)).status == 200
    for subscriber in subscribers:
        assert [subscriber.receive() for _ in range(3)] == ["0", "1", "2"]


def test_many_and_large_messages_pass_through_a_unix_socket(start, path):
    server = start(LISTEN=f"unix:{path}")
    subscriber = server.subscribe()
    texts = [chr(97 + i % 26) * size
             for i, size in enumerate([0, 125, 65536, 300000, 1, 7] * 5)]
    publisher = server.http()
    for text in texts:
        assert publisher.publish(data=text).status == 200
        assert subscriber.receive() == text


def test_a_slow_subscriber_on_a_unix_socket_ends_with_1013(start, path):
    server = start(LISTEN=f"unix:{path}", WORKERS=1)
    slow = server.subscribe(read=False)
    server.publish("alice", "news", "x" * 65536, times=100)
    server.wait_for_stat("closed_slow")
    assert slow.read_to_close() == 1013


@pytest.mark.parametrize("given, mode", [
    (None, 0o660), ("0600", 0o600), ("0666", 0o666), ("777", 0o777)])
def test_a_unix_socket_has_the_mode_of_the_setting_and_goes_at_the_end(
        start, path, given, mode):
    server = start(LISTEN=f"unix:{path}", UNIX_MODE=given)
    status = os.stat(path).st_mode
    assert stat.S_ISSOCK(status) and stat.S_IMODE(status) == mode
    server.stop()
    assert os.listdir(os.path.dirname(path)) == []


def test_it_is_never_open_to_more_than_that(start, path):
    """strace shows each call that makes or changes the file."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    old = os.umask(0)
    try:
        result = subprocess.run(
            ["strace", "-f", "-e", "trace=bind,chmod,fchmod,fchmodat,umask",
             ISIMUD], env=environment({"PASSWORD": "secret", "WORKERS": 1,
                                       "LISTEN": f"unix:{path},1.2.3.4:1"}),
            capture_output=True, text=True, timeout=DEADLINE)
    finally:
        os.umask(old)
    calls = [line for line in result.stderr.splitlines()
             if re.search(r"(fchmod|bind|chmod)\(", line)]
    assert re.search(r"fchmod\(\d+, 0660\)", calls[0]), calls
    assert "bind(" in calls[1] and path in calls[1]


def test_a_socket_that_was_left_behind_is_replaced(start, path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server = start(LISTEN=f"unix:{path}")
    assert server.ask("GET", "/").status == 303


def test_a_killed_server_is_no_obstacle_to_the_next(start, path):
    Server(LISTEN=f"unix:{path}").kill()
    assert os.path.exists(path)
    assert start(LISTEN=f"unix:{path}").ask("GET", "/").status == 303


def test_a_socket_in_use_is_left_alone(start, path):
    server = start(LISTEN=f"unix:{path}")
    second = try_to_start(f"unix:{path}")
    assert second.returncode == 2
    assert (f"can't listen on unix:{path}: another isimud, process "
            f"{server.pid}, has it") in second.stderr
    assert server.ask("GET", "/").status == 303


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_refused_and_left_alone(path, kind):
    if kind == "file":
        with open(path, "w") as file:
            file.write("precious")
    elif kind == "folder":
        os.mkdir(path)
    else:
        os.symlink("/nonexistent", path)
    before = os.lstat(path)
    result = try_to_start(f"unix:{path}")
    assert result.returncode == 2
    assert "can't listen on unix:" in result.stderr
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode, after.st_size) == (
        before.st_ino, before.st_mode, before.st_size)


def test_one_door_that_is_taken_closes_all(path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = try_to_start(f"unix:{path},127.0.0.1:{port}")
    assert result.returncode == 2
    assert f"can't listen on 127.0.0.1:{port}" in result.stderr
    assert "listening" not in result.stderr
    assert os.listdir(os.path.dirname(path)) == []


def test_a_socket_of_another_program_is_left_alone(path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        result = try_to_start(f"unix:{path}")
        assert result.returncode == 2
        assert "address already in use" in result.stderr
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_eight_listeners_are_served_alike(start, tmp_path):
    server = start(LISTEN=",".join(
        [f"unix:{tmp_path}/{i}" for i in range(4)] + 2 * ["127.0.0.1:0"]
        + 2 * ["[::1]:0"]))
    assert len(server.addresses) == 8
    for address in server.addresses:
        subscriber = server.websocket(to=address)
        subscriber.send(frame(TEXT, subscription("alice", f"{address}")))
        subscriber.send_frame(PING, b"?")
        subscriber.expect_pong(b"?")
        server.http(to=address).publish(topic=f"{address}", data="x")
        assert subscriber.receive() == "x"


def test_a_unix_client_that_is_gone_is_forgotten(start, path):
    # Without history a topic goes with its last subscriber.
    server = start(LISTEN=f"unix:{path}", HISTORY_TTL=0)
    for _ in range(20):
        server.subscribe().close()
    server.wait_until_empty()
    assert server.stats()["topics"] == 0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_both_families_listen_on_one_port_side_by_side(start):
    port = free_port()
    server = start(LISTEN=f"0.0.0.0:{port},[::]:{port}")
    for ip in ("127.0.0.1", "::1"):
        assert server.http(to=(ip, port)).publish().status == 200


def test_all_addresses_of_ipv6_alone_are_those_of_ipv4_too(start):
    server = start(IP="::", ADMIN_PORT=0)
    port = server.address[1]
    for ip in ("127.0.0.1", "::1"):
        assert server.http(to=(ip, port)).publish().status == 200
        assert server.http(to=(ip, server.admin[1])).ask(
            "GET", "/healthz").status == 200


# Runs a program as on a kernel without IPv6: socket(AF_INET6) fails with
# EAFNOSUPPORT, by a filter of seccomp(2).
WITHOUT_IPV6 = """#!/usr/bin/python3
import ctypes, os, platform, struct, sys
NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
SOCKET = {{"x86_64": 41, "aarch64": 198}}[platform.machine()]
FAIL, ALLOW = 0x00050000 | 97, 0x7fff0000
code = b"".join(struct.pack("HBBI", *one) for one in [
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, SOCKET),  # the number of the call
    (LOAD, 0, 0, 16), (EQUAL, 0, 1, 10),     # its first argument: AF_INET6
    (RETURN, 0, 0, FAIL), (RETURN, 0, 0, ALLOW)])
kept = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(
    struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(kept)))
prctl = ctypes.CDLL(None).prctl
assert prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert prctl(SET_SECCOMP, FILTER, ctypes.byref(program)) == 0
os.execv("{program}", ["{program}", *sys.argv[1:]])
"""


def test_where_the_kernel_has_no_ipv6_all_addresses_are_those_of_ipv4(
        start, tmp_path):
    wrapped = tmp_path / "isimud"
    wrapped.write_text(WITHOUT_IPV6.format(program=ISIMUD))
    wrapped.chmod(0o755)
    server = start(path=str(wrapped), IP="::", ADMIN_PORT=0)
    assert Http(("127.0.0.1", server.address[1])).publish().status == 200
    assert Http(server.admin).ask("GET", "/readyz").status == 200


def test_of_ports_that_the_kernel_picks_each_is_another(start):
    server = start(LISTEN="127.0.0.1:0,[::]:0")
    ports = [address[1] for address in server.addresses]
    assert len(set(ports)) == 2
    for ip in ("127.0.0.1", "::1"):
        assert Http((ip, ports[1])).publish().status == 200


def test_who_says_nothing_is_not_accepted_with_defer_accept(start):
    """The kernel keeps the silent; whoever speaks behind them is served."""
    server = start(DEFER_ACCEPT=60, HEADER_TIMEOUT=0.3, ADMIN_PORT=0)
    silent = [server.http() for _ in range(5)]
    assert server.ask("GET", "/").status == 303
    assert server.ask_admin("GET", "/healthz").status == 200
    assert server.stats()["accepted"] == 2
    speaker = silent[0]
    assert speaker.ask("GET", "/").status == 303
    assert server.stats()["accepted"] == 3
    assert server.stats()["closed_header_timeout"] == 0


def test_the_silent_are_accepted_and_timed_out_without_it(start):
    server = start(HEADER_TIMEOUT=0.3)
    for client in [server.http() for _ in range(5)]:
        client.wait_until_ended()
    assert server.stats()["accepted"] == 5
