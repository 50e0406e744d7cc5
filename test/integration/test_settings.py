"""Settings: environment, flags, files, and what is said when one is wrong."""
import os
import signal
import socket
import subprocess

import pytest

from client import DEADLINE, SCALE, basic, publish_request, request
from program import ISIMUD, LISTENING, WRAPPER, environment

GOOD = {"PASSWORD": "secret", "PORT": 0}


def run_to_its_end(settings, *arguments):
    return subprocess.run(WRAPPER + [ISIMUD, *arguments],
                          env=environment(settings),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=DEADLINE)


@pytest.mark.parametrize("name, value", [
    ("PASSWORD", None), ("PASSWORD", ""), ("AUTH_URL", ""),
    ("PORT", "99999"), ("PORT", "65536"), ("PORT", "-1"), ("PORT", "http"),
    ("PORT", "80 "), ("PORT", "0x50"),
    ("IP", "1.2.3"), ("IP", "1.2.3.4.5"), ("IP", "::g"),
    ("HOMEPAGE", "maybe"), ("HOMEPAGE", "2"),
    ("AUTH_URL", "ftp://x"), ("AUTH_URL", "example.com"),
    ("AUTH_URL", "/check"), ("AUTH_URL", "http://"),
    ("AUTH_URL", "file:///etc/passwd"),
    ("WORKERS", "0"), ("WORKERS", "-2"), ("ISIMUD_WORKERS", "two"),
    ("WORKERS", "1000000"),
    ("MAX_BODY", "1X"), ("MAX_BODY", "-1"), ("MAX_BODY", "K"),
    ("MAX_BODY", "1KK"), ("MAX_BODY", "99999999999999999999"),
    ("MAX_BUFFERED", "lots"), ("MAX_MAILBOX", "1.5.2M"),
    ("MAX_CONNECTIONS", "0"), ("MAX_CONNECTIONS", "many"),
    ("HEADER_TIMEOUT", "soon"), ("HEADER_TIMEOUT", "-1"),
    ("BODY_TIMEOUT", "nan"), ("WRITE_TIMEOUT", "inf"),
    ("IDLE_TIMEOUT", "1 minute"), ("CLOSE_TIMEOUT", "1e99"),
    ("PING_INTERVAL", "0"), ("AUTH_TIMEOUT", "0x10"),
    ("AUTH_MAX_CHECKS", "0"), ("ISIMUD_LOG_LEVEL", "loud"),
    ("AUTH_PER_TOPIC", "true"), ("AUTH_COOKIE", "true"),
    ("AUTH_CACHE_TTL", "forever"), ("AUTH_CACHE_ENTRIES", "0"),
    ("ALLOWED_ORIGINS", "example.com"),
    ("MAX_SUBSCRIPTIONS", "0"), ("MAX_SUBSCRIPTIONS", "1025"),
    ("SSE_RETRY", "0"), ("HISTORY_SIZE", "65537"),
    ("HISTORY_TTL", "-1"), ("HISTORY_BYTES", "65G"),
    ("IDEMPOTENCY_TTL", "1d"), ("IDEMPOTENCY_BYTES", "2G"),
    ("ISIMUD_LOG_FORMAT", "xml"), ("ADMIN_PORT", "65536"), ("ADMIN_PORT", "off"),
    ("UNIX_MODE", "0o660"), ("UNIX_MODE", "0066"), ("UNIX_MODE", "01777"),
    ("UNIX_MODE", "0668"), ("UNIX_MODE", "rw"), ("UNIX_MODE", "00660"),
    ("DRAIN_SECONDS", "3601"), ("DRAIN_SECONDS", "-1"),
    ("MEMORY_LIMIT", "80%"),
    ("LISTEN", "3000"), ("LISTEN", "local:3000"), ("LISTEN", ","),
    ("LISTEN", "unix:socket"), ("LISTEN", "unix:/" + 107 * "x"),
    ("LISTEN", "127.0.0.1:3000,::1:3000"),
    ("LISTEN", ",".join(9 * ["127.0.0.1:0"])),
    ("ISIMUD_PORT", "http"), ("ISIMUD_PASSWORD", ""),
    ("ISIMUD_PASWORD", "x"), ("ISIMUD_", "x"), ("ISIMUD_SERVICE", "x"),
    ("ISIMUD_AUTH_URL", ""), ("ISIMUD_PORT", "udp:x"),
    ("ISIMUD_HOMEPAGE", "https://example.com"),
])
def test_a_bad_setting_is_one_line_and_status_2(name, value):
    result = run_to_its_end({**GOOD, name: value})
    assert_refused(result)
    assert name.removeprefix("ISIMUD_") in result.stderr


def assert_refused(result):
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
    assert not LISTENING.search(result.stderr.rstrip())


# --- how they are given


def effective(settings, *arguments, says=""):
    """The settings that --check-config says are in force; `says` is in the one
    line on stderr, if there is to be one."""
    result = run_to_its_end(settings, "--check-config", *arguments)
    assert result.returncode == 0, result.stderr
    assert says in result.stderr
    assert result.stderr.count("\n") == bool(says), result.stderr
    return dict(line.split("=", 1) for line in result.stdout.splitlines()
                if "=" in line)


def test_the_prefix_wins_over_the_plain_name_and_a_flag_over_both():
    plain = {**GOOD, "PORT": 1}
    assert effective(plain)["PORT"] == "1"
    prefixed = {**plain, "ISIMUD_PORT": 2}
    assert effective(prefixed)["PORT"] == "2"
    assert effective(prefixed, "--port", "3")["PORT"] == "3"
    assert effective(prefixed, "--port=4")["PORT"] == "4"


def test_an_empty_variable_is_unset():
    defaults = effective({"PASSWORD": "x"})
    for name in defaults.keys() - {"PASSWORD"} | {"PASSWORD_FILE", "LISTEN",
                                                  "HISTORY_FILE"}:
        assert effective({"PASSWORD": "x", name: "",
                          "ISIMUD_" + name: ""}) == defaults
    assert effective({**GOOD, "PORT": 4000, "ISIMUD_PORT": ""})[
        "PORT"] == "4000"


def test_values_are_understood_as_people_write_them():
    settings = effective({
        **GOOD, "IP": "localhost", "LOG_LEVEL": "WARN", "LOG_FORMAT": "JSON",
        "MAX_BODY": "64Mi", "MAX_BUFFERED": "64MiB", "MAX_MAILBOX": "64MB",
        "PING_INTERVAL": "500ms", "IDLE_TIMEOUT": "10s", "HISTORY_TTL": "2m",
        "AUTH_CACHE_TTL": "1h"})
    assert settings["IP"] == "127.0.0.1"
    assert settings["LOG_LEVEL"] == "warn"
    assert settings["LOG_FORMAT"] == "json"
    assert {settings[name] for name in (
        "MAX_BODY", "MAX_BUFFERED", "MAX_MAILBOX")} == {str(64 << 20)}
    assert [settings[name] for name in (
        "PING_INTERVAL", "IDLE_TIMEOUT", "HISTORY_TTL",
        "AUTH_CACHE_TTL")] == ["0.5", "10", "120", "3600"]


@pytest.mark.parametrize("name, value", [
    ("LOG_LEVEL", "trace"), ("LOG_LEVEL", "info,hyper=warn"),
    ("LOG_FORMAT", "logfmt"), ("HOMEPAGE", "https://example.com"),
    ("PORT", "tcp://10.0.0.1:80"), ("ADMIN_PORT", "tcp://10.0.0.1:80"),
    ("IP", "10.0.0.0/8"), ("LISTEN", "yes"), ("WORKERS", "auto")])
def test_what_others_mean_by_a_name_is_a_warning(name, value):
    defaults = effective({"PASSWORD": "x"})
    assert effective({"PASSWORD": "x", name: value},
                     says=f"{name} is ignored") == defaults
    # No word of it where there is one of ours.
    ours = {"LISTEN": "127.0.0.1:3000", "ADMIN_PORT": "9090"}.get(
        name, defaults.get(name))
    assert effective({"PASSWORD": "x", name: value, "ISIMUD_" + name: ours})[
        name] == ours
    assert value not in run_to_its_end({**GOOD, name: value},
                                       "--check-config").stderr


def test_a_server_warns_of_it_and_serves(start):
    server = start(LOG_LEVEL="trace", HOMEPAGE="https://example.com")
    assert "LOG_LEVEL is ignored" in server.text()
    assert "HOMEPAGE is ignored" in server.text()
    assert server.ask("GET", "/").status == 303


def test_what_kubernetes_makes_of_a_service_is_one_warning(start):
    links = {"ISIMUD_SERVICE_HOST": "10.0.0.1", "ISIMUD_SERVICE_PORT": "80",
             "ISIMUD_SERVICE_PORT_HTTP": "80",
             "ISIMUD_PORT": "tcp://10.0.0.1:80",
             "ISIMUD_PORT_80_TCP": "tcp://10.0.0.1:80",
             "ISIMUD_PORT_80_TCP_PROTO": "tcp",
             "ISIMUD_PORT_80_TCP_PORT": "80",
             "ISIMUD_PORT_80_TCP_ADDR": "10.0.0.1",
             "ISIMUD_ADMIN_PORT": "tcp://10.0.0.2:80"}
    server = start(**links)
    warnings = [line for line in server.lines if " warn " in line]
    assert len(warnings) == 1 and "enableServiceLinks: false" in warnings[0]
    assert "9 variables" in warnings[0]
    assert effective({**GOOD, "PORT": "4000", **links},
                     says="enableServiceLinks")["PORT"] == "4000"


def test_a_server_takes_its_settings_with_the_prefix(start):
    server = start(HOMEPAGE="true", ISIMUD_HOMEPAGE="false",
                   PASSWORD=None, ISIMUD_PASSWORD="secret")
    assert server.ask("GET", "/").status == 404
    assert server.http().publish().status == 200


def test_every_setting_can_be_a_flag():
    names = effective(GOOD).keys() - {"PASSWORD"}
    help_text = run_to_its_end({}, "--help").stdout
    for name, value in effective(GOOD).items():
        flag = "--" + name.lower().replace("_", "-")
        assert f"  {flag} " in help_text
        if name in names:
            assert effective(GOOD, flag, value)[name] == value
    assert effective({"PORT": 0}, "--password", "x")["PASSWORD"] == "***"


@pytest.mark.parametrize("arguments, says", [
    (["--prot", "80"], "--prot "), (["--prot=80"], "--prot "),
    (["--port"], "--port needs a value"),
    (["--homepage"], "--homepage needs a value"),
    (["--port", "--ip=::1"], "--port needs a value"),
    (["--port="], "PORT must not be empty"),
    (["--port", "http"], "PORT "),
    (["start"], "argument 1"), (["--port", "1", "2"], "argument 3"),
    (["-h"], "argument 1"), ([""], "argument 1"),
    (["--help", "--version"], "--version"),
])
def test_bad_arguments_are_one_line_and_status_2(arguments, says):
    result = run_to_its_end(GOOD, *arguments)
    assert_refused(result)
    assert says in result.stderr


@pytest.mark.parametrize("arguments", [
    ["hush"], ["--pasword=hush"], ["--pasword", "hush"], ["-phush"],
    ["--password", "very", "hush"], ["--port=hush"], ["--auth-url=hush"],
    ["--listen=unix:hush"],
])
def test_a_misplaced_password_is_not_repeated(arguments):
    result = run_to_its_end(GOOD, *arguments)
    assert_refused(result)
    assert "hush" not in result.stderr


def test_help_and_version_need_no_settings():
    result = run_to_its_end({"ISIMUD_X": "wrong"}, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert "--password-file" in result.stdout and "usage:" in result.stdout
    result = run_to_its_end({"ISIMUD_X": "wrong"}, "--version")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("isimud ")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize("settings", [
    {"PORT": 1}, {**GOOD, "PORT": "x"}, {**GOOD, "ISIMUD_X": "1"},
    {**GOOD, "AUTH_URL": "ftp://x"}, {**GOOD, "PASSWORD_FILE": "/dev/null"},
    {"PASSWORD_FILE": "/nonexistent"},
])
def test_check_config_of_bad_settings_is_status_2(settings):
    assert_refused(run_to_its_end(settings, "--check-config"))


@pytest.fixture
def memory_group():
    """A memory cgroup (version 1) below our own, limited to 250 MB."""
    try:
        with open("/proc/self/cgroup") as groups:
            own, = [line.rstrip("\n").split(":", 2)[2] for line in groups
                    if ":memory:" in line]
        path = f"/sys/fs/cgroup/memory{own}/isimud-test-{os.getpid()}"
        os.mkdir(path)
    except (ValueError, OSError):
        pytest.skip("no cgroup of version 1 can be made here")
    try:
        with open(path + "/memory.limit_in_bytes", "w") as limit:
            limit.write("250000000")
        yield path
    finally:
        os.rmdir(path)


def test_the_memory_limit_is_80_percent_of_the_cgroups_and_bounds_history(
        memory_group):
    def enter():
        with open(memory_group + "/cgroup.procs", "w") as processes:
            processes.write("0")

    with open(memory_group + "/memory.limit_in_bytes") as limit:
        expected = int(limit.read()) // 5 * 4  # it was cut to pages
    result = subprocess.run(WRAPPER + [ISIMUD, "--check-config"],
                            env=environment(GOOD), capture_output=True,
                            text=True, timeout=DEADLINE, preexec_fn=enter)
    assert f"\nMEMORY_LIMIT={expected}\n" in result.stdout
    assert f"\nHISTORY_BYTES={expected // 4}\n" in result.stdout


# --- secrets


def password_file(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    return path


def publish_with(server, password):
    """The status of a publication with that password."""
    return server.http().publish(
        fields={"Authorization": basic("alice", password)}).status


@pytest.mark.parametrize("content", [b"from a file", b"from a file\n",
                                     b"from a file\r\n"])
def test_the_password_may_come_from_a_file(start, tmp_path, content):
    server = start(PASSWORD=None,
                   PASSWORD_FILE=password_file(tmp_path, content))
    assert publish_with(server, "from a file") == 200
    assert publish_with(server, "from a file\n") == 401
    assert publish_with(server, "secret") == 401


@pytest.mark.parametrize("content", [b"", b"\n", 8193 * b"x", b"a\nb\nc"])
def test_a_bad_password_file_is_one_line_and_status_2(tmp_path, content):
    path = password_file(tmp_path, content)
    result = run_to_its_end({"PORT": 0, "PASSWORD_FILE": path})
    assert_refused(result)
    assert "PASSWORD_FILE" in result.stderr


def test_password_and_password_file_together_are_refused(tmp_path):
    path = password_file(tmp_path, b"secret")
    result = run_to_its_end({**GOOD, "PASSWORD_FILE": path})
    assert_refused(result)
    assert "both" in result.stderr


def reload(server, says):
    mark = len(server.lines)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_line(says, after=mark)


def test_sighup_reads_the_password_again_and_keeps_connections(
        start, tmp_path):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    subscriber = server.subscribe()
    assert publish_with(server, "old") == 200
    path.write_bytes(b"new\n")
    reload(server, "the password was read again")
    assert publish_with(server, "old") == 401
    assert publish_with(server, "new") == 200
    assert [subscriber.receive() for _ in range(2)] == ["hello", "hello"]


def test_sighup_refuses_the_old_password_on_connections_that_were_open(
        start, tmp_path):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    client = server.http()
    old = {"Authorization": basic("alice", "old")}
    assert client.publish(fields=old).status == 200
    path.write_bytes(b"new\n")
    reload(server, "the password was read again")
    assert client.publish(fields=old).status == 401


@pytest.mark.parametrize("content", [None, b"", b"\n", 8193 * b"x"])
def test_sighup_with_a_bad_file_says_so_and_keeps_the_password(
        start, tmp_path, content):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    reload(server, "PASSWORD_FILE")
    assert publish_with(server, "old") == 200


def wait_until_taken(server, password):
    server.wait_until(lambda: publish_with(server, password) == 200,
                      "the new password")


def test_a_changed_file_is_read_without_a_signal(start, tmp_path):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    assert publish_with(server, "old") == 200
    path.write_bytes(b"new\n")
    wait_until_taken(server, "new")
    assert publish_with(server, "old") == 401
    assert "PASSWORD_FILE has changed" in server.text()


def test_so_it_is_while_draining(start, tmp_path):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path, DRAIN_SECONDS=40 * SCALE)
    subscriber = server.subscribe()
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    path.write_bytes(b"new\n")
    wait_until_taken(server, "new")
    assert publish_with(server, "old") == 401
    subscriber.close()


def test_so_is_a_link_that_is_swapped_as_kubernetes_does(start, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "password").write_text(name)
    data = tmp_path / "..data"
    data.symlink_to("one")
    path = tmp_path / "password"
    path.symlink_to("..data/password")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    assert publish_with(server, "one") == 200
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").rename(data)
    wait_until_taken(server, "two")
    assert publish_with(server, "one") == 401


def test_a_file_of_two_lines_has_two_passwords(start, tmp_path):
    """Rotation without a publication refused: new and old, then new alone. A
    session of isimud.v1 goes on as long as its password does."""
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    session = server.websocket(
        subprotocols=["isimud.v1"],
        fields={"Authorization": basic("alice", "old")})
    path.write_bytes(b"new\nold\n")
    wait_until_taken(server, "new")
    assert publish_with(server, "old") == 200
    assert publish_with(server, "new\nold") == 401
    answer = session.command("publish", topic="news", data="x")
    assert answer["type"] == "published"
    path.write_bytes(b"new\n")
    server.wait_until(lambda: publish_with(server, "old") == 401, "its end")
    assert publish_with(server, "new") == 200
    answer = session.command("publish", topic="news", data="x")
    assert answer["code"] == "forbidden"


def test_a_file_that_is_no_use_is_said_once_and_the_old_password_stays(
        start, tmp_path):
    path = password_file(tmp_path, b"old\n")
    server = start(PASSWORD=None, PASSWORD_FILE=path)
    path.write_bytes(b"")
    server.wait_for_line("the old password stays: PASSWORD_FILE has no "
                         "password")
    path.unlink()
    server.wait_for_line("the old password stays: PASSWORD_FILE can't be "
                         "read: no such file")
    assert publish_with(server, "old") == 200
    path.write_bytes(b"new\n")
    wait_until_taken(server, "new")
    assert server.text().count("old password stays") == 2


def test_the_longest_password_fits_into_a_request(start):
    server = start(PASSWORD=8192 * "x")
    answer = server.http().publish(fields={
        "Authorization": basic(1024 * "p", 8192 * "x")})
    assert answer.status == 200
    result = run_to_its_end({"PORT": 0, "PASSWORD": 8193 * "x"})
    assert_refused(result)
    assert "PASSWORD is over 8192 bytes" in result.stderr


def test_sighup_without_a_file_changes_nothing(start):
    server = start()
    reload(server, "password")
    assert server.http().publish().status == 200


def test_a_start_logs_the_settings_in_one_line_without_secrets(start):
    secrets = {"PASSWORD": "hush1",
               "AUTH_URL": "http://user:hush2@127.0.0.1:9/a?key=hush3"}
    server = start(**secrets, MAX_BODY="2K")
    line, = [line for line in server.lines if "settings:" in line]
    assert " PASSWORD=*** " in line and " MAX_BODY=2048 " in line
    assert " AUTH_URL=http://***@127.0.0.1:9/a?*** " in line
    assert publish_with(server, "hush1") == 200
    server.stop()
    assert "hush" not in server.text()
    result = run_to_its_end({**GOOD, **secrets}, "--check-config")
    assert result.returncode == 0
    assert "hush" not in result.stdout + result.stderr


# --- where it listens


def test_a_taken_port_is_one_line_and_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_to_its_end({**GOOD, "PORT": port})
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    assert len(errors) == 1 and str(port) in errors[0]


def test_a_given_port_is_listened_on(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert start(PORT=port).address == ("127.0.0.1", port)


def test_the_default_address_is_loopback(start):
    assert start(IP=None).address[0] == "127.0.0.1"


def test_another_address_is_listened_on(start):
    server = start(IP="127.0.0.2")
    assert server.address[0] == "127.0.0.2"
    assert server.ask("GET", "/").status == 303
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.address[1]))


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_an_ipv6_address_is_listened_on(start):
    server = start(IP="::1")
    assert server.ask("GET", "/").status == 303


@pytest.mark.parametrize("size", [2048, "2K", "2k"])
def test_max_body_sets_the_limit_of_a_body(start, size):
    server = start(MAX_BODY=size)
    body = b'{"topic":"a","data":"%b"}'
    fits = body % (b"x" * (2048 - len(body) + 2))
    assert len(fits) == 2048
    assert server.http().publish(body=fits).status == 200
    assert server.http().publish(body=fits + b" ").status == 413


def test_each_worker_is_a_thread_of_the_set_number(start):
    server = start(WORKERS=3)
    assert len(server.report()[1]) == 3


def test_a_full_mailbox_is_answered_503_and_nothing_else_is_lost(start):
    server = start(MAX_MAILBOX="1K", WORKERS=1)
    subscriber = server.subscribe()
    texts = [f"{i:0900}" for i in range(200)]
    client = server.http()
    client.send(b"".join(publish_request(data=text) for text in texts))
    statuses = [client.response().status for _ in texts]
    assert set(statuses) == {200, 503}
    taken = [t for t, status in zip(texts, statuses) if status == 200]
    assert [subscriber.receive() for _ in taken] == taken
    server.publish("alice", "news", "after")
    assert subscriber.receive() == "after"
