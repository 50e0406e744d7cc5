"""isimud.js in pages and workers of Debian's chromium, as the server sends it."""
import json
import os
import re

import pytest

import browser
from client import basic
from program import ROOT, Server
from session import number_of
from test_browser import chromium, foreign, http_url, ours, visit  # noqa: F401
from test_recipe import kill, terminate
from web import Cutter, check_complete

pytestmark = [
    pytest.mark.skipif(not browser.path(), reason="chromium is not installed:"
                       " scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]


def connect(page, address, topics=("news",), options=None, more=None):
    """Has the page connect, and note what happens."""
    options = {"publisher": "alice", "minDelay": 50, "maxDelay": 400,
               **(options or {})}
    page.run(f"""
        var isimud;
        const statuses = [], events = [];
        function event(what, more) {{ events.push({{what, ...more}}); on_note(); }}
        function count(what, members = {{}}) {{
            return events.filter(one => one.what === what && Object.entries(
                members).every(([name, value]) =>
                    JSON.stringify(one[name]) === JSON.stringify(value))).length;
        }}
        import({json.dumps("http://%s:%d/isimud.js" % address)}).then(
            ({{connect}}) => {{
                isimud = connect({{...{json.dumps(options)},
                    status(status, detail) {{
                        event("status", {{status, ...detail}});
                    }}}});
                for (const topic of {json.dumps(list(topics))})
                    isimud.subscribe(topic, {{
                        ...{json.dumps(more or {})},
                        message(one) {{ event("message", one); }},
                        reset(one) {{ event("reset", one); }},
                        gap(one) {{ event("gap", one); }},
                    }});
            }}, error => event("failed", {{message: String(error)}}));
    """)


def until(page, what, at_least=1, **members):
    page.run("noted(() => count(%s, %s) >= %d || count('failed'))" % (
        json.dumps(what), json.dumps(members), at_least))
    events = page.run("events")
    assert not [event for event in events if event["what"] == "failed"], events
    return [event for event in events if event["what"] == what
            and members.items() <= event.items()]


@pytest.mark.parametrize("transport", ["auto", "stream"])
@pytest.mark.parametrize("end", [terminate, kill], ids=["SIGTERM", "SIGKILL"])
def test_a_page_of_another_origin_follows_restarts(visit, ours, tmp_path, end,  # noqa: F811
                                                   transport):
    settings = {"SSE_RETRY": 0.1, "HISTORY_FILE": tmp_path / "history",
                "ALLOWED_ORIGINS": ours.origin}
    server = Server(**settings)
    page = visit(ours)
    connect(page, server.address, options={"transport": transport})
    until(page, "status", status="open")
    server.publish("alice", "news", 1)
    until(page, "message", data=1)
    if end is terminate:
        server.publish("alice", "news", "last words")
    end(server)
    again = Server(PORT=server.address[1], **settings)
    server.kill()
    server = again
    until(page, "status", 2, status="open")
    if end is kill:
        until(page, "reset")
    server.publish("alice", "news", 2)
    until(page, "message", data=2)
    events = page.run("events")
    server.stop()
    assert check_complete(events, "news") == (end is kill)


def test_a_page_is_back_at_once_when_it_is_online(start, visit, ours):  # noqa: F811
    server = start()
    relay = Cutter(server.address)
    page = visit(ours)
    # Long enough that it is not back by itself.
    connect(page, relay.address,
            options={"minDelay": 10000000, "maxDelay": 10000000})
    until(page, "status", status="open")
    for count, event in enumerate([
            "window.dispatchEvent(new Event('online'))",
            "document.dispatchEvent(new Event('visibilitychange'))"], 1):
        relay.cut()
        until(page, "status", count, status="waiting")
        page.run(event)
        until(page, "status", count + 1, status="open")
    relay.close()


def test_a_dead_link_is_noticed_when_somebody_looks(start, visit, ours):  # noqa: F811
    """Without a ping of its own in all that time."""
    server = start()
    page = visit(ours)
    connect(page, server.address, options={"ping": 10000000, "timeout": 2000})
    until(page, "status", status="open")
    page.run("new Promise(done => setTimeout(done, 3000))")  # the first ping's
    server.process.send_signal(19)  # SIGSTOP
    try:
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        until(page, "status", status="waiting", code=1006)
    finally:
        server.process.send_signal(18)  # SIGCONT
    until(page, "status", 2, status="open")


def test_a_worker_follows_too(start, visit, ours):  # noqa: F811
    server = start()
    page = visit(ours)
    url = http_url(server, "/isimud.js")
    page.run(f"""
        const code = `import {{connect}} from {json.dumps(url)};
            connect({{publisher: "alice",
                status(status) {{ postMessage(status); }}}}).subscribe(
                "news", {{message({{data}}) {{ postMessage(data); }}}});`;
        const worker = new Worker(URL.createObjectURL(new Blob([code],
            {{type: "text/javascript"}})), {{type: "module"}});
        worker.onmessage = ({{data}}) => note(data);
        worker.onerror = ({{message}}) => note("failed: " + message);
    """)
    assert page.notes(2) == [["connecting"], ["open"]]
    server.publish("alice", "news", {"a": 1})
    assert page.notes(3)[2] == [{"a": 1}]


def test_a_page_publishes_where_the_browser_lets_it(start, visit, ours):  # noqa: F811
    """With a password of its own: over a WebSocket, or by POST."""
    server = start(ALLOWED_ORIGINS=ours.origin)
    page = visit(ours)
    for transport in ("stream", "auto"):
        topic = f"by {transport}"
        connect_once = json.dumps({"publisher": "alice", "password": "secret",
                                   "transport": transport})
        receipt = page.run(f"""
            import({json.dumps(http_url(server, "/isimud.js"))}).then(
                async ({{connect}}) => {{
                    const one = connect({connect_once});
                    one.subscribe({json.dumps(topic)}, {{message() {{}}}});
                    try {{
                        return await one.publish({json.dumps(topic)}, 1);
                    }} catch (error) {{
                        return {{code: error.code, text: String(error)}};
                    }} finally {{
                        one.close();
                    }}
                }})
        """)
        assert "id" in receipt, (transport, receipt)


def test_readme_s_page_shows_what_is_published(start, visit, ours):  # noqa: F811
    server = start()
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as text:
        script, = re.findall(r'<script type="module">\n(.*?)</script>',
                             text.read(), re.DOTALL)
    assert "http://127.0.0.1:3000/" in script
    page = visit(ours)
    script = script.replace("127.0.0.1:3000", "%s:%d" % server.address)
    page.run(f"""
        const element = document.createElement("script");
        element.type = "module";
        element.textContent = {json.dumps(script)};
        document.head.append(element);
    """)
    server.wait_until(lambda: json.loads(server.ask("GET", "/topics/sports", {
        "Authorization": basic("news")}).body).get("subscribers") == 1,
        "it has subscribed")
    server.publish("news", "sports", "1 : 0")
    assert page.logged() == ["1 : 0"]
