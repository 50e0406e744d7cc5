"""Whether client libraries come back, with their own defaults: after an orderly
end (SIGTERM), and after a cut (`kill -9`). README says which do not, and what
to add for those. Skipped where node, Go or the packages' registries are not."""
import os
import shutil
import subprocess

import pytest

from client import sub_target
from program import Server

FOLDER = "/tmp/isimud-test-libraries-%d" % os.getuid()


def run_once(folder, *commands):
    """Runs them in a new folder, which is kept for the next time. Skips if one
    fails: the registry can't be reached."""
    if os.path.exists(folder):
        return
    making = f"{folder}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(making)
    for command in commands:
        try:
            done = subprocess.run(command, cwd=making, capture_output=True,
                                  timeout=120, text=True)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            pytest.skip(str(error))
        if done.returncode != 0:
            pytest.skip(f"{command[0]}: {done.stderr[-200:]}")
    try:
        os.rename(making, folder)
    except OSError:  # another process was faster
        shutil.rmtree(making)


# --- node ---------------------------------------------------------------------

PACKAGES = ("@microsoft/fetch-event-source@2.0.1", "eventsource@4.0.0")

EVENTSOURCE = """
import {EventSource} from "eventsource";
const source = new EventSource(process.argv[1]);
source.onmessage = (event) => console.log(event.data);
"""

# It is made for pages, and raises an empty message for a block without data.
FETCH_EVENT_SOURCE = """
import {createRequire} from "node:module";
globalThis.window = globalThis;
globalThis.document = new EventTarget();
const {fetchEventSource} =
    createRequire(process.cwd() + "/")("@microsoft/fetch-event-source");
await fetchEventSource(process.argv[1], {
    onmessage: ({event, data}) => { if (event == "" && data != "") console.log(data); },
    ONCLOSE
});
console.log("ended");
"""


def in_node(source):
    def command(url):
        run_once(f"{FOLDER}/npm", ("npm", "install", "--no-audit", "--no-fund",
                                   *PACKAGES))
        return ["node", "--input-type=module", "-e", source, "--", url]
    return command, "npm"


EVENTSOURCE_4 = in_node(EVENTSOURCE)
FETCH = in_node(FETCH_EVENT_SOURCE.replace("ONCLOSE", ""))
FETCH_THAT_THROWS = in_node(FETCH_EVENT_SOURCE.replace(
    "ONCLOSE", 'onclose: () => { throw new Error("come back"); },'))

# --- Go -----------------------------------------------------------------------

MODULES = ("github.com/r3labs/sse/v2@v2.10.0",
           "github.com/tmaxmax/go-sse@v0.11.0")

R3LABS = """package main

import (
	"fmt"
	"os"

	"github.com/r3labs/sse/v2"
)

func main() {
	client := sse.NewClient(os.Args[1])
	client.SubscribeRaw(func(message *sse.Event) {
		if len(message.Event) == 0 && len(message.Data) > 0 {
			fmt.Println(string(message.Data))
		}
	})
	fmt.Println("ended")
}
"""

TMAXMAX = """package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/tmaxmax/go-sse"
)

func main() {
	request, _ := http.NewRequest("GET", os.Args[1], nil)
	connection := sse.NewConnection(request)
	connection.SubscribeMessages(func(message sse.Event) {
		if message.Data != "" {
			fmt.Println(message.Data)
		}
	})
	connection.Connect()
	fmt.Println("ended")
}
"""


def in_go(name, source):
    def command(url):
        run_once(f"{FOLDER}/go", ("go", "mod", "init", "libraries"),
                 ("go", "get", *MODULES))
        program = f"{FOLDER}/go/{name}"
        if not os.path.exists(program):
            main = f"{FOLDER}/go/{name}{os.getpid()}.go"
            with open(main, "w", encoding="utf-8") as file:
                file.write(source)
            made = f"{program}.{os.getpid()}"
            subprocess.run(["go", "build", "-o", made, main], check=True,
                           cwd=f"{FOLDER}/go")
            os.rename(made, program)
        return [program, url]
    return command, "go"


GO_R3LABS = in_go("r3labs", R3LABS)
GO_TMAXMAX = in_go("tmaxmax", TMAXMAX)


# --- what they do -------------------------------------------------------------


@pytest.fixture
def run():
    """run(library, server) starts one."""
    processes = []

    def begin(library, server):
        command, program = library
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
        url = "http://%s:%d" % server.address + sub_target("alice", "news")
        process = subprocess.Popen(command(url), stdout=subprocess.PIPE,
                                   cwd=f"{FOLDER}/{program}",
                                   env={**os.environ, "NO_PROXY": "*"},
                                   text=True)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def expect(process, server, data):
    """It is subscribed, and gets what is published."""
    server.wait_until(lambda: server.total("event_stream") == 1,
                      "nobody is subscribed")
    server.publish("alice", "news", data)
    assert process.stdout.readline() == data + "\n"


def end_orderly(server):
    server.terminate()
    assert server.wait() == 0


def cut(server):
    server.kill()


def begin_again(start, server, **settings):
    return start(PORT=server.address[1], SSE_RETRY=0.1, **settings)


COME_BACK = pytest.mark.parametrize("library", [
    pytest.param(EVENTSOURCE_4, id="eventsource"),
    pytest.param(FETCH_THAT_THROWS, id="fetch-event-source, throwing"),
    pytest.param(GO_R3LABS, id="r3labs/sse"),
    pytest.param(GO_TMAXMAX, id="tmaxmax/go-sse")])


@pytest.mark.parametrize("end", [end_orderly, cut])
@COME_BACK
def test_it_comes_back(start, run, library, end):
    server = Server(SSE_RETRY=0.1)
    process = run(library, server)
    expect(process, server, "before")
    end(server)
    server = begin_again(start, server)
    expect(process, server, "after")


def test_r3labs_sse_without_gzip_ends_with_an_orderly_end(start, run):
    """Go's decoder of gzip knows none that is orderly."""
    server = Server(SSE_RETRY=0.1, COMPRESS_MIN=0)
    process = run(GO_R3LABS, server)
    expect(process, server, "before")
    cut(server)
    server = begin_again(start, server, COMPRESS_MIN=0)
    expect(process, server, "after")
    end_orderly(server)
    assert process.stdout.readline() == "ended\n"


@pytest.mark.parametrize("end", [end_orderly, cut])
def test_fetch_event_source_ends_unless_onclose_throws(run, end):
    """In a page after an orderly end alone: node's fetch takes a cut for
    one."""
    server = Server(SSE_RETRY=0.1)
    process = run(FETCH, server)
    expect(process, server, "before")
    end(server)
    assert process.stdout.readline() == "ended\n"


@COME_BACK
def test_it_comes_back_after_a_refusal(start, run, library):
    """Which is an orderly end, too."""
    server = start(SSE_RETRY=0.1, MAX_CONNECTIONS=1)
    other = server.event_stream()
    process = run(library, server)
    server.wait_until(lambda: server.stats()["refused"] > 0,
                      "nobody is refused")
    other.close()
    server.wait_until(lambda: server.stats()["subscribed"] == 2,
                      "it does not come back")
    expect(process, server, "after")
