"""Many checks at once: what is shared, what is kept, what is refused, and who
is hurt by an authority that hangs."""
import collections
import heapq
import random
import re
import selectors
import socket
import threading
import time

import pytest

import authority as behaviour
from client import (DEADLINE, PING, SCALE, TEXT, EventStream, Http, frame,
                    handshake, request, sub_target, subscription)
from program import Server
from tokens import (Authority, answer, authority, bearer, close_of, knock,
                    knock_for_stream, refusal, start, token, topic_uri, wait_then)

TARGET = sub_target("alice", "news")
# Where a test counts seconds: what a loaded machine may add to them.
SLACK = 4 * SCALE


def status(client):
    return answer(client).status


# --- what is shared ----------------------------------------------------------


@pytest.mark.parametrize("rule, websocket, stream", [
    (behaviour.allow, 101, 200), (behaviour.refuse, 401, 401),
    (behaviour.not_http, 500, 1013)], ids=["yes", "no", "failure"])
def test_equal_checks_at_once_are_one_request(start, authority, rule,
                                              websocket, stream):
    authority.rules[token()] = wait_then(rule)
    server = start(AUTH_URL=authority.url, WORKERS=4)
    websockets = [knock(server, TARGET, bearer()) for _ in range(60)]
    streams = [knock_for_stream(server, TARGET, bearer()) for _ in range(60)]
    server.wait_for_stat("auth_shared", 119)
    authority.release.set()
    assert {status(client) for client in websockets} == {websocket}
    if stream == 1013:
        assert all(refusal(client) for client in streams)
    else:
        assert {status(client) for client in streams} == {stream}
    assert authority.asked.qsize() == 1
    # What was shared is over: the next one asks anew.
    assert status(knock(server, TARGET, bearer())) == websocket
    assert authority.asked.qsize() == 2


def test_a_time_out_reaches_all_that_wait(start, authority):
    authority.rules[token()] = behaviour.stall_before_head
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_TIMEOUT=0.5 * SCALE)
    clients = [knock(server, TARGET, bearer()) for _ in range(40)]
    assert {status(client) for client in clients} == {500}
    assert authority.asked.qsize() == 1
    assert server.stats()["auth_failed"] == 40


def test_it_does_not_matter_how_the_same_is_asked(start, authority):
    """In which place the token is, nor where the client goes on."""
    authority.rules[token()] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, WORKERS=4)
    since = "0123456789abcdef-1"
    clients = [knock(server, TARGET, bearer()),
               knock(server, TARGET, {}, [f"bearer.{token()}", "isimud.v1"])]
    for parameters in [{"access_token": token()}, {"since": since},
                       {"access_token": token(), "since": since}]:
        target = sub_target("alice", "news", **parameters)
        clients.append(knock(server, target, bearer(), ["isimud.v1"]))
    clients.append(knock_for_stream(server, TARGET, {
        **bearer(), "Last-Event-ID": since}))
    clients += [knock_for_stream(server, sub_target("alice", "news", **{
        name: since}), bearer()) for name in ("lastEventId", "Last-Event-ID")]
    server.wait_for_stat("auth_shared", len(clients) - 1)
    authority.release.set()
    assert {status(client) for client in clients} == {101, 200}
    assert authority.asked.qsize() == 1


def test_what_differs_is_not_shared(start, authority):
    names = ["any", "other"]
    authority.rules.update({
        token(name): behaviour.wait_for_release for name in names})
    authority.rules[""] = behaviour.wait_for_release
    origin = "https://a.example"
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_COOKIE="true",
                   ALLOWED_ORIGINS=origin)
    cookie = {"Cookie": "a=b"}
    clients = [knock(server, target, fields) for target, fields in [
        (TARGET, bearer()), (TARGET, bearer("other")),
        (TARGET, {**bearer(), "Host": "b.example"}),
        (TARGET, {**bearer(), "Host": "b.example:80"}),
        (TARGET, {**bearer(), **cookie}), (TARGET, cookie),
        (TARGET, {**bearer(), "Cookie": "a=c"}),
        ("/sub", bearer()), (TARGET + "&a", bearer()),
        (TARGET + "&topic=more", bearer()),
        (sub_target("alice", "New"), bearer()),
        (sub_target("Alice", "news"), bearer())]]
    asked = [authority.next_asked()[2] for _ in clients]
    assert len({str(sorted(fields.items())) for fields in asked}) == len(asked)
    assert "auth_shared" not in server.stats() or (
        server.stats()["auth_shared"] == 0)
    authority.release.set()
    assert {status(client) for client in clients} == {101}


def test_who_shares_a_check_may_leave(start, authority):
    authority.rules[token()] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_TIMEOUT=3600)
    first = knock(server, TARGET, bearer())
    authority.next_asked()
    clients = [knock(server, TARGET, bearer()) for _ in range(39)]
    server.wait_for_stat("auth_shared", 39)
    first.abort()
    leaving = clients[::2]
    for i, client in enumerate(leaving):
        getattr(client, ["close", "abort", "half_close"][i % 3])()
    assert server.ask("GET", "/").status == 303
    authority.release.set()
    for client in clients[1::2]:
        assert status(client) == 101
    server.publish("alice", "news", "hello")
    for client in clients[1::2]:
        assert client.receive() == "hello"
    assert authority.asked.empty()
    server.close_clients()
    server.wait_until_empty()


@pytest.mark.parametrize("leave", ["close", "abort", "half_close"])
@pytest.mark.parametrize("kind", [knock, knock_for_stream])
def test_who_leaves_while_its_check_waits_gives_its_turn_up(start, authority,
                                                            kind, leave):
    """Without an answer of the authority: that one hangs."""
    names = [str(i) for i in range(9)]
    authority.rules.update({token(name): behaviour.wait_for_release
                            for name in names})
    server = start(AUTH_URL=authority.url, AUTH_MAX_CHECKS=2, AUTH_QUEUE=8,
                   AUTH_TIMEOUT=3600, ADMIN_PORT=0)
    clients = [kind(server, TARGET, bearer(name)) for name in names]
    server.wait_until(lambda: server.metrics()[
        "isimud_auth_checks_queued"] == 7, "two are asked about")
    stays = knock(server, TARGET, bearer())
    for client in clients:
        getattr(client, leave)()
    assert status(stays) == 101
    server.wait_until(lambda: [server.metrics()[
        f"isimud_auth_checks_{what}"] for what in ("running", "queued")
    ] == [0, 0], "nobody is asked about")
    authority.release.set()


def test_an_open_websocket_that_leaves_gives_its_turn_up_too(start, authority):
    authority.by_uri[topic_uri("alice", "slow")] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, AUTH_MAX_CHECKS=1,
                   AUTH_TIMEOUT=3600, AUTH_PER_TOPIC="true", ADMIN_PORT=0)
    leaves, stays = [server.websocket(fields=bearer()) for _ in range(2)]
    leaves.send_text(subscription("alice", "slow").decode())
    server.wait_until(lambda: server.metrics()[
        "isimud_auth_checks_running"] == 1, "it is asked about")
    leaves.abort()
    stays.subscribe("alice", "news")
    server.publish("alice", "news", "x")
    assert stays.receive() == "x"
    authority.release.set()


def test_topics_share_checks_whoever_names_them(start, authority):
    uri = topic_uri("alice", "news")
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_PER_TOPIC="true")
    raws = [server.websocket(fields=bearer()) for _ in range(8)]
    v1s = [server.websocket(fields=bearer(), subprotocols=["isimud.v1"])
           for _ in range(8)]
    authority.by_uri[uri] = behaviour.wait_for_release
    shared = server.stats()["auth_shared"]
    for raw in raws:
        raw.send(frame(TEXT, subscription("alice", "news"))
                 + frame(PING, b"in force?"))
    for v1 in v1s:
        v1.send_json({"type": "subscribe", "publisher": "alice",
                      "topic": "news"})
    urls = [knock(server, sub_target("alice", "news", since=None, x=i),
                  bearer()) for i in range(8)]
    server.wait_for_stat("auth_shared", shared + 23)
    authority.release.set()
    for raw in raws:
        raw.expect_pong(b"in force?")
    for v1 in v1s:
        assert v1.receive_json()["type"] == "subscribed"
    assert {status(url) for url in urls} == {101}
    asked = [authority.next_uri() for _ in range(authority.asked.qsize())]
    assert asked.count(uri) == 1


# --- what is kept ------------------------------------------------------------


def test_a_yes_is_kept_for_all_workers(start, authority):
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_CACHE_TTL=3600,
                   TRUSTED_PROXIES="127.0.0.1")
    for _ in range(8):
        assert status(knock(server, TARGET, bearer())) == 101
        assert status(knock_for_stream(server, TARGET, bearer())) == 200
        assert status(knock(server, sub_target(
            "alice", "news", access_token=token(), since="0" * 16 + "-1"),
            {}, ["isimud.v1"])) == 101
    assert authority.asked.qsize() == 1
    stats = server.stats()
    assert (stats["auth_yes"], stats["auth_known"]) == (1, 23)
    assert server.metrics()["isimud_auth_kept"] == 1
    # For this token, URI, host and scheme alone.
    for target, fields in [
            (TARGET, bearer("other")), ("/sub", bearer()),
            (TARGET, {**bearer(), "Host": "b.example"}),
            (TARGET, {**bearer(), "X-Forwarded-Proto": "https"})]:
        assert status(knock(server, target, fields)) == 101
    assert authority.asked.qsize() == 5


def test_by_default_nothing_is_kept(start, authority):
    server = start(AUTH_URL=authority.url)
    for i in range(3):
        assert status(knock(server, TARGET, bearer())) == 101
        assert authority.asked.qsize() == i + 1
    assert server.metrics()["isimud_auth_kept"] == 0


@pytest.mark.parametrize("rule, expected", [
    (behaviour.refuse, 401), (behaviour.not_http, 500)],
    ids=["no", "failure"])
def test_only_a_yes_is_kept(start, authority, rule, expected):
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_CACHE_TTL=3600)
    authority.rules[token()] = rule
    for i in range(8):
        assert status(knock(server, TARGET, bearer())) == expected
        assert authority.asked.qsize() == i + 1
    authority.rules[token()] = behaviour.allow
    for i in range(8):
        assert status(knock(server, TARGET, bearer())) == 101
    assert authority.asked.qsize() == 9
    # A yes that is kept outlives what the authority thinks by then.
    authority.rules[token()] = behaviour.refuse
    assert status(knock(server, TARGET, bearer())) == 101


def test_a_kept_yes_expires(start, authority):
    server = start(AUTH_URL=authority.url, WORKERS=2, AUTH_CACHE_TTL=0.3)
    begin = time.monotonic()
    assert status(knock(server, TARGET, bearer())) == 101
    authority.next_asked()
    authority.rules[token()] = behaviour.refuse
    while (now := status(knock(server, TARGET, bearer()))) == 101:
        assert time.monotonic() - begin < DEADLINE
        server.close_clients()
    assert now == 401
    assert time.monotonic() - begin >= 0.3
    assert server.metrics()["isimud_auth_kept"] == 0


def test_the_oldest_yes_goes_when_there_are_too_many(start, authority):
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_CACHE_TTL=3600,
                   AUTH_CACHE_ENTRIES=3)

    def is_asked(name):
        before = authority.asked.qsize()
        assert status(knock(server, TARGET, bearer(name))) == 101
        return authority.asked.qsize() > before

    assert [is_asked(name) for name in "abcd"] == 4 * [True]
    assert [is_asked(name) for name in "dcb"] == 3 * [False]
    assert [is_asked(name) for name in "aab"] == [True, False, True]
    assert server.metrics()["isimud_auth_kept"] == 3


def test_topics_are_kept_one_by_one(start, authority):
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_CACHE_TTL=3600,
                   AUTH_PER_TOPIC="true")
    target = sub_target("alice", *"abc")
    for _ in range(4):
        assert status(knock(server, target, bearer())) == 101
    assert authority.asked.qsize() == 3
    client = server.websocket(fields=bearer(), subprotocols=["isimud.v1"])
    assert authority.asked.qsize() == 4  # /sub
    for topic in "abcd":
        answered = client.command("subscribe", publisher="alice", topic=topic)
        assert answered["type"] == "subscribed"
    assert authority.asked.qsize() == 5
    server.websocket(fields=bearer()).subscribe("alice", "d")
    assert authority.asked.qsize() == 5


# --- how many at once --------------------------------------------------------


def test_over_the_queue_the_answer_is_503(start, authority):
    names = [f"hold{i}" for i in range(3)]
    authority.rules.update({
        token(name): behaviour.wait_for_release for name in names})
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_MAX_CHECKS=3,
                   AUTH_QUEUE=0)
    held = [knock(server, TARGET, bearer(name)) for name in names]
    for _ in held:
        authority.next_asked()
    assert server.metrics()["isimud_auth_checks_running"] == 3
    for i in range(8):  # whichever worker it is
        one = knock_for_stream if i % 2 else knock
        client = one(server, TARGET, bearer(f"more{i}"))
        if i % 2:
            assert "being checked" in refusal(client).reason
            continue
        response = answer(client)
        assert response.status == 503 and response.error()
        assert response.field("Retry-After") == "1"
        client.send(request("GET", "/"))
        assert status(client) == 303
    # Those that share one are no more.
    held += [knock(server, TARGET, bearer(name)) for name in 4 * names]
    server.wait_for_stat("auth_shared", 12)
    authority.release.set()
    assert {status(client) for client in held} == {101}
    assert status(knock(server, TARGET, bearer("more"))) == 101
    stats = server.stats()
    assert stats["auth_busy"] == 8
    assert server.metrics()["isimud_auth_checks_running"] == 0


def test_over_auth_max_checks_clients_have_their_turn(start, authority):
    authority.rules[token("hold")] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_MAX_CHECKS=1,
                   AUTH_TIMEOUT=3600)
    held = knock(server, TARGET, bearer("hold"))
    authority.next_asked()
    clients = [(knock, knock_for_stream)[i % 2](
        server, TARGET, bearer(f"user{i % 30}")) for i in range(60)]
    server.wait_until(
        lambda: server.metrics()["isimud_auth_checks_queued"] == 30, "queued")
    assert server.metrics()["isimud_auth_checks_running"] == 1
    assert authority.asked.empty()
    authority.release.set()
    for client in [held, *clients]:
        assert status(client) in (101, 200)
    assert authority.asked.qsize() == 30
    assert server.metrics()["isimud_auth_checks_queued"] == 0
    assert server.metrics()["isimud_auth_checks_running"] == 0


def test_whose_turn_does_not_come_in_time_is_told_to_come_back(start,
                                                               authority):
    authority.rules[token("hold")] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, WORKERS=1, AUTH_MAX_CHECKS=1,
                   AUTH_TIMEOUT=0.5 * SCALE)
    knock(server, TARGET, bearer("hold"))
    authority.next_asked()
    clients = [(knock, knock_for_stream)[i % 2](
        server, TARGET, bearer(f"user{i}")) for i in range(8)]
    v1 = knock(server, TARGET, bearer("v1"), ["isimud.v1"])
    # What they are told depends on who is asked at the very end.
    for i, client in enumerate(clients):
        if i % 2:
            assert refusal(client)
        else:
            assert status(client) in (500, 503)
    assert close_of(v1)[0] in (1013, 4408)
    assert server.stats()["auth_busy"] >= 1


# --- storms ------------------------------------------------------------------


class Sources(threading.Thread):
    """Event sources that do what a browser does (HTML standard, 9.2.3), all in
    one thread: each connects again after `retry` when its connection ends, and
    gives up for ever at any answer but 200. A source is `subscribed` while it
    has an id.

    `gone` counts those that gave up; `refused`, how often one was told to come
    back."""

    def __init__(self, address, targets, retry=0.5):
        super().__init__(daemon=True)
        self.address = address
        self.due = [(0, i) for i in range(len(targets))]
        self.targets = targets
        self.retry = [retry] * len(targets)
        self.streams = {}
        self.subscribed = set()
        self.gone = collections.Counter()
        self.refused = 0
        self.stopping = threading.Event()
        self.selector = selectors.DefaultSelector()

    def run(self):
        heapq.heapify(self.due)
        while not self.stopping.is_set():
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                self.connect(heapq.heappop(self.due)[1])
            for key, events in self.selector.select(0.02):
                self.step(key.data, key.fileobj, events)
        for one in self.streams:
            one.close()
        self.selector.close()

    def connect(self, i):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(self.address)
        self.streams[one] = b""
        self.selector.register(one, selectors.EVENT_WRITE, i)

    def step(self, i, one, events):
        try:
            if events & selectors.EVENT_WRITE:
                one.sendall(request("GET", self.targets[i],
                                    EventStream.ACCEPT))
                self.selector.modify(one, selectors.EVENT_READ, i)
                return
            data = one.recv(65536)
        except OSError:
            data = b""
        self.streams[one] += data
        text = self.streams[one]
        if text and not text.startswith(b"HTTP/1.1 200 "[:len(text)]):
            self.gone[text[9:12]] += 1
            self.forget(i, one)
            return
        if match := re.search(rb"\nretry: ([0-9]+)\n", text):
            self.retry[i] = int(match.group(1)) / 1000
        if b"\nid: " in text:
            self.subscribed.add(i)
        if not data:
            self.refused += b"event: close\n" in text
            self.forget(i, one)
            heapq.heappush(self.due, (time.monotonic() + self.retry[i], i))

    def forget(self, i, one):
        self.subscribed.discard(i)
        self.selector.unregister(one)
        del self.streams[one]
        one.close()

    def wait_until_all_are_subscribed(self, seconds=60):
        end = time.monotonic() + seconds * SCALE
        while len(self.subscribed) < len(self.targets):
            assert not self.gone, f"they have given up: {self.gone}"
            assert time.monotonic() < end, (
                f"{len(self.subscribed)} of {len(self.targets)}")
            time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(DEADLINE)


class SlowAuthority:
    """Allows all after `seconds`, from one thread. While `status` is another
    than 200, that; while None, it hangs up."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.status = 200
        self.asked = 0
        self.due = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = "http://127.0.0.1:%d/" % self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.wake.close()
        self.thread.join(DEADLINE)

    def run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(0.005 if self.due else None):
                    if key.fileobj is self.woken:
                        for one in list(selector.get_map().values()):
                            one.fileobj.close()
                        return
                    self.serve(selector, key.fileobj)
                while self.due and self.due[0][0] < time.monotonic():
                    self.answer(heapq.heappop(self.due)[2])

    def serve(self, selector, one):
        if one is self.listener:
            selector.register(one.accept()[0], selectors.EVENT_READ)
            return
        try:
            data = one.recv(65536)
        except OSError:
            data = b""
        if not data or self.status is None:
            selector.unregister(one)
            one.close()
            return
        self.asked += 1
        heapq.heappush(self.due, (time.monotonic() + self.seconds, self.asked,
                                  one))

    def answer(self, one):
        try:
            one.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n"
                        % (self.status or 500))
        except OSError:
            pass  # it has left


def own_targets(count):
    """Each with a token of its own."""
    return [sub_target("alice", "news", access_token=token(str(i)))
            for i in range(count)]


def test_a_thousand_at_once_with_a_slow_authority_are_all_subscribed(start):
    count = 1000 // SCALE
    with SlowAuthority(0.2) as authority:
        server = start(AUTH_URL=authority.url, LOG_LEVEL="info")
        with Sources(server.address, own_targets(count)) as sources:
            sources.wait_until_all_are_subscribed()
            receipt = server.http().publish("alice", "news", "x").json()
            assert receipt["subscribers"] == count
            assert not sources.gone


def test_three_thousand_come_back_after_a_kill(start):
    count = 3000 // SCALE
    with SlowAuthority(0.05) as authority:
        settings = {"AUTH_URL": authority.url, "LOG_LEVEL": "info",
                    "SSE_RETRY": 0.3}
        first = Server(**settings)
        with Sources(first.address, own_targets(count)) as sources:
            sources.wait_until_all_are_subscribed()
            first.kill()
            second = start(**settings, PORT=first.address[1])
            end = time.monotonic() + 60 * SCALE
            while second.total("event_stream") < count:
                assert not sources.gone and time.monotonic() < end
            sources.wait_until_all_are_subscribed()
            assert second.stats()["auth_yes"] >= count


@pytest.mark.parametrize("outage", [None, 502, 429])
def test_an_authority_that_is_away_for_seconds_costs_no_stream(start, outage):
    """Whoever connects while it is away is told to come back, and does."""
    with SlowAuthority(0.01) as authority:
        server = start(AUTH_URL=authority.url, LOG_LEVEL="info",
                       SSE_RETRY=0.2)
        authority.status = outage
        with Sources(server.address, own_targets(40)) as sources:
            server.wait_until(lambda: sources.refused >= 80, "all were refused")
            assert not sources.subscribed
            authority.status = 200
            sources.wait_until_all_are_subscribed()
            assert not sources.gone




class Storm(threading.Thread):
    """Sends each of `requests` on a connection of its own, all at once, and
    notes the status and seconds of each answer; keeps those let in open if
    `keep`."""

    def __init__(self, address, requests, keep=False):
        super().__init__(daemon=True)
        self.address = address
        self.requests = requests
        self.keep = keep
        self.statuses = collections.Counter()
        self.seconds = []
        self.kept = []
        self.retries = 0

    def run(self):
        with selectors.DefaultSelector() as selector:
            for data in self.requests:
                one = socket.create_connection(self.address, DEADLINE)
                one.sendall(data)
                selector.register(one, selectors.EVENT_READ, time.monotonic())
                self.read(selector, 0)
            end = time.monotonic() + DEADLINE
            while selector.get_map() and time.monotonic() < end:
                self.read(selector, 0.1)
            for key in list(selector.get_map().values()):
                self.statuses["no answer"] += 1
                key.fileobj.close()

    def read(self, selector, timeout):
        for key, _ in selector.select(timeout):
            head = key.fileobj.recv(65536)
            self.seconds.append(time.monotonic() - key.data)
            status = self.status_of(head) if head else "closed"
            self.statuses[status] += 1
            self.retries += b"\r\nRetry-After: " in head
            selector.unregister(key.fileobj)
            if self.keep and status in (101, 200):
                self.kept.append(key.fileobj)
            else:
                key.fileobj.close()

    @staticmethod
    def status_of(data):
        """The status; or the code of the end that comes with it."""
        if (close := data.find(b'{"code":')) > 0:
            return int(data[close + 8:close + 12])
        if (close := data.find(b"\r\n\r\n\x88")) > 0:
            return int.from_bytes(data[close + 6:close + 8], "big")
        return int(data[9:12])

    def close(self):
        for one in self.kept:
            one.close()


def brew(server, requests, **kwargs):
    storm = Storm(server.address, requests, **kwargs)
    storm.start()
    storm.join()
    return storm


def mixed_requests(tokens, count):
    """WebSockets and event streams in turn, tokens in all three places."""
    kinds = [lambda t: handshake(TARGET, {"Authorization": f"Bearer {t}"}),
             lambda t: handshake(TARGET, {
                 "Sec-WebSocket-Protocol": f"isimud.v1, bearer.{t}"}),
             lambda t: request("GET", f"{TARGET}&access_token={t}",
                               EventStream.ACCEPT)]
    return [kinds[i % 3](tokens[i % len(tokens)]) for i in range(count)]


def test_5000_reconnects_with_50_tokens_are_at_most_50_checks(start,
                                                              authority):
    count = 5000 // SCALE
    tokens = [token(f"user{i}") for i in range(50)]
    authority.rules.update(dict.fromkeys(tokens[:50:7], wait_then(
        behaviour.allow)))  # some are slow
    server = start(AUTH_URL=authority.url, WORKERS=4, AUTH_CACHE_TTL=3600,
                   LOG_LEVEL="info")
    requests = mixed_requests(tokens, count)
    storm = Storm(server.address, requests, keep=True)
    storm.start()
    server.wait_for_stat("auth_shared", 50)
    authority.release.set()
    storm.join()
    assert storm.statuses == {101: count - count // 3, 200: count // 3}
    assert authority.asked.qsize() == 50
    # They are cut off, and all come back.
    storm.close()
    again = brew(server, requests)
    assert again.statuses == storm.statuses
    assert authority.asked.qsize() == 50
    server.wait_until_empty()


class HungAuthority:
    """Answers checks of `good` tokens; the others it reads, and never answers.
    One thread, so that thousands can hang.

    With `nudge_after` it sends each of those one byte, so many seconds after it
    was asked or up to 10 ms earlier, and then nothing more."""

    def __init__(self, nudge_after=None):
        self.nudge_after = nudge_after
        self.nudges = []  # (when, whom)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = "http://127.0.0.1:%d/" % self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.wake.close()
        self.thread.join(DEADLINE)

    def run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                # Precise to less than a millisecond, which waiting is not.
                for key, _ in selector.select(0 if self.nudges else None):
                    if key.fileobj is self.woken:
                        for one in list(selector.get_map().values()):
                            one.fileobj.close()
                        return
                    self.serve(selector, key.fileobj)
                self.nudge()

    def nudge(self):
        while self.nudges and self.nudges[0][0] < time.monotonic():
            _, _, one = heapq.heappop(self.nudges)
            try:
                one.send(b"H")
            except OSError:
                pass  # it has left

    def serve(self, selector, one):
        if one is self.listener:
            selector.register(one.accept()[0], selectors.EVENT_READ)
            return
        try:
            data = one.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            selector.unregister(one)
            one.close()
        elif b".good" in data:
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif self.nudge_after:
            due = (time.monotonic() + self.nudge_after
                   - random.uniform(0, 0.01))
            heapq.heappush(self.nudges, (due, id(one), one))


def test_a_hung_authority_leaves_no_handshake_unanswered_for_5_s(start):
    """Those that are asked about, 256 at once, get 500 after AUTH_TIMEOUT, 5 s;
    those that wait for their turn, 503, and no later."""
    count = 4000 // SCALE
    with HungAuthority() as hung:
        server = start(AUTH_URL=hung.url, WORKERS=2, LOG_LEVEL="info")
        storm = Storm(server.address, mixed_requests(
            [token(f"{i}") for i in range(count)], count))
        # One is in before the storm: afterwards there may be no room.
        subscriber = server.subscribe(fields=bearer("good"))
        storm.start()
        publisher = server.http()
        turns = 0
        while storm.is_alive():
            begin = time.monotonic()
            assert publisher.publish(data=str(turns)).status == 200
            assert subscriber.receive() == str(turns)
            for path in "/healthz", "/readyz":
                client = Http(server.address)
                assert client.ask("GET", path).status == 200
                client.close()
            assert time.monotonic() - begin < SLACK
            turns += 1
        assert turns > 10
        assert sum(storm.statuses.values()) == count
        assert set(storm.statuses) == {500, 503, 1013, 4408}, storm.statuses
        assert storm.statuses[500] + storm.statuses[4408] >= 256 * 2 / 3
        assert storm.retries == storm.statuses[503]
        assert max(storm.seconds) < 5 + SLACK
        # All is over: who may come in does.
        server.subscribe(fields=bearer("good"))


def test_what_comes_at_the_last_moment_does_not_stop_the_clock(start):
    """libcurl 7.88 forgets the time-out of a transfer to which something comes
    in the millisecond before it."""
    seconds = 0.25 * SCALE
    with HungAuthority(nudge_after=seconds) as hung:
        server = start(AUTH_URL=hung.url, WORKERS=2, LOG_LEVEL="info",
                       AUTH_TIMEOUT=seconds)
        storm = brew(server, mixed_requests(
            [token(f"{i}") for i in range(200)], 200))
        assert storm.statuses == {500: 67, 4408: 67, 1013: 66}
        assert max(storm.seconds) < seconds + SLACK


def test_thousands_of_checks_may_hang_and_leave_nothing_behind(start):
    count = 2000 // SCALE
    with HungAuthority() as hung:
        server = start(AUTH_URL=hung.url, WORKERS=4, LOG_LEVEL="info",
                       AUTH_TIMEOUT=0.5 * SCALE, AUTH_MAX_CHECKS=10000)
        before = memory_at_rest(server)
        for turn in range(2):
            storm = brew(server, mixed_requests(
                [token(f"{turn}.{i}") for i in range(count // 2)], count))
            assert storm.statuses.keys() == {500, 1013, 4408}
            assert sum(storm.statuses.values()) == count
            assert max(storm.seconds) < 0.5 * SCALE + SLACK
            server.wait_until_empty()
        assert metrics(server)["isimud_auth_checks_running"] == 0
        assert_memory_is_back(server, before)


def metrics(server):
    values = server.metrics()
    server.close_clients()
    return values


def memory_at_rest(server):
    """Without clients, and once the workers have told what they charged, which
    each does at its ticks."""
    ticks = "isimud_loop_lag_seconds_count"
    server.close_clients()
    server.wait_until_empty()
    enough = metrics(server)[ticks] + 2 * server.workers_count
    server.wait_until(lambda: metrics(server)[ticks] >= enough, "two ticks")
    return metrics(server)["isimud_memory_used_bytes"]


def assert_memory_is_back(server, before):
    """But for the connection that asks, which may be told of or not."""
    server.close_clients()
    server.wait_until_empty()
    server.wait_until(lambda: metrics(server)["isimud_memory_used_bytes"]
                      <= before + 4096, f"memory is back at {before}")


def test_sigterm_in_a_storm_ends_it_in_time(start):
    count = 1000 // SCALE
    with HungAuthority() as hung:
        server = start(AUTH_URL=hung.url, WORKERS=4, LOG_LEVEL="info",
                       AUTH_TIMEOUT=3600, AUTH_MAX_CHECKS=10000)
        storm = Storm(server.address, mixed_requests(
            [token(f"{i}") for i in range(count // 2)], count))
        storm.start()
        server.wait_until(lambda: server.total("pending") == count,
                          "all wait")
        server.terminate()
        storm.join()
        assert storm.statuses.keys() == {503, 1013}
        assert sum(storm.statuses.values()) == count
        assert server.wait() == 0


@pytest.mark.parametrize("seed", range(3))
def test_whatever_clients_and_authority_do_nothing_is_left(start, seed):
    """Handshakes, subscriptions and topics that are allowed, refused, failed or
    hung, of clients that leave at any moment: every state meets every end."""
    chance = random.Random(seed)
    with Authority() as authority:
        rules = [behaviour.allow, behaviour.allow, behaviour.refuse,
                 behaviour.not_http, behaviour.hang_up,
                 behaviour.stall_before_head, behaviour.stall_in_head,
                 behaviour.stall_in_content, wait_then(behaviour.allow),
                 wait_then(behaviour.refuse), wait_then(behaviour.not_http)]
        for i in range(24):
            authority.rules[token(LONG + str(i))] = rules[i % len(rules)]
        for topic in "cdefgh":
            authority.by_uri[topic_uri("alice", topic)] = chance.choice(rules)
        server = start(
            AUTH_URL=authority.url, WORKERS=4, AUTH_TIMEOUT=0.2, LOG_LEVEL=(
                "debug" if seed == 0 else "info"),
            AUTH_MAX_CHECKS=chance.choice([3, 1000]),
            AUTH_CACHE_TTL=chance.choice([0, 0.05]), AUTH_CACHE_ENTRIES=2,
            HISTORY_SIZE=0,
            AUTH_PER_TOPIC="false" if seed == 1 else "true")
        before = memory_at_rest(server)
        storm_of_all_kinds(server, chance, 600 // SCALE, authority)
        authority.release.set()
        server.close_clients()
        server.wait_until(
            lambda: server.metrics()["isimud_auth_checks_running"] == 0,
            "no check runs")
        assert_memory_is_back(server, before)


LONG = 500 * "x"  # what is left of a token would be seen in the memory


def storm_of_all_kinds(server, chance, count, authority):
    for i in range(count):
        fields = bearer(LONG + str(chance.randrange(24)))
        target = chance.choice([
            "/sub", TARGET, sub_target("alice", *chance.sample("abcdefgh", 3))])
        if chance.random() < 0.3:
            fields["Sec-WebSocket-Protocol"] = "isimud.v1"
        head = (handshake(target, fields) if chance.random() < 0.7 else
                request("GET", target, {**EventStream.ACCEPT, **fields}))
        behind = chance.choice([
            b"", head, request("GET", "/"),
            frame(TEXT, subscription("alice", chance.choice("abcdefgh")))
            + frame(PING, b"x"),
            b"".join(frame(TEXT, b'{"type":"%b","publisher":"alice",'
                                 b'"topic":"%b"}' % (kind, topic))
                     for topic in (b"a", b"c", b"d")
                     for kind in (b"subscribe", b"unsubscribe"))])
        client = Http(server.address)
        server.clients.append(client)
        client.send_while_open(head)
        if chance.random() < 0.5:  # the head is taken by itself
            server.publishers or server.publish("alice", "a", "x")
        client.send_while_open(behind)
        leave = chance.choice(["close", "abort", "half_close", None, None])
        if leave:
            one = chance.choice(server.clients)
            try:
                getattr(one, leave)()
            except OSError:
                pass  # it has left before
        if i == count // 2:
            authority.release.set()
