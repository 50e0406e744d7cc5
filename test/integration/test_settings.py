"""Settings: environment variables, and what is said when one is wrong."""
import socket
import subprocess

import pytest

from client import DEADLINE, publish_request, request
from program import ISIMUD, LISTENING, WRAPPER, environment

GOOD = {"PASSWORD": "secret", "PORT": 0}


def run_to_its_end(settings):
    return subprocess.run(WRAPPER + [ISIMUD], env=environment(settings),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE)


@pytest.mark.parametrize("name, value", [
    ("PASSWORD", None), ("PASSWORD", ""), ("PORT", ""), ("AUTH_URL", ""),
    ("PORT", "99999"), ("PORT", "65536"), ("PORT", "-1"), ("PORT", "http"),
    ("PORT", "80 "), ("PORT", "0x50"),
    ("IP", "localhost"), ("IP", "1.2.3"), ("IP", "1.2.3.4.5"), ("IP", "::g"),
    ("HOMEPAGE", "maybe"), ("HOMEPAGE", "2"),
    ("AUTH_URL", "ftp://x"), ("AUTH_URL", "example.com"),
    ("AUTH_URL", "/check"), ("AUTH_URL", "http://"),
    ("AUTH_URL", "file:///etc/passwd"),
    ("WORKERS", "0"), ("WORKERS", "-2"), ("WORKERS", "two"),
    ("WORKERS", "1000000"),
    ("MAX_BODY", "1X"), ("MAX_BODY", "-1"), ("MAX_BODY", "K"),
    ("MAX_BODY", "1KK"), ("MAX_BODY", "99999999999999999999"),
    ("MAX_BUFFERED", "lots"), ("MAX_MAILBOX", "1.5.2M"),
    ("MAX_CONNECTIONS", "0"), ("MAX_CONNECTIONS", "many"),
    ("HEADER_TIMEOUT", "soon"), ("HEADER_TIMEOUT", "-1"),
    ("BODY_TIMEOUT", "nan"), ("WRITE_TIMEOUT", "inf"),
    ("IDLE_TIMEOUT", "1 minute"), ("CLOSE_TIMEOUT", "1e99"),
    ("PING_INTERVAL", "0"), ("AUTH_TIMEOUT", "0x10"),
    ("AUTH_MAX_CHECKS", "0"), ("LOG_LEVEL", "loud"),
])
def test_a_bad_setting_is_one_line_and_status_2(name, value):
    result = run_to_its_end({**GOOD, name: value})
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
    assert name in result.stderr
    assert not LISTENING.search(result.stderr.rstrip())


def test_a_taken_port_is_one_line_and_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_to_its_end({**GOOD, "PORT": port})
    assert result.returncode not in (0, 2)
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert len(errors) == 1 and str(port) in errors[0]


def test_a_given_port_is_listened_on(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert start(PORT=port).address == ("127.0.0.1", port)


def test_the_default_address_is_loopback(start):
    assert start(IP=None).address[0] == "127.0.0.1"


def test_another_address_is_listened_on(start):
    server = start(IP="127.0.0.2")
    assert server.address[0] == "127.0.0.2"
    assert server.ask("GET", "/").status == 303
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.address[1]))


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_an_ipv6_address_is_listened_on(start):
    server = start(IP="::1")
    assert server.ask("GET", "/").status == 303


@pytest.mark.parametrize("size", [2048, "2K", "2k"])
def test_max_body_sets_the_limit_of_a_body(start, size):
    server = start(MAX_BODY=size)
    body = b'{"topic":"a","data":"%b"}'
    fits = body % (b"x" * (2048 - len(body) + 2))
    assert len(fits) == 2048
    assert server.http().publish(body=fits).status == 200
    assert server.http().publish(body=fits + b" ").status == 413


def test_each_worker_is_a_thread_of_the_set_number(start):
    server = start(WORKERS=3)
    assert len(server.report()[1]) == 3


def test_connections_over_the_limit_are_answered_503_and_closed(start):
    server = start(MAX_CONNECTIONS=2)
    kept = [server.http() for _ in range(2)]
    for client in kept:
        assert client.ask("GET", "/").status == 303
    refused = server.http()
    assert refused.response().status == 503
    refused.wait_until_ended()
    for client in kept:
        assert client.ask("GET", "/").status == 303


def test_a_place_under_the_limit_is_free_again_when_its_client_leaves(start):
    server = start(MAX_CONNECTIONS=1)
    first = server.http()
    assert first.ask("GET", "/").status == 303
    first.close()

    def is_served():
        client = server.http()
        client.send_while_open(request("GET", "/"))
        try:
            return client.response().status == 303
        except (ConnectionError, EOFError):
            return False
        finally:
            client.close()

    server.wait_until(is_served, "a free place")


def test_a_full_mailbox_is_answered_503_and_nothing_else_is_lost(start):
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe()
    texts = [f"{i:0900}" for i in range(200)]
    client = server.http()
    client.send(b"".join(publish_request(data=text) for text in texts))
    statuses = [client.response().status for _ in texts]
    assert set(statuses) == {200, 503}
    taken = [t for t, status in zip(texts, statuses) if status == 200]
    assert [subscriber.receive() for _ in taken] == taken
    server.publish("alice", "news", "after")
    assert subscriber.receive() == "after"
