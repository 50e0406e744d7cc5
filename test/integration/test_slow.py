""""slow": "drop": a subscription of isimud.v1 that would rather lose messages
than its connection.

Whoever stops reading here does so with a small receive buffer, and messages are
published until the server says that it dropped some: how much the kernel takes
before that is nobody's business.
"""
import itertools
import json
import random
import threading

import pytest

from client import SCALE, Closed, basic, publish_request, sub_target
from program import Server
from session import (Follower, ask, id_of, number_of, session, subscribe,
                     told)
from threads import in_threads, join


@pytest.fixture
def start(start):
    """Who does not read does not answer pings either: not what this is about.
    """
    return lambda **settings: start(**{"PING_INTERVAL": 600, **settings})


def stalled(server, publisher=None, **kwargs):
    """A session that will not read much before it is asked to."""
    return session(server, publisher, rcvbuf=4096, **kwargs)


def text_of(number, size):
    """Something by which a message that is cut or mixed up is known."""
    return f"{number} " + chr(97 + number % 26) * size


class Source:
    """Publishes numbered messages to a topic that is its own."""

    def __init__(self, server, topic="news", sizes=(1000,), seed=1):
        self.server = server
        self.topic = topic
        self.http = server.http()
        self.random = random.Random(seed)
        self.sizes = sizes
        self.sent = {}    # what is behind each number
        self.last = None  # the number of the last
        self.texts = (text_of(i, self.random.choice(sizes))
                      for i in itertools.count())

    def publish(self, count=1, text=None):
        batch = [next(self.texts) if text is None else text
                 for _ in range(count)]
        self.http.send(b"".join(publish_request("alice", self.topic, data)
                                for data in batch))
        for data in batch:
            self.last = number_of(self.http.response().json()["id"])
            self.sent[self.last] = data

    def publish_until_dropped(self, more=100):
        """Until so many more were dropped, of whatever subscription."""
        end = self.server.stats().get("dropped", 0) + more
        while self.server.stats().get("dropped", 0) < end:
            self.publish(32)

    def check(self, follower):
        """All that came is what was published, and nothing is missing."""
        assert follower.data == self.but_for(follower)
        assert follower.last == self.last

    def but_for(self, follower):
        """What was published, but for what it was told to have lost."""
        lost = {number for first, last in follower.gaps
                for number in range(first, last + 1)}
        assert len(lost) == follower.lost
        return [self.sent[number] for number in self.sent
                if number not in lost]


def is_alive(socket):
    return ask(socket, "ping", ref="alive") == {"type": "pong", "ref": "alive"}


# --- stopping, and reading again ---------------------------------------------


@pytest.mark.parametrize("buffered, sizes", [
    ("1K", (0, 100)), ("1K", (10, 300, 800)), ("4K", (100, 1000)),
    ("64K", (10, 100, 1000, 10000)), ("64K", (20000, 60000)),
    ("1M", (1000, 30000)), ("1M", (500000,)),
], ids=str)
def test_each_message_comes_or_is_named_in_one_gap_notice(start, buffered,
                                                          sizes):
    server = start(MAX_BUFFERED=buffered)
    socket, source = stalled(server), Source(server, sizes=sizes)
    follower = subscribe(socket, slow="drop")
    source.publish(5)
    follower.read_to(socket, source.last)
    for _ in range(2):
        source.publish_until_dropped()
        follower.read_to(socket, source.last)
        assert follower.gaps
        source.check(follower)
        assert is_alive(socket)
        # And as if nothing had happened:
        lost = follower.lost
        for _ in range(5):
            source.publish()
            follower.read_to(socket, source.last)
        assert follower.lost == lost
    source.check(follower)
    assert server.stats()["dropped"] == follower.lost
    assert server.stats()["delivered"] == len(follower.data)
    assert server.stats().get("closed_slow", 0) == 0


def test_it_is_the_oldest_that_are_dropped(start):
    server = start(MAX_BUFFERED="64K")
    socket, source = stalled(server), Source(server)
    follower = subscribe(socket, slow="drop")
    source.publish_until_dropped()
    follower.read_to(socket, source.last)
    # One stop, one gap: behind what was on its way, before what waited.
    (first, last), = follower.gaps
    assert source.sent[last + 1] in follower.data
    assert source.last - last > 20


def test_a_reader_that_stops_now_and_then(start):
    """Many gaps, while publishers go on."""
    server = start(MAX_BUFFERED="16K", WORKERS=4)
    socket, rng = stalled(server), random.Random(1)
    follower = subscribe(socket, slow="drop")
    first = follower.last
    stopping = threading.Event()
    counts = {}

    def publish(name):
        http, numbers = server.http(), itertools.count()
        while not stopping.is_set():
            batch = list(itertools.islice(numbers, 8))
            http.publish_all("alice", "news", (
                [name, i, text_of(i, i * i % 2000)] for i in batch))
            counts[name] = batch[-1] + 1

    publishing = in_threads(*(lambda name=name: publish(name)
                              for name in "ab"))
    try:
        for count in range(1, 9):
            server.wait_for_stat("dropped", follower.lost
                                 + rng.randrange(1, 200))
            while len(follower.gaps) < count or rng.random() < 0.95:
                follower.take(socket.receive_json())
    finally:
        stopping.set()
    join(publishing)
    follower.read_to(socket, first + sum(counts.values()))
    for name in "ab":
        numbers = [i for n, i, _ in follower.data if n == name]
        assert numbers == sorted(set(numbers))
    for _, i, text in follower.data:
        assert text == text_of(i, i * i % 2000)
    assert is_alive(socket)
    assert server.stats()["dropped"] == follower.lost


def test_a_gap_at_the_end_is_told_without_further_traffic(start):
    server = start(MAX_BUFFERED="64K")
    socket, source = stalled(server), Source(server)
    follower = subscribe(socket, slow="drop")
    source.publish_until_dropped()
    # It does not fit, whatever goes; so it goes, and all before it.
    dropped = server.stats()["dropped"]
    source.publish(text="x" * 65536)
    server.wait_for_stat("dropped", dropped + 1)
    follower.read_to(socket, source.last)
    assert follower.gaps[-1][1] == source.last
    source.check(follower)
    assert is_alive(socket)


def test_a_burst_is_not_held_against_one_that_reads(start):
    """What one request brings is delivered at once, and is more than may
    wait."""
    server = start(MAX_BUFFERED="16K", WORKERS=1)
    sockets = [session(server) for _ in range(2)]
    followers = [subscribe(socket, slow=slow) for socket, slow
                 in zip(sockets, ("drop", "close"))]
    batch = [{"topic": "news", "data": text_of(i, 1000)} for i in range(60)]
    assert server.ask("POST", "/pub", {
        "Authorization": basic("alice"), "Content-Type": "application/json"},
        json.dumps(batch).encode()).status == 200
    for socket, follower in zip(sockets, followers):
        follower.read_to(socket, follower.last + len(batch))
        assert follower.data == [item["data"] for item in batch]


def test_a_message_over_the_limit_reaches_one_that_reads(start):
    server = start(MAX_BUFFERED="64K")
    socket, source = session(server), Source(server)
    follower = subscribe(socket, slow="drop")
    source.publish()
    source.publish(text="x" * 65536)
    follower.read_to(socket, source.last)
    source.publish()
    follower.read_to(socket, source.last)
    source.check(follower)
    assert follower.gaps == []


@pytest.mark.parametrize("slow", ["drop", "close"])
def test_a_long_history_is_resumed_whole_by_who_reads(start, slow):
    """It comes as there is room, however slowly that is."""
    server = start(MAX_BUFFERED="64K", HISTORY_SIZE=65536, HISTORY_TTL=600)
    source = Source(server, sizes=(5000, 70000))
    place = subscribe(session(server))
    source.publish(1000)
    socket = stalled(server)
    socket.send_json({"type": "subscribe", "publisher": "alice",
                      "topic": "news", "slow": slow,
                      "since": f"{place.epoch}-{place.last}"})
    server.wait_for_stat("resumed", 1)
    source.publish(100)  # they wait in the history, too
    assert server.total("queued_bytes") < 400_000
    answer = told(socket)
    assert answer["resumed"] is True
    assert number_of(answer["id"]) == place.last
    follower = Follower(answer).read_to(socket, source.last)
    source.check(follower)
    assert follower.gaps == []
    assert is_alive(socket)
    assert server.stats().get("dropped", 0) == 0


# --- more than one subscription on the connection ----------------------------


def read_both(socket, followers):
    """Takes the next message for whom it is; returns an answer."""
    value = socket.receive_json()
    if value["type"] not in ("message", "gap"):
        return value
    followers[value["topic"]].take(value)
    return None


def test_several_that_drop_share_the_room_and_lose_each_its_own(start):
    server = start(MAX_BUFFERED="64K")
    socket = stalled(server)
    sources = {topic: Source(server, topic, sizes=(100, 3000), seed=i)
               for i, topic in enumerate("abc")}
    followers = {topic: subscribe(socket, topic=topic, slow="drop")
                 for topic in sources}
    for _ in range(3):
        for _ in range(8):
            for source in sources.values():
                source.publish_until_dropped(10)
        while any(followers[topic].last < source.last
                  for topic, source in sources.items()):
            assert read_both(socket, followers) is None
    for topic, source in sources.items():
        source.check(followers[topic])
    assert is_alive(socket)
    assert server.stats()["dropped"] == sum(
        follower.lost for follower in followers.values())


def test_one_that_waits_does_not_hold_up_another_that_drops(start):
    """There is room for all in turns, once there is room."""
    server = start(MAX_BUFFERED="64K")
    socket = stalled(server)
    busy, quiet = Source(server, "busy"), Source(server, "quiet", sizes=(10,))
    followers = {topic: subscribe(socket, topic=topic, slow="drop")
                 for topic in ("busy", "quiet")}
    quiet.publish()
    busy.publish_until_dropped()
    quiet.publish()
    while followers["quiet"].last < quiet.last:
        read_both(socket, followers)
    while followers["busy"].last < busy.last:
        read_both(socket, followers)
    quiet.check(followers["quiet"])
    busy.check(followers["busy"])


def test_one_that_closes_beside_one_that_drops_ends_both(start):
    server = start(MAX_BUFFERED="64K", CLOSE_TIMEOUT=60)
    socket = stalled(server)
    dropping, closing = Source(server, "dropping"), Source(server, "closing")
    followers = {
        "dropping": subscribe(socket, topic="dropping", slow="drop"),
        "closing": subscribe(socket, topic="closing", slow="close")}
    closing.publish(3)
    dropping.publish_until_dropped()
    closing.publish(3)
    # What overflows is not the one that closes: nobody is ended.
    while any(followers[source.topic].last < source.last
              for source in (dropping, closing)):
        read_both(socket, followers)
    closing.check(followers["closing"])
    dropping.check(followers["dropping"])
    assert not followers["closing"].gaps and followers["dropping"].gaps
    assert is_alive(socket)

    dropping.publish_until_dropped()
    while server.stats().get("closed_slow", 0) == 0:
        closing.publish(20)
        dropping.publish()
    with pytest.raises(Closed) as closed:
        while True:
            read_both(socket, followers)
    assert closed.value.code == 1013
    assert closed.value.reason
    for source in (dropping, closing):  # up to there all is as it should be
        data = followers[source.topic].data
        texts = iter(source.sent.values())
        assert all(text in texts for text in data), "out of order"
    assert not followers["closing"].gaps
    assert server.http().publish("alice", "dropping").json()[
        "subscribers"] == 0


def test_answers_come_while_messages_wait_and_in_order(start):
    server = start(MAX_BUFFERED="64K")
    socket, source = stalled(server, "alice"), Source(server)
    followers = {"news": subscribe(socket, slow="drop"),
                 "own": subscribe(socket, topic="own", slow="drop")}
    source.publish_until_dropped()
    for ref in range(100):
        socket.send_json({"type": "ping", "ref": ref} if ref % 2 else
                         {"type": "publish", "topic": "own", "data": ref,
                          "ref": ref})
    answers, last = [], 0
    while (len(answers) < 100 or followers["news"].last < source.last
           or followers["own"].last < last):
        value = read_both(socket, followers)
        if value is not None:
            answers.append(value)
            if value["type"] == "published":
                last = number_of(value["id"])
    assert [answer["ref"] for answer in answers] == list(range(100))
    assert [a["type"] for a in answers] == 50 * ["published", "pong"]
    source.check(followers["news"])
    own = followers["own"]
    assert len(own.data) + own.lost == 50
    assert own.data == sorted(set(own.data))


def test_what_waits_is_gone_once_it_is_unsubscribed(start):
    server = start(MAX_BUFFERED="64K", HISTORY_SIZE=65536)
    socket, source = stalled(server), Source(server)
    follower = subscribe(socket, slow="drop")
    other = subscribe(socket, topic="other", slow="drop")
    source.publish_until_dropped()
    socket.send_json({"type": "unsubscribe", "publisher": "alice",
                      "topic": "news"})
    while (value := socket.receive_json())["type"] != "unsubscribed":
        follower.take(value)
    assert follower.last < source.last
    source.publish(3)
    assert is_alive(socket)
    # Nothing is lost: it goes on where it was.
    answer = ask(socket, "subscribe", publisher="alice", topic="news",
                 since=f"{follower.epoch}-{follower.last}", slow="drop")
    assert answer["resumed"] is True
    follower.read_to(socket, source.last)
    source.check(follower)
    server.publish("alice", "other", "x")
    other.take(told(socket))


def test_the_policy_is_that_of_each_subscription(start):
    """The same topic again, with the other policy."""
    server = start(MAX_BUFFERED="64K", CLOSE_TIMEOUT=60)
    socket, source = stalled(server), Source(server)
    key = {"publisher": "alice", "topic": "news"}
    follower = subscribe(socket, slow="drop")
    source.publish_until_dropped()
    follower.read_to(socket, source.last)
    ask(socket, "unsubscribe", **key)
    assert ask(socket, "subscribe", **key)["type"] == "subscribed"
    while server.stats().get("closed_slow", 0) == 0:
        source.publish(20)
    assert socket.read_to_close() == 1013


# --- others ------------------------------------------------------------------


def test_other_clients_are_not_concerned(start):
    server = start(WORKERS=2, MAX_BUFFERED="256K")
    slow = [stalled(server) for _ in range(4)]
    losing = [subscribe(socket, slow="drop") for socket in slow]
    healthy = [session(server) for _ in range(4)]
    followers = [subscribe(socket) for socket in healthy]
    raw = [server.subscribe() for _ in range(2)]
    stream = server.event_stream(sub_target("alice", "news"))
    source = Source(server, sizes=(10, 3000, 9000))
    taken = 0
    while server.stats().get("dropped", 0) < 400:
        source.publish(10)
        for text in list(source.sent.values())[taken:]:
            for socket in raw:
                assert socket.receive() == text
            assert stream.event().data == text
        taken = len(source.sent)
        for socket, follower in zip(healthy, followers):
            follower.read_to(socket, source.last)
    for follower in followers:
        source.check(follower)
        assert follower.lost == 0
    for socket, follower in zip(slow, losing):
        follower.read_to(socket, source.last)
        source.check(follower)
        assert is_alive(socket)
    assert server.stats().get("closed_slow", 0) == 0


def test_one_that_closes_is_ended_while_one_that_drops_stays(start):
    server = start(MAX_BUFFERED="64K", CLOSE_TIMEOUT=60)
    dropping, closing = stalled(server), stalled(server)
    follower = subscribe(dropping, slow="drop")
    others = subscribe(closing, slow="close")
    source = Source(server)
    source.publish_until_dropped()
    server.wait_for_stat("closed_slow")
    follower.read_to(dropping, source.last)
    source.check(follower)
    messages, closed = closing.read_all()
    for message in messages:
        others.take(json.loads(message))
    assert closed.code == 1013
    assert others.gaps == [] and others.data == list(
        source.sent.values())[:len(others.data)]


def test_the_end_of_the_server_is_told_behind_what_was_sent(start):
    server = start(MAX_BUFFERED="64K", CLOSE_TIMEOUT=10 * SCALE)
    socket, source = stalled(server), Source(server)
    follower = subscribe(socket, slow="drop")
    source.publish_until_dropped()
    server.terminate()
    server.wait_for_line("stopping|draining|SIGTERM")
    messages, closed = socket.read_all()
    for message in messages:
        follower.take(json.loads(message))
    assert closed.code == 1001
    assert follower.data == source.but_for(follower)[:len(follower.data)]
    assert server.wait() == 0


# --- memory ------------------------------------------------------------------


def used(server):
    return server.metrics()["isimud_memory_used_bytes"]


def settled(server):
    """The bytes charged once there is no client."""
    server.close_clients()
    server.wait_until(lambda: server.total("http") + server.total("websocket")
                      + server.total("closing") == 0, "nobody is left")
    return used(server)


def leave_by_reading(socket, follower, source):
    follower.read_to(socket, source.last)
    source.check(follower)
    ask(socket, "unsubscribe", publisher="alice", topic="news")


def leave_by_unsubscribing(socket, follower, source):
    socket.send_json({"type": "unsubscribe", "publisher": "alice",
                      "topic": "news"})
    while socket.receive_json()["type"] != "unsubscribed":
        pass


def leave_by_binary(socket, follower, source):
    socket.send_frame(0x2, b"x")
    assert socket.read_to_close() == 1003


LEAVINGS = [leave_by_reading, leave_by_unsubscribing, leave_by_binary,
            lambda socket, *_: socket.close(),
            lambda socket, *_: socket.abort()]


@pytest.mark.parametrize("leave", LEAVINGS, ids=[
    "reading", "unsubscribing", "a binary message", "FIN", "RST"])
def test_what_is_charged_is_credited_however_it_ends(start, leave):
    server = start(ADMIN_PORT=0, HISTORY_SIZE=0, MAX_BUFFERED="256K",
                   CLOSE_TIMEOUT=60)
    before = settled(server)
    for _ in range(2):
        socket, source = stalled(server), Source(server, sizes=(2000, 20))
        follower = subscribe(socket, slow="drop")
        source.publish_until_dropped(2000 // SCALE)
        # What waits, its forms and its places; and what is on its way.
        server.wait_until(lambda: used(server) - before < 4 << 20,
                          "no more is charged than may wait")
        leave(socket, follower, source)
        server.wait_until(lambda: settled(server) == before,
                          "all that was charged is credited")


def test_sessions_leave_nothing_charged(start):
    server = start(ADMIN_PORT=0, HISTORY_SIZE=0)
    before = settled(server)
    for seed in range(3):
        for i in range(5):
            socket = session(server, "alice")
            topics = [f"{topic}" * (1 + seed) for topic in range(100)]
            for topic in topics:
                subscribe(socket, topic=topic,
                          slow="drop" if int(topic) % 2 else "close")
            for topic in topics[::3]:
                ask(socket, "unsubscribe", publisher="alice", topic=topic)
            for topic in topics:
                socket.send_json({"type": "publish", "topic": topic,
                                  "data": 1000 * "x"})
            types = [socket.receive_json()["type"] for _ in range(166)]
            assert types.count("published") == 100
        server.wait_until(lambda: settled(server) == before,
                          "all that was charged is credited")


def test_those_that_drop_are_ended_too_where_memory_is_scarce(start):
    """Each within its own limit, but all together too much."""
    settings = dict(ADMIN_PORT=0, HISTORY_SIZE=0, CLOSE_TIMEOUT=60)
    trial = Server(MEMORY_LIMIT="64G", **settings)
    limit = int(used(trial)) + (24 << 20)
    trial.stop()
    server = start(MEMORY_LIMIT=limit, **settings)
    reader = session(server)
    follower = subscribe(reader, topic="healthy")
    crowd = [stalled(server) for _ in range(40)]
    for i, socket in enumerate(crowd):
        subscribe(socket, topic=f"t{i}", slow="drop")
    http, healthy = server.http(), Source(server, "healthy")
    while server.stats().get("closed_slow", 0) < 10:
        for i in range(len(crowd)):
            response = http.publish("alice", f"t{i}", "x" * 50000)
            assert response.status in (200, 503)
        healthy.publish()
        follower.read_to(reader, healthy.last)
        assert used(server) < limit * 1.1
    healthy.check(follower)
    for socket in crowd:
        socket.close()
    server.wait_until(lambda: server.http().ask("GET", "/").status == 303,
                      "memory is fine again")


# --- what the kernel holds ---------------------------------------------------


def kernel_has(client):
    """Bytes that the kernel holds to be sent to this client."""
    ends = [f":{name[1]:04X}" for name in (client.getpeername(),
                                           client.getsockname())]
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                return int(fields[4].split(":")[0], 16)
    raise AssertionError("no such connection")


@pytest.mark.parametrize("settings, least, most", [
    ({}, 0, 256 << 10), ({"MAX_UNSENT": "16K"}, 0, 128 << 10),
    ({"MEMORY_LIMIT": "256M"}, 0, 128 << 10),
    ({"MAX_UNSENT": 0}, 512 << 10, 64 << 20),
], ids=str)
def test_what_a_client_does_not_read_waits_in_the_server(start, settings,
                                                         least, most):
    server = start(MAX_BUFFERED="16M", **settings)
    socket, source = stalled(server), Source(server, sizes=(60000,))
    follower = subscribe(socket)
    source.publish(64)
    server.wait_until(lambda: server.stats()["delivered"] == 64, "all is queued")
    server.wait_until(
        lambda: least <= kernel_has(socket.socket) <= most,
        f"the kernel holds {least} to {most} bytes")
    follower.read_to(socket, source.last)
    source.check(follower)
