"""The promises: order, all or a stated end, the barrier, bounds, and that a
slow or hostile client harms only itself."""
import itertools
import random
import selectors
import threading
import time

import pytest

from client import (CLOSE, DEADLINE, PING, SCALE, TEXT, frame, handshake,
                    publish_request, request, subscription)
from threads import in_threads, join


def server_frames(texts):
    """The bytes in which a server sends these messages: 125 bytes at most."""
    return b"".join(bytes([0x81, len(text)]) + text for text in texts)


def texts_of(stream):
    """The messages in bytes of that form, and a check of that form."""
    texts, at = [], 0
    while at < len(stream):
        assert stream[at] == 0x81 and stream[at + 1] <= 125
        end = at + 2 + stream[at + 1]
        texts.append(bytes(stream[at + 2:end]))
        at = end
    assert at == len(stream)
    return texts


def read_streams(clients, size, leave_at=None):
    """Reads `size` bytes from each client as they come, all side by side.
    Those in `leave_at` leave, with RST or FIN, when they have as many."""
    leave_at = leave_at or {}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(DEADLINE)
            have = [len(client.buffer) for client in clients]
            assert ready, f"nothing came; have {have} of {size}"
            for key, _ in ready:
                client = key.data
                assert client.read_some(), "the server closed"
                assert len(client.buffer) <= size
                leaves = len(client.buffer) >= leave_at.get(client, size + 1)
                if len(client.buffer) == size or leaves:
                    selector.unregister(client.socket)
                if leaves:
                    random.choice([client.close, client.abort])()


# --- order -------------------------------------------------------------------


def test_all_subscribers_see_one_order_whatever_their_worker(start):
    server = start(WORKERS=4)
    subscribers = [server.subscribe() for _ in range(16)]
    count = 2000 // SCALE
    sent = [[b"%d-%06d" % (p, i) for i in range(count)] for p in range(4)]
    publishing = in_threads(*(
        lambda client=server.http(), texts=texts: client.publish_all(
            "alice", "news", [text.decode() for text in texts], window=16)
        for texts in sent))
    read_streams(subscribers, len(server_frames(sum(sent, []))))
    join(publishing)

    first = bytes(subscribers[0].buffer)
    assert all(s.buffer == first for s in subscribers)
    order = texts_of(first)
    for p in range(4):  # and each publisher's own order is kept
        assert [t for t in order if t.startswith(b"%d-" % p)] == sent[p]


def test_a_publication_answered_200_comes_before_one_sent_later(start):
    server = start(WORKERS=4)
    subscribers = [server.subscribe() for _ in range(8)]
    publishers = [server.http() for _ in range(8)]
    texts = [str(i) for i in range(400)]
    for text, publisher in zip(texts, itertools.cycle(publishers)):
        assert publisher.publish(data=text).status == 200
    for subscriber in subscribers:
        assert [subscriber.receive() for _ in texts] == texts


# --- nothing lost, nothing doubled -------------------------------------------


def test_a_million_deliveries_lose_nothing_and_double_nothing(start):
    server = start(WORKERS=4)
    subscribers = [server.subscribe() for _ in range(100)]
    count = 10000 if SCALE == 1 else 1000
    sent = [[b"%d-%06d" % (p, i) for i in range(count // 4)] for p in range(4)]
    publishing = in_threads(*(
        lambda client=server.http(), texts=texts: client.publish_all(
            "alice", "news", [text.decode() for text in texts])
        for texts in sent))
    read_streams(subscribers, len(server_frames(sum(sent, []))))
    join(publishing)

    first = bytes(subscribers[0].buffer)
    assert sorted(texts_of(first)) == sum(sent, [])
    assert all(s.buffer == first for s in subscribers)
    server.wait_for_stat("delivered", 100 * count)
    stats = server.stats()
    assert stats["published"] == count
    assert stats["delivered"] == 100 * count


def test_messages_of_many_sizes_arrive_whole(start):
    server = start()
    subscribers = [server.subscribe() for _ in range(4)]
    sizes = [0, 1, 125, 126, 127, 1000, 65535, 65536, 100000, 7] * 10
    publishing = in_threads(lambda: server.http().publish_all(
        "alice", "news", [chr(97 + i % 26) * n for i, n in enumerate(sizes)],
        window=4))
    for subscriber in subscribers:
        for i, size in enumerate(sizes):
            assert subscriber.receive() == chr(97 + i % 26) * size
    join(publishing)


def test_many_topics_side_by_side_do_not_mix(start):
    server = start(WORKERS=4)
    topics = [f"topic {i}" for i in range(100)]
    subscribers = {topic: [server.subscribe("alice", topic) for _ in range(2)]
                   for topic in topics}
    publisher = server.http()
    for i in range(10):
        publisher.send(b"".join(publish_request("alice", topic, f"{topic}.{i}")
                                for topic in topics))
        assert {publisher.response().status for _ in topics} == {200}
    for topic in topics:
        for subscriber in subscribers[topic]:
            for i in range(10):
                assert subscriber.receive() == f"{topic}.{i}"


def test_subscribers_that_leave_in_the_middle_harm_nobody(start):
    server = start(WORKERS=2)
    staying = [server.subscribe() for _ in range(10)]
    leaving = [server.subscribe() for _ in range(40)]
    texts = [b"%06d" % i for i in range(4000 // SCALE)]
    size = len(server_frames(texts))
    leave_at = {client: random.randrange(1, size) for client in leaving}
    publishing = in_threads(lambda: server.http().publish_all(
        "alice", "news", [text.decode() for text in texts], window=16))
    read_streams(staying + leaving, size, leave_at)
    join(publishing)
    assert all(s.buffer == server_frames(texts) for s in staying)
    server.wait_until(lambda: server.total("websocket") == len(staying),
                      "the others are forgotten")


def test_subscribers_that_say_close_in_the_middle_harm_nobody(start):
    server = start(WORKERS=2)
    staying = [server.subscribe() for _ in range(4)]
    texts = [b"%06d" % i for i in range(2000 // SCALE)]

    def come_and_go():
        while publishing[0][0].is_alive():
            one = server.websocket()
            one.send(frame(TEXT, subscription("alice", "news"))
                     + frame(CLOSE, b"\x03\xe8"))
            one.close_sent = True
            messages, closed = one.read_all()
            assert closed.code == 1000
            assert messages == sorted(messages)

    publishing = in_threads(lambda: server.http().publish_all(
        "alice", "news", [text.decode() for text in texts], window=4))
    leaving = in_threads(come_and_go, come_and_go)
    read_streams(staying, len(server_frames(texts)))
    join(publishing)
    join(leaving)
    assert all(s.buffer == server_frames(texts) for s in staying)


# --- the barrier -------------------------------------------------------------


def test_a_pong_says_that_the_subscription_is_in_force(start):
    server = start(WORKERS=4)
    publishers = [server.http() for _ in range(4)]
    for i in range(400 // SCALE):
        subscriber = server.websocket()
        subscriber.send(frame(TEXT, subscription("alice", "news"))
                        + frame(PING, b"?"))
        subscriber.expect_pong(b"?")
        assert publishers[i % 4].publish(data=str(i)).status == 200
        assert subscriber.receive() == str(i)
        subscriber.close()


def test_the_barrier_holds_for_a_topic_of_ones_own(start):
    server = start(WORKERS=4)
    publishers = [server.http() for _ in range(4)]
    for i in range(400 // SCALE):
        subscriber = server.subscribe("alice", f"own {i}")
        publishers[i % 4].publish("alice", f"own {i}", str(i))
        assert subscriber.receive() == str(i)
        subscriber.close()


def test_the_pong_comes_before_what_is_published_after_it(server):
    subscriber = server.websocket()
    subscriber.send(frame(TEXT, subscription("alice", "news"))
                    + frame(PING, b"?"))
    subscriber.expect_pong(b"?")
    server.publish("alice", "news", "after")
    assert subscriber.read_frame() == (TEXT, b"after")


def test_from_the_first_message_on_a_subscriber_misses_nothing(start):
    server = start(WORKERS=4)
    done = threading.Event()
    numbers = itertools.count()

    def publish():
        client = server.http()
        while not done.is_set():
            client.publish_all("alice", "news",
                               [str(next(numbers)) for _ in range(8)])

    publishing = in_threads(publish)
    for _ in range(50 // SCALE):
        subscriber = server.websocket()
        subscriber.send(frame(TEXT, subscription("alice", "news")))
        got = [int(subscriber.receive()) for _ in range(30)]
        assert got == list(range(got[0], got[0] + 30))
        subscriber.close()
    done.set()
    join(publishing)


# --- a slow or hostile client harms only itself ------------------------------


def test_a_subscriber_that_stops_reading_is_closed_with_1013(start):
    server = start()
    slow = server.subscribe("alice", "news", read=False)
    for i in range(400):  # past every kernel buffer
        server.publish("alice", "news", f"{i:065536}")
    server.wait_for_stat("closed_slow")
    messages, closed = slow.read_all()
    assert closed.code == 1013
    assert closed.reason
    assert [int(m[-9:]) for m in messages] == list(range(len(messages)))
    assert server.stats()["closed_slow"] == 1


def test_a_slow_subscriber_delays_no_other(start):
    server = start(WORKERS=1)
    server.subscribe("alice", "news", read=False)
    others = [server.subscribe("alice", "news") for _ in range(3)]
    for i in range(400):
        text = f"{i:065536}"
        begin = time.monotonic()
        server.publish("alice", "news", text)
        for other in others:
            assert other.receive() == text
        assert time.monotonic() - begin < 1 * SCALE
    assert server.stats()["closed_slow"] == 1


def test_a_slow_subscriber_that_never_reads_is_forgotten(start):
    server = start(CLOSE_TIMEOUT=0.3, WRITE_TIMEOUT=0.3)
    server.subscribe("alice", "news", read=False)
    server.publish("alice", "news", "x" * 65536, times=400)
    server.wait_for_stat("closed_slow")
    server.wait_until(lambda: server.total("websocket")
                      + server.total("closing") == 0, "it is gone")


def test_slow_subscribers_cost_bounded_memory(start):
    server = start(MAX_BUFFERED="64K", WORKERS=1)
    for _ in range(10):
        server.subscribe("alice", "news", read=False)
    before = server.rss_bytes()
    server.publish("alice", "news", "x" * 65000, times=400)
    server.wait_for_stat("closed_slow", 10)
    if SCALE == 1:
        assert server.rss_bytes() - before < 16 << 20


def publish_once(server, first, count):
    """One small message to each of `count` topics."""
    publisher = server.http()
    for i in range(first, first + count, 100):
        publisher.send(b"".join(
            publish_request("alice", f"topic {j}", "x")
            for j in range(i, i + 100)))
        for _ in range(100):
            assert publisher.response().status == 200
    publisher.close()


def wait_until_forgotten(server):
    """Until no topic is left: what was said and heard there is too old."""
    server.wait_until(lambda: server.stats()["topics"] == 0, "no topic left")
    assert server.metrics()["isimud_history_bytes"] == 0


def wait_until_small(server, before):
    """Until the process is about as small as it was; up to a mebibyte may
    stay."""
    server.wait_until(
        lambda: SCALE > 1 or server.rss_bytes() - before < 2 << 20,
        f"as small as {before}")


@pytest.mark.parametrize("ttl", [0, 0.2])
def test_once_used_topics_leave_the_process_small(start, ttl):
    server = start(HISTORY_TTL=ttl, ADMIN_PORT=0)
    publish_once(server, 0, 1000)
    wait_until_forgotten(server)
    before = server.rss_bytes()
    publish_once(server, 1000, 20000 // SCALE)
    wait_until_forgotten(server)
    wait_until_small(server, before)


def test_once_used_topics_take_no_more_than_history_may(start):
    server = start(HISTORY_BYTES="1M", ADMIN_PORT=0)
    publish_once(server, 0, 1000)
    before = server.rss_bytes()
    for i in range(4):
        publish_once(server, 1000 + i * 5000, 5000 // SCALE)
        assert server.metrics()["isimud_history_bytes"] <= 1 << 20
    assert server.metrics()["isimud_topics"] > 500
    if SCALE == 1:
        assert server.rss_bytes() - before < 2 << 20


def come_and_go(server, first, count):
    """One subscriber of each of `count` topics, whose names are long."""
    for i in range(first, first + count):
        server.subscribe("alice", f"topic {i}" + "x" * 1000).close()
    server.wait_until_empty()


@pytest.mark.parametrize("ttl", [0, 0.2])
def test_once_subscribed_topics_leave_the_process_small(start, ttl):
    server = start(HISTORY_TTL=ttl, ADMIN_PORT=0)
    come_and_go(server, 0, 500)
    wait_until_forgotten(server)
    before = server.rss_bytes()
    come_and_go(server, 500, 4000 // SCALE)
    wait_until_forgotten(server)
    wait_until_small(server, before)


def test_once_subscribed_topics_take_no_more_than_history_may(start):
    server = start(HISTORY_BYTES="256K", ADMIN_PORT=0)
    come_and_go(server, 0, 500)
    before = server.rss_bytes()
    come_and_go(server, 500, 2000 // SCALE)
    metrics = server.metrics()
    # Nobody published to them: a sixteenth.
    assert 8 << 10 < metrics["isimud_history_bytes"] <= 16 << 10
    assert metrics["isimud_topics"] > 5
    if SCALE == 1:
        assert server.rss_bytes() - before < 1 << 20


def test_random_bytes_harm_nobody(start):
    server = start(CLOSE_TIMEOUT=0.2)
    subscriber = server.subscribe()
    source = random.Random(6455)
    for i in range(100):
        client = server.http()
        if i % 2:
            client.send(handshake())
            assert client.response().status == 101
        client.send_while_open(source.randbytes(source.randrange(1, 2000)))
        client.close()
    server.publish("alice", "news", "still here")
    assert subscriber.receive() == "still here"


# --- out of descriptors ------------------------------------------------------


@pytest.fixture
def crowded(start):
    """A server that has no descriptor left, and the clients that crowd it: 38
    are taken that it did not reckon with."""
    server = start(nofile=64, held=38, WORKERS=1, ADMIN_PORT=0)
    crowd = [server.http() for _ in range(100)]
    server.wait_for_stat("accept_paused")
    return server, crowd


def test_without_descriptors_the_server_does_not_spin(crowded):
    server, _ = crowded
    before = server.cpu_seconds()
    time.sleep(1)  # what is measured is the work done in this second
    assert server.cpu_seconds() - before < 0.3


def test_without_descriptors_the_served_are_still_served(crowded):
    _, crowd = crowded
    for _ in range(10):
        assert crowd[0].ask("GET", "/").status == 303
        assert crowd[0].publish().status == 200


def test_without_descriptors_the_log_is_not_flooded(crowded):
    server, _ = crowded
    assert len([line for line in server.lines
                if " warn " in line or " error " in line]) < 10


def test_without_descriptors_probes_are_answered(crowded):
    server, _ = crowded
    for _ in range(20):
        assert server.ask_admin("GET", "/healthz").status == 200


def test_once_clients_leave_accepting_goes_on(crowded):
    server, crowd = crowded
    for client in crowd:
        client.close()

    def is_served():
        client = server.http()
        client.send_while_open(request("GET", "/"))
        try:
            return client.response().status == 303
        except (ConnectionError, EOFError):
            return False

    server.wait_until(is_served, "accepting goes on")
