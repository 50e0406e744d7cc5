"""Event streams as Python's requests and urllib3 read them, which deliver a
body without a length or chunks late or never. Skipped without those libraries
(`scripts/deps.sh test`)."""
import json

import pytest

from client import DEADLINE, sub_target
from program import Server

requests = pytest.importorskip("requests")
urllib3 = pytest.importorskip("urllib3")


def url(server, target):
    return "http://%s:%d" % server.address + target


def by_requests(address):
    """Lines, as sseclient and the like take them."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(address, stream=True, timeout=DEADLINE,
                             headers={"Accept": "text/event-stream"})
        assert answer.status_code == 200
        yield from answer.iter_lines(decode_unicode=True)


def by_urllib3(address):
    pool = urllib3.PoolManager()
    answer = pool.request("GET", address, preload_content=False,
                          timeout=DEADLINE, retries=False)
    assert answer.status == 200
    rest = b""
    for part in answer.stream():
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)
    pool.clear()


READERS = [by_requests, by_urllib3]


@pytest.mark.parametrize("read", READERS)
def test_each_event_is_there_before_the_next_is_published(server, read):
    lines = read(url(server, sub_target("alice", read.__name__)))
    assert next(lines).startswith("retry: ")
    assert next(lines).startswith("id: ")
    for i in range(5):
        server.publish("alice", read.__name__, f"event {i}")
        while not (line := next(lines)).startswith("data: "):
            pass
        assert line == f"data: event {i}"


@pytest.mark.parametrize("read", READERS)
def test_an_orderly_end_ends_the_iteration(start, read):
    server = start(DRAIN_SECONDS=0)
    lines = read(url(server, sub_target("alice", "news")))
    next(lines)
    server.terminate()
    rest = list(lines)
    data = rest[rest.index("event: close") + 1]
    assert json.loads(data.removeprefix("data: "))["code"] == 1001


@pytest.mark.parametrize("read, error", [
    (by_requests, requests.exceptions.ChunkedEncodingError),
    (by_urllib3, urllib3.exceptions.ProtocolError)])
def test_a_cut_raises(read, error):
    server = Server()
    lines = read(url(server, sub_target("alice", "news")))
    next(lines)
    server.kill()
    with pytest.raises(error):
        list(lines)
