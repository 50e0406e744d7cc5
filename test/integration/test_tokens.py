"""Tokens: where they come from, what the authority is told, and topics that it
is asked about one by one. (Storms of them: test_token_storms.py.)"""
import subprocess

import pytest

import authority as behaviour
from client import (DEADLINE, PASSWORD, PING, SCALE, TEXT, EventStream, basic,
                    frame, handshake, request, sub_target, subscription)
from program import ISIMUD, WRAPPER, environment
from tokens import (MARK, answer, authority, bearer, close_of, is_silent,
                    knock, knock_for_stream, refusal, start, token, topic_uri,
                    wait_then)

V1 = "isimud.v1"
# A connection that is hung up may be one that was kept: it is asked again.
FAILS = behaviour.not_http
TARGET = sub_target("alice", "news")
# As long, and of the characters, as JSON Web Tokens are.
LONG = token("eyJhbGciOiJSUzI1NiJ9." + "a-_Z9" * 1420)
PLACES = ("authorization", "subprotocol", "parameter")


def carry(place, value):
    """A target, fields and subprotocols with the token in this place."""
    if place == "authorization":
        return TARGET, {"Authorization": f"Bearer {value}"}, []
    if place == "subprotocol":
        return TARGET, {}, [f"bearer.{value}"]
    return sub_target("alice", "news", access_token=value), {}, []


def knock_as(kind, server, target=TARGET, fields=None, **kwargs):
    one = knock_for_stream if kind == "stream" else knock
    return one(server, target, fields, **kwargs)


def opened(kind):
    return 200 if kind == "stream" else 101


both = pytest.mark.parametrize("kind", ["websocket", "stream"])


def assert_missing(response):
    assert response.status == 400
    assert response.error() == "Missing credentials"


# --- where a token comes from ------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_token_may_be_in_each_of_three_places(start, authority, place):
    server = start(AUTH_URL=authority.url)
    target, fields, subprotocols = carry(place, token("abc-._~+/=="))
    if place == "subprotocol":  # a token of RFC 9110, which has no / and =
        subprotocols = ["bearer." + token("abc-._~+")]
    client = knock(server, target, fields, subprotocols)
    assert answer(client).status == 101
    expected = token("abc-._~+" if subprotocols else "abc-._~+/==")
    asked = authority.next_asked()[2]
    assert asked["authorization"] == [f"Bearer {expected}"]
    assert asked["x-forwarded-uri"] == [TARGET]


@pytest.mark.parametrize("place", ["authorization", "parameter"])
def test_an_event_stream_has_two_of_them(start, authority, place):
    server = start(AUTH_URL=authority.url)
    target, fields, _ = carry(place, token())
    stream = server.event_stream(target, fields=fields)
    server.publish("alice", "news", "hello")
    assert stream.event().data == "hello"
    asked = authority.next_asked()[2]
    assert asked["authorization"] == [f"Bearer {token()}"]
    assert asked["x-forwarded-uri"] == [TARGET]


@pytest.mark.parametrize("places", [PLACES, PLACES[:2], PLACES[1:],
                                    PLACES[::2]], ids="+".join)
def test_the_first_place_that_has_one_counts(start, authority, places):
    authority.allow(places[0])
    server = start(AUTH_URL=authority.url)
    target, fields, subprotocols = TARGET, {}, []
    for place in places:
        its_target, its_fields, its_subprotocols = carry(place, token(place))
        target = its_target if place == "parameter" else target
        fields.update(its_fields)
        subprotocols += its_subprotocols
    assert answer(knock(server, target, fields, subprotocols)).status == 101
    assert authority.next_asked()[2]["authorization"] == [
        f"Bearer {token(places[0])}"]


@pytest.mark.parametrize("fields, subprotocols", [
    ({"Authorization": basic("alice")}, []),
    ({"Authorization": "Bearer a b"}, []),
    ({"Authorization": "Bearer"}, []),
    ({"Authorization": "Negotiate abc"}, []),
    ({}, ["bearer."]), ({}, ["bearer.a!b"]), ({}, ["bearer.a=b"]),
    ({}, ["Bearer.abc"]), ({}, [V1, "xbearer.abc"]),
    ({"Authorization": "Bearer ="}, ["bearer.%41"]),
], ids=str)
def test_what_is_malformed_is_no_token_and_the_next_place_counts(
        start, authority, fields, subprotocols):
    server = start(AUTH_URL=authority.url)
    target = carry("parameter", token())[0]
    assert answer(knock(server, target, fields, subprotocols)).status == 101
    assert authority.next_asked()[2]["authorization"] == [f"Bearer {token()}"]


@both
@pytest.mark.parametrize("query", [
    "", "&access_token=", "&access_token", "&access_token=%20",
    "&access_token=a%20b", "&access_token=a+b", "&access_token==",
    "&access_token=a%0D%0AX-Evil:%201", "&access_token=a%00b",
    "&access_token=%C3%A4", "&access_token=a%0A", "&access_token=a,b",
    "&Access_Token=abc", "&token=abc", "&access_token=a%3Bb",
])
def test_without_a_token_the_answer_is_400(start, authority, kind, query):
    server = start(AUTH_URL=authority.url)
    assert_missing(answer(knock_as(kind, server, TARGET + query)))
    assert authority.asked.empty()


@pytest.mark.parametrize("query", ["%", "a%2", "%zz", "%FF", "%C3"])
def test_a_parameter_that_is_not_percent_encoded_utf_8_is_refused(
        start, authority, query):
    server = start(AUTH_URL=authority.url)
    client = knock(server, f"{TARGET}&access_token={query}", bearer())
    assert answer(client).status == 400
    assert authority.asked.empty()


def test_a_parameter_is_decoded(start, authority):
    server = start(AUTH_URL=authority.url)
    value = token("a%2Bb%2fc%3D%3D").replace("S", "%53")
    assert answer(knock(server, f"/sub?access_token={value}")).status == 101
    assert authority.next_asked()[2]["authorization"] == [
        f"Bearer {token('a+b/c==')}"]


def test_a_name_that_is_percent_encoded_is_the_same_name(start, authority):
    """Or the authority, which decodes it, would decide on another topic."""
    server = start(AUTH_URL=authority.url)
    target = (f"/sub?%70ublisher=alice&top%69c=news"
              f"&access%5Ftoken={token()}")
    client = knock(server, target)
    assert answer(client).status == 101
    asked = authority.next_asked()[2]
    assert asked["authorization"] == [f"Bearer {token()}"]
    assert asked["x-forwarded-uri"] == ["/sub?%70ublisher=alice&top%69c=news"]
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"
    client = knock(server, "/sub?publisher=a&%70ublisher=b&topic=c", bearer())
    assert answer(client).status == 400


@pytest.mark.parametrize("place", PLACES)
def test_a_token_may_be_as_long_as_7_kib(start, authority, place):
    assert len(LONG) > 7000
    server = start(AUTH_URL=authority.url)
    target, fields, subprotocols = carry(place, LONG)
    client = server.websocket(target=target, fields=fields,
                              subprotocols=subprotocols)
    assert client.subprotocol == (subprotocols[0] if subprotocols else None)
    assert authority.next_asked()[2]["authorization"] == [f"Bearer {LONG}"]
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


def test_without_an_authority_no_token_is_looked_at(start):
    server = start()
    assert answer(knock(server, f"/sub?access_token={token()}!")).status == 101
    client = server.websocket(subprotocols=[f"bearer.{token()}"])
    assert client.subprotocol == f"bearer.{token()}"


# --- the subprotocol in return -----------------------------------------------


@pytest.mark.parametrize("offered", [[f"bearer.{token()}", V1],
                                     [V1, f"bearer.{token()}"]], ids=str)
def test_isimud_v1_is_chosen_before_a_token(start, authority, offered):
    client = start(AUTH_URL=authority.url).websocket(subprotocols=offered)
    assert client.subprotocol == V1
    assert client.command("ping", ref=1) == {"type": "pong", "ref": 1}


def test_a_token_that_is_offered_alone_is_chosen(start, authority):
    server = start(AUTH_URL=authority.url)
    offered = ["chat", f"bearer.{token()}"]
    client = server.websocket(subprotocols=offered).subscribe("alice", "news")
    assert client.subprotocol == offered[1]
    server.publish("alice", "news", "hello")
    assert client.receive() == "hello"


def test_what_was_offered_in_another_case_is_not_chosen(start, authority):
    server = start(AUTH_URL=authority.url)
    client = server.websocket(subprotocols=["ISIMUD.V1"], fields=bearer())
    assert client.subprotocol is None
    client.subscribe("alice", "news")


def test_subprotocols_may_be_in_several_field_lines(start, authority):
    server = start(AUTH_URL=authority.url)
    client = server.websocket(open=False)
    head = handshake(TARGET, {"Sec-WebSocket-Protocol": f"bearer.{token()}"})
    client.send(head[:-2] + b"sec-websocket-protocol: x ,isimud.v1\r\n\r\n")
    assert answer(client).subprotocol == V1
    assert authority.next_asked()[2]["authorization"] == [f"Bearer {token()}"]


# --- what the authority is told ----------------------------------------------


@both
def test_the_authority_is_told_this_and_nothing_else(start, authority, kind):
    server = start(AUTH_URL=authority.url)
    client = knock_as(kind, server, fields={
        **bearer(), "Host": "push.example:8080", "Origin": "http://a.example",
        "Cookie": "id=" + token(), "User-Agent": "browser", "Referer": "x",
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Uri": "/evil",
        "X-Forwarded-Host": "evil", "X-Forwarded-Method": "POST"})
    assert answer(client).status == opened(kind)
    method, target, fields, content = authority.next_asked()
    assert (method, target, content) == ("GET", "/check?for=isimud", b"")
    assert fields.pop("user-agent")[0].startswith("isimud/")
    assert fields == {
        "host": [f"127.0.0.1:{authority.port}"], "accept": ["*/*"],
        "authorization": [f"Bearer {token()}"],
        "x-forwarded-method": ["GET"],
        "x-forwarded-host": ["push.example:8080"],
        "x-forwarded-uri": [TARGET], "x-forwarded-for": ["127.0.0.1"],
        "x-forwarded-proto": ["http"]}


@both
@pytest.mark.parametrize("query, rest", [
    ("access_token=*", ""),
    ("access_token=*&a=b", "?a=b"), ("a=b&access_token=*", "?a=b"),
    ("a=b&access_token=*&c", "?a=b&c"),
    ("access_token=x&a=b&access_token=*&access_token=*", "?a=b"),
    ("%61ccess_token=*&access%5ftoken=*&a", "?a"),
    ("a=access_token%3D1&access_token=*", "?a=access_token%3D1"),
    ("access_tokens=1&access_token=*&xaccess_token=2",
     "?access_tokens=1&xaccess_token=2"),
    ("a=%0d%0aX-Evil:%201&access_token=*", "?a=%0d%0aX-Evil:%201"),
    ("a=%00&%zz=%&access_token=*&%", "?a=%00&%zz=%&%"),
    ("a=1+2%202&access_token=*&a=b=c&=&==", "?a=1+2%202&a=b=c&=&=="),
    ("?a=?&access_token=*&/../x", "??a=?&/../x"),
    ("a='();:@,!$*[]|<>{}^`\\\"&access_token=*", "?a='();:@,!$*[]|<>{}^`\\\""),
    ("since=&access_token=*", "?since="),
])
def test_the_uri_is_the_target_without_its_token(start, authority, kind, query,
                                                 rest):
    server = start(AUTH_URL=authority.url)
    target = f"{TARGET}&{query.replace('=*', '=' + token())}"
    client = knock_as(kind, server, target)
    assert answer(client).status == opened(kind)
    asked = authority.next_asked()[2]
    assert asked["x-forwarded-uri"] == [
        TARGET + (rest and "&" + rest[1:])]
    assert "x-evil" not in asked


def test_the_uri_is_that_of_what_was_asked_for(start, authority):
    server = start(AUTH_URL=authority.url)
    for target, uri in [("/sub", "/sub"), ("/sub?", "/sub"),
                        ("/sub?access_token=" + token(), "/sub"),
                        ("http://b.example:1/sub?x", "/sub?x")]:
        assert answer(knock(server, target, bearer())).status == 101
        asked = authority.next_asked()[2]
        assert asked["x-forwarded-uri"] == [uri]
        assert asked["x-forwarded-host"] == [
            "b.example:1" if "//" in target else "localhost"]


def test_the_address_is_told_but_for_unix_sockets(start, authority, tmp_path):
    path = f"{tmp_path}/s"
    server = start(AUTH_URL=authority.url,
                   LISTEN=f"127.0.0.1:0,[::1]:0,[::]:0,unix:{path}")
    v4, v6, (_, port), unix = server.addresses
    for to, expected in [(v4, ["127.0.0.1"]), (v6, ["::1"]),
                         (("::1", port), ["::1"]), (unix, None),
                         (("127.0.0.1", port), ["127.0.0.1"])]:
        for kind in "websocket", "stream":
            client = knock_as(kind, server, fields=bearer(), to=to)
            assert answer(client).status == opened(kind)
            assert authority.next_asked()[2].get("x-forwarded-for") == expected


def test_what_http_1_0_does_not_say_is_not_told(start, authority):
    server = start(AUTH_URL=authority.url)
    client = server.http()
    client.send(request("GET", TARGET, {"Host": None, **bearer()},
                        version="1.0"))
    assert answer(client).status == 200
    assert "x-forwarded-host" not in authority.next_asked()[2]


@pytest.mark.parametrize("evil", [b"\r\nX-Evil: 1", b"\nX-Evil: 1",
                                  b"\rX-Evil: 1", b"\0", b"\r\n X-Evil: 1"])
@pytest.mark.parametrize("at", [b"Cookie: a", b"Host: localhost",
                                b"Authorization: Bearer " + MARK.encode(),
                                b"GET /sub?a"])
def test_no_line_can_be_added_to_the_request(start, authority, at, evil):
    server = start(AUTH_URL=authority.url, AUTH_COOKIE="true",
                   ALLOWED_ORIGINS="https://a.example")
    head = handshake(fields={**bearer(""), "Cookie": "a"})
    head = head.replace(b"/sub", b"/sub?a")
    assert at in head
    client = server.websocket(open=False)
    client.send(head.replace(at, at + evil))
    # It is refused, or it was a field of the client's own.
    if client.head().status == 101:
        asked = authority.next_asked()[2]
        assert "x-evil" not in asked
        assert "\0" not in str(asked)
    else:
        assert authority.asked.empty()


# --- cookies -----------------------------------------------------------------

ORIGIN = "https://app.example"
COOKIES = {"AUTH_COOKIE": "true", "ALLOWED_ORIGINS": ORIGIN}
COOKIE = {"Cookie": f"session={MARK}; theme=dark", "Origin": ORIGIN}


@pytest.mark.parametrize("origins", [None, "*", "null", ORIGIN + ",null",
                                     ORIGIN + ",*"])
def test_auth_cookie_needs_a_list_of_origins(origins):
    result = subprocess.run(
        WRAPPER + [ISIMUD], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE, env=environment({
            "PASSWORD": PASSWORD, "PORT": 0, "AUTH_URL": "http://127.0.0.1:1/",
            "AUTH_COOKIE": "true", "ALLOWED_ORIGINS": origins}))
    assert result.returncode == 2
    assert "AUTH_COOKIE" in result.stderr or "ORIGINS" in result.stderr
    assert result.stderr.count("\n") == 1


@both
def test_a_cookie_does_for_a_token(start, authority, kind):
    server = start(AUTH_URL=authority.url, **COOKIES)
    assert answer(knock_as(kind, server,
                           fields=COOKIE)).status == opened(kind)
    asked = authority.next_asked()[2]
    assert asked["cookie"] == [COOKIE["Cookie"]]
    assert "authorization" not in asked
    assert asked["x-forwarded-uri"] == [TARGET]


@both
@pytest.mark.parametrize("place", PLACES)
def test_a_cookie_goes_along_with_a_token(start, authority, kind, place):
    server = start(AUTH_URL=authority.url, **COOKIES)
    target, fields, subprotocols = carry(place, token())
    if subprotocols:
        fields = {"Sec-WebSocket-Protocol": subprotocols[0]}
    client = knock_as(kind, server, target, {**fields, **COOKIE})
    assert answer(client).status == opened(kind)
    asked = authority.next_asked()[2]
    assert asked["cookie"] == [COOKIE["Cookie"]]
    assert asked["authorization"] == [f"Bearer {token()}"]


def test_several_cookie_lines_are_told_as_one(start, authority):
    server = start(AUTH_URL=authority.url, **COOKIES)
    client = server.websocket(open=False)
    client.send(handshake(fields={"Cookie": f"a={MARK}"})[:-2]
                + b"COOKIE: b=2 ;c=\xe4\r\nCookie:\r\ncookie: d\r\n\r\n")
    assert answer(client).status == 101
    assert authority.next_asked()[2]["cookie"] == [
        f"a={MARK}; b=2 ;c=\xe4; d"]


@both
@pytest.mark.parametrize("settings, cookie", [
    ({}, "a=b"), ({"ALLOWED_ORIGINS": ORIGIN}, "a=b"), (COOKIES, ""),
    (COOKIES, "  "), (COOKIES, None)])
def test_without_a_cookie_that_counts_a_token_is_missing(
        start, authority, kind, settings, cookie):
    server = start(AUTH_URL=authority.url, **settings)
    assert_missing(answer(knock_as(kind, server, fields={"Cookie": cookie})))
    assert authority.asked.empty()


def test_an_empty_cookie_is_not_told(start, authority):
    server = start(AUTH_URL=authority.url, **COOKIES)
    assert answer(knock(server, "/sub", {"Cookie": "", **bearer()})
                  ).status == 101
    assert "cookie" not in authority.next_asked()[2]


@both
def test_the_cookie_of_another_origins_page_is_not_asked_about(
        start, authority, kind):
    server = start(AUTH_URL=authority.url, **COOKIES)
    client = knock_as(kind, server,
                      fields={**COOKIE, "Origin": "https://evil.example"})
    assert answer(client).status == 403
    assert authority.asked.empty()


def test_a_no_to_a_cookie_is_a_no(start, authority):
    authority.rules[""] = behaviour.refuse  # asked without a token
    server = start(AUTH_URL=authority.url, **COOKIES)
    response = answer(knock(server, fields=COOKIE))
    assert response.status == 401
    assert response.field("Access-Control-Allow-Origin") == ORIGIN


def test_a_cookie_is_kept_for_later_topics(start, authority):
    server = start(AUTH_URL=authority.url, AUTH_PER_TOPIC="true", **COOKIES)
    client = knock(server, fields=COOKIE)
    assert answer(client).status == 101
    client.subscribe("alice", "news")
    for uri in "/sub", TARGET:
        asked = authority.next_asked()[2]
        assert asked["cookie"] == [COOKIE["Cookie"]]
        assert asked["x-forwarded-uri"] == [uri]
        assert "authorization" not in asked


# --- topic by topic: in the URL ----------------------------------------------

PER_TOPIC = {"AUTH_PER_TOPIC": "true"}


@both
def test_each_topic_of_a_url_is_asked_about_in_order(start, authority, kind):
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    topics = ["b", "a", "ä €", "x&y=z%\r\n\0", ""]
    target = sub_target("A lice/~", *topics, access_token=token(),
                        since=None, x="y")
    client = knock_as(kind, server, target)
    assert answer(client).status == opened(kind)
    for topic in topics:
        asked = authority.next_asked()[2]
        assert asked["x-forwarded-uri"] == [topic_uri("A lice/~", topic)]
        assert asked["authorization"] == [f"Bearer {token()}"]
        assert asked["x-forwarded-method"] == ["GET"]
        assert asked["x-forwarded-host"] == ["localhost"]
        assert asked["x-forwarded-for"] == ["127.0.0.1"]
        assert asked["x-forwarded-proto"] == ["http"]
        assert len(asked) == 9
    assert authority.asked.empty()


def test_a_url_that_is_allowed_is_subscribed_to_all_its_topics(start,
                                                               authority):
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    target = sub_target("alice", "a", "b", "c")
    raw = server.websocket(target=target, fields=bearer())
    v1 = server.websocket(target=target, fields=bearer(), subprotocols=[V1])
    stream = server.event_stream(target, fields=bearer())
    assert [v1.receive_json()["topic"] for _ in range(3)] == ["a", "b", "c"]
    for topic in "a", "b", "c":
        server.publish("alice", topic, "in " + topic)
        assert raw.receive() == "in " + topic
        assert v1.receive_json()["data"] == "in " + topic
        assert stream.event().data == "in " + topic
    assert authority.asked.qsize() == 9


@both
@pytest.mark.parametrize("rule, status", [
    (behaviour.refuse, 401), (FAILS, 500)], ids=["no", "failure"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_all_topics_of_a_url_must_be_allowed(start, authority, kind, rule,
                                             status, at):
    authority.by_uri[topic_uri("alice", f"t{at}")] = rule
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = knock_as(kind, server, sub_target("alice", "t0", "t1", "t2"),
                      bearer())
    if kind == "stream" and status == 500:
        assert "authority" in refusal(client).reason
    else:
        assert answer(client).status == status
    # Nothing is asked that does not matter any more.
    assert [authority.next_uri() for _ in range(at + 1)] == [
        topic_uri("alice", f"t{i}") for i in range(at + 1)]
    assert authority.asked.empty()
    # The same connection may ask for less, unless it was a stream.
    if kind == "stream" and status == 500:
        return
    client.send(handshake(sub_target("alice", "other"), bearer()))
    assert answer(client).status == 101
    assert authority.next_uri() == topic_uri("alice", "other")


def test_since_is_no_part_of_a_topics_uri(start, authority):
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    stream = server.event_stream(TARGET, fields=bearer())
    server.publish("alice", "news", "one")
    place = stream.event().id
    server.publish("alice", "news", "two")
    again = server.websocket(target=sub_target("alice", "news", since=place),
                             fields=bearer())
    assert again.receive() == "two"
    assert [authority.next_uri() for _ in range(2)] == [TARGET, TARGET]


# --- topic by topic: the raw protocol ----------------------------------------


def test_a_client_that_names_no_topic_is_asked_about_as_sub(start, authority):
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(target=f"/sub?access_token={token()}")
    assert authority.next_uri() == "/sub"
    client.subscribe("älice", "news & more")
    assert authority.next_uri() == topic_uri("älice", "news & more")
    server.publish("älice", "news & more", "hello")
    assert client.receive() == "hello"
    assert authority.asked.empty()


def test_a_client_that_may_not_come_in_is_not_asked_for_its_topic(start,
                                                                  authority):
    authority.by_uri["/sub"] = behaviour.refuse
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    assert answer(knock(server, fields=bearer())).status == 401


@pytest.mark.parametrize("rule, code", [
    (behaviour.refuse, 1008), (behaviour.answer(403), 1008), (FAILS, 1011),
    (behaviour.answer(503), 1013)], ids=["no", "never", "failure", "outage"])
def test_a_topic_that_is_not_allowed_closes_a_raw_websocket(
        start, authority, rule, code):
    authority.by_uri[TARGET] = rule
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(fields=bearer())
    client.send(frame(TEXT, subscription("alice", "news"))
                + frame(PING, b"behind"))
    reason = client.expect_close(code)
    assert MARK not in reason
    server.publish("alice", "news", "nobody is there")


def test_a_topic_without_an_answer_in_time_closes_with_1011(start, authority):
    authority.by_uri[TARGET] = behaviour.stall_before_head
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3, **PER_TOPIC)
    client = server.websocket(fields=bearer())
    client.send_frame(TEXT, subscription("alice", "news"))
    client.expect_close(1011)


def test_a_message_of_the_wrong_shape_is_not_asked_about(start, authority):
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(fields=bearer())
    authority.next_asked()
    client.send_text('{"publisher": "alice"}')
    client.expect_close(1008)
    assert authority.asked.empty()


def test_a_ping_behind_the_subscription_is_answered_once_it_is_in_force(
        start, authority):
    authority.by_uri[TARGET] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, WORKERS=1, **PER_TOPIC)
    others = server.websocket(fields=bearer()).subscribe("alice", "other")
    early = server.websocket(fields=bearer())
    late = server.websocket(fields=bearer())
    for client in early, late:
        client.send_frame(TEXT, subscription("alice", "news"))
        early.send_frame(PING, b"in force?")
    late.send_frame(PING, b"in force?")
    while authority.next_uri() != TARGET:
        pass
    server.wait_for_stat("auth_shared")
    for i in range(50):
        server.publish("alice", "news", "too early")
        server.publish("alice", "other", str(i))
        assert others.receive() == str(i)
    assert is_silent(early) and is_silent(late)
    authority.release.set()
    for client in early, early, late:
        client.expect_pong(b"in force?")
    server.publish("alice", "news", "in time")
    assert early.receive() == late.receive() == "in time"


def test_a_message_that_comes_in_pieces_is_a_barrier_too(start, authority):
    authority.by_uri[TARGET] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(fields=bearer())
    client.send_bytewise(frame(TEXT, subscription("alice", "news")[:9],
                               fin=False)
                         + frame(PING, b"between")
                         + frame(0, subscription("alice", "news")[9:])
                         + frame(PING, b"behind"))
    client.expect_pong(b"between")
    while authority.next_uri() != TARGET:
        pass
    client.send_bytewise(frame(PING, b"further behind"))
    assert is_silent(client)
    authority.release.set()
    client.expect_pong(b"behind")
    client.expect_pong(b"further behind")


def test_a_second_message_is_refused_after_the_check_of_the_first(start,
                                                                  authority):
    authority.by_uri[TARGET] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(fields=bearer())
    client.send(2 * frame(TEXT, subscription("alice", "news")))
    while authority.next_uri() != TARGET:
        pass
    assert is_silent(client)
    authority.release.set()
    client.expect_close(1008)
    assert authority.asked.empty()


# --- topic by topic: isimud.v1 -----------------------------------------------


def open_v1(server, fields=None, **kwargs):
    client = server.websocket(fields=fields or bearer(), subprotocols=[V1],
                              **kwargs)
    assert client.subprotocol == V1
    return client


def assert_error(client, message, code):
    assert (message["type"], message["code"]) == ("error", code), message
    assert message["message"] and MARK not in str(message)
    assert client.command("ping", ref="alive?")["type"] == "pong"


@pytest.mark.parametrize("rule, code", [
    (behaviour.refuse, "forbidden"), (FAILS, "auth_failed")],
    ids=["no", "failure"])
def test_a_subscription_that_is_not_allowed_is_an_error(start, authority, rule,
                                                        code):
    authority.by_uri[TARGET] = rule
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = open_v1(server)
    assert_error(client, client.command("subscribe", ref=7, publisher="alice",
                                        topic="news"), code)
    server.publish("alice", "news", "not for you")
    # Another one is fine, and so is the same once it is allowed.
    assert client.command("subscribe", ref=8, publisher="alice",
                          topic="other")["type"] == "subscribed"
    del authority.by_uri[TARGET]
    assert client.command("subscribe", ref=9, publisher="alice",
                          topic="news")["type"] == "subscribed"
    server.publish("alice", "news", "for you")
    assert client.receive_json()["data"] == "for you"


def test_what_needs_no_check_is_not_asked_about(start, authority):
    server = start(AUTH_URL=authority.url, MAX_SUBSCRIPTIONS=1, **PER_TOPIC)
    client = open_v1(server)
    assert authority.next_uri() == "/sub"
    wish = {"publisher": "alice", "topic": "news"}
    assert client.command("subscribe", **wish)["type"] == "subscribed"
    assert authority.next_uri() == TARGET
    for command, code in [
            (("subscribe", wish), "already_subscribed"),
            (("subscribe", {**wish, "topic": "x"}), "too_many_subscriptions"),
            (("unsubscribe", {**wish, "topic": "x"}), "not_subscribed"),
            (("subscribe", {"topic": "x"}), "bad_command")]:
        assert_error(client, client.command(command[0], **command[1]), code)
    assert client.command("unsubscribe", **wish)["type"] == "unsubscribed"
    assert authority.asked.empty()


def test_commands_behind_a_check_wait_in_order(start, authority):
    authority.by_uri[TARGET] = behaviour.wait_for_release
    authority.by_uri[topic_uri("alice", "no")] = behaviour.refuse
    server = start(AUTH_URL=authority.url, WORKERS=1, **PER_TOPIC)
    others = open_v1(server)
    client = open_v1(server, {"Authorization": basic("alice")},
                     target=f"/sub?access_token={token()}")
    news = {"publisher": "alice", "topic": "news"}
    for command in [
            {"type": "subscribe", "ref": 1, **news},
            {"type": "ping", "ref": 2},
            {"type": "publish", "ref": 3, "topic": "news", "data": "own"},
            {"type": "subscribe", "ref": 4, "publisher": "alice",
             "topic": "no"},
            {"type": "nonsense", "ref": 5},
            {"type": "unsubscribe", "ref": 6, **news},
            {"type": "subscribe", "ref": 7, **news},
            {"type": "ping", "ref": 8}]:
        client.send_json(command)
    client.send_frame(PING, b"end")
    while authority.next_uri() != TARGET:
        pass
    # The others of the worker go on.
    assert others.command("subscribe", publisher="alice", topic="other",
                          ref=1)["type"] == "subscribed"
    for i in range(50):
        server.publish("alice", "other", i)
        assert others.receive_json()["data"] == i
    assert is_silent(client)
    authority.release.set()
    answers = [client.receive_json() for _ in range(9)]
    message = next(a for a in answers if a["type"] == "message")
    assert message["data"] == "own"
    answers.remove(message)
    assert [(a["ref"], a["type"]) for a in answers] == [
        (1, "subscribed"), (2, "pong"), (3, "published"), (4, "error"),
        (5, "error"), (6, "unsubscribed"), (7, "subscribed"), (8, "pong")]
    assert answers[3]["code"] == "forbidden"
    client.expect_pong(b"end")


def test_topics_of_the_url_come_before_commands(start, authority):
    authority.by_uri[topic_uri("alice", "b")] = wait_then(behaviour.allow)
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = knock(server, sub_target("alice", "a", "b"), bearer(), [V1])
    client.send_json({"type": "subscribe", "ref": 1, "publisher": "alice",
                      "topic": "c"})
    client.send_json({"type": "subscribe", "ref": 2, "publisher": "alice",
                      "topic": "a"})
    assert [authority.next_uri() for _ in range(2)] == [
        topic_uri("alice", topic) for topic in "ab"]
    assert is_silent(client)
    authority.release.set()
    assert answer(client).subprotocol == V1
    answers = [client.receive_json() for _ in range(4)]
    assert [(a["type"], a.get("ref"), a.get("topic")) for a in answers] == [
        ("subscribed", None, "a"), ("subscribed", None, "b"),
        ("subscribed", 1, "c"), ("error", 2, None)]
    assert authority.next_uri() == topic_uri("alice", "c")
    assert authority.asked.empty()


def test_too_many_checks_are_busy_or_1013(start, authority):
    authority.rules[token("hold")] = behaviour.wait_for_release
    server = start(AUTH_URL=authority.url, AUTH_MAX_CHECKS=1,
                   AUTH_QUEUE=0, **PER_TOPIC)
    v1 = open_v1(server)
    raw = server.websocket(fields=bearer())
    for _ in range(2):
        authority.next_asked()
    held = knock(server, fields=bearer("hold"))
    authority.next_asked()
    assert_error(v1, v1.command("subscribe", ref=1, publisher="alice",
                                topic="news"), "busy")
    raw.send_frame(TEXT, subscription("alice", "news"))
    raw.expect_close(1013)
    url = answer(knock(server, TARGET, bearer()))
    assert (url.status, url.field("Retry-After")) == (503, "1")
    authority.release.set()
    assert answer(held).status == 101
    assert authority.asked.empty()
    assert v1.command("subscribe", ref=2, publisher="alice",
                      topic="news")["type"] == "subscribed"


# --- leaving meanwhile -------------------------------------------------------


@pytest.mark.parametrize("leave", ["close", "abort", "half_close"])
@pytest.mark.parametrize("rule", [
    behaviour.allow, behaviour.refuse, FAILS],
    ids=["yes", "no", "failure"])
def test_a_client_may_leave_while_its_topic_is_checked(start, authority, leave,
                                                       rule):
    authority.by_uri[TARGET] = wait_then(rule)
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600, **PER_TOPIC)
    clients = []
    for i in range(6):
        # Each with its own token: each its own check.
        raw = server.websocket(fields=bearer(f"raw{i}"))
        raw.send(frame(TEXT, subscription("alice", "news"))
                 + frame(PING, b"behind"))
        v1 = open_v1(server, bearer(f"v1{i}"))
        v1.send_json({"type": "subscribe", "publisher": "alice",
                      "topic": "news"})
        v1.send_json({"type": "ping"})
        url = knock(server, sub_target("alice", "a", "news", "b"),
                    bearer(f"url{i}"))
        stream = knock_for_stream(server, sub_target("alice", "news", "b"),
                                  bearer(f"stream{i}"))
        clients += [raw, v1, url, stream]
    waiting = 0
    while waiting < len(clients):
        waiting += authority.next_uri() == TARGET
    for client in clients:
        getattr(client, leave)()
    assert server.ask("GET", "/").status == 303
    authority.release.set()
    server.close_clients()
    server.wait_until_empty()
    assert answer(knock(server, fields=bearer())).status == 101


# --- who can't see a status --------------------------------------------------


@pytest.mark.parametrize("rule, code", [
    (behaviour.answer(401), 4401), (behaviour.answer(302), 4401),
    (behaviour.answer(403), 4403), (behaviour.stall_before_head, 4408),
    (behaviour.not_http, 4408), (behaviour.answer(500), 1013),
    (behaviour.answer(429), 1013)])
@pytest.mark.parametrize("target", ["/sub", TARGET])
def test_isimud_v1_is_told_by_close_why_not(start, authority, rule, code,
                                            target):
    authority.rules[token()] = rule
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3 * SCALE)
    client = knock(server, target, {}, [V1, f"bearer.{token()}"])
    assert close_of(client)[0] == code
    client.send_close(code)
    client.wait_until_ended()
    receipt = server.http().publish("alice", "news", "x").json()
    assert receipt["subscribers"] == 0


def test_isimud_v1_without_a_token_is_closed_with_4401(start, authority):
    server = start(AUTH_URL=authority.url)
    assert close_of(knock(server, TARGET, {}, [V1])) == (
        4401, "Missing credentials")
    assert authority.asked.empty()


@pytest.mark.parametrize("rule", [
    behaviour.answer(500), behaviour.answer(429), behaviour.answer(503),
    behaviour.not_http, behaviour.stall_before_head])
def test_an_event_stream_outlives_an_outage_of_the_authority(
        start, authority, rule):
    """A status would end an EventSource for good."""
    authority.rules[token()] = rule
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=0.3 * SCALE,
                   SSE_RETRY=3, ALLOWED_ORIGINS="https://a.example")
    seen = set()
    for _ in range(2 if rule is behaviour.stall_before_head else 8):
        refused = refusal(knock_for_stream(server, TARGET, {
            **bearer(), "Origin": "https://a.example"}))
        assert "authority" in refused.reason
        assert 6000 <= refused.retry_ms <= 15000
        assert refused.field("Access-Control-Allow-Origin") == (
            "https://a.example")
        seen.add(refused.retry_ms)
    assert len(seen) > 1
    refusals = server.metrics()["isimud_connections_refused_total"]
    assert refusals >= len(seen)


def test_a_head_request_is_refused_by_a_status(start, authority):
    authority.rules[token()] = behaviour.answer(500)
    client = start(AUTH_URL=authority.url).http()
    client.send(request("HEAD", TARGET, {**EventStream.ACCEPT, **bearer()}))
    assert client.response("HEAD").status == 503


@pytest.mark.parametrize("rule", [behaviour.answer(401),
                                  behaviour.answer(403)])
def test_a_no_is_final_for_an_event_stream(start, authority, rule):
    authority.rules[token()] = rule
    server = start(AUTH_URL=authority.url)
    assert answer(knock_for_stream(server, TARGET, bearer())).status == 401
    assert answer(knock_for_stream(server, TARGET)).status == 400


@pytest.mark.parametrize("request_behind", [
    request("GET", "/"), handshake(TARGET, bearer("second")),
    request("GET", TARGET, {**EventStream.ACCEPT, **bearer("second")})],
    ids=["other", "websocket", "stream"])
@pytest.mark.parametrize("rule, status", [
    (behaviour.refuse, 401), (FAILS, 500)], ids=["no", "failure"])
def test_a_request_behind_a_handshake_that_fails_is_answered(
        start, authority, rule, status, request_behind):
    authority.rules[token("first")] = wait_then(rule)
    server = start(AUTH_URL=authority.url)
    client = server.websocket(open=False)
    first = handshake("/sub", {
        "Authorization": basic("alice"),
        "Sec-WebSocket-Protocol": f"bearer.{token('first')}"})
    client.send(first + first + request_behind)
    for _ in range(2):
        authority.next_asked()
        assert is_silent(client) or authority.release.is_set()
        authority.release.set()
        assert answer(client).status == status
    response = answer(client)
    assert response.status in (303, 101, 200)
    if response.status != 303:
        server.publish("alice", "news", "hello")
        assert b"hello" in client.read_until(b"hello")


def test_a_refused_handshake_leaves_nothing_for_the_next(start, authority):
    """Neither the publisher of the first, nor its topics, nor its token."""
    authority.by_uri[topic_uri("alice", "b")] = behaviour.refuse
    server = start(AUTH_URL=authority.url, **PER_TOPIC)
    client = server.websocket(open=False)
    client.send(handshake(
        sub_target("alice", "a", "b", access_token=token("one")),
        {"Authorization": basic("alice")}))
    assert answer(client).status == 401
    client.send(handshake("/sub", {**bearer("two"),
                                   "Sec-WebSocket-Protocol": V1}))
    assert answer(client).subprotocol == V1
    assert client.command("publish", topic="x", data=1)["code"] == "forbidden"
    assert client.command("subscribe", publisher="alice",
                          topic="a")["type"] == "subscribed"
    asked = [authority.next_asked()[2] for _ in range(4)]
    assert [a["authorization"][0].rpartition(".")[2] for a in asked] == [
        "one", "one", "two", "two"]
    assert [a["x-forwarded-uri"][0] for a in asked] == [
        topic_uri("alice", "a"), topic_uri("alice", "b"), "/sub",
        topic_uri("alice", "a")]


@pytest.mark.parametrize("settings", [{}, PER_TOPIC], ids=["whole", "topics"])
def test_sigterm_ends_all_that_is_being_checked(start, authority, settings):
    rule = behaviour.stall_before_head
    server = start(AUTH_URL=authority.url, AUTH_TIMEOUT=3600, WORKERS=4,
                   **settings)
    clients, paused = [], []
    if settings:
        for i in range(8):
            paused.append(server.websocket(fields=bearer(f"raw{i // 2}")))
            paused.append(open_v1(server, bearer(f"v1{i // 2}")))
    authority.by_uri = {TARGET: rule}
    for i, client in enumerate(paused):
        if i % 2 == 0:
            client.send_frame(TEXT, subscription("alice", "news"))
        else:
            client.send_json({"type": "subscribe", "publisher": "alice",
                              "topic": "news"})
    for i in range(8):
        clients.append(knock(server, TARGET, bearer(f"url{i // 2}")))
        clients.append(knock_for_stream(server, TARGET,
                                        bearer(f"stream{i // 2}")))
    distinct = 16 if settings else 8
    uris = 0
    while uris < distinct:
        uris += authority.next_uri() == TARGET
    server.wait_until(lambda: server.stats()["auth_shared"] == distinct,
                      "all wait")
    server.terminate()
    for client in paused:
        assert client.read_to_close() == 1001
    for i, client in enumerate(clients):
        if i % 2:
            assert "going away" in refusal(client).reason
        else:
            assert answer(client).status == 503
            client.wait_until_ended()
        client.close()
    assert server.wait() == 0
