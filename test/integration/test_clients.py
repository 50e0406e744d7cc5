"""Event streams as Python's requests and urllib3, curl, node's fetch and Go read
them. Some deliver a body without a length or chunks late or never; all but one
ask for gzip, and must hand out each event at once all the same. Skipped without
those libraries (`scripts/build/deps.sh test`), node, Go."""
import json
import os
import shutil
import subprocess

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


def by_urllib3_in_gzip(address):
    pool = urllib3.PoolManager(headers={"Accept-Encoding": "gzip"})
    answer = pool.request("GET", address, preload_content=False,
                          timeout=DEADLINE, retries=False)
    assert answer.headers["Content-Encoding"] == "gzip"
    rest = b""
    for part in answer.stream(decode_content=True):
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)
    pool.clear()


def lines_of(*command, env=None):
    """What a program prints; it must end well."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                          env=env) as process:
        try:
            for line in process.stdout:
                yield line.removesuffix("\n")
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


def by_curl(address):
    return lines_of("curl", "-sN", "--noproxy", "*", "--compressed", address)


NODE = """
const answer = await fetch(process.argv[1]);
if (answer.headers.get("content-encoding") != "gzip") process.exit(3);
for await (const part of answer.body) process.stdout.write(part);
"""


def by_node(address):
    return lines_of("node", "--input-type=module", "-e", NODE, "--", address)


GO = """
package main

import ("bufio"; "fmt"; "io"; "net/http"; "os")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil || !answer.Uncompressed {
		os.Exit(3)
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		fmt.Println(lines.Text())
	}
	// Its decoder wants the trailer, and has handed out everything by then.
	if lines.Err() != io.ErrUnexpectedEOF {
		os.Exit(4)
	}
}
"""


def by_go(address, folder="/tmp/isimud-test-go-%d" % os.getuid()):
    """Built once, and kept."""
    program = os.path.join(folder, "read")
    if not os.path.exists(program):
        os.makedirs(folder, exist_ok=True)
        source = os.path.join(folder, f"main{os.getpid()}.go")
        with open(source, "w", encoding="utf-8") as file:
            file.write(GO)
        made = f"{program}.{os.getpid()}"
        subprocess.run(["go", "build", "-o", made, source], check=True,
                       env={**os.environ, "GO111MODULE": "off",
                            "GOTOOLCHAIN": "local"})
        os.replace(made, program)
    return lines_of(program, address, env={"NO_PROXY": "*"})


def if_there(read, program):
    return pytest.param(read, marks=pytest.mark.skipif(
        not shutil.which(program), reason=f"{program} is not installed"))


READERS = [by_requests, by_urllib3, by_urllib3_in_gzip, by_curl,
           if_there(by_node, "node"), if_there(by_go, "go")]


@pytest.mark.parametrize("read", READERS)
def test_each_event_is_there_before_the_next_is_published(server, read):
    lines = read(url(server, sub_target("alice", read.__name__)))
    assert next(lines).startswith("retry: ")
    assert next(lines).startswith("id: ")
    for i in range(6):
        data = f"event {i} " * (100 if i % 2 else 1)  # compressed, or not
        server.publish("alice", read.__name__, data)
        while not (line := next(lines)).startswith("data: "):
            pass
        assert line == f"data: {data}"


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
