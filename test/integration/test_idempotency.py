"""Receipts, and requests that are repeated with an Idempotency-Key."""
import json

import pytest

from client import basic, publish_request, request, sub_target
from publishing import (WRONG, batch_request, check_receipt, item, number,
                        plain_request, post, publish_json, receipt)
from session import session
from threads import join

# --- receipts ----------------------------------------------------------------


@pytest.mark.parametrize("ttl", [60, 0])
def test_ids_of_a_topic_count_up_by_one(start, ttl):
    server = start(WORKERS=4, HISTORY_TTL=ttl)
    server.subscribe("alice", "counted")
    first = number(post(server, "/pub/counted"))
    publishers = [server.http() for _ in range(8)]
    for i in range(1, 100):
        client = publishers[i % 8]
        client.send(plain_request("/pub/counted"))
        assert receipt(client.response()) == (first + i, 1)


def test_an_id_is_the_one_that_subscribers_see(server):
    stream = server.event_stream(sub_target("alice", "seen"))
    answer = post(server, "/pub/seen").json()
    assert stream.event().id == answer["id"]


def test_all_ids_of_a_server_have_one_epoch_and_no_other_server_has_it(start):
    def epochs(server):
        return {post(server, f"/pub/t{i}").json()["id"].partition("-")[0]
                for i in range(20)}

    one, other = epochs(start()), epochs(start())
    assert len(one) == len(other) == 1
    assert one != other


def test_topics_are_numbered_each_by_itself(server):
    first = {topic: number(post(server, "/pub/" + topic))
             for topic in ("one", "two")}
    for i in range(1, 10):
        assert number(post(server, "/pub/one")) == first["one"] + i
    assert number(post(server, "/pub/two")) == first["two"] + 1
    assert number(post(server, "/pub/one", publisher="bob")) < (
        number(post(server, "/pub/one", publisher="bob")))
    assert number(post(server, "/pub/one")) == first["one"] + 10


def test_a_topic_without_subscribers_is_numbered_while_it_has_history(server):
    first = number(post(server, "/pub/lonely"))
    for i in range(1, 10):
        assert receipt(post(server, "/pub/lonely")) == (first + i, 0)
    server.subscribe("alice", "lonely")
    assert receipt(post(server, "/pub/lonely")) == (first + 10, 1)


def test_without_history_numbers_still_never_come_back(start):
    server = start(HISTORY_TTL=0)
    numbers = []
    for i in range(5):
        numbers += [number(post(server, "/pub/lonely")) for _ in range(3)]
        subscriber = server.subscribe("alice", "lonely")
        numbers += [number(post(server, "/pub/lonely")) for _ in range(3)]
        assert numbers[-1] == numbers[-2] + 1
        subscriber.close()
        server.wait_until(lambda: server.stats()["topics"] == 0, "it is gone")
    assert all(a < b for a, b in zip(numbers, numbers[1:]))


def test_subscribers_of_all_workers_are_counted(start):
    server = start(WORKERS=4)
    raw = [server.subscribe("alice", "counted") for _ in range(11)]
    streams = [server.event_stream(sub_target("alice", "counted", "other"))
               for _ in range(5)]
    session = server.websocket(subprotocols=["isimud.v1"])
    assert session.command("subscribe", publisher="alice",
                           topic="counted")["type"] == "subscribed"
    server.subscribe("bob", "counted")
    assert receipt(post(server, "/pub/counted"))[1] == 17
    assert receipt(post(server, "/pub/other"))[1] == 5
    for client in raw[:6] + streams[:2]:
        client.close()
    server.wait_until(lambda: receipt(post(server, "/pub/counted"))[1] == 9,
                      "those that left are not counted")
    assert receipt(post(server, "/pub/other"))[1] == 3


def test_each_publisher_at_once_gets_a_number_of_its_own(start):
    server = start(WORKERS=4)
    publishers = [server.http() for _ in range(8)]
    numbers = []
    for client in publishers:
        client.send(plain_request("/pub/contended") * 50)
    for client in publishers:
        own = [number(client.response()) for _ in range(50)]
        assert own == sorted(own)
        numbers += own
    assert sorted(numbers) == list(range(min(numbers), min(numbers) + 400))


# --- Idempotency-Key ---------------------------------------------------------


def replayed(response):
    """Whether a response of 200 is the answer to an earlier request."""
    assert response.status == 200, response.body
    value = response.field("Idempotency-Replayed")
    assert value in (None, "true")
    return value == "true"


def repeat(server, target="/pub/once", body=b"hello", key="k", **arguments):
    return post(server, target, body, Idempotency_Key=key, **arguments)


def test_a_repeated_request_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    client = server.http()
    answers = []
    for _ in range(5):
        client.send(plain_request("/pub/once", Idempotency_Key="repeated"))
        answers.append(client.response())
    assert [replayed(answer) for answer in answers] == [False] + 4 * [True]
    assert len({answer.body for answer in answers}) == 1
    assert {answer.field("Content-Type") for answer in answers} == {
        "application/json"}
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_a_repeat_is_known_on_every_worker(start):
    server = start(WORKERS=4)
    subscriber = server.subscribe("alice", "once")
    answers = [repeat(server) for _ in range(16)]
    assert [replayed(answer) for answer in answers] == [False] + 15 * [True]
    assert len({answer.body for answer in answers}) == 1
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_of_many_equal_requests_at_once_one_is_published(start):
    server = start(WORKERS=4)
    subscriber = server.subscribe("alice", "once")
    clients = [server.http() for _ in range(20)]
    for i in range(20):
        for client in clients:
            client.send(plain_request("/pub/once", b"%d" % i,
                                      Idempotency_Key=f"storm {i}"))
        answers = [client.response() for client in clients]
        assert [replayed(answer) for answer in answers].count(False) == 1
        assert len({answer.body for answer in answers}) == 1
        assert subscriber.receive() == str(i)
    server.publish("alice", "once", "after")
    assert subscriber.receive() == "after"


def test_a_repeat_of_json_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    first = publish_json(server, item("once", 1), Idempotency_Key="json")
    again = publish_json(server, item("once", 1), Idempotency_Key="json")
    assert (replayed(first), replayed(again)) == (False, True)
    assert first.body == again.body
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["1", "after"]


def test_a_repeat_of_a_batch_is_published_once(server):
    subscriber = server.subscribe("alice", "once")
    batch = [item("once", i) for i in range(10)]
    first = publish_json(server, batch, Idempotency_Key="batch")
    again = publish_json(server, batch, Idempotency_Key="batch")
    assert (replayed(first), replayed(again)) == (False, True)
    assert first.body == again.body and len(first.json()) == 10
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(11)] == [
        *map(str, range(10)), "after"]


def test_a_repeat_of_an_empty_batch_is_a_repeat(server):
    answers = [publish_json(server, [], Idempotency_Key="empty")
               for _ in range(2)]
    assert [replayed(answer) for answer in answers] == [False, True]
    assert answers[1].body == b"[]"


@pytest.mark.parametrize("other", [
    {"body": b"hallo"}, {"body": b""}, {"target": "/pub/another"},
    {"target": "/pub/once/"}, {"target": "/pub", "body": b"[]",
                               "Content_Type": "application/json"},
], ids=str)
def test_a_key_of_another_request_is_answered_422(server, other):
    key = f"another {other}".replace("'", "")
    subscriber = server.subscribe("alice", "once")
    assert not replayed(repeat(server, key=key))
    response = repeat(server, **{"key": key, **other})
    assert response.status == 422
    assert "Idempotency-Key" in response.error()
    assert response.field("Idempotency-Replayed") is None
    assert replayed(repeat(server, key=key))
    server.publish("alice", "once", "after")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "after"]


def test_a_request_is_another_one_by_its_query(server):
    goal, foul = "/pub/once?event=goal", "/pub/once?event=foul"
    assert not replayed(repeat(server, key="query", target=goal))
    assert repeat(server, key="query", target=foul).status == 422
    assert replayed(repeat(server, key="query", target=goal))


def test_a_key_means_nothing_to_another_publisher(server):
    answers = [repeat(server, key="mine", publisher=publisher)
               for publisher in ("alice", "bob", "alice", "bob", "")]
    assert [replayed(answer) for answer in answers] == [
        False, False, True, True, False]
    assert answers[0].body == answers[2].body
    assert answers[1].body == answers[3].body


def test_keys_are_told_apart_to_the_last_character(server):
    keys = ["a", "A", "a ,", "aa", '"a"', "x" * 254, "x" * 255, "x" * 253 + "y"]
    assert not any(replayed(repeat(server, key="apart" + key if len(key) < 9
                                   else key)) for key in keys)


def test_publisher_and_key_are_not_run_together(server):
    assert not replayed(repeat(server, key="b-run", publisher="run-a"))
    assert not replayed(repeat(server, key="a" + "b-run", publisher="run-"))


@pytest.mark.parametrize("key", [
    "", "x" * 256, "a\tb", "a\xe9", "\x80"], ids=ascii)
def test_a_malformed_key_is_answered_400(server, key):
    response = repeat(server, key=key)
    assert response.status == 400
    assert "Idempotency-Key" in response.error()


@pytest.mark.parametrize("key", ["a\x7fb", "a\x00b"], ids=ascii)
def test_a_key_that_is_no_field_value_is_answered_400(server, key):
    assert repeat(server, key=key).status == 400


def test_two_keys_are_answered_400(server):
    client = server.http()
    client.send(b"POST /pub/once HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
                b"Authorization: " + basic("alice").encode() +
                b"\r\nIdempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n")
    assert client.response().status == 400


def test_a_request_that_was_wrong_may_be_sent_right(server):
    for wrong in ({"body": b"\xff"}, {"target": "/pub/%zz"},
                  {"Content_Type": "a/b"}, {"Authorization": "Basic x"},
                  {"Authorization": WRONG["Authorization"]}):
        response = repeat(server, **{"key": "wrong", **wrong})
        assert response.status in (400, 401, 415)
    response = publish_json(server, [item("once", 1), {}],
                            Idempotency_Key="wrong")
    assert response.status == 422
    assert not replayed(repeat(server, key="wrong"))
    assert replayed(repeat(server, key="wrong"))


def test_a_request_that_found_no_room_may_come_again(start):
    # One worker: it does not look into its mailbox before all is published.
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe("alice", "full")
    wanted = plain_request("/pub/full", b"y" * 900, Idempotency_Key="full")
    client = server.http()
    client.send(plain_request("/pub/full", b"x" * 900) + wanted)
    assert [client.response().status for _ in range(2)] == [200, 503]
    answers = []
    for _ in range(2):
        client.send(wanted)
        answers.append(client.response())
    assert [replayed(answer) for answer in answers] == [False, True]
    assert [subscriber.receive()[0] for _ in range(2)] == ["x", "y"]


def test_a_batch_that_was_refused_is_published_once_by_a_retry(start):
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe("alice", "full")
    batch = [item("full", f"{i:0900}") for i in range(3)]
    again = batch_request(batch, **{"Idempotency-Key": "whole"})
    client = server.http()
    client.send(publish_request("alice", "full", "before") + again + again)
    assert [client.response().status for _ in range(3)] == [200, 503, 503]
    client.send(again)
    taken = client.response()
    assert [check_receipt(one) for one in taken.json()] == [
        (number + 2, 1) for number in range(3)]
    client.send(again)
    repeated = client.response()
    assert replayed(repeated) and repeated.body == taken.body
    assert subscriber.receive() == "before"
    assert [int(subscriber.receive()) for _ in range(3)] == [0, 1, 2]


def test_a_key_is_forgotten_after_its_time(start):
    server = start(IDEMPOTENCY_TTL=0.3)
    subscriber = server.subscribe("alice", "once")
    assert not replayed(repeat(server))
    # Repeats do not make it live longer, or this would have no end.
    server.wait_until(lambda: not replayed(repeat(server)), "it is forgotten")
    assert [subscriber.receive() for _ in range(2)] == ["hello", "hello"]


def test_a_forgotten_key_may_be_used_for_another_request(start):
    server = start(IDEMPOTENCY_TTL=0.3)
    assert not replayed(repeat(server))
    server.wait_until(
        lambda: repeat(server, body=b"another").status == 200,
        "it is forgotten")


def test_nothing_is_left_of_keys_after_their_time(start):
    server = start(IDEMPOTENCY_TTL=0.2, ADMIN_PORT=0)
    for i in range(100):
        assert not replayed(repeat(server, key=f"{i}"))
    server.wait_until(
        lambda: server.metrics()["isimud_idempotency_keys"] == 0,
        "all are forgotten")
    assert server.metrics()["isimud_idempotency_bytes"] == 0


def test_no_more_keys_are_kept_than_there_is_room_for(start):
    server = start(IDEMPOTENCY_BYTES="64K", ADMIN_PORT=0)
    client = server.http()
    for i in range(0, 2000, 50):
        client.send(b"".join(
            plain_request("/pub/once", Idempotency_Key=f"{j}")
            for j in range(i, i + 50)))
        assert not any(replayed(client.response()) for _ in range(50))
        assert server.metrics()["isimud_idempotency_bytes"] <= 64 << 10
    assert 100 < server.metrics()["isimud_idempotency_keys"] < 1000
    assert replayed(repeat(server, key="1999"))
    assert not replayed(repeat(server, key="0"))


def test_an_answer_that_is_larger_than_all_the_room_is_not_kept(start):
    server = start(IDEMPOTENCY_BYTES="4K", ADMIN_PORT=0)
    batch = [item("once", i) for i in range(500)]
    for _ in range(2):
        assert not replayed(publish_json(server, batch, Idempotency_Key="k"))
    assert server.metrics()["isimud_idempotency_keys"] == 0


@pytest.mark.parametrize("setting", ["IDEMPOTENCY_TTL", "IDEMPOTENCY_BYTES"])
def test_without_time_or_room_every_request_is_published(start, setting):
    server = start(**{setting: 0})
    subscriber = server.subscribe("alice", "once")
    for i in range(3):
        assert not replayed(repeat(server, body=b"%d" % i))
    assert [subscriber.receive() for _ in range(3)] == ["0", "1", "2"]
    assert repeat(server, key="").status == 400
