"""What pages in a real browser can do: Debian's chromium, without a window.

The pages lie on two web servers, which are two origins: `ours`, `foreign`."""
import json
import os
import re

import pytest

import browser
from authority import allow, answer, refuse
from client import DEADLINE, basic, sub_target
from program import ROOT

pytestmark = [
    pytest.mark.skipif(not browser.path(), reason="chromium is not installed:"
                       " scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]


@pytest.fixture(scope="module")
def ours():
    site = browser.Site()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def foreign():
    site = browser.Site()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield one
    one.stop()


@pytest.fixture
def visit(chromium):
    """visit(site) is a new page of it."""
    yield lambda site: chromium.page(site.origin + "/")
    chromium.close_pages()


def http_url(server, target=""):
    return "http://%s:%d" % server.address + target


def ws_url(server, target="/sub"):
    return "ws://%s:%d" % server.address + target


def open_stream(page, url, options=None):
    """Makes an EventSource in `page`, which notes all that happens to it."""
    page.run(f"""
        const source = new EventSource({json.dumps(url)},
                                       {json.dumps(options or {})});
        source.onopen = () => note("open");
        source.onerror = () => note("error", source.readyState);
        source.onmessage = event => note("message", event.data,
                                         event.lastEventId);
        for (const type of ["reset", "close"])
            source.addEventListener(type, event => note(type, event.data));
    """)


def open_websocket(page, url, subprotocols=(), first=None):
    """The same with a WebSocket; `first` is what it says when it is open."""
    page.run(f"""
        const socket = new WebSocket({json.dumps(url)},
                                     {json.dumps(list(subprotocols))});
        socket.onopen = () => {{
            const first = {json.dumps(first)};
            if (first)
                socket.send(first);
            note("open", socket.protocol);
        }};
        socket.onerror = () => note("error");
        socket.onmessage = event => note("message", event.data);
        socket.onclose = event => note("close", event.code, event.reason);
    """)


def fetch(page, url, **options):
    """[status, Idempotency-Replayed, content] of an answer, or the name of the
    error that a page is told where it may know no more."""
    return page.run(f"""
        fetch({json.dumps(url)}, {json.dumps(options)})
            .then(async answer => [answer.status,
                                   answer.headers.get("Idempotency-Replayed"),
                                   await answer.text()],
                  error => error.name)
    """)


def publish(page, server, target="/pub", **options):
    """Publishes from the page: needs a preflight."""
    return fetch(page, http_url(server, target), **{
        "method": "POST",
        "headers": {"Authorization": basic("alice"),
                    "Content-Type": "application/json"},
        "body": json.dumps({"topic": "news", "data": "x"}), **options})


# --- receiving ---------------------------------------------------------------

TEXTS = ["1 : 0", "", " ü\U0001f600\u2028", "a\nb", "\n", "nul \0",
         "é" * 70000]


def test_an_event_source_receives(server, visit, ours):
    page = visit(ours)
    open_stream(page, http_url(server, sub_target("alice", "news")))
    assert page.notes(1) == [["open"]]
    ids = [server.http().publish("alice", "news", text).json()["id"]
           for text in TEXTS]
    assert page.notes(1 + len(TEXTS))[1:] == [
        ["message", text, message_id] for text, message_id in zip(TEXTS, ids)]


def test_an_event_source_of_several_topics_receives_envelopes(server, visit,
                                                              ours):
    page = visit(ours)
    open_stream(page, http_url(server, sub_target(
        "alice", "a ü", "b&c", envelope="true")))
    page.notes(1)
    for topic in ("b&c", "a ü"):
        server.publish("alice", topic, {"n": 1})
    messages = [json.loads(note[1]) for note in page.notes(3)[1:]]
    assert {message["topic"] for message in messages} == {"a ü", "b&c"}
    assert all(message["data"] == {"n": 1} for message in messages)


def test_a_raw_websocket_by_url_receives(server, visit, ours):
    page = visit(ours)
    open_websocket(page, ws_url(server, sub_target("alice", "news")))
    assert page.notes(1) == [["open", ""]]
    for text in TEXTS:
        server.publish("alice", "news", text)
    assert page.notes(1 + len(TEXTS))[1:] == [["message", text]
                                              for text in TEXTS]


def test_a_raw_websocket_by_message_receives(server, visit, ours):
    page = visit(ours)
    open_websocket(page, ws_url(server), first=json.dumps(
        {"publisher": "alice", "topic": "bymessage"}))
    page.notes(1)
    server.wait_until(
        lambda: server.http().publish("alice", "bymessage", "x").json()[
            "subscribers"] == 1, "it has subscribed")
    assert page.notes(2)[1] == ["message", "x"]


def test_an_isimud_v1_session_receives(server, visit, ours):
    page = visit(ours)
    open_websocket(page, ws_url(server), ["isimud.v1"], json.dumps(
        {"type": "subscribe", "ref": 1, "publisher": "alice",
         "topic": "news"}))
    opened, (_, answer) = page.notes(2)
    assert opened == ["open", "isimud.v1"]
    assert json.loads(answer)["type"] == "subscribed"
    server.publish("alice", "news", {"a": "ü"})
    message = json.loads(page.notes(3)[2][1])
    assert (message["type"], message["data"]) == ("message", {"a": "ü"})


def test_a_page_that_is_closed_is_forgotten(start, visit, ours):
    server = start()
    page = visit(ours)
    open_stream(page, http_url(server, sub_target("alice", "news")))
    open_websocket(page, ws_url(server, sub_target("alice", "news")))
    page.notes(2)
    page.close_tab()
    server.wait_until(
        lambda: server.http().publish("alice", "news", "x").json()[
            "subscribers"] == 0, "it is forgotten")


def examples():
    """Name and text of what README has for browsers, but for test_recipe's."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as text:
        blocks = re.findall(r"(?:^    .*\n)+", text.read(), re.MULTILINE)
    found = {match.group(1): block for block in blocks
             if (match := re.match(r" *const \w+ = new (\w+)\(", block))}
    assert found.keys() == {"EventSource", "WebSocket"}
    return found


@pytest.mark.parametrize("name", ["EventSource", "WebSocket"])
def test_an_example_of_readme_works(server, visit, ours, name):
    example = examples()[name]
    assert example.count("127.0.0.1:3000") == 1
    page = visit(ours)
    page.run(example.replace("127.0.0.1:3000", "%s:%d" % server.address))
    server.wait_until(
        lambda: server.http().publish("news", "sports", "1 : 0").json()[
            "subscribers"] == 1, "it has subscribed")
    while "1 : 0" not in page.logged():
        pass


# --- tokens ------------------------------------------------------------------

TOKEN = "eyJhbGciOiJub25lIn0.e30."  # as a JWT is: base64url and dots


def asked_with(authority):
    """(Authorization, Cookie) of the next check."""
    fields = authority.next_asked()[2]
    return tuple(fields.get(name, [None])[0]
                 for name in ("authorization", "cookie"))


def test_an_event_source_has_its_token_in_the_url(start, authority, visit,
                                                  ours):
    server = start(AUTH_URL=authority.url)
    page = visit(ours)
    open_stream(page, http_url(server, sub_target("alice", "news",
                                                  access_token=TOKEN)))
    assert page.notes(1) == [["open"]]
    assert asked_with(authority) == ("Bearer " + TOKEN, None)
    server.publish("alice", "news", "x")
    assert page.notes(2)[1][:2] == ["message", "x"]


@pytest.mark.parametrize("subprotocols, chosen", [
    (["bearer." + TOKEN], "bearer." + TOKEN),
    (["isimud.v1", "bearer." + TOKEN], "isimud.v1"),
    (["bearer." + TOKEN, "isimud.v1"], "isimud.v1")], ids=len)
def test_a_websocket_offers_its_token(start, authority, visit, ours,
                                      subprotocols, chosen):
    server = start(AUTH_URL=authority.url)
    page = visit(ours)
    open_websocket(page, ws_url(server, sub_target("alice", "news")),
                   subprotocols)
    assert page.notes(1)[0] == ["open", chosen]
    assert asked_with(authority) == ("Bearer " + TOKEN, None)
    server.publish("alice", "news", "the data")
    notes = page.notes(3 if chosen == "isimud.v1" else 2)
    assert "the data" in notes[-1][1]


def test_a_cookie_serves_as_a_token(start, authority, visit, ours):
    """Cookies are of a host, not of a port."""
    server = start(AUTH_URL=authority.url, AUTH_COOKIE="true",
                   ALLOWED_ORIGINS=ours.origin)
    page = visit(ours)
    page.run("document.cookie = 'session=abc'")
    target = sub_target("alice", "news")
    open_stream(page, http_url(server, target), {"withCredentials": True})
    assert page.notes(1) == [["open"]]
    assert asked_with(authority) == (None, "session=abc")
    open_websocket(page, ws_url(server, target))
    assert page.notes(2)[1] == ["open", ""]
    assert asked_with(authority) == (None, "session=abc")


def test_without_credentials_no_cookie_is_sent(start, authority, visit, ours):
    server = start(AUTH_URL=authority.url, AUTH_COOKIE="true",
                   ALLOWED_ORIGINS=ours.origin)
    page = visit(ours)
    page.run("document.cookie = 'session=abc'")
    open_stream(page, http_url(server, sub_target("alice", "news")))
    assert page.notes(1) == [["error", 2]]  # 400, for good
    assert authority.asked.empty()


def test_a_token_that_is_refused_is_the_end(start, authority, visit, ours):
    server = start(AUTH_URL=authority.url, SSE_RETRY=0.1)
    authority.rules["no"] = refuse
    page = visit(ours)
    target = sub_target("alice", "news")
    open_stream(page, http_url(server, target + "&access_token=no"))
    assert page.notes(1) == [["error", 2]]  # CLOSED: it does not try again
    open_websocket(page, ws_url(server, target), ["bearer.no"])
    assert page.notes(3)[1:] == [["error"], ["close", 1006, ""]]


def test_isimud_v1_tells_a_page_why_its_token_is_refused(
        start, authority, visit, ours):
    server = start(AUTH_URL=authority.url)
    authority.rules.update({"no": answer(401), "forbidden": answer(403),
                            "away": answer(503)})
    for token, code in (("no", 4401), ("forbidden", 4403), ("away", 1013)):
        page = visit(ours)
        open_websocket(page, ws_url(server), ["isimud.v1", f"bearer.{token}"])
        opened, closed = page.notes(2)
        assert opened == ["open", "isimud.v1"]
        assert closed[:2] == ["close", code] and closed[2]


def test_an_event_source_outlives_an_outage_of_the_authority(
        start, authority, visit, ours):
    """And nothing is blocked by CORS, nor is an empty message raised."""
    server = start(AUTH_URL=authority.url, SSE_RETRY=0.1, AUTH_MAX_CHECKS=1,
                   ALLOWED_ORIGINS=ours.origin)
    authority.rules["some"] = answer(503)
    page = visit(ours)
    open_stream(page, http_url(server, sub_target(
        "alice", "news", access_token="some")))
    page.notes_until(
        """notes.filter(note => note[0] == "close").length == 3""")
    authority.rules["some"] = allow
    server.wait_until(lambda: server.total("event_stream") == 1, "it is back")
    server.publish("alice", "news", "x")
    notes = page.notes_until("""notes.some(note => note[0] == "message")""")
    assert [note[1] for note in notes if note[0] == "message"] == ["x"]
    assert all(note[1] == 0 for note in notes if note[0] == "error")
    codes = {json.loads(note[1])["code"] for note in notes
             if note[0] == "close"}
    assert codes == {1013}


# --- connecting again --------------------------------------------------------


def restarted(server, start, **settings):
    """Another server at the same port."""
    server.stop()
    return start(PORT=server.address[1], **settings)


def test_an_event_source_connects_again_and_is_told_of_a_loss(start, visit,
                                                              ours):
    first = start(SSE_RETRY=0.1)
    page = visit(ours)
    open_stream(page, http_url(first, sub_target("alice", "news")))
    page.notes(1)
    first.publish("alice", "news", "before")
    (_, data, old_id) = page.notes(2)[1]
    assert data == "before"
    second = restarted(first, start, SSE_RETRY=0.1)
    # It says what it has seen last, which this server has never heard of.
    second.wait_for_stat("not_resumed")
    new_id = second.http().publish("alice", "news", "after").json()["id"]

    notes = page.notes_until(
        """notes.filter(note => note[0] == "message").length == 2""")

    def notes_of(kind):
        return [note for note in notes if note[0] == kind]

    close, = notes_of("close")
    assert json.loads(close[1])["code"] == 1001
    reset, = notes_of("reset")
    assert json.loads(reset[1])["topic"] == "news"
    assert notes_of("message")[1] == ["message", "after", new_id]
    assert new_id.partition("-")[0] != old_id.partition("-")[0]
    assert all(note[1] == 0 for note in notes_of("error"))  # CONNECTING
    assert len(notes_of("open")) == 2


def test_an_event_source_resumes_where_the_history_is_kept_in_a_file(
        start, visit, ours, tmp_path):
    settings = {"SSE_RETRY": 0.1, "HISTORY_FILE": tmp_path / "history"}
    first = start(**settings)
    page = visit(ours)
    open_stream(page, http_url(first, sub_target("alice", "news")))
    page.notes(1)
    ids = [first.http().publish("alice", "news", str(i)).json()["id"]
           for i in range(3)]
    page.notes(4)
    second = restarted(first, start, **settings)
    ids += [second.http().publish("alice", "news", str(i)).json()["id"]
            for i in range(3, 6)]
    notes = page.notes_until("notes[notes.length - 1][1] == '5'")
    assert [note for note in notes if note[0] == "message"] == [
        ["message", str(i), ids[i]] for i in range(6)]
    assert not [note for note in notes if note[0] == "reset"]
    assert second.stats()["resumed"] == 1


def test_an_event_source_that_saw_no_message_is_told_too(start, visit, ours):
    first = start(SSE_RETRY=0.1)
    page = visit(ours)
    open_stream(page, http_url(first, sub_target("alice", "news")))
    page.notes(1)
    second = restarted(first, start, SSE_RETRY=0.1)
    second.wait_for_stat("not_resumed")


def compressible(i):
    return json.dumps([f"row {i}.{n}" for n in range(300)],
                      separators=(",", ":"))


def test_an_event_source_reads_gzip_event_by_event(server, visit, ours):
    page = visit(ours)
    before = server.metrics()["isimud_deflated_total"]
    open_stream(page, http_url(server, sub_target("alice", "gzip")))
    page.notes(1)
    for i in range(6):
        data = compressible(i) if i % 2 else f"short {i}"
        server.publish("alice", "gzip", data)
        assert page.notes(2 + i)[1 + i][:2] == ["message", data]
    assert server.metrics()["isimud_deflated_total"] == before + 3


def test_an_event_source_goes_on_behind_an_end_of_gzip(start, visit, ours):
    server = start(SSE_RETRY=0.1, DRAIN_SECONDS=0)
    page = visit(ours)
    open_stream(page, http_url(server, sub_target("alice", "news")))
    page.notes(1)
    server.publish("alice", "news", compressible(1))
    page.notes(2)
    address = server.address
    server.stop()
    again = start(PORT=address[1])
    notes = page.notes_until(
        """notes.filter(note => note[0] == "open").length >= 2""")
    assert json.loads(next(note[1] for note in notes
                           if note[0] == "close"))["code"] == 1001
    again.publish("alice", "news", compressible(2))
    page.notes_until(f"""notes.some(
        note => note[1] == {json.dumps(compressible(2))})""")


def test_a_websocket_of_a_page_is_compressed(server, visit, ours):
    page = visit(ours)
    before = server.metrics()["isimud_deflated_total"]
    open_websocket(page, ws_url(server, sub_target("alice", "deflate")))
    page.notes(1)
    for i in range(4):
        server.publish("alice", "deflate", compressible(i))
        assert page.notes(2 + i)[1 + i][:2] == ["message", compressible(i)]
    assert server.metrics()["isimud_deflated_total"] == before + 4


def test_what_a_page_sends_compressed_is_read(server, visit, ours):
    page = visit(ours)
    before = server.metrics()["isimud_inflated_total"]
    open_websocket(page, ws_url(server), ["isimud.v1"], json.dumps(
        {"type": "ping", "ref": 1, "pad": "x" * 5000}))
    assert json.loads(page.notes(2)[1][1]) == {"type": "pong", "ref": 1}
    assert server.metrics()["isimud_inflated_total"] == before + 1


def test_an_event_source_that_was_too_slow_misses_nothing(start, visit, ours):
    server = start(SSE_RETRY=0.1, MAX_BUFFERED="64K", HISTORY_SIZE=5000,
                   HISTORY_BYTES="256M", CLOSE_TIMEOUT=DEADLINE,
                   COMPRESS_MIN=0)
    page = visit(ours)
    open_stream(page, http_url(server, sub_target("alice", "news")))
    page.notes(1)
    page.pause()
    count = 0
    while not server.stats()["closed_slow"]:
        assert count < 2000
        for _ in range(50):
            server.publish("alice", "news", f"{count} " + "x" * 20_000)
            count += 1
    page.resume()
    notes = page.notes_until(
        f"""notes.filter(note => note[0] == "message").length >= {count}""")
    assert [int(note[1].partition(" ")[0]) for note in notes
            if note[0] == "message"] == list(range(count))
    close = next(note for note in notes if note[0] == "close")
    assert json.loads(close[1])["code"] == 1013
    assert server.stats()["resumed"] >= 1


def test_a_raw_websocket_that_cannot_resume_sees_4410(server, visit, ours):
    page = visit(ours)
    open_websocket(page, ws_url(server, sub_target(
        "alice", "news", since="0123456789abcdef-7")))
    opened, closed = page.notes(2)
    assert opened == ["open", ""]
    assert closed[:2] == ["close", 4410] and "lost" in closed[2]


def test_a_server_that_stops_is_seen_as_1001(start, visit, ours):
    server = start()
    page = visit(ours)
    open_websocket(page, ws_url(server, sub_target("alice", "news")))
    page.notes(1)
    server.stop()
    assert page.notes(2)[1][:2] == ["close", 1001]


# --- publishing --------------------------------------------------------------


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_page_publishes_to_another_origin(start, visit, ours, is_listed):
    server = start(**{"ALLOWED_ORIGINS": ours.origin} if is_listed else {})
    subscriber = server.subscribe("alice", "news")
    page = visit(ours)
    status, _, content = publish(page, server)
    assert status == 200 and json.loads(content)["subscribers"] == 1
    assert subscriber.receive() == "x"


def test_a_page_may_repeat_a_publication_and_see_that_it_was_one(server, visit,
                                                                 ours):
    page = visit(ours)
    headers = {"Authorization": basic("alice"), "Idempotency-Key": "page-1",
               "Content-Type": "application/json"}
    first = publish(page, server, headers=headers)
    again = publish(page, server, headers=headers)
    assert first[:2] == [200, None]
    assert again == [200, "true", first[2]]


def test_a_page_can_read_why_it_was_refused(server, visit, ours):
    page = visit(ours)
    status, _, content = publish(page, server, body="{")
    assert status == 400 and json.loads(content)["error"]
    status, _, content = publish(page, server, headers={
        "Authorization": basic("alice", "wrong"),
        "Content-Type": "application/json"})
    assert (status, json.loads(content)["error"]) == (401, "Wrong credentials")


def test_credentials_are_taken_from_listed_pages_alone(start, server, visit,
                                                       ours):
    listed = start(ALLOWED_ORIGINS=ours.origin)
    page = visit(ours)
    assert publish(page, listed, credentials="include")[0] == 200
    assert publish(page, server, credentials="include") == "TypeError"


def test_a_page_reads_topics(server, visit, ours):
    server.publish("alice", "shown", "x")
    status, _, content = fetch(
        visit(ours), http_url(server, "/topics/shown"),
        headers={"Authorization": basic("alice")})
    assert (status, json.loads(content)["topic"]) == (200, "shown")


# --- pages of other origins --------------------------------------------------


def test_a_page_of_another_origin_is_refused(start, visit, ours, foreign):
    server = start(ALLOWED_ORIGINS=ours.origin, SSE_RETRY=0.1)
    subscriber = server.subscribe("alice", "news")
    page = visit(foreign)
    target = sub_target("alice", "news")
    open_stream(page, http_url(server, target))
    assert page.notes(1) == [["error", 2]]
    open_websocket(page, ws_url(server, target), ["isimud.v1"])
    opened, closed = page.notes(3)[1:]
    assert opened == ["open", "isimud.v1"]
    assert closed[:3] == ["close", 4403, "Origin is not allowed"]
    assert publish(page, server) == "TypeError"
    assert fetch(page, http_url(server, "/topics"), headers={
        "Authorization": basic("alice")}) == "TypeError"
    assert server.stats()["origin_refused"] == 4
    assert publish(visit(ours), server)[0] == 200
    assert subscriber.receive() == "x"  # of the page that may


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_form_of_another_origin_publishes_nothing(start, visit, ours,
                                                    foreign, is_listed):
    """Such a request has no preflight, and its answer is not seen."""
    server = start(**{"ALLOWED_ORIGINS": ours.origin} if is_listed else {})
    page = visit(foreign)
    fetch(page, http_url(server, "/pub/news"), method="POST", mode="no-cors",
          body="x", credentials="include")
    stats = server.stats()
    assert stats["published"] == 0
    # Without a list its password is missed first.
    assert stats["http_403" if is_listed else "http_400"] == 1
