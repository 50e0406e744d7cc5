"""The console, in Debian's chromium: what it shows is true, whatever happens to
the server meanwhile. A test that fails leaves a picture of the page in
build/screenshots/."""
import base64
import json
import os

import pytest

import browser
from client import DEADLINE, basic, sub_target
from cluster import HAS_NATS
from program import ROOT, Server
from test_browser import chromium  # noqa: F401, a fixture

pytestmark = [
    pytest.mark.skipif(not browser.path(), reason="chromium is not installed:"
                       " scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]

SCREENSHOTS = os.path.join(ROOT, "build", "screenshots")
VIEWS = ["live", "topics", "ends", "try", "settings"]
PASSWORD = "secret"


@pytest.fixture
def visit(request, chromium):  # noqa: F811
    """visit(address, path) opens the console there."""
    failed = request.session.testsfailed

    def visit_one(address, path="/", fields=None, width=1280, height=900):
        page = chromium.page("about:blank")
        for domain in ("Log", "Network"):
            page.call(domain + ".enable")
        if fields:
            page.call("Network.setExtraHTTPHeaders", headers=fields)
        resize(page, width, height)
        page.open("http://%s:%d" % address + path)
        return page

    yield visit_one
    if request.session.testsfailed > failed:
        os.makedirs(SCREENSHOTS, exist_ok=True)
        for i, page in enumerate(chromium.pages):
            picture = page.call("Page.captureScreenshot", format="png",
                                captureBeyondViewport=True)["data"]
            name = f"{request.node.name}-{i}.png".replace("/", "_")
            with open(os.path.join(SCREENSHOTS, name), "wb") as file:
                file.write(base64.b64decode(picture))
    chromium.close_pages()


def resize(page, width, height=900):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
              deviceScaleFactor=1, mobile=width < 500)


def complaints(page):
    """What the page has said that is no good: exceptions, refused by the CSP,
    errors of the console. Not that the network was away."""
    found = []
    for session, method, parameters in page.devtools.events:
        if session != page.session:
            continue
        if method == "Runtime.exceptionThrown":
            found.append(parameters["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in (
                "error", "warning"):
            found.append(parameters["args"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in (
                "error", "warning"):
            entry = parameters["entry"]
            if "net::ERR_CONNECTION" not in entry["text"]:
                found.append(entry)
    return found


def wait(page, condition, what=""):
    """Until an expression holds in the page."""
    try:
        page.run(f"""new Promise((resolve, reject) => {{
            const end = Date.now() + {1000 * DEADLINE};
            const look = () => {{
                if ({condition})
                    resolve();
                else if (Date.now() > end)
                    reject(new Error("not in time"));
                else
                    setTimeout(look, 50);
            }};
            look();
        }})""")
    except AssertionError:
        text = page.run("document.body.innerText")
        raise AssertionError(f"{what or condition}: not in time; the page "
                             f"says:\n{text}") from None


def shown(chart):
    """An expression: the text of a chart's newest value."""
    return f"document.querySelector('#chart-{chart} .now').textContent"


def go(page, view):
    page.run(f"location.hash = '#{view}'")
    wait(page, f"!document.getElementById({json.dumps(view.split('/')[0])})"
         ".hidden")


def fill(page, form, **values):
    for name, value in values.items():
        page.run(f"document.getElementById('{form}').elements"
                 f"[{json.dumps(name)}].value = {json.dumps(str(value))}")
    page.run(f"document.getElementById('{form}').requestSubmit()")


# --- what is live ------------------------------------------------------------


def test_it_shows_true_figures_under_load(start, visit):
    server = start(ADMIN_PORT=0, MEMORY_LIMIT="300M")
    page = visit(server.admin)
    for i in range(3):
        server.subscribe("alice", f"t{i}")
    server.event_stream(sub_target("alice", "t0"))
    wait(page, shown("subscribers") + ".startsWith('43 topics')", "4, 3 topics")
    end = page.run("Date.now()") + 3000
    published = 0
    while page.run("Date.now()") < end:
        server.publish("alice", "t0", "x" * 100, times=20)
        published += 20
    total = page.run(f"""new Promise(done => setTimeout(async () => {{
        const text = await (await fetch("metrics")).text();
        done(Number(/^isimud_deliveries_total (.*)/m.exec(text)[1]));
    }}, 1200))""")
    assert total == 2 * published
    # Twice as many deliveries as publications, in the sum of all seconds.
    for chart in ("publications", "deliveries", "latency", "sent"):
        assert page.run(f"document.querySelector('#chart-{chart} path.curve')"
                        ".getAttribute('d')").count("L") >= 2, chart
    assert "of 300 MiB" in page.run(shown("memory"))
    assert "the worst of 2 workers" in page.run(shown("lag"))
    assert page.run(
        "document.querySelectorAll('#chart-lag path.curve').length") == 2
    assert "ready" == page.run("document.getElementById('state').textContent")
    assert complaints(page) == []


@pytest.mark.skipif(not HAS_NATS, reason="no nats-server")
def test_nodes_are_shown_where_there_are_several(cluster, visit):
    one = cluster(nodes=2, servers=1)
    page = visit(one.nodes[0].address, "/console",
                 {"Authorization": basic("any")})
    nodes = "document.getElementById('nodes')"
    wait(page, "/this one included\\s+2\\s/.test(%s.innerText)" % nodes,
         "two nodes")
    text = page.run(nodes + ".innerText")
    assert "The log takes publications\nyes" in text
    one.nodes[1].publish("alice", "news", "x", times=3)
    wait(page, "/Publications read\\s+3\\s/.test(%s.innerText)" % nodes,
         "those of the other node")
    assert "Publications written\n0" in page.run(nodes + ".innerText")
    assert complaints(page) == []


def test_a_process_alone_shows_no_nodes(start, visit):
    page = visit(start(ADMIN_PORT=0).admin)
    wait(page, shown("subscribers") + ".startsWith('0')")
    assert page.run("document.getElementById('nodes').hidden")


def test_a_laggard_is_seen(start, visit):
    server = start(ADMIN_PORT=0, MAX_BUFFERED="64M")
    page = visit(server.admin)
    server.subscribe("alice", "news", read=False)
    server.publish("alice", "news", "x" * 1000000, times=20)
    wait(page, "/worst connection\\s*[0-9.]+ MiB/.test(%s)" % shown("buffered"))


def wait_for_samples(server, number):
    """What the server has kept, once it has so many samples; a new one comes
    each two seconds."""
    def recent():
        return json.loads(server.ask_admin("GET", "/status/recent").body)

    for i in range(1, number + 1):
        server.wait_until(lambda: len(recent()["age"]) >= i, f"{i} samples")
    return recent()


def test_the_server_keeps_the_figures_of_the_last_minutes(start):
    server = start(ADMIN_PORT=0)
    before = server.event_stream(sub_target("alice", "news"))
    server.publish("alice", "news", "x" * 100, times=30)
    before.events(30)

    def published(figures):
        """The means since the samples before, times how long these took."""
        ages = figures["age"]
        return sum(mean * (old - new) for mean, old, new in zip(
            figures["publications"][1:], ages, ages[1:]))

    figures = wait_for_samples(server, 3)
    ages = figures["age"]
    # The first sample may have them, and reaches back to the start.
    assert published(figures) <= 30.1
    assert max(figures["publications"]) > 0
    assert max(figures["deliveries"]) == max(figures["publications"])
    assert any(p50 and p50 <= p99 for p50, p99 in zip(
        figures["latency_p50"], figures["latency_p99"]))
    assert figures["subscribers"][-1] == 1
    assert sum(figures["sent"]) > sum(figures["publications"]) * 100
    assert len(figures["lag"]) == 2  # workers
    assert all(len(values) == len(ages) for name, values in figures.items()
               if name != "lag")
    assert all(len(values) == len(ages) for values in figures["lag"])
    assert ages == sorted(ages, reverse=True)


def points(chart, curve=0):
    """An expression: how many points a curve has."""
    return (f"document.querySelectorAll('#chart-{chart} path.curve')[{curve}]"
            "?.getAttribute('d').split(/[ML]/).length - 1")


def test_curves_begin_before_the_page_is_opened(start, visit):
    server = start(ADMIN_PORT=0)
    server.subscribe("alice", "news")
    server.publish("alice", "news", "x", times=50)
    wait_for_samples(server, 4)
    page = visit(server.admin)
    wait(page, f"({points('memory')}) > 0")
    # One each second of those that have passed since the first sample, and no
    # more than the seconds that the page has seen would be far fewer.
    for chart in ("subscribers", "publications", "memory", "lag", "sent"):
        assert page.run(f"({points(chart)}) - performance.now() / 1000") > 3, (
            chart)
    assert page.run(points("lag", 1)) >= 4  # the other worker
    # The 50 are seen, by whoever reads the picture by keyboard.
    top = page.run("document.querySelector('#chart-publications svg')"
                   ".getAttribute('aria-label')")
    assert "the axis is from 0 to 2." not in top
    assert complaints(page) == []


def test_it_survives_a_restart(visit):
    server = Server(ADMIN_PORT=0)
    try:
        page = visit(server.admin)
        server.subscribe()
        wait(page, shown("subscribers") + ".startsWith('1')")
        server.kill()
        wait(page, "!document.getElementById('away').hidden", "it is away")
        server = Server(PORT=server.address[1], ADMIN_PORT=server.admin[1])
        wait(page, "document.getElementById('away').hidden", "it is back")
        wait(page, shown("subscribers") + ".startsWith('0')")
        assert page.run("document.getElementById('state').className") == "good"
        server.publish("alice", "news", "x", times=3)
        wait(page, "document.querySelector('#chart-publications path.curve')"
             ".getAttribute('d').includes('L')")
        assert complaints(page) == []
    finally:
        server.kill()


def test_endings_and_refusals_are_told(start, visit):
    server = start(ADMIN_PORT=0)
    page = visit(server.admin)
    go(page, "ends")
    wait(page, "document.getElementById('endings').innerText.includes('None')")
    socket = server.websocket()
    socket.send_frame(2, b"x")
    socket.expect_close(1003)
    server.http().publish("alice", body=b"{")
    wait(page, "/binary\\s+1\\s+1/.test("
         "document.getElementById('endings').innerText)")
    wait(page, "/status 400\\s+1\\s+1/.test("
         "document.getElementById('refusals').innerText)")


# --- topics ------------------------------------------------------------------


def test_topics_are_searched_and_paged(start, visit):
    server = start(ADMIN_PORT=0)
    batch = json.dumps([{"topic": f"item {i:02}", "data": i}
                        for i in range(60)]).encode()
    assert server.http().publish("alice", body=batch).status == 200
    server.subscribe("alice", "item 33")
    page = visit(server.admin)
    go(page, "topics")
    rows = "document.getElementById('topics-rows')"
    assert page.run(rows + ".children.length") == 0  # names need the password
    fill(page, "topics-form", password="wrong")
    wait(page, "document.getElementById('topics-note').textContent"
         ".includes('Wrong credentials')")
    fill(page, "topics-form", password=PASSWORD)
    wait(page, rows + ".children.length === 25")
    # By subscribers.
    assert page.run(rows + ".children[0].innerText").split()[:4] == [
        "item", "33", "alice", "1"]
    page.run("document.getElementById('behind').click()")
    page.run("document.getElementById('behind').click()")
    wait(page, rows + ".children.length === 10")
    assert page.run("document.getElementById('behind').disabled")
    page.run("document.getElementById('topics-form').search.value = 'M 4'; "
             "document.getElementById('topics-form').search.dispatchEvent("
             "new Event('input'))")
    wait(page, rows + ".children.length === 10")
    assert "item 4" in page.run(rows + ".children[0].innerText")


def test_a_topic_has_a_page_with_its_history(start, visit):
    server = start(ADMIN_PORT=0)
    name = "a/b ü <i>"
    server.publish("alice", name, "first")
    server.publish("alice", name, {"n": 2})
    page = visit(server.admin)
    go(page, "topics")
    fill(page, "topics-form", password=PASSWORD)
    wait(page, "document.querySelector('#topics-rows a')")
    page.run("document.querySelectorAll('input[name=url]').forEach("
             "input => { input.value = 'http://%s:%d/'; })" % server.address)
    page.run("document.querySelector('#topics-rows a').click()")
    log = "document.getElementById('topic-log')"
    wait(page, log + ".children.length === 2", "its history")
    assert page.run("document.getElementById('topic-title').textContent") == name
    newest = page.run(log + ".children[0].innerText")
    assert '-2' in newest and '{"n":2}' in newest
    server.publish("alice", name, "third")
    wait(page, log + ".children.length === 3", "what comes")
    wait(page, "document.getElementById('topic-facts').innerText"
         ".includes('Messages in the history\\n3')")
    assert complaints(page) == []


def test_it_can_be_tried(start, visit):
    server = start(ADMIN_PORT=0)
    page = visit(server.admin)
    go(page, "try")
    fill(page, "try-subscribe", url="http://%s:%d/" % server.address,
         publisher="alice", topic="tried")
    wait(page, "document.getElementById('try-state').textContent"
         ".includes('Connected')")
    fill(page, "try-publish", password="wrong", data="x")
    wait(page, "document.getElementById('try-receipt').textContent"
         ".includes('Wrong credentials')")
    fill(page, "try-publish", password=PASSWORD, data='{"a": 1}', event="goal")
    wait(page, "/^Published as [0-9a-f]{16}-1, to 1 subscriber$/.test("
         "document.getElementById('try-receipt').textContent)")
    wait(page, "document.getElementById('try-log').innerText"
         ".includes('-1 (goal)\\n{\"a\":1}')")
    page.run("document.getElementById('try-leave').click()")
    server.wait_until(lambda: server.total("websocket") == 0, "it has left")


def test_settings_are_shown_and_secrets_are_not(start, visit):
    server = start(ADMIN_PORT=0, AUTH_URL="http://user:s3cret@127.0.0.1:1/x?k=s3cret")
    page = visit(server.admin)
    go(page, "settings")
    text = page.run("document.getElementById('settings-rows').innerText")
    assert "PASSWORD\t***" in text and "MAX_BODY\t2097152" in text
    assert "AUTH_URL\thttp://***@127.0.0.1:1/x?***" in text
    content = server.ask_admin("GET", "/status").body
    assert b"s3cret" not in content and b'"secret"' not in content


# --- where it is, and for whom -----------------------------------------------


PATHS = ["/console", "/console.css", "/console.js", "/status", "/status/recent"]


def test_without_admin_port_it_is_there_with_the_password(start, visit):
    server = start()
    for path in PATHS:
        assert server.ask("GET", path).status == 401, path
        assert server.ask("GET", path, {
            "Authorization": basic("any")}).status == 200, path
    page = visit(server.address, "/console", {"Authorization": basic("any")})
    wait(page, shown("subscribers") + ".startsWith('0')")
    server.publish("alice", "news", "x")
    go(page, "topics")
    wait(page, "document.getElementById('topics-rows').innerText"
         ".includes('news')")
    assert complaints(page) == []


def test_with_it_it_is_there_alone(start):
    server = start(ADMIN_PORT=0)
    for path in PATHS:
        assert server.ask("GET", path, {
            "Authorization": basic("any")}).status == 404, path
        assert server.ask_admin("GET", path).status == 200, path
    assert server.ask("GET", "/").status == 303  # the homepage's
    assert server.ask_admin("GET", "/").body == (
        server.ask_admin("GET", "/console").body)
    # It shows numbers, and no names: these need the password.
    assert server.ask_admin("GET", "/topics").status == 401
    assert server.ask_admin("GET", "/topics", {
        "Authorization": basic("any")}).status == 200


def test_nothing_else_runs_in_it_and_nobody_frames_it(start):
    server = start(ADMIN_PORT=0)
    response = server.ask_admin("GET", "/")
    policy = response.field("Content-Security-Policy")
    for part in ("default-src 'none'", "script-src 'self'",
                 "style-src 'self'", "frame-ancestors 'none'",
                 "base-uri 'none'", "form-action 'none'"):
        assert part in policy.split("; ")
    assert "unsafe" not in policy
    text = response.body.decode()
    assert " style=" not in text and " on" not in text.replace(" one", "")
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace(
        'http-equiv', ""), "an external asset"


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(start, visit, width, scheme):
    server = start(ADMIN_PORT=0)
    server.publish("alice", "t" * 200, "x")
    page = visit(server.admin, width=width)
    page.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": scheme}])
    for view in VIEWS:
        go(page, view)
        if view == "topics":
            fill(page, "topics-form", password=PASSWORD)
            wait(page, "document.querySelector('#topics-rows a')")
        assert page.run(
            "document.scrollingElement.scrollWidth") <= width, view
        # No text is so faint that it can't be read (WCAG 2.2, 1.4.3).
        assert page.run(CONTRAST) >= 4.5, view
    go(page, "live")
    columns = page.run("getComputedStyle(document.getElementById('charts'))"
                       ".gridTemplateColumns").split()
    assert len(columns) == (1 if width == 360 else 4)


def test_colours_are_the_systems_or_as_chosen(start, visit):
    server = start(ADMIN_PORT=0)
    page = visit(server.admin)
    page.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": "light"}])
    ground = "getComputedStyle(document.body).backgroundColor"
    choose = """
        document.getElementById('theme').value = '%s';
        document.getElementById('theme').dispatchEvent(new Event('change'));
    """
    wait(page, shown("subscribers") + ".startsWith('0')")
    light = page.run(ground)
    page.run(choose % "dark")
    dark = page.run(ground)
    assert dark != light
    page.open("http://%s:%d/" % server.admin)  # it is kept
    wait(page, shown("subscribers") + ".startsWith('0')")
    assert page.run(ground) == dark
    page.run(choose % "")
    assert page.run(ground) == light
    page.call("Emulation.setEmulatedMedia", features=[
        {"name": "prefers-color-scheme", "value": "dark"}])
    assert page.run(ground) == dark
    page.run(choose % "light")
    assert page.run(ground) == light


CONTRAST = """
    Math.min(...[...document.querySelectorAll("main *, header *, nav *")]
        .filter(one => one.offsetParent && !one.disabled && [...one.childNodes]
            .some(node => node.nodeType === 3 && node.data.trim()))
        .map(one => {
            const light = (text) => {
                const [r, g, b] = text.match(/[0-9.]+/g).map(Number)
                    .map(n => n / 255)
                    .map(n => n <= 0.04045 ? n / 12.92
                        : ((n + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            let ground = one;
            while (getComputedStyle(ground).backgroundColor
                    === "rgba(0, 0, 0, 0)")
                ground = ground.parentElement;
            const [low, high] = [getComputedStyle(one).color,
                getComputedStyle(ground).backgroundColor].map(light)
                .sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
        }))
"""


def press(page, key, **more):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                  **more)


def test_the_keyboard_is_enough(start, visit):
    server = start(ADMIN_PORT=0)
    page = visit(server.admin)
    wait(page, shown("subscribers") + ".startsWith('0')")
    press(page, "Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.className") == "skip"
    press(page, "Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.id") == "theme"
    for _ in range(2):
        press(page, "Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.hash") == "#topics"
    press(page, "Enter", windowsVirtualKeyCode=13, text="\r")
    wait(page, "!document.getElementById('topics').hidden")
    assert page.run("document.querySelector('nav [aria-current]').hash") == (
        "#topics")
    go(page, "live")
    page.run("document.querySelector('#chart-memory svg').focus()")
    press(page, "ArrowLeft", windowsVirtualKeyCode=37)
    press(page, "ArrowRight", windowsVirtualKeyCode=39)
    wait(page, "document.querySelector('#chart-memory .read').textContent"
         ".includes('MiB')")


def test_a_screen_reader_is_told_what_a_picture_shows(start, visit):
    server = start(ADMIN_PORT=0)
    page = visit(server.admin)
    server.subscribe()
    wait(page, shown("subscribers") + ".startsWith('1')")
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    names = {(node.get("role", {}).get("value"),
              node.get("name", {}).get("value", "")) for node in nodes}
    pictures = [name for role, name in names if role in ("image", "img")]
    assert any(name.startswith("Subscribers: now 1") for name in pictures), (
        names)
    for role in ("navigation", "main", "status"):
        assert any(one == role for one, _ in names), names
    unnamed = page.run("""[...document.querySelectorAll(
        "input, select, textarea, button, section, nav a")].filter(one =>
            !one.labels?.length && !one.textContent.trim()
            && !one.getAttribute("aria-labelledby")).length""")
    assert unnamed == 0
