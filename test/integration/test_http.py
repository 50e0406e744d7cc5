"""HTTP/1.1 on the wire: RFC 9112, and every limit with its status."""
import re
import socket
import time

import pytest

from client import (DEADLINE, SCALE, basic, chunked, publish_request,
                    request, sub_target)

ROOT = request("GET", "/")  # answered 303
BODY = b'{"topic":"http","data":"hello"}'


def chunked_request(body=BODY, **kwargs):
    head = publish_request(body=b"", fields={"Transfer-Encoding": "chunked"})
    return head + chunked(body, **kwargs)


# --- one connection, many requests -------------------------------------------


def test_a_connection_serves_one_request_after_another(server):
    client = server.http()
    for _ in range(5):
        assert client.ask("GET", "/").status == 303
        assert client.publish().status == 200
        assert client.ask("GET", "/nope").status == 404


def test_an_error_answer_to_a_whole_request_leaves_the_connection_open(server):
    client = server.http()
    assert client.publish(body=b"no JSON").status == 400
    wrong = {"Authorization": basic("alice", "wrong")}
    assert client.publish(fields=wrong).status == 401
    assert client.publish(fields={"Content-Type": "a/b"}).status == 415
    assert client.ask("PUT", "/pub", body=b"x" * 1000).status == 405
    assert client.ask("POST", "/nope", body=b"x" * 1000).status == 404
    assert client.publish().status == 200


def test_pipelined_requests_are_answered_in_order(server):
    client = server.http()
    kinds = [(ROOT, 303), (request("GET", "/nope"), 404),
             (publish_request(), 200), (request("PUT", "/pub"), 405),
             (chunked_request(), 200), (publish_request(body=b"x"), 400)]
    client.send(b"".join(bytes_ for bytes_, _ in kinds) * 50)
    for _ in range(50):
        assert [client.response().status for _ in kinds] == [
            status for _, status in kinds]


def test_a_request_may_come_byte_by_byte(server):
    client = server.http()
    client.send_bytewise(publish_request() + chunked_request() + ROOT)
    assert [client.response().status for _ in range(3)] == [200, 200, 303]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61, 127, 500])
def test_pipelined_requests_may_be_split_anywhere(server, size):
    client = server.http()
    data = (publish_request() + ROOT + chunked_request()) * 3
    for i in range(0, len(data), size):
        client.send(data[i:i + size])
    assert [client.response().status for _ in range(9)] == [200, 303, 200] * 3


def test_a_request_may_follow_up_to_four_empty_lines(server):
    client = server.http()
    client.send(b"\r\n\r\n" + ROOT + b"\r\n" + ROOT)
    assert [client.response().status for _ in range(2)] == [303, 303]


def test_a_client_that_reads_late_gets_all_its_responses(server):
    client = server.http(rcvbuf=4096)
    client.send(request("GET", "/nope") * 3000)
    assert [client.response().status for _ in range(3000)] == [404] * 3000


# --- the end of a connection -------------------------------------------------


def test_connection_close_is_answered_and_then_closed(server):
    client = server.http()
    response = client.ask("GET", "/", {"Connection": "close"})
    assert response.status == 303
    assert response.field("Connection").lower() == "close"
    assert client.read_to_end() == b""


@pytest.mark.parametrize("more", [
    b"x", ROOT, b"\x00" * 10, b"x" * 300000], ids=lambda more: str(len(more)))
def test_the_reply_comes_before_the_close_whatever_follows(server, more):
    client = server.http()
    client.send_while_open(request("GET", "/", {"Connection": "close"}) + more)
    assert client.response().status == 303
    assert client.read_to_end() == b""


def test_http_1_0_is_closed_after_the_answer(server):
    client = server.http()
    assert client.ask("GET", "/", version="1.0").status == 303
    assert client.read_to_end() == b""


def test_http_1_0_may_ask_to_be_kept_alive(server):
    client = server.http()
    for _ in range(2):
        response = client.ask("GET", "/", {"Connection": "keep-alive"},
                              version="1.0")
        assert response.status == 303


def test_http_1_0_needs_no_host(server):
    client = server.http()
    assert client.ask("GET", "/", {"Host": None}, version="1.0").status == 303


def test_a_half_closed_client_is_still_answered(server):
    client = server.http()
    client.send(publish_request() + ROOT + request("GET", "/nope"))
    client.half_close()
    assert [client.response().status for _ in range(3)] == [200, 303, 404]
    assert client.read_to_end() == b""


def test_a_client_that_ends_inside_a_request_is_dropped(server):
    client = server.http()
    client.send(publish_request()[:-5])
    client.half_close()
    client.wait_until_ended()


def test_a_client_that_resets_costs_nothing(start):
    server = start()
    for _ in range(50):
        client = server.http()
        client.send(publish_request()[:-5])
        client.abort()
    server.wait_until_empty()
    assert server.ask("GET", "/").status == 303


# --- content -----------------------------------------------------------------


@pytest.mark.parametrize("form", [
    dict(size=1), dict(size=5000), dict(extension=b";a=b;c=\"d\""),
    dict(trailers=b"X-Sum: 1\r\n")], ids=repr)
def test_a_chunked_body_is_read_like_any_other(server, form):
    subscriber = server.subscribe("alice", "http")
    client = server.http()
    client.send(chunked_request(**form))
    assert client.response().status == 200
    assert subscriber.receive() == "hello"


def test_a_chunked_body_over_the_limit_is_answered_413(start):
    client = start(MAX_BODY="2K").http()
    client.send_while_open(chunked_request(b" " * 2049))
    assert client.response().status == 413
    client.wait_until_ended()


def test_a_chunk_that_claims_to_be_huge_is_answered_413(server):
    client = server.http()
    client.send_while_open(publish_request(
        body=b"", fields={"Transfer-Encoding": "chunked"}) + b"7fffffff\r\nx")
    assert client.response().status == 413


@pytest.mark.parametrize("chunk", [
    b"5\r\nhelloX", b"g\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b"\r\n",
    b"ffffffffffffffffff\r\n", b"5\nhello\n", b"5 \r\nhello\r\n"], ids=repr)
def test_a_broken_chunk_is_refused_and_closed(server, chunk):
    client = server.http()
    client.send_while_open(publish_request(
        body=b"", fields={"Transfer-Encoding": "chunked"}) + chunk)
    assert client.response().status in (400, 413)
    client.wait_until_ended()


def test_expect_100_continue_is_answered_before_the_body(server):
    client = server.http()
    whole = publish_request(body=BODY, fields={"Expect": "100-continue"})
    client.send(whole[:-len(BODY)])
    assert client.response().status == 100
    client.send(BODY)
    assert client.response().status == 200


@pytest.mark.parametrize("fields, status", [
    ({"Authorization": None}, 400),
    ({"Authorization": basic("alice", "wrong")}, 401),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Length": "9999999"}, 413)])
def test_a_body_that_will_be_refused_is_not_asked_for(server, fields, status):
    client = server.http()
    whole = publish_request(body=BODY, fields={
        "Expect": "100-continue", **fields})
    client.send(whole[:-len(BODY)])
    assert client.response().status == status


def test_another_expectation_is_answered_417(server):
    response = server.http().publish(fields={"Expect": "200-ok"})
    assert response.status == 417


@pytest.mark.parametrize("path, status", [
    ("/", 303), ("/nope", 404), ("/sub", 426), ("/pub", 405)])
def test_head_is_answered_like_get_but_without_content(server, path, status):
    client = server.http()
    assert client.ask("HEAD", path).status == status
    assert client.ask("GET", "/nope").status == 404


def test_a_413_reaches_a_client_that_still_sends(start):
    client = start(MAX_BODY="1K").http()
    client.send_while_open(publish_request(body=b"x" * (2 << 20)))
    assert client.response().status == 413
    client.wait_until_ended()


# --- what is refused ---------------------------------------------------------


def raw(start="POST /pub HTTP/1.1", fields=("Host: a",), body=b""):
    return "\r\n".join([start, *fields, "", ""]).encode("latin-1") + body


BROKEN = {
    "both length and coding": (400, raw(fields=(
        "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"),
        body=b"0\r\n\r\n")),
    "both coding and length": (400, raw(fields=(
        "Host: a", "Transfer-Encoding: chunked", "Content-Length: 5"),
        body=b"0\r\n\r\n")),
    "two lengths": (400, raw(fields=(
        "Host: a", "Content-Length: 1", "Content-Length: 2"), body=b"x")),
    "a list of lengths": (400, raw(fields=(
        "Host: a", "Content-Length: 1, 1"), body=b"x")),
    "a signed length": (400, raw(fields=(
        "Host: a", "Content-Length: +1"), body=b"x")),
    "a huge length": (400, raw(fields=(
        "Host: a", "Content-Length: 99999999999999999999"))),
    "space before the colon": (400, raw(fields=(
        "Host: a", "Content-Length : 1"), body=b"x")),
    "another coding": (501, raw(fields=(
        "Host: a", "Transfer-Encoding: gzip, chunked"), body=b"0\r\n\r\n")),
    "chunked not last": (400, raw(fields=(
        "Host: a", "Transfer-Encoding: chunked, gzip"), body=b"0\r\n\r\n")),
    "no chunked": (400, raw(fields=(
        "Host: a", "Transfer-Encoding: gzip"), body=b"0\r\n\r\n")),
    "coding in 1.0": (400, raw("POST /pub HTTP/1.0", (
        "Host: a", "Transfer-Encoding: chunked"), b"0\r\n\r\n")),
    "no host": (400, raw("GET / HTTP/1.1", ())),
    "two hosts": (400, raw("GET / HTTP/1.1", ("Host: a", "Host: a"))),
    "a host with a space": (400, raw("GET / HTTP/1.1", ("Host: a b",))),
    "a host with a path": (400, raw("GET / HTTP/1.1", ("Host: a/b",))),
    "a host with a user": (400, raw("GET / HTTP/1.1", ("Host: u@a",))),
    "a host with a bad port": (400, raw("GET / HTTP/1.1", ("Host: a:b",))),
    "two lists of hosts": (400, raw("GET / HTTP/1.1", ("Host: a, b",))),
    "two authorizations": (400, raw(fields=(
        "Host: a", "Authorization: Basic YTpi", "Authorization: Basic YTpi"))),
    "a folded line": (400, raw("GET / HTTP/1.1", (
        "Host: a", "X-Long: a", " b"))),
    "a line without a colon": (400, raw("GET / HTTP/1.1", ("Host: a", "b"))),
    "an empty name": (400, raw("GET / HTTP/1.1", ("Host: a", ": b"))),
    "NUL in a value": (400, raw("GET / HTTP/1.1", ("Host: a", "X: \0"))),
    "CR in a value": (400, raw("GET / HTTP/1.1", ("Host: a", "X: a\rb"))),
    "bare LF lines": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a head that ends in CR LF CR x": (
        400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX" + ROOT),
    "no version": (505, b"GET /\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, raw("GET / HTTP/2.0")),
    "HTTP/1.2": (505, raw("GET / HTTP/1.2")),
    "HTTP/0.9": (505, raw("GET / HTTP/0.9")),
    "the preface of HTTP/2": (
        505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": (405, raw("CONNECT a:80 HTTP/1.1")),
    "CONNECT to a path": (400, raw("CONNECT /pub HTTP/1.1")),
    "a relative target": (400, raw("GET pub HTTP/1.1")),
    "two spaces": (400, raw("GET  / HTTP/1.1")),
    "a control character in the target": (400, raw("GET /\x01 HTTP/1.1")),
    "a byte over 0x7e in the target": (400, raw("GET /\xe9 HTTP/1.1")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_http_is_refused_and_closed(server, name):
    status, data = BROKEN[name]
    client = server.http()
    client.send_while_open(data)
    response = client.response()
    assert response.status == status
    assert response.error()
    assert response.field("Connection").lower() == "close"
    assert client.read_to_end() == b""


def test_a_smuggled_request_is_not_served(server):
    subscriber = server.subscribe("alice", "smuggled")
    inner = publish_request("alice", "smuggled", "evil")
    client = server.http()
    client.send_while_open(publish_request(body=b"", fields={
        "Content-Length": str(5 + len(inner)), "Transfer-Encoding": "chunked",
    }) + b"0\r\n\r\n" + inner)
    assert client.response().status == 400
    assert client.read_to_end() == b""
    server.publish("alice", "smuggled", "good")
    assert subscriber.receive() == "good"


@pytest.mark.parametrize("host", [
    "a", "a.example", "a:80", "127.0.0.1", "[::1]", "[::1]:3000", "A-b.c:1"])
def test_a_well_formed_host_is_taken(server, host):
    assert server.ask("GET", "/", {"Host": host}).status == 303


def test_the_absolute_form_of_a_target_is_taken(server):
    assert server.ask("GET", "http://localhost/").status == 303


# --- limits ------------------------------------------------------------------


@pytest.mark.parametrize("fields", [
    {"X-Long": "x" * 17000},
    {f"X-{i}": "x" * 1000 for i in range(20)},
    {f"X-{i}": "x" for i in range(101)}],
    ids=["one long field", "many long fields", "many fields"])
def test_a_head_over_the_limit_is_answered_431(server, fields):
    client = server.http()
    client.send_while_open(request("GET", "/", fields))
    assert client.response().status == 431
    assert client.read_to_end() == b""


def test_a_head_of_15_kib_is_taken(server):
    assert server.ask("GET", "/", {"X-Long": "x" * 15000}).status == 303


def test_a_head_without_end_is_answered_431(server):
    client = server.http()
    client.send_while_open(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17000)
    assert client.response().status == 431


def test_a_target_over_the_limit_is_answered_414(server):
    client = server.http()
    client.send_while_open(request("GET", "/" + "x" * 32768))
    assert client.response().status == 414
    assert client.read_to_end() == b""


def test_a_target_of_32_kib_is_taken(server):
    assert server.ask("GET", "/?" + "x" * 32766).status == 303


def test_as_many_topics_as_may_be_fit_a_url(start):
    server = start(MAX_SUBSCRIPTIONS=512)
    topics = [f"{i:04}" + "x" * 47 for i in range(512)]
    stream = server.event_stream(sub_target("alice", *topics))
    server.publish("alice", topics[-1], "hello")
    assert stream.event().data == "hello"


def test_the_id_of_many_topics_is_taken_back(start):
    """What the server gives out fits the head of a request, beside fields of
    the greatest length."""
    server = start(MAX_SUBSCRIPTIONS=1024)
    topics = [f"{i:04}" for i in range(1024)]
    target = sub_target("alice", *topics)
    stream = server.event_stream(target)
    server.publish("alice", topics[0], "one")
    epoch, _, numbers = stream.event().id.partition("-")
    count = len(numbers.split("."))
    assert count == 1024
    for number in (numbers, ".".join(["9" * 19] * count)):
        client = server.http()
        client.send(request("GET", target, {
            "Accept": "text/event-stream", "X-Long": "x" * 15000,
            "Last-Event-ID": f"{epoch}-{number}"}))
        assert client.head().status == 200


def test_connect_is_answered_405(server):
    client = server.http()
    client.send(raw("CONNECT a:80 HTTP/1.1"))
    response = client.response()
    assert response.status == 405
    assert response.field("Allow") == "GET, HEAD, OPTIONS, POST, PUT"
    assert response.field("Connection") == "close"


def test_a_tab_behind_a_length_is_space(server):
    client = server.http()
    sent = re.sub(rb"(Content-Length: [0-9]+)\r", rb"\1 \t\r", publish_request())
    assert b" \t\r\n" in sent
    client.send(sent)
    assert client.response().status == 200


@pytest.mark.parametrize("timeout, promised", [
    ("75", "timeout=74"), ("2", "timeout=1"), ("1.9", None)])
def test_a_kept_connection_says_for_how_long(start, timeout, promised):
    client = start(IDLE_TIMEOUT=timeout).http()
    for method, path, version in (("GET", "/", "1.1"), ("GET", "/nope", "1.1"),
                                  ("POST", "/pub", "1.1")):
        response = client.ask(method, path, version=version)
        assert response.field("Keep-Alive") == promised
        assert response.field("Connection") == (promised and "keep-alive")
    response = client.ask("GET", "/", {"Connection": "close"})
    assert response.field("Keep-Alive") is None
    assert response.field("Connection") == "close"


def test_chunk_extensions_over_the_limit_are_answered_413(server):
    client = server.http()
    client.send_while_open(chunked_request(size=1, extension=b";" + b"x" * 999))
    assert client.response().status == 413


def test_trailers_over_the_limit_are_refused(server):
    client = server.http()
    client.send_while_open(chunked_request(
        trailers=b"X-More: " + b"x" * 17000 + b"\r\n"))
    assert client.response().status in (413, 431)


# --- time-outs ---------------------------------------------------------------

SHORT = 0.3  # seconds


def took_at_least(begin, seconds):
    """Timers run on a clock of milliseconds that is read once a loop."""
    return time.monotonic() - begin >= seconds - 0.02


@pytest.mark.parametrize("part", [
    b"G", b"GET / HTTP/1.1\r\n", ROOT[:-1]], ids=repr)
def test_a_head_that_stays_unfinished_is_answered_408(start, part):
    client = start(HEADER_TIMEOUT=SHORT).http()
    begin = time.monotonic()
    client.send(part)
    assert client.response().status == 408
    assert took_at_least(begin, SHORT)
    assert client.read_to_end() == b""


def test_a_dripping_head_is_answered_408(start):
    client = start(HEADER_TIMEOUT=SHORT).http()
    client.socket.settimeout(0.01)  # between two drops
    end = time.monotonic() + DEADLINE
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    while not client.buffer:
        assert time.monotonic() < end
        client.send_while_open(b"x")
        try:
            client.read_some()
        except socket.timeout:
            pass
    client.socket.settimeout(DEADLINE)
    assert client.response().status == 408


def test_a_second_head_has_a_time_of_its_own(start):
    client = start(HEADER_TIMEOUT=SHORT).http()
    assert client.ask("GET", "/").status == 303
    begin = time.monotonic()
    client.send(ROOT[:-1])
    assert client.response().status == 408
    assert took_at_least(begin, SHORT)


def test_a_body_that_stays_unfinished_is_answered_408(start):
    client = start(BODY_TIMEOUT=SHORT).http()
    begin = time.monotonic()
    client.send(publish_request()[:-1])
    assert client.response().status == 408
    assert took_at_least(begin, SHORT)
    assert client.read_to_end() == b""


def test_an_idle_connection_is_closed_without_a_word(start):
    client = start(IDLE_TIMEOUT=SHORT).http()
    assert client.ask("GET", "/").status == 303
    begin = time.monotonic()
    assert client.read_to_end() == b""
    assert took_at_least(begin, SHORT)


def test_a_connection_that_never_asks_is_closed(start):
    client = start(IDLE_TIMEOUT=SHORT, HEADER_TIMEOUT=SHORT).http()
    client.wait_until_ended()


def test_a_client_that_asks_and_never_reads_is_ended(start):
    server = start(WRITE_TIMEOUT=SHORT)
    client = server.http(rcvbuf=4096)
    requests = request("GET", "/nope") * 1000
    with pytest.raises(ConnectionError):
        for _ in range(10000):
            client.send(requests)
    assert server.stats()["closed_write_timeout"] == 1
    assert server.rss_bytes() < (64 << 20) * SCALE


def test_a_stopping_server_closes_idle_connections(start):
    server = start()
    client = server.http()
    assert client.ask("GET", "/").status == 303
    server.terminate()
    assert client.read_to_end() == b""
    assert server.wait() == 0
