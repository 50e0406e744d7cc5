"""isimud.js in node: over a WebSocket of node's modules, over node's own, and
over event streams, against the real server."""
import http.server
import json
import os
import random
import signal
import threading
from urllib.parse import quote

import pytest

import web
from authority import answer
from client import DEADLINE, SCALE, basic
from program import Server
from test_recipe import kill, nginx, terminate  # noqa: F401, fixtures
from tokens import Authority, topic_uri
from web import Client, Cutter, Numbers, check_complete, publish

pytestmark = [
    pytest.mark.skipif(not web.node(), reason="there is no node of version 18"
                       " or later: scripts/build/deps.sh browser"),
    pytest.mark.skipif(os.environ.get("FLAVOUR") == "valgrind",
                       reason="it waits for nobody that is so slow"),
]

SECONDS = 12 if SCALE == 1 else 8  # of cuts


@pytest.fixture(params=web.SOCKETS)
def kind(request):
    if request.param == "builtin" and web.flag_for_websocket() is None:
        pytest.skip("this node has no WebSocket")
    return request.param


@pytest.fixture
def connect(kind):
    """connect(address, …) is a Client of this kind."""
    clients = []

    def connect_one(address, **options):
        clients.append(Client(address, kind, **options))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.stop()


@pytest.fixture
def cutter():
    """cutter(server) is a Cutter before it."""
    all_there_are = []

    def new(server, **options):
        all_there_are.append(Cutter(server.address, **options))
        return all_there_are[-1]

    yield new
    for one in all_there_are:
        one.close()


def is_subscribed(server, topic):
    answer = server.ask("GET", "/topics/" + quote(topic, safe=""),
                        {"Authorization": basic("alice")})
    return json.loads(answer.body).get("subscribers", 0) > 0


def connections(server):
    return server.total("websocket") + server.total("event_stream")


# --- subscribing -------------------------------------------------------------


def test_many_topics_share_one_connection(server, connect):
    client = connect(server.address)
    topics = [f"shared {i}" for i in range(50)]
    client.follow(*topics)
    for topic in topics:
        server.wait_until(lambda: is_subscribed(server, topic), topic)
        publish(server, topic, topic)
    for topic in topics:
        client.wait_for_data(topic, topic)
    if client.all("status", transport="websocket"):
        assert connections(server) == 1
    assert len(client.all("message")) == len(topics)


def test_last_begins_with_the_history(server, connect):
    publish(server, "old", 1, 2, 3)
    client = connect(server.address)
    client.follow("old", last=2)
    client.wait_for_data("old", 3)
    assert [event["data"] for event in client.all("message")] == [2, 3]


def test_since_goes_on_from_there(server, connect):
    publish(server, "from", 1, 2, 3)
    first = connect(server.address)
    first.follow("from", last=3)
    id = first.wait_for_data("from", 2)["id"]
    client = connect(server.address)
    client.follow("from", since=id)
    client.wait_for_data("from", 3)
    assert len(client.all("message")) == 1 and not client.all("reset")


def test_a_topic_that_is_left_is_silent(server, connect):
    client = connect(server.address)
    client.follow("left", "stays")
    client.open()
    client.do("unsubscribe", topic="left")
    publish(server, "left", 1)
    publish(server, "stays", 1)
    client.wait_for_data("stays", 1)
    assert not client.all("message", topic="left")
    client.follow("left")  # and may be had again
    # An event stream of before may still be open: what the server has says
    # nothing of the new one.
    def has_it():
        publish(server, "left", 2)
        return client.all("message", topic="left", data=2)
    server.wait_until(has_it, "it is back")
    assert not client.all("message", topic="left", data=1)


def test_an_iterator_has_the_same_events(server, connect):
    client = connect(server.address)
    client.follow("iterated", iterates=True)
    client.open()
    publish(server, "iterated", 1, 2)
    client.wait_for("next", 2)
    assert [event["event"]["data"] for event in client.all("next")] == [1, 2]
    client.do("unsubscribe", topic="iterated")
    client.wait_for("done", topic="iterated")


def test_an_iterator_that_is_too_slow_is_told_what_it_lost(server, connect):
    client = connect(server.address, buffer=3)
    # Handlers, too; nobody takes what is queued before the next turn.
    client.follow("slow", iterates=True)
    client.open()
    with_batch = json.dumps([{"topic": "slow", "data": i}
                             for i in range(200)]).encode()
    response = server.http().publish("alice", body=with_batch)
    assert response.status == 200
    client.wait(lambda: [event for event in client.all("next")
                         if event["event"].get("data") == 199
                         or event["event"]["type"] == "gap"], "all of it")
    events = [{**event["event"], "what": event["event"]["type"]}
              for event in client.all("next")]
    check_complete(events, "slow")


# --- restarts, cuts, and what is frozen --------------------------------------


def test_with_a_history_file_nothing_is_noticed_of_a_restart(start, connect,
                                                             tmp_path):
    settings = {"SSE_RETRY": 0.1, "HISTORY_FILE": tmp_path / "history"}
    server = start(**settings)
    client = connect(server.address)
    client.follow("a", "b")
    client.open()
    server.wait_until(lambda: server.total("subscriptions") >= 2
                      or connections(server), "subscribed")
    for round_ in range(3):
        publish(server, "a", round_)
        publish(server, "b", round_)
        client.wait_for_data("a", round_)
        client.wait_for_data("b", round_)
        publish(server, "a", "last words")
        server.stop()
        server = start(PORT=server.address[1], **settings)
    for topic in ("a", "b"):
        client.wait_for("status", 4, status="open")
        assert check_complete(client.events, topic) == 0
    assert len(client.all("message", data="last words")) == 3


@pytest.mark.parametrize("end", [terminate, kill], ids=["SIGTERM", "SIGKILL"])
def test_each_topic_is_told_when_the_server_has_forgotten_it(connect, end):
    server = Server(SSE_RETRY=0.1)
    try:
        client = connect(server.address)
        client.follow("a", "b", last=1)
        client.open()
        publish(server, "a", 1)
        publish(server, "b", 1)
        client.wait_for_data("a", 1)
        client.wait_for_data("b", 1)
        end(server)
        client.wait_for("status", status="waiting")
        again = Server(SSE_RETRY=0.1, PORT=server.address[1])
        server.kill()
        server = again
        client.wait_for("reset", topic="a")
        client.wait_for("reset", topic="b")
        publish(server, "a", 2)
        client.wait_for_data("a", 2)
        assert len(client.all("reset")) == 2
        check_complete(client.events, "a")
    finally:
        server.kill()


def test_cuts_lose_nothing_and_repeat_nothing(start, cutter):
    """All kinds at once, each after the other would take too long."""
    seed = int(os.environ.get("ISIMUD_SEED", random.randrange(1 << 32)))
    print(f"\nISIMUD_SEED={seed}")
    chance = random.Random(seed)
    server = start(HISTORY_SIZE=10000, SSE_RETRY=0.1)
    relay = cutter(server)
    topics = [f"cut {i}" for i in range(5)]
    kinds = [one for one in web.SOCKETS
             if one != "builtin" or web.flag_for_websocket() is not None]
    clients = [Client(relay.address, one, maxDelay=200) for one in kinds]
    try:
        for client in clients:
            client.follow(*topics, last=0)
            client.open()
        server.wait_until(lambda: all(json.loads(server.ask(
            "GET", "/topics/" + topic.replace(" ", "%20"),
            {"Authorization": basic("alice")}).body).get("subscribers")
            == len(clients) for topic in topics), "subscribed")
        numbers = Numbers(server, topics)
        # Whoever is cut before he has any id begins at what is the end then.
        for client in clients:
            for topic in topics:
                client.wait_for_data(topic, 1)
        end = web.time.monotonic() + SECONDS
        cuts = 0
        while web.time.monotonic() < end:
            web.time.sleep(chance.choice([0.01, 0.1, 0.3, 1]))
            relay.cut(with_reset=chance.random() < 0.5)
            cuts += 1
        numbers.stop()
        for client in clients:
            for topic in topics:
                client.wait_for_data(topic, numbers.last[topic])
                got = [event["data"]
                       for event in client.all("message", topic=topic)]
                assert got == list(range(1, numbers.last[topic] + 1))
            assert not client.all("reset") and not client.all("gap")
            assert len(client.all("status", status="open")) > cuts / 10
    finally:
        for client in clients:
            client.stop()


def test_cuts_with_little_history_are_told(start, connect, cutter):
    server = start(HISTORY_SIZE=5, SSE_RETRY=0.1)
    relay = cutter(server)
    client = connect(relay.address)
    client.follow("short")
    client.open()
    numbers = Numbers(server, ["short"], pause=0.001)
    for count in range(5):
        client.open(count + 1)
        relay.cut()
    numbers.stop()
    publish(server, "short", "end")
    client.wait_for_data("short", "end")
    check_complete(client.events, "short")


def test_a_frozen_server_is_noticed(start, connect):
    server = start(PING_INTERVAL=0.3, SSE_RETRY=0.1)
    client = connect(server.address, ping=300 * SCALE, timeout=500 * SCALE,
                     quiet=1500 * SCALE)
    client.follow("frozen", last=1)
    client.open()
    publish(server, "frozen", 1)
    client.wait_for_data("frozen", 1)
    opens = len(client.all("status", status="open"))
    web.freeze(server)
    try:
        # The kernel still accepts: nothing but silence says so.
        client.wait_for("status", status="waiting", code=1006)
    finally:
        server.process.send_signal(signal.SIGCONT)
    client.open(opens + 1)
    publish(server, "frozen", 2)
    client.wait_for_data("frozen", 2)
    assert check_complete(client.events, "frozen") == 0


def test_a_proxy_that_answers_502_meanwhile_is_waited_for(connect, nginx):  # noqa: F811
    server = Server(SSE_RETRY=0.1)
    try:
        address, refused = nginx(server.address)
        client = connect(address)
        client.follow("behind", last=1)
        client.open()
        publish(server, "behind", 1)
        client.wait_for_data("behind", 1)
        server.kill()
        before = refused()
        client.wait(lambda: refused() >= before + 4, "refused")
        server = Server(SSE_RETRY=0.1, PORT=server.address[1])
        client.wait_for("reset", topic="behind")
        publish(server, "behind", 2)
        client.wait_for_data("behind", 2)
    finally:
        server.kill()


def test_a_client_that_was_frozen_is_told_what_it_lost(start):
    """With "slow": "drop", over a WebSocket."""
    server = start(MAX_BUFFERED=65536, HISTORY_SIZE=4)
    client = Client(server.address, "own", ping=60000)
    try:
        client.follow("firehose", slow="drop")
        client.open()
        publish(server, "firehose", "first")
        client.wait_for_data("firehose", "first")
        client.pause()
        publish(server, "firehose", *["x" * 100000] * 150)
        client.resume()
        client.wait_for("gap")
        publish(server, "firehose", "last")
        client.wait_for_data("firehose", "last")
        check_complete(client.events, "firehose")
    finally:
        client.stop()


# --- where WebSockets do not get through -------------------------------------


def test_event_streams_do_where_websockets_are_blocked(start, cutter):
    server = start(SSE_RETRY=0.1)
    relay = cutter(server, refuses_upgrades=True)
    client = Client(relay.address, "own", minDelay=1000)
    try:
        client.follow("blocked", last=1)
        client.wait_for("status", status="open", transport="stream")
        publish(server, "blocked", 1)
        client.wait_for_data("blocked", 1)
        assert relay.refused == 1
        relay.cut()
        client.open(2)
        publish(server, "blocked", 2)
        client.wait_for_data("blocked", 2)
        assert check_complete(client.events, "blocked") == 0
    finally:
        client.stop()


def test_and_it_comes_back_to_a_websocket_that_has_worked(start, cutter):
    server = start(SSE_RETRY=0.1)
    relay = cutter(server)
    client = Client(relay.address, "own")
    try:
        client.follow("both")
        client.wait_for("status", status="open", transport="websocket")
        relay.refuses_upgrades = True
        relay.cut()
        client.wait_for("status", status="open", transport="stream")
        relay.refuses_upgrades = False
        relay.cut()
        client.wait_for("status", 2, status="open", transport="websocket")
        publish(server, "both", 1)
        client.wait_for_data("both", 1)
        assert check_complete(client.events, "both") == 0
    finally:
        client.stop()


def test_many_topics_are_in_few_streams(start, connect, kind):
    if kind != "none":
        pytest.skip("about event streams")
    # A browser has six connections to a server.
    server = start(SSE_RETRY=0.1)
    client = connect(server.address)
    for i in range(20):
        client.follow(f"stream {i}")
        server.wait_until(lambda: is_subscribed(server, f"stream {i}"), "it is")
        publish(server, f"stream {i}", i)
        client.wait_for_data(f"stream {i}", i)
        assert connections(server) <= 4
    for i in range(20):
        publish(server, f"stream {i}", "again")
        client.wait_for_data(f"stream {i}", "again")
        assert check_complete(client.events, f"stream {i}") == 0


# --- tokens ------------------------------------------------------------------


def test_an_expired_token_is_asked_for_again(start, connect, cutter, authority):
    authority.rules["expired"] = answer(401)
    server = start(AUTH_URL=authority.url, SSE_RETRY=0.1)
    relay = cutter(server)
    client = connect(relay.address, hasToken=True)
    client.do("token", value="fresh")
    client.follow("private", last=1)
    client.open()
    publish(server, "private", 1)
    client.wait_for_data("private", 1)
    client.do("token", value="expired")
    relay.cut()
    client.wait_for("status", status="waiting", code=4401)
    client.do("token", value="fresh.2")
    client.open(2)
    publish(server, "private", 2)
    client.wait_for_data("private", 2)
    assert check_complete(client.events, "private") == 0


def test_but_not_for_ever(start, connect, authority):
    authority.rules["expired"] = answer(401)
    server = start(AUTH_URL=authority.url, SSE_RETRY=0.1)
    client = connect(server.address, hasToken=True)
    client.do("token", value="expired")
    client.follow("private")
    closed = client.wait_for("status", status="closed")
    assert closed["code"] == 4401
    assert len(client.all("token")) == 6
    assert client.wait_for("error")["code"] == 4401


def test_without_a_token_it_is_final_at_once(start, connect, authority):
    server = start(AUTH_URL=authority.url)
    client = connect(server.address)
    client.follow("private")
    assert client.wait_for("status", status="closed")["code"] == 4401
    assert len(client.all("status", status="connecting")) == 1


def test_an_outage_of_the_authority_is_waited_for(start, connect, authority):
    authority.rules["mine"] = answer(503)
    server = start(AUTH_URL=authority.url, SSE_RETRY=0.1)
    client = connect(server.address, hasToken=True)
    client.do("token", value="mine")
    client.follow("private", last=1)
    client.wait_for("status", 3, status="waiting")
    del authority.rules["mine"]
    client.open()
    publish(server, "private", 1)
    client.wait_for_data("private", 1)


def test_a_topic_that_is_forbidden_ends_alone(start, authority_by_uri):
    server = start(AUTH_URL=authority_by_uri.url, AUTH_PER_TOPIC="true")
    authority_by_uri.by_uri[topic_uri("alice", "no")] = answer(403)
    client = Client(server.address, "own", hasToken=True)
    try:
        client.do("token", value="S3cret.any")
        client.follow("no", "yes")
        assert client.wait_for("error")["code"] == "forbidden"
        publish(server, "yes", 1)
        client.wait_for_data("yes", 1)
    finally:
        client.stop()


@pytest.fixture
def authority_by_uri():
    with Authority() as one:
        yield one


# --- state and stream --------------------------------------------------------


class Sum:
    """An application: its state is the sum of all that it published. It says so
    only when it may."""

    def __init__(self, topic):
        self.topic = topic
        self.state = {"state": 0, "id": None}
        self.lock = threading.Lock()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = 0
        application = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                application.asked += 1
                application.may_answer.wait(DEADLINE)
                with application.lock:
                    content = json.dumps(application.state).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.url = "http://127.0.0.1:%d/" % self.server.server_port
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def add(self, server, number):
        with self.lock:
            receipt = server.http().publish("alice", self.topic, number)
            assert receipt.status == 200
            self.state = {"state": self.state["state"] + number,
                          "id": json.loads(receipt.body)["id"]}

    def stop(self):
        self.may_answer.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def application():
    one = Sum("sum")
    yield one
    one.stop()


def total(client):
    """What a page would show."""
    shown = None
    for event in list(client.events):
        if event["what"] == "state":
            shown = event["state"]
        elif event["what"] == "message":
            shown += event["data"]
    return shown


def test_state_and_stream_make_the_sum(start, connect, application):
    server = start()
    application.add(server, 1)
    application.may_answer.clear()
    client = connect(server.address)
    client.do("state", url=application.url)
    client.follow("sum", hasSnapshot=True)
    client.wait_for("snapshot")
    application.add(server, 2)
    application.may_answer.set()
    client.wait_for("state")
    application.add(server, 4)
    client.wait_for_data("sum", 4)
    assert total(client) == 7


@pytest.mark.parametrize("end", [terminate, kill], ids=["SIGTERM", "SIGKILL"])
def test_and_so_they_do_after_resets(connect, application, end):
    server = Server(SSE_RETRY=0.1)
    try:
        application.add(server, 1)
        client = connect(server.address)
        client.do("state", url=application.url)
        client.follow("sum", hasSnapshot=True)
        client.wait_for("state")
        client.open()
        for round_ in range(1, 4):
            application.add(server, 10 ** round_)
            client.wait_for_data("sum", 10 ** round_)
            application.may_answer.clear()
            end(server)
            again = Server(SSE_RETRY=0.1, PORT=server.address[1])
            server.kill()
            server = again
            client.wait_for("reset", round_)
            # While the state is asked for, it comes as a message, and is in
            # the state as well.
            application.add(server, 5)
            application.may_answer.set()
            client.wait_for("state", round_ + 1)
        application.add(server, 7)
        client.wait_for_data("sum", 7)
        assert total(client) == application.state["state"]
    finally:
        server.kill()


def test_30_cuts_leave_the_sum_right(start, connect, cutter, application):
    server = start(HISTORY_SIZE=3, SSE_RETRY=0.1)  # so that it is not enough
    relay = cutter(server)
    client = connect(relay.address, maxDelay=100)
    client.do("state", url=application.url)
    client.follow("sum", hasSnapshot=True)
    client.open()
    for number in range(300):
        application.add(server, number)
        if number % 10 == 0:
            relay.cut()
    application.add(server, 12345)
    client.wait(lambda: total(client) == application.state["state"],
                "the sum")


def test_a_state_that_fails_is_asked_for_again(server, connect, application):
    client = connect(server.address, timeout=300 * SCALE)
    application.add(server, 1)
    application.may_answer.clear()
    client.do("state", url=application.url)
    client.follow("sum", hasSnapshot=True)
    assert client.wait_for("error")["code"] == "timeout"
    application.may_answer.set()
    assert client.wait_for("state")["state"] == 1


# --- publishing --------------------------------------------------------------


def test_it_publishes_with_a_password(server, connect, kind):
    client = connect(server.address, password="secret")
    client.follow("own")
    client.open()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    client.do("publish", topic="own", data={"a": [1]}, event="goal",
              traceparent=trace)
    receipt = client.wait_for("published")
    assert receipt["subscribers"] == 1
    message = client.wait_for("message")
    assert (message["data"], message["event"], message["id"],
            message["traceparent"]) == ({"a": [1]}, "goal", receipt["id"], trace)
    assert server.total("event_stream") == (1 if kind == "none" else 0)


def test_and_not_without_one(server, connect):
    client = connect(server.address)
    client.follow("own")
    client.open()
    client.do("publish", topic="own", data=1)
    assert client.wait_for("error")["code"] == "forbidden"


def test_a_publication_without_an_answer_is_of_unknown_outcome(start, cutter):
    server = start()
    relay = cutter(server)
    client = Client(relay.address, "own", password="secret")
    try:
        client.follow("own")
        client.open()
        web.freeze(server)
        client.do("publish", topic="own", data=1)
        relay.cut()
        assert client.wait_for("error")["code"] == "unknown_outcome"
    finally:
        server.process.send_signal(signal.SIGCONT)
        client.stop()


def test_a_closed_client_lets_go(server, connect):
    client = connect(server.address)
    client.follow("gone", iterates=True)
    client.open()
    client.do("close")
    assert client.wait_for("status", status="closed")["code"] == "closed"
    client.wait_for("done")
    server.wait_until_empty()
