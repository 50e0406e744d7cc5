"""The promises, as clients of isimud.v1 see them, and other clients beside
them."""
import itertools
import json
import threading

from client import PING, SCALE, TEXT, frame, sub_target
from session import Follower, ask, fresh, number_of, session, subscribe, told
from threads import in_threads, join


def test_raw_clients_and_streams_on_the_same_topic_are_not_concerned(server):
    topic = fresh("mixed")
    raw = server.subscribe("alice", topic)
    raw_by_url = server.websocket(target=sub_target("alice", topic))
    stream = server.event_stream(sub_target("alice", topic))
    socket = session(server, "alice")
    follower = subscribe(socket, topic=topic)
    dropping = session(server)
    other = subscribe(dropping, topic=topic, slow="drop")
    texts = ["a", "", "é\0", '{"type":"message"}', "x" * 70000]
    for text in texts:
        server.publish("alice", topic, text)
    for text in texts:
        assert raw.receive() == raw_by_url.receive() == text
        assert stream.event().data == text
    for _ in texts:
        follower.take(told(socket))
        other.take(told(dropping))
    assert follower.data == other.data == texts
    ask(socket, "unsubscribe", publisher="alice", topic=topic)
    assert ask(socket, "publish", topic=topic, data="z")["subscribers"] == 4
    assert raw.receive() == raw_by_url.receive() == stream.event().data == "z"


def read_messages(socket, follower, count):
    for _ in range(count):
        follower.take(socket.receive_json())


def test_all_sessions_see_one_order_and_miss_nothing(start):
    """Promises 1 and 2, with publishers of both kinds on all workers."""
    server = start(WORKERS=4)
    sockets = [session(server) for _ in range(12)]
    followers = [subscribe(socket, slow=slow) for socket, slow
                 in zip(sockets, itertools.cycle(["close", "drop"]))]
    raw = [server.subscribe() for _ in range(4)]
    count = 1000 // SCALE
    receipts = {}

    def publish_commands(name):
        socket = session(server, "alice")
        ids = receipts[name] = []
        for start in range(0, count, 20):
            size = min(20, count - start)
            socket.send(b"".join(frame(TEXT, json.dumps(
                {"type": "publish", "topic": "news", "ref": i,
                 "data": [name, i]}).encode())
                for i in range(start, start + size)))
            for i in range(start, start + size):
                answer = socket.receive_json()
                assert (answer["type"], answer["ref"]) == ("published", i)
                assert answer["subscribers"] == 16
                ids.append(number_of(answer["id"]))

    def publish_requests(name):
        server.http().publish_all("alice", "news", (
            [name, i] for i in range(count)))

    publishing = in_threads(*(
        lambda name=name, publish=publish: publish(name)
        for name, publish in (("a", publish_commands), ("b", publish_commands),
                              ("c", publish_requests),
                              ("d", publish_requests))))
    for socket, follower in zip(sockets, followers):
        read_messages(socket, follower, 4 * count)
    order = followers[0].data
    for follower in followers:
        assert follower.data == order and follower.gaps == []
    for socket in raw:
        assert [json.loads(socket.receive()) for _ in order] == order
    join(publishing)
    for name in "abcd":  # each publisher's own order is kept
        assert [i for n, i in order if n == name] == list(range(count))
    first = followers[0].last - 4 * count + 1
    for name, ids in receipts.items():  # promise 3: that is its place
        assert [order[id - first] for id in ids] == [
            [name, i] for i in range(count)]


def test_who_comes_and_goes_misses_nothing_in_between(start):
    """Promise 2 from the moment of `subscribed` to that of `unsubscribed`, or
    to the end; and resuming is exact under load."""
    server = start(WORKERS=4, HISTORY_SIZE=65536)
    stopping = threading.Event()
    lasts = {}

    def publish(name):
        socket = session(server, "alice")
        for number in itertools.count():
            if stopping.is_set():
                break
            answer = socket.command("publish", topic="news",
                                    data=[name, number])
            lasts[name] = number_of(answer["id"])

    def come_and_go(seed):
        socket = session(server)
        follower, key = None, {"publisher": "alice", "topic": "news"}
        for round in range(30 // SCALE + 3):
            since = {} if follower is None else {
                "since": f"{follower.epoch}-{follower.last}"}
            answer = socket.command("subscribe", **key, **since)
            assert answer.get("resumed", True) is True
            if follower is None:
                follower = Follower(answer)
            else:
                assert number_of(answer["id"]) == follower.last
            read_messages(socket, follower, 20 + seed)
            if round % 3 == 0:  # the end of the connection ends it as well
                socket.abort()
                socket = session(server)
                continue
            socket.send_json({"type": "unsubscribe", **key})
            while (value := socket.receive_json())["type"] != "unsubscribed":
                follower.take(value)
            assert socket.command("ping") == {"type": "pong"}
        return follower

    publishing = in_threads(*(lambda name=name: publish(name)
                              for name in "ab"))
    try:
        join(in_threads(*(lambda seed=seed: come_and_go(seed)
                          for seed in range(4))))
    finally:
        stopping.set()
    join(publishing)
    assert lasts["a"] != lasts["b"]


def test_what_is_answered_comes_before_what_is_published_later(start):
    """Promise 3: published means sequenced, whoever publishes next, where."""
    server = start(WORKERS=4)
    sockets = [session(server) for _ in range(8)]
    followers = [subscribe(socket) for socket in sockets]
    publishers = [session(server, "alice") for _ in range(8)]
    numbers = list(range(400 // SCALE))
    ids = [number_of(publisher.command("publish", topic="news", data=i)["id"])
           for i, publisher in zip(numbers, itertools.cycle(publishers))]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for socket, follower in zip(sockets, followers):
        follower.read_to(socket, ids[-1])
        assert follower.data == numbers


def test_a_ping_behind_a_subscribe_is_answered_once_it_is_in_force(start):
    """Promise 4, and the answer is as good a sign."""
    server = start(WORKERS=4)
    for i in range(40):
        topic = f"t{i}"
        socket = session(server)
        socket.send(frame(TEXT, json.dumps({
            "type": "subscribe", "publisher": "alice",
            "topic": topic}).encode()) + frame(PING, b"in force?"))
        follower = Follower(told(socket))
        if i % 2:
            socket.expect_pong(b"in force?")
        assert server.http().publish("alice", topic,
                                     i).json()["subscribers"] == 1
        follower.take(told(socket))
        assert follower.data == [i]


def test_a_session_that_the_server_stops_gets_all_and_1001(start):
    server = start(WORKERS=4)
    sockets = [session(server, "alice") for _ in range(6)]
    followers = [subscribe(socket) for socket in sockets]
    publisher = session(server, "alice")
    last = number_of(ask(publisher, "publish", topic="news",
                         data="last")["id"])
    server.terminate()
    publisher.expect_close(1001)
    for socket, follower in zip(sockets, followers):
        messages, closed = socket.read_all()
        for message in messages:
            follower.take(json.loads(message))
        assert follower.last == last and closed.code == 1001
    assert server.wait() == 0
