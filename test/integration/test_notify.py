"""sd_notify: a service manager is told when it serves, and when it ends."""
import socket

import pytest

from client import DEADLINE


def listen(address):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(DEADLINE)
    manager.bind(address)
    return manager


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_manager_is_told_of_start_and_stop(start, tmp_path, is_abstract):
    path = str(tmp_path / "notify")
    name = "@" + path if is_abstract else path
    with listen("\0" + path if is_abstract else path) as manager:
        server = start(NOTIFY_SOCKET=name)
        assert manager.recv(1000).split(b"\n")[0] == b"READY=1"
        assert server.ask("GET", "/readyz").status == 200
        server.terminate()
        assert manager.recv(1000).split(b"\n")[0] == b"STOPPING=1"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "@", "relative", "",
                                  "/" + 200 * "x"])
def test_a_manager_that_is_not_there_is_nothing_to_it(start, name):
    assert start(NOTIFY_SOCKET=name).ask("GET", "/readyz").status == 200
