"""AUTH_URL: who may subscribe, whatever the authority does."""
import time

import pytest

import authority as behaviour
from authority import FullBacklog, answer, closed_port, say
from client import (CLOSE, PING, SCALE, Response, WebSocket, frame, handshake,
                    subscription)

TOKEN = "abc.DEF-123_~+/=="


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


def knock(server, token=TOKEN):
    """Asks for the upgrade; returns the connection, unanswered."""
    client = server.websocket(open=False)
    client.send(handshake(fields=bearer(token)))
    return client


def assert_failed(response: Response):
    assert response.status == 500
    assert response.error() == "Internal server error"


# --- a yes and a no ----------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_lets_the_client_in(start, authority, status):
    authority.rules[TOKEN] = say(
        b"HTTP/1.1 %d Yes\r\nConnection: close\r\n\r\n" % status)
    server = start(AUTH_URL=authority.url)
    subscriber = server.subscribe(fields=bearer())
    server.publish("alice", "news", "hello")
    assert subscriber.receive() == "hello"


@pytest.mark.parametrize("status", [500, 502, 503, 599, 429])
def test_an_outage_of_the_authority_is_no_no(start, authority, status):
    authority.rules[TOKEN] = answer(status)
    server = start(AUTH_URL=authority.url)
    response = knock(server).response()
    assert response.status == 503
    assert response.field("Retry-After") == "1"
    assert "authority" in response.error()
    assert server.metrics()["isimud_connections_refused_total"] == 1


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 407, 428])
def test_another_status_is_answered_401(start, authority, status):
    authority.rules[TOKEN] = say(
        b"HTTP/1.1 %d No\r\nConnection: close\r\n\r\n" % status)
    response = knock(start(AUTH_URL=authority.url)).response()
    assert response.status == 401
    assert response.error() == "Wrong credentials"
    assert response.field("WWW-Authenticate")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_a_yes_and_is_not_followed(start, authority, status):
    authority.rules[TOKEN] = answer(
        status, f"Location: {authority.url}\r\nConnection: close\r\n")
    response = knock(start(AUTH_URL=authority.url)).response()
    assert response.status == 401
    authority.next_asked()
    assert authority.asked.empty()


def test_only_the_final_status_counts(start, authority):
    authority.rules[TOKEN] = say(b"HTTP/1.1 103 Hints\r\n\r\n"
                                 b"HTTP/1.1 403 No\r\n\r\n")
    assert knock(start(AUTH_URL=authority.url)).response().status == 401


def test_the_authority_is_asked_with_the_clients_token(start, authority):
    server = start(AUTH_URL=authority.url)
    server.websocket(fields=bearer())
    method, target, fields, content = authority.next_asked()
    assert (method, target) == ("GET", "/check?for=isimud")
    assert fields["authorization"] == [f"Bearer {TOKEN}"]
    assert fields["host"] == [f"127.0.0.1:{authority.port}"]
    assert fields.get("content-length", ["0"]) == ["0"]
    assert "transfer-encoding" not in fields
    assert content == b""


def test_each_client_is_asked_for_with_its_own_token(start, authority):
    authority.rules["bad"] = behaviour.refuse
    server = start(AUTH_URL=authority.url, WORKERS=1)
    for token, status in [("good", 101), ("bad", 401), ("good", 101),
                          ("bad", 401)]:
        assert knock(server, token).response().status == status
        assert authority.next_asked()[2]["authorization"] == [
            f"Bearer {token}"]


@pytest.mark.parametrize("value", [
    None, "", "Bearer", "Bearer ", "Basic YWxpY2U6c2VjcmV0", "Bearer a b",
    "Bearer a,b", "Bearer \"a\"", "Bearer a=b", "Bearer =", "Bearerabc",
    "Bearer " + "x" * 9000], ids=lambda value: str(value)[:30])
def test_no_bearer_is_answered_400(start, authority, value):
    server = start(AUTH_URL=authority.url)
    client = server.http()
    client.send(handshake(fields={"Authorization": value}))
    response = client.response()
    assert response.status == 400
    assert response.error() == "Missing credentials"
    assert response.field("WWW-Authenticate") == 'Bearer realm="isimud"'
    assert server.wait_for_event("credentials_missing")[0]["path"] == "/sub"
    assert authority.asked.empty()


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_may_be_in_any_case(start, authority, scheme):
    server = start(AUTH_URL=authority.url)
    server.websocket(fields={"Authorization": f"{scheme} {TOKEN}"})
    assert authority.next_asked()[2]["authorization"] == [f"Bearer {TOKEN}"]


def test_a_bad_handshake_is_refused_without_asking(start, authority):
    client = start(AUTH_URL=authority.url).http()
    client.send(handshake(fields={"Sec-WebSocket-Version": "8", **bearer()}))
    assert client.response().status == 426
    assert authority.asked.empty()


def test_publishing_asks_no_authority(start):
    server = start(AUTH_URL=f"http://127.0.0.1:{closed_port()}/")
    assert server.http().publish().status == 200


def test_without_an_authority_no_token_is_needed(server):
    server.websocket(fields=bearer("anything at all"))


def test_a_refused_client_may_ask_again_on_its_connection(start, authority):
    authority.rules["bad"] = behaviour.refuse
    client = knock(start(AUTH_URL=authority.url), "bad")
    assert client.response().status == 401
    client.send(handshake(fields=bearer("good")))
    client.check_opened(client.response())


def test_a_check_is_counted_by_its_outcome(start, authority):
    authority.rules.update({"bad": behaviour.refuse,
                            "broken": behaviour.hang_up})
    server = start(AUTH_URL=authority.url)
    for token in ("good", "good", "bad", "broken"):
        knock(server, token).response()
    stats = server.stats()
    assert stats["auth_yes"] == 2
    assert stats["auth_no"] == 1
    assert stats["auth_failed"] == 1


# --- an authority that fails -------------------------------------------------


def test_an_authority_that_is_down_is_answered_500(start):
    server = start(AUTH_URL=f"http://127.0.0.1:{closed_port()}/")
    assert_failed(knock(server).response())


def test_an_authority_without_an_address_is_answered_500(start):
    server = start(AUTH_URL="http://authority.invalid/", AUTH_TIMEOUT=2)
    assert_failed(knock(server).response())


@pytest.mark.parametrize("rule", [
    behaviour.hang_up, behaviour.not_http, say(b"HTTP/1.1 "),
    say(b"\x00\xff\r\n\r\n")], ids=["hang up", "SMTP", "cut", "binary"])
def test_an_answer_that_is_not_http_is_answered_500(start, authority, rule):
    authority.rules[TOKEN] = rule
    assert_failed(knock(start(AUTH_URL=authority.url)).response())


@pytest.mark.parametrize("rule", [
    behaviour.stall_before_head, behaviour.stall_in_head, behaviour.drip],
    ids=["before the head", "in the head", "drip"])
def test_no_answer_in_time_is_answered_500(start, authority, rule):
    authority.rules[TOKEN] = rule
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3)
    begin = time.monotonic()
    assert_failed(knock(server).response())
    assert time.monotonic() - begin >= 0.29
    authority.wait_until_left()


def test_a_stall_in_connect_is_answered_500(start):
    with FullBacklog() as full:
        server = start(AUTH_URL=full.url, AUTH_TIMEOUT=0.3)
        begin = time.monotonic()
        assert_failed(knock(server).response())
        assert time.monotonic() - begin >= 0.29


def test_by_default_the_authority_has_five_seconds(start, authority):
    authority.rules[TOKEN] = behaviour.stall_before_head
    server = start(AUTH_URL=authority.url)
    begin = time.monotonic()
    assert_failed(knock(server).response())
    assert 4.9 <= time.monotonic() - begin < 5 + 2 * SCALE


def test_endless_headers_are_answered_500_at_once(start, authority):
    authority.rules[TOKEN] = behaviour.endless_fields
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600)
    assert_failed(knock(server).response())
    authority.wait_until_left()


@pytest.mark.parametrize("rule", [
    behaviour.stall_in_content, behaviour.endless_content],
    ids=["stalled", "endless"])
def test_a_yes_is_not_kept_waiting_for_its_content(start, authority, rule):
    authority.rules[TOKEN] = rule
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600)
    server.websocket(fields=bearer())


def test_a_no_is_not_kept_waiting_for_its_content(start, authority):
    authority.rules[TOKEN] = behaviour.refuse_and_stall
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600)
    assert knock(server).response().status == 401


@pytest.mark.parametrize("rule", [
    behaviour.stall_in_content, behaviour.endless_content],
    ids=["stalled", "endless"])
def test_an_authority_that_goes_on_after_its_yes_is_left(start, authority,
                                                         rule):
    authority.rules[TOKEN] = rule
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.5 * SCALE)
    server.websocket(fields=bearer())
    authority.wait_until_left()


def test_a_check_over_the_limit_is_refused_and_the_rest_go_on(start,
                                                              authority):
    authority.rules["wait"] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, AUTH_MAX_CHECKS=1, AUTH_QUEUE=0,
                   WORKERS=1)
    first = knock(server, "wait")
    authority.next_asked()
    assert knock(server, "second").response().status in (500, 503)
    authority.release.set()
    first.check_opened(first.response())


# --- while a check runs ------------------------------------------------------


def test_a_stalled_check_delays_nobody_on_its_worker(start, authority):
    stalled = [f"stall{i}" for i in range(20)]
    authority.rules.update(
        dict.fromkeys(stalled, behaviour.stall_before_head))
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600, WORKERS=1)
    for token in stalled:
        knock(server, token)
    for _ in stalled:
        authority.next_asked()
    subscriber = server.subscribe(fields=bearer("good"))
    for i in range(200):
        begin = time.monotonic()
        server.publish("alice", "news", str(i))
        assert subscriber.receive() == str(i)
        assert time.monotonic() - begin < 1 * SCALE


@pytest.mark.parametrize("leave", ["close", "abort", "half_close"])
def test_the_client_may_leave_while_its_check_runs(start, authority, leave):
    tokens = [f"wait{i}" for i in range(10)]
    authority.rules.update(dict.fromkeys(tokens, behaviour.wait_for_release))
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600)
    clients = [knock(server, token) for token in tokens]
    for client in clients:
        authority.next_asked()
        getattr(client, leave)()
    assert server.ask("GET", "/").status == 303
    authority.release.set()
    server.close_clients()
    server.wait_until_empty()
    server.websocket(fields=bearer("good"))


def test_the_server_may_stop_while_a_check_runs(start, authority):
    authority.rules["stall"] = behaviour.stall_before_head
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=2)
    client = knock(server, "stall")
    authority.next_asked()
    server.terminate()
    client.wait_until_ended()
    client.close()
    assert server.wait() == 0


def test_frames_sent_while_the_check_runs_are_read_after_it(start, authority):
    authority.rules["wait"] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url)
    client: WebSocket = knock(server, "wait")
    authority.next_asked()
    client.send(frame(0x1, subscription("alice", "news")))
    client.send(frame(PING, b"1") + frame(CLOSE))
    authority.release.set()
    client.check_opened(client.response())
    client.close_sent = True
    client.expect_pong(b"1")
    client.expect_close(1005)


def test_a_request_pipelined_behind_a_check_is_answered_after_it(start,
                                                                 authority):
    authority.rules["bad"] = behaviour.refuse
    client = start(AUTH_URL=authority.url).http()
    client.send(handshake(fields=bearer("bad"))
                + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 401
    assert client.response().status == 303
