"""scripts/docs/recipes: its pages, as they are printed, in Debian's chromium;
React and htmx are those of build/recipes, if they were installed there
(npm install --prefix build/recipes react react-dom htmx.org@2 htmx-ext-sse)."""
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

import browser
from client import PASSWORD
from program import ROOT, Server
from publishing import publish_json
from test_proxy import free_port, wait_until
from test_recipe import chromium  # noqa: F401
from test_recipes import FOLDER

pytestmark = [
    pytest.mark.skipif(not browser.path(), reason="chromium is not installed:"
                       " scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]
MODULES = os.path.join(ROOT, "build", "recipes", "node_modules")


def text_of(name, server):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return file.read().replace("http://127.0.0.1:3000",
                                   "http://%s:%d" % server.address)


def needs(*modules):
    for one in modules:
        if not os.path.isdir(os.path.join(MODULES, one)):
            pytest.skip(f"{one} is not in build/recipes")


class Site(browser.Site):
    """A web server; `files` by path: text, or a function that returns it."""

    TYPES = {".js": "text/javascript", ".json": "application/json"}

    def __init__(self):
        super().__init__()
        self.files = {}
        site = self

        class Handler(browser.EmptyPage):
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                content = site.files.get(path)
                if callable(content):
                    content = content()
                if content is None and path.startswith("/node_modules/"):
                    with open(MODULES + path[len("/node_modules"):],
                              encoding="utf-8") as file:
                        content = file.read()
                body = (content or "").encode()
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Type", Site.TYPES.get(
                    os.path.splitext(path)[1], "text/html; charset=utf-8"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server.RequestHandlerClass = Handler


@pytest.fixture
def site():
    one = Site()
    yield one
    one.stop()


@pytest.fixture
def visit(chromium):  # noqa: F811
    yield chromium.page
    chromium.close_pages()


@pytest.fixture
def server(tmp_path, site):
    """Starts again on its port by restart(how)."""
    class Restarted:
        settings = {"SSE_RETRY": 0.2, "DRAIN_SECONDS": 0,
                    "HISTORY_FILE": tmp_path / "history",
                    "ALLOWED_ORIGINS": site.origin}

        def __init__(self):
            self.server = Server(**self.settings)
            self.address = self.server.address

        def restart(self, how):
            if how == signal.SIGKILL:
                self.server.process.send_signal(how)
                self.server.kill()
            else:
                self.server.stop()
            self.server = Server(PORT=self.address[1], **self.settings)

    one = Restarted()
    yield one
    one.server.stop()


def publish(server, publisher, topic, data, **more):
    response = publish_json(server.server, {"topic": topic, "data": data, **more},
                            publisher)
    assert response.status == 200
    return response.json()["id"]


def shows(page, expression, value):
    wait_until(lambda: page.run(expression) == value,
               f"{expression} is {value!r}, not {page.run(expression)!r}")


SCORE = "document.getElementById('score').value"


def test_the_scoreboard_shows_what_holds(server, site, visit):
    state = {"state": {"home": 0, "away": 0}, "id": None}
    site.files = {"/": text_of("scoreboard.html", server),
                  "/score": lambda: json.dumps(state)}
    page = visit(site.origin + "/")
    shows(page, SCORE, "0 : 0")
    for home in range(1, 4):
        if home == 2:
            server.restart(signal.SIGTERM)
        elif home == 3:
            server.restart(signal.SIGKILL)
        state["state"] = {"home": home, "away": 0}
        state["id"] = publish(server, "news", "sports", state["state"])
        shows(page, SCORE, f"{home} : 0")
    shows(page, "document.getElementById('state').textContent", "live")
    late = visit(site.origin + "/")
    shows(late, SCORE, "3 : 0")


LINES = "[...document.querySelectorAll('li')].map(li => li.textContent)"


def test_a_chat_is_the_same_for_all(server, visit):
    pytest.importorskip("requests")
    port = free_port()
    server.settings["ALLOWED_ORIGINS"] = f"http://127.0.0.1:{port}"
    server.restart(signal.SIGTERM)
    with subprocess.Popen(
            [sys.executable, os.path.join(FOLDER, "chat.py"), str(port)],
            env={**os.environ, "ISIMUD_URL": "http://%s:%d" % server.address,
                 "ISIMUD_PASSWORD": PASSWORD}) as application:
        try:
            chat(f"http://127.0.0.1:{port}/", server, visit)
        finally:
            application.kill()


def is_there(url):
    try:
        with urllib.request.urlopen(url):
            return True
    except OSError:
        return False


def chat(url, server, visit):
    wait_until(lambda: is_there(url), "the application is there")
    pages = [visit(url), visit(url)]
    lines = []

    def say(page, text):
        page.run(f"""
            document.querySelector('input').value = {json.dumps(text)};
            document.querySelector('form').requestSubmit();
        """)
        lines.append(f"guest 127.0.0.1: {text}")
        for one in pages:
            shows(one, LINES, lines)

    say(pages[0], "hello")
    say(pages[1], "<b>hi</b>")
    server.restart(signal.SIGTERM)
    say(pages[0], "still here")
    pages.append(visit(url))  # has what was said before
    shows(pages[2], LINES, lines)
    server.restart(signal.SIGKILL)
    lines.clear()
    say(pages[2], "who is there?")


def test_a_job_s_page_shows_its_last_step_and_its_end(server, site, visit):
    pytest.importorskip("requests")
    site.files = {"/": text_of("job_progress.html", server)}
    publish(server, "jobs", "job/7", {"part": 0.5, "says": "half"}, event="step")
    page = visit(site.origin + "/?job=7")
    shows(page, "document.getElementById('says').value", "half")
    subprocess.run(
        [sys.executable, os.path.join(FOLDER, "job_progress.py"), "7"], check=True,
        env={**os.environ, "ISIMUD_URL": "http://%s:%d" % server.address,
             "ISIMUD_PASSWORD": PASSWORD}, timeout=60)
    for one in (page, visit(site.origin + "/?job=7")):
        shows(one, "[document.getElementById('bar').value,"
              " document.getElementById('says').value]", [1, "10 pages"])
        shows(one, "events.readyState", 2)


def test_htmx_puts_what_is_published_in_its_place(server, site, visit):
    needs("htmx.org", "htmx-ext-sse")
    site.files = {"/": text_of("htmx.html", server)}
    for path, module in (("/htmx.min.js", "htmx.org/dist/htmx.min.js"),
                         ("/sse.min.js", "htmx-ext-sse/sse.js")):
        with open(os.path.join(MODULES, module), encoding="utf-8") as file:
            site.files[path] = file.read()
    publish(server, "news", "live", "<li>before</li>")
    page = visit(site.origin + "/")
    shows(page, LINES, ["before"])
    publish(server, "news", "live", "1 : 0", event="score")
    publish(server, "news", "live", "<li>goal</li>")
    shows(page, LINES, ["goal", "before"])
    shows(page, "document.querySelector('h1').textContent", "1 : 0")
    server.restart(signal.SIGTERM)
    publish(server, "news", "live", "<li>again</li>")
    shows(page, LINES, ["again", "goal", "before"])
    server.restart(signal.SIGKILL)
    publish(server, "news", "live", "<li>after</li>")
    shows(page, LINES, ["after"])


REACT = """<!DOCTYPE html><div id="root"></div><link rel=icon href=data:,>
<script>
    // node's require(), as far as React needs it.
    const loaded = {}, process = {env: {NODE_ENV: "development"}};
    function require(name) {
        const path = "/node_modules/" + ({
            "react": "react/cjs/react.development.js",
            "scheduler": "scheduler/cjs/scheduler.development.js",
            "react-dom": "react-dom/cjs/react-dom.development.js",
            "react-dom/client": "react-dom/cjs/react-dom-client.development.js",
        })[name];
        if (loaded[name]) return loaded[name].exports;
        const request = new XMLHttpRequest();
        request.open("GET", path, false);
        request.send();
        const module = loaded[name] = {exports: {}};
        new Function("require", "module", "exports", "process",
            request.responseText)(require, module, module.exports, process);
        return module.exports;
    }
    window.React = require("react");
    const errors = [];
    window.addEventListener("error", (event) => errors.push(event.message));
</script>
<script type="importmap">{"imports": {"react": "/react.js"}}</script>
<script type="module">
    import {connect} from "http://127.0.0.1:3000/isimud.js";
    import {useTopic} from "/useTopic.js";
    const isimud = connect({publisher: "news", minDelay: 50, maxDelay: 400});
    const h = React.createElement;
    function Score({topic}) {
        const {state} = useTopic(isimud, topic, {
            initial: {home: 0, away: 0}, reduce: (state, {data}) => data});
        return h("p", {id: "score"}, `${topic} ${state.home} : ${state.away}`);
    }
    function List() {
        const {state} = useTopic(isimud, "list", {
            initial: [], last: 10, reduce: (list, {data}) => [...list, data]});
        return h("ul", null, state.map((one, i) => h("li", {key: i}, one)));
    }
    function Stored() {
        const {state} = useTopic(isimud, "stored", {
            initial: {home: 0}, reduce: (state, {data}) => data,
            snapshot: async () => (await fetch("/stored.json")).json()});
        return h("p", {id: "stored"}, state.home);
    }
    const root = require("react-dom/client").createRoot(document.getElementById("root"));
    window.show = (topic) => root.render(h(React.StrictMode, null,
        topic && h(Score, {topic}), h(List), h(Stored)));
    show("sports");
</script>
"""


def test_react_shows_the_state_of_a_topic(server, site, visit):
    needs("react", "react-dom", "scheduler")
    state = {"state": {"home": 7}, "id": None}
    site.files = {
        "/": REACT.replace("http://127.0.0.1:3000", "http://%s:%d" % server.address),
        "/useTopic.js": text_of("useTopic.js", server),
        "/react.js": "export const {useEffect, useReducer, useRef} = window.React;",
        "/stored.json": lambda: json.dumps(state)}
    publish(server, "news", "sports", {"home": 1, "away": 0})
    publish(server, "news", "list", "a")
    page = visit(site.origin + "/")
    score = "document.getElementById('score')?.textContent"
    stored = "document.getElementById('stored')?.textContent"
    shows(page, score, "sports 1 : 0")
    shows(page, LINES, ["a"])
    shows(page, stored, "7")
    publish(server, "news", "sports", {"home": 2, "away": 0})
    publish(server, "news", "list", "b")
    shows(page, score, "sports 2 : 0")
    shows(page, LINES, ["a", "b"])
    page.run("show('other')")  # another topic: its own state from the start
    shows(page, score, "other 0 : 0")
    publish(server, "news", "other", {"home": 9, "away": 9})
    shows(page, score, "other 9 : 9")
    page.run("show('sports')")
    shows(page, score, "sports 2 : 0")
    server.restart(signal.SIGTERM)
    publish(server, "news", "list", "c")
    shows(page, LINES, ["a", "b", "c"])
    state["state"] = {"home": 8}
    server.restart(signal.SIGKILL)
    publish(server, "news", "list", "d")
    shows(page, LINES, ["d"])
    shows(page, stored, "8")
    page.run("show('')")
    shows(page, score, None)
    assert page.run("errors") == []
