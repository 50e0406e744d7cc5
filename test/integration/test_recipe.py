"""README's recipe of a page that is always right, as it is printed there, in
two tabs of Debian's chromium, while isimud ends in all the ways there are."""
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

import browser
from client import DEADLINE, basic, sub_target
from program import ROOT, Server
from test_proxy import free_port, nginx_command, wait_until

pytestmark = [
    pytest.mark.skipif(not browser.path(), reason="chromium is not installed:"
                       " scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]

TABS = 2


def goals(home):
    """A score."""
    return {"home": home, "away": 0}


def recipe():
    """The function, from README."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as text:
        found = re.findall(r"^    function follow\(.*?^    }$", text.read(),
                           re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


class Application(browser.Site):
    """The backend: it has the score and the page, and publishes to `push`."""

    def __init__(self):
        super().__init__()
        self.state = {"state": None, "id": None}
        self.fetches = 0
        application = self

        class Page(browser.EmptyPage):
            def do_GET(self):
                if urlsplit(self.path).path == "/score":
                    application.fetches += 1
                    self.CONTENT = json.dumps(application.state).encode()
                super().do_GET()

        self.server.RequestHandlerClass = Page

    def store(self, score):
        """Its id stays what it was."""
        self.state = {**self.state, "state": score}

    def publish(self, score, address):
        """Stores it, and publishes it until that is answered with a receipt."""
        self.store(score)
        request = urllib.request.Request(
            "http://%s:%d/pub" % address, method="POST",
            data=json.dumps({"topic": "sports", "data": score}).encode(),
            headers={"Authorization": basic("news"),
                     "Content-Type": "application/json"})

        def is_published():
            try:
                with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                    self.state = {"state": score, "id": json.load(answer)["id"]}
            except (urllib.error.URLError, ConnectionError):
                return False
            return True

        wait_until(is_published, "it is published")


class Tabs:
    """Pages that follow the score."""

    def __init__(self, chromium, application, address):
        self.pages = [chromium.page(application.origin + "/")
                      for _ in range(TABS)]
        url = "http://%s:%d" % address + sub_target("news", "sports")
        for page in self.pages:
            page.run(recipe() + f"""
                let shown;
                const stop = follow("/score", {json.dumps(url)}, score => {{
                    shown = score;
                    note(score);
                }});
            """)

    def show(self, score):
        """Waits until all do."""
        for page in self.pages:
            page.notes_until(
                f"JSON.stringify(shown) === JSON.stringify({json.dumps(score)})")

    def notes(self):
        """All that they have shown, in order."""
        return [[note[0] for note in page.run("notes")] for page in self.pages]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield one
    one.stop()


@pytest.fixture
def application():
    one = Application()
    yield one
    one.stop()


@pytest.fixture
def follow(chromium, application):
    """follow(address) opens the tabs, which hear of it by isimud there."""
    yield lambda address: Tabs(chromium, application, address)
    chromium.close_pages()


@pytest.fixture
def nginx(tmp_path):
    """nginx(address) starts one with scripts/proxy/nginx.conf before what
    listens there, without TLS and without the recipe for EventSource: what is
    away is 502. Returns its address, and a function that counts these."""
    if not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("nginx is not installed: scripts/build/deps.sh proxy")
    programs = []

    def start_one(backend):
        port = free_port()
        command = nginx_command(tmp_path, port, {
            "127.0.0.1:3000": "%s:%d" % backend,
            " ssl http2;": " ;",
            "ssl_certificate /etc/ssl/isimud/cert.pem;": "",
            "ssl_certificate_key /etc/ssl/isimud/key.pem;": "",
            "error_page 502 503 504 = @away;": ""})
        programs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL))
        wait_until(lambda: is_listening(port), "nginx listens")

        def refused():
            log = (tmp_path / "access.log").read_text()
            return len(re.findall(r" /sub 502 ", log))

        return ("127.0.0.1", port), refused

    yield start_one
    for program in programs:
        program.terminate()
        program.wait(DEADLINE)


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


# --- restarts ----------------------------------------------------------------


def terminate(server):
    server.stop()


def kill(server):
    server.kill()


class Lives:
    """isimud, again and again at one address."""

    def __init__(self, end):
        self.end = end
        self.server = Server(SSE_RETRY=0.1)
        self.address = self.server.address

    def end_one(self):
        self.end(self.server)

    def begin_one(self):
        self.server = Server(SSE_RETRY=0.1, PORT=self.address[1])


@pytest.fixture(params=[terminate, kill], ids=["SIGTERM", "SIGKILL"])
def lives(request):
    one = Lives(request.param)
    yield one
    one.server.kill()


def shown_through_restarts(lives, application, tabs, wait_for_outage):
    application.publish(goals(2), lives.address)
    tabs.show(goals(2))
    lives.end_one()
    wait_for_outage()
    # What was published to the old one, and lost with it.
    application.store(goals(3))
    lives.begin_one()
    tabs.show(goals(3))
    application.publish(goals(4), lives.address)
    tabs.show(goals(4))
    lives.end_one()
    wait_for_outage()
    # Published as soon as it is back, before the tabs are or after.
    publishing = threading.Thread(target=application.publish,
                                  args=(goals(5), lives.address))
    publishing.start()
    lives.begin_one()
    tabs.show(goals(5))
    publishing.join(DEADLINE)
    assert not publishing.is_alive()
    application.publish(goals(6), lives.address)
    tabs.show(goals(6))
    for notes in tabs.notes():
        # One in the state and in a message comes twice, but none returns.
        assert [score for score, _ in itertools.groupby(notes)] == [
            goals(i) for i in range(1, 7)]


def test_the_score_is_right_after_each_restart(lives, application, follow):
    application.publish(goals(1), lives.address)
    tabs = follow(lives.address)
    tabs.show(goals(1))
    shown_through_restarts(lives, application, tabs, lambda: None)


@pytest.mark.parametrize("lives", [kill], indirect=True, ids=["SIGKILL"])
def test_and_where_a_proxy_answers_502_meanwhile(lives, application, follow,
                                                 nginx):
    application.publish(goals(1), lives.address)
    address, refused = nginx(lives.address)
    tabs = follow(address)
    tabs.show(goals(1))

    def wait_for_outage():
        """Until each tab's EventSource has given up, and so has another."""
        before = refused()
        wait_until(lambda: refused() >= before + 2 * TABS, "refused")

    shown_through_restarts(lives, application, tabs, wait_for_outage)


def test_with_a_history_file_each_score_comes_once(start, application, follow,
                                                   tmp_path):
    settings = {"SSE_RETRY": 0.1, "HISTORY_FILE": tmp_path / "history"}
    server = start(**settings)
    application.publish(goals(1), server.address)
    tabs = follow(server.address)
    tabs.show(goals(1))
    application.publish(goals(2), server.address)
    tabs.show(goals(2))
    server.stop()
    server = start(PORT=server.address[1], **settings)
    application.publish(goals(3), server.address)
    tabs.show(goals(3))
    assert tabs.notes() == [[goals(1), goals(2), goals(3)]] * TABS
    assert application.fetches == TABS


# --- the state and the stream ------------------------------------------------


def test_a_page_that_comes_before_anything_is_published(start, application,
                                                        follow):
    server = start(SSE_RETRY=0.1)
    tabs = follow(server.address)
    tabs.show(None)
    application.publish(goals(1), server.address)
    tabs.show(goals(1))


@pytest.mark.parametrize("is_first", [True, False])
def test_what_is_published_after_the_state_was_asked_for(
        start, application, follow, is_first):
    server = start(SSE_RETRY=0.1)
    if not is_first:
        application.publish(goals(1), server.address)
    old = application.state
    application.publish(goals(2), server.address)
    application.state = old  # as it answered before that
    follow(server.address).show(goals(2))


def test_a_page_that_comes_when_the_history_has_been_forgotten(
        start, application, follow):
    """The id of the state is of this server, but it can't tell from there."""
    server = start(SSE_RETRY=0.1, HISTORY_TTL=0.1)
    application.publish(goals(1), server.address)
    server.wait_until(lambda: server.metrics()["isimud_topics"] == 0, "gone")
    # Other topics get numbers, which those of this one will not repeat.
    answer = server.ask("POST", "/pub", {
        "Authorization": basic("news"), "Content-Type": "application/json"},
        json.dumps([{"topic": f"weather {i}", "data": "fair"}
                    for i in range(2000)]).encode())
    assert answer.status == 200, answer.body
    server.wait_until(lambda: server.metrics()["isimud_topics"] == 0, "gone")
    tabs = follow(server.address)
    tabs.show(goals(1))
    server.wait_until(lambda: server.total("event_stream") == TABS, "streams")
    application.publish(goals(2), server.address)
    tabs.show(goals(2))
    assert application.fetches == 2 * TABS


def test_a_page_that_has_stopped_is_forgotten(start, application, follow):
    server = start(SSE_RETRY=0.1)
    application.publish(goals(1), server.address)
    tabs = follow(server.address)
    tabs.show(goals(1))
    server.wait_until(lambda: server.total("event_stream") == TABS, "streams")
    for page in tabs.pages:
        page.run("stop()")
    server.wait_until(lambda: server.total("event_stream") == 0, "they left")
