"""`isimud healthcheck`, against fakes of what it asks."""
import contextlib
import socket
import subprocess
import threading
import time

import pytest

from client import DEADLINE
from program import ISIMUD, WRAPPER, environment

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Fake:
    """Listens at `address`, reads a request's head, and calls `answer` with
    the socket, for each connection."""

    def __init__(self, answer, address=("127.0.0.1", 0)):
        family = (socket.AF_UNIX if isinstance(address, str) else
                  socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.answer = answer if callable(answer) else (
            lambda client: client.sendall(answer))
        self.requests = []
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen()
        if family != socket.AF_UNIX:
            self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve_one, args=(client,),
                                 daemon=True).start()

    def serve_one(self, client):
        with client, contextlib.suppress(OSError):
            client.settimeout(DEADLINE)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1000)
            self.requests.append(head)
            self.answer(client)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def healthcheck(*arguments, **settings):
    return subprocess.run(WRAPPER + [ISIMUD, "healthcheck", *arguments],
                          env=environment(settings),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE)


def assert_well(result):
    assert result.returncode == 0, result.stderr
    assert result.stdout == "" and result.stderr == ""


def assert_unwell(result, says):
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "healthcheck: " in result.stderr and says in result.stderr


def test_200_is_well_and_needs_no_password():
    with Fake(OK) as fake:
        assert_well(healthcheck(PORT=fake.port))
    head, = fake.requests
    assert head.startswith(b"GET /healthz HTTP/1.1\r\n")
    assert b"\r\nHost: " in head


def test_its_settings_may_be_flags():
    with Fake(OK) as fake:
        assert_well(healthcheck(f"--port={fake.port}", PORT=1))


@pytest.mark.parametrize("status", [100, 199, 201, 204, 301, 404, 500, 503])
def test_any_other_status_is_not(status):
    with Fake(b"HTTP/1.1 %d Some\r\n\r\n" % status) as fake:
        assert_unwell(healthcheck(PORT=fake.port), f"answered {status}")


@pytest.mark.parametrize("answer", [
    b"", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK\r\n", b"hello, who is there?\r\n",
    b"HTTP/2.0 200 OK\r\n", b" HTTP/1.1 200 OK\r\n", b"\0" * 40,
])
def test_what_is_no_answer_is_not(answer):
    with Fake(answer) as fake:
        assert_unwell(healthcheck(PORT=fake.port), f":{fake.port}")


def test_an_answer_in_single_bytes_is_an_answer():
    def answer(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in OK:
            client.sendall(bytes([byte]))

    with Fake(answer) as fake:
        assert_well(healthcheck(PORT=fake.port))


def test_nobody_there_is_not():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert_unwell(healthcheck(PORT=port), "connection refused")


@pytest.mark.parametrize("bytes_before", [0, 5])
def test_no_answer_within_3_seconds_is_not(bytes_before):
    over = threading.Event()

    def stall(client):
        # Each byte comes in time; all of them do not.
        for i in range(bytes_before):
            client.sendall(OK[i:i + 1])
            over.wait(1)
        over.wait(DEADLINE)

    with Fake(stall) as fake:
        start = time.monotonic()
        result = healthcheck(PORT=fake.port)
        seconds = time.monotonic() - start
        over.set()
    assert_unwell(result, "timed out")
    assert 2.9 < seconds < DEADLINE - 2


def test_a_full_backlog_is_not_waited_for_longer(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, \
            contextlib.ExitStack() as clients:
        listener.bind(path)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = clients.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        assert_unwell(healthcheck(LISTEN=f"unix:{path}"), "timed out")


def test_a_unix_socket_is_asked(tmp_path):
    path = str(tmp_path / "socket")
    with Fake(OK, path):
        assert_well(healthcheck(LISTEN=f"unix:{path}"))
    assert_unwell(healthcheck(LISTEN=f"unix:{path}x"), f"unix:{path}x")


def test_the_first_listener_is_asked_and_no_other():
    with Fake(OK) as first, Fake(b"") as second:
        assert_well(healthcheck(LISTEN=f"127.0.0.1:{first.port},"
                                       f"127.0.0.1:{second.port}", PORT=1))
        assert second.requests == []


def test_the_admin_port_is_asked_before_any_listener():
    with Fake(b"") as listener, Fake(OK) as admin:
        assert_well(healthcheck(ADMIN_PORT=admin.port, PORT=listener.port))
        assert_well(healthcheck(ADMIN_PORT=admin.port,
                                LISTEN=f"127.0.0.1:{listener.port}"))
        assert listener.requests == []


def test_all_addresses_are_asked_at_loopback():
    with Fake(OK) as fake:
        assert_well(healthcheck(IP="0.0.0.0", PORT=fake.port))
        assert_well(healthcheck(IP="0.0.0.0", ADMIN_PORT=fake.port))


def test_another_address_is_asked_there():
    with Fake(OK, ("127.0.0.2", 0)) as fake:
        assert_well(healthcheck(IP="127.0.0.2", PORT=fake.port))
        assert_unwell(healthcheck(PORT=fake.port), "connection refused")


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6_is_asked():
    with Fake(OK, ("::1", 0)) as fake:
        assert_well(healthcheck(IP="::1", PORT=fake.port))
        assert_well(healthcheck(LISTEN=f"[::1]:{fake.port}"))
        both = f"[::]:{fake.port},0.0.0.0:{fake.port}"
        assert_well(healthcheck(LISTEN=both))


@pytest.mark.parametrize("ip", ["::", "0:0:0:0:0:0:0:0"])
def test_all_addresses_are_asked_by_ipv4_which_is_everywhere(ip):
    """A container may have IPv6 switched off."""
    with Fake(OK, ("127.0.0.1", 0)) as fake:
        assert_well(healthcheck(IP=ip, PORT=fake.port))
        assert_well(healthcheck(LISTEN=f"[{ip}]:{fake.port}"))


def test_port_0_cannot_be_asked():
    assert_unwell(healthcheck(PORT=0), "port 0")
    assert_unwell(healthcheck(ADMIN_PORT=0), "port 0")


@pytest.mark.parametrize("settings, arguments", [
    ({"PORT": "http"}, []), ({"ISIMUD_X": "1"}, []), ({}, ["--prot=1"]),
    ({}, ["healthcheck", "twice"]),
])
def test_wrong_settings_are_status_1_since_docker_keeps_2(settings, arguments):
    result = healthcheck(*arguments, **settings)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
