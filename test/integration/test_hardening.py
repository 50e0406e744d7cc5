"""Who is refused and how: guessed passwords, hosts, hidden cross-site requests;
and whose request a proxy passes on."""
import os
import subprocess
import time

import pytest

from authority import refuse
from client import (DEADLINE, basic, handshake, publish_request, request,
                    sub_target)
from program import ISIMUD, ROOT, WRAPPER, environment
from threads import in_threads, join

FREE = 10  # wrong passwords of an address that are answered at once
LATE_S = 1


def run_to_its_end(settings):
    return subprocess.run([*WRAPPER, ISIMUD], env=environment(settings),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE)


def wrong(server, to=None, target="/pub/news", **fields):
    return server.http(to).ask("POST", target, {
        "Authorization": basic("mallory", "guess"), **fields}, b"x")


def guess_often(server, **kwargs):
    for _ in range(FREE):
        response = wrong(server, **kwargs)
        assert response.status == 401
        assert response.field("Connection") != "close"


# --- passwords ----------------------------------------------------------------

def test_a_wrong_password_is_logged_with_who_and_from_where(start):
    server = start()
    wrong(server)
    event = server.wait_for_event("password_wrong")[0]
    assert event["peer"] == "127.0.0.1"
    assert event["publisher"] == "mallory"
    assert event["worker"] in ("0", "1")
    assert "guess" not in server.text()


def test_who_guesses_is_answered_late_and_loses_the_connection(start):
    server = start()
    guess_often(server)
    client = server.http()
    begin = time.monotonic()
    response = client.ask("POST", "/pub/news",
                          {"Authorization": basic("mallory", "guess")}, b"x")
    assert time.monotonic() - begin >= LATE_S * 0.9
    assert response.status == 401
    assert response.json() == {"error": "Wrong credentials"}
    assert response.field("Connection") == "close"
    client.wait_until_ended()
    assert server.wait_for_event("password_guessing")[0]["peer"] == "127.0.0.1"
    metrics = server.metrics()
    assert metrics["isimud_passwords_wrong_total"] == FREE + 1
    assert metrics["isimud_passwords_late_total"] == 1


@pytest.mark.parametrize("target, method", [("/topics", "GET"),
                                            ("/metrics", "GET"),
                                            ("/pub", "POST")])
def test_wherever_a_password_is_asked_for_guessing_is_slow(start, target,
                                                           method):
    server = start()
    guess_often(server)
    begin = time.monotonic()
    response = server.ask(method, target,
                          {"Authorization": basic("mallory", "guess")})
    assert response.status == 401
    assert time.monotonic() - begin >= LATE_S * 0.9


def test_a_handshake_that_guesses_is_answered_late_too(start):
    server = start()
    guess_often(server)
    client = server.http()
    begin = time.monotonic()
    client.send(handshake(fields={
        "Sec-WebSocket-Protocol": "isimud.v1",
        "Authorization": basic("mallory", "guess")}))
    assert client.response().status == 401
    assert time.monotonic() - begin >= LATE_S * 0.9


def test_the_right_password_is_never_late_wherever_others_guess(start):
    """20 guess all the while; who is right is answered before any of them."""
    server = start()
    guess_often(server)
    guessers = [server.http() for _ in range(20)]
    for client in guessers:
        client.send(publish_request(
            fields={"Authorization": basic("mallory", "guess")}))
    publisher = server.http()
    for _ in range(50):
        assert publisher.publish().status == 200
    for client in guessers:
        assert client.response().status == 401
    # All is within one time of being late: the publisher waited for none.
    assert publisher.publish().status == 200


def test_pipelined_guesses_are_one(start):
    server = start()
    guess_often(server)
    client = server.http()
    one = request("GET", "/topics",
                  {"Authorization": basic("mallory", "guess")})
    client.send(one * 50)
    assert client.response().status == 401
    client.wait_until_ended()
    assert server.stats()["password_wrong"] == FREE + 1


def test_a_unix_socket_is_exempt(start, tmp_path):
    path = str(tmp_path / "socket")
    server = start(LISTEN=f"127.0.0.1:0,unix:{path}")
    for _ in range(3 * FREE):
        response = wrong(server, to=path)
        assert response.status == 401
        assert response.field("Connection") != "close"
    assert server.stats()["password_late"] == 0


def test_who_is_late_does_not_hold_up_the_end(start):
    server = start()
    guess_often(server)
    for _ in range(5):
        client = server.http()
        client.send(publish_request(
            fields={"Authorization": basic("mallory", "guess")}))
    server.wait_for_stat("password_late", 5)
    server.terminate()
    assert server.wait() == 0


def test_a_flood_of_guesses_is_a_few_lines(start):
    """At most 10 a second; the others are counted."""
    server = start()
    begin = time.monotonic()
    join(in_threads(*[lambda: [wrong(server) for _ in range(5)]] * 20))
    server.wait_for_stat("password_wrong", 100)
    seconds = time.monotonic() - begin

    def held_back():
        return sum(int(event["count"]) for event in server.events("held_back")
                   if event["of"] == "password_wrong")

    server.wait_until(
        lambda: len(server.events("password_wrong")) + held_back() == 100,
        "all are accounted for")
    assert len(server.events("password_wrong")) <= 10 * (seconds + 2)


def test_refused_tokens_are_logged(start, authority):
    server = start(AUTH_URL=authority.url)
    authority.rules["t"] = refuse
    assert server.ask("GET", sub_target("alice", "news"), {
        "Authorization": "Bearer t",
        "Accept": "text/event-stream"}).status == 401
    event = server.wait_for_event("token_refused")[0]
    assert event["peer"] == "127.0.0.1" and event["publisher"] == "alice"


# --- hosts --------------------------------------------------------------------

def ask_as(server, host, target="/topics", **kwargs):
    return server.ask("GET", target, {"Host": host, "Authorization":
                                      basic("alice")}, **kwargs).status


def test_by_default_any_host_is_served(start):
    server = start()
    assert ask_as(server, "evil.example") == 200


def test_a_host_that_is_not_listed_is_421(start):
    server = start(ALLOWED_HOSTS="push.example, *.apps.example, 127.0.0.1, "
                   "localhost")
    for host in ("push.example", "PUSH.example:81", "a.apps.example",
                 "127.0.0.1:3000"):
        assert ask_as(server, host) == 200
    for host in ("evil.example", "apps.example", "push.example.evil"):
        assert ask_as(server, host) == 421
    response = server.ask("GET", "/sub", {"Host": "evil.example"})
    assert response.status == 421 and response.json()["error"]
    assert server.wait_for_event("host_refused")[0]["peer"] == "127.0.0.1"
    assert server.metrics()["isimud_host_refused_total"] == 4


def test_a_page_whose_name_was_made_to_point_here_gets_nothing(start):
    """DNS rebinding: browsers send no Origin with a GET of its own origin."""
    server = start(ALLOWED_HOSTS="push.example",
                   ALLOWED_ORIGINS="https://push.example")
    client = server.http()
    client.send(request("GET", sub_target("alice", "news"), {
        "Host": "rebound.example", "Sec-Fetch-Site": "same-origin",
        "Accept": "text/event-stream"}))
    assert client.response().status == 421


def test_probes_by_address_go_on_with_allowed_hosts(start):
    server = start(ALLOWED_HOSTS="push.example")
    for target in ("/healthz", "/readyz"):
        assert ask_as(server, "10.1.2.3:3000", target) == 200
    assert ask_as(server, "10.1.2.3:3000", "/metrics") == 421


def test_the_admin_listener_serves_any_host(start):
    server = start(ALLOWED_HOSTS="push.example", ADMIN_PORT=0)
    assert server.ask_admin("GET", "/metrics",
                            {"Host": "10.1.2.3"}).status == 200


@pytest.mark.parametrize("list", ["http://a.example", "a.example:80", "a,,b"])
def test_a_list_of_hosts_that_is_wrong_ends_the_start(list):
    result = run_to_its_end({"PASSWORD": "x", "PORT": 0,
                             "ALLOWED_HOSTS": list})
    assert result.returncode == 2 and "ALLOWED_HOSTS must" in result.stderr


# --- pages that do not say where they are from --------------------------------

def ask_from(server, site, **fields):
    return server.ask("GET", "/topics", {
        "Authorization": basic("alice"), "Sec-Fetch-Site": site,
        **fields}).status


def test_with_a_list_of_origins_cross_site_without_origin_is_403(start):
    server = start(ALLOWED_ORIGINS="https://a.example")
    assert ask_from(server, "cross-site") == 403
    assert ask_from(server, "cross-site", Origin="https://a.example") == 200
    assert ask_from(server, "cross-site", Origin="https://b.example") == 403
    for site in ("same-origin", "same-site", "none"):
        assert ask_from(server, site) == 200
    event = server.wait_for_event("origin_refused")[0]
    assert event["peer"] == "127.0.0.1"


def test_without_a_list_cross_site_is_as_good_as_any(start):
    assert ask_from(start(), "cross-site") == 200


# --- content ------------------------------------------------------------------

def test_whatever_has_content_says_nosniff(start):
    server = start()
    answers = [server.ask("GET", "/nothing"), server.ask("GET", "/healthz"),
               server.http().publish(), server.ask("GET", "/sub")]
    client = server.http()
    client.send(request("GET", sub_target("alice", "news"),
                        {"Accept": "text/event-stream"}))
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in client.read_until(
        b"\r\n\r\n")
    for answer in answers:
        assert answer.field("X-Content-Type-Options") == "nosniff"
    assert server.ask("GET", "/").field("X-Content-Type-Options") is None


# --- proxies ------------------------------------------------------------------

def told(authority, server, **fields):
    """What AUTH_URL is told of a client."""
    token = "t%d" % len(server.clients)
    stream = server.event_stream(fields={
        "Authorization": "Bearer " + token, **fields})
    stream.close()
    _, _, asked, _ = authority.next_asked()
    return (asked.get("x-forwarded-for", [None])[0],
            asked.get("x-forwarded-proto", [None])[0])


def test_auth_url_is_told_the_scheme_and_no_client_can_say_it(start,
                                                              authority):
    server = start(AUTH_URL=authority.url)
    assert told(authority, server) == ("127.0.0.1", "http")
    assert told(authority, server, **{
        "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https",
        "Forwarded": "for=6.6.6.6"}) == ("127.0.0.1", "http")


def test_a_trusted_proxy_says_who_its_client_is(start, authority):
    server = start(AUTH_URL=authority.url,
                   TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8")
    assert told(authority, server) == ("127.0.0.1", "http")
    assert told(authority, server, **{
        "X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.1.1.1",
        "X-Forwarded-Proto": "https"}) == ("192.0.2.1", "https")
    assert told(authority, server, Forwarded='for="[2001:db8::7]:99";'
                'proto=https') == ("2001:db8::7", "https")
    assert told(authority, server, **{
        "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=6.6.6.6"}) == (
            "127.0.0.1", "http")


def test_guesses_are_counted_by_the_client_behind_the_proxy(start):
    server = start(TRUSTED_PROXIES="127.0.0.1")
    for _ in range(FREE):
        wrong(server, **{"X-Forwarded-For": "192.0.2.1"})
    begin = time.monotonic()
    assert wrong(server, **{"X-Forwarded-For": "192.0.2.2"}).field(
        "Connection") != "close"
    assert wrong(server, **{"X-Forwarded-For": "192.0.2.1"}).field(
        "Connection") == "close"
    assert time.monotonic() - begin >= LATE_S * 0.9
    events = server.events("password_wrong")
    assert {event["peer"] for event in events} <= {"192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize("list", ["unix,", "10.0.0.0/33", "proxy.example", "::1/x"])
def test_a_list_of_proxies_that_is_wrong_ends_the_start(list):
    result = run_to_its_end({"PASSWORD": "x", "PORT": 0,
                             "TRUSTED_PROXIES": list})
    assert result.returncode == 2 and "TRUSTED_PROXIES" in result.stderr


# --- the binary ---------------------------------------------------------------

HARDENING = os.path.join(ROOT, "scripts", "check", "hardening.sh")


@pytest.mark.skipif(os.environ.get("FLAVOUR", "release") != "release",
                    reason="a sanitizer's build is another")
def test_the_binary_is_hardened():
    result = subprocess.run([HARDENING, ISIMUD], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("flag, lacks", [
    ("-no-pie", "position-independent"), ("-Wl,-z,norelro", "RELRO"),
    ("-Wl,-z,lazy", "BIND_NOW"), ("-Wl,-z,execstack", "executable stack"),
    ("-fno-stack-protector", "stack protector"),
    ("-D_FORTIFY_SOURCE=0", "fortified"), ("-Wl,-rpath,/x", "RUNPATH")])
def test_a_binary_that_is_not_is_noticed(tmp_path, flag, lacks):
    """Each thing by itself, so that the check can fail for each."""
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text("""#include <string.h>
        int main(int n, char **v) { char b[64]; strcpy(b, v[0]); return b[n]; }
        """)
    flags = ["-O2", "-fPIE", "-pie", "-fstack-protector-strong",
             "-Wl,-z,relro,-z,now,-z,noexecstack", "-U_FORTIFY_SOURCE"]
    if "FORTIFY" not in flag:
        flags.append("-D_FORTIFY_SOURCE=2")
    subprocess.run(["gcc", *flags, flag, "-o", program, source], check=True)
    result = subprocess.run([HARDENING, program], capture_output=True,
                            text=True)
    assert result.returncode == 1 and lacks in result.stdout, result.stdout
    assert len(result.stdout.splitlines()) == 1, result.stdout
