"""`isimud pub`, `sub`, `topics` and the others that are clients: the real
program against real servers, and against fakes where those behave too well."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from client import DEADLINE, PASSWORD
from program import ISIMUD, ROOT, WRAPPER, Server, environment
from test_healthcheck import Fake


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Command:
    """A running `isimud NAME …`; its output is read by threads."""

    def __init__(self, *arguments, stdin=subprocess.DEVNULL, program=ISIMUD,
                 **settings):
        self.process = subprocess.Popen(
            WRAPPER + [program, *map(str, arguments)], stdin=stdin,
            env=environment({"PASSWORD": PASSWORD, **settings}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = {"stdout": [], "stderr": []}
        self.ended = {"stdout": False, "stderr": False}
        self.news = threading.Condition()
        self.threads = [threading.Thread(target=self.read, args=(name,),
                                         daemon=True) for name in self.lines]
        for thread in self.threads:
            thread.start()

    def read(self, name):
        for line in getattr(self.process, name):
            with self.news:
                self.lines[name].append(line.rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.ended[name] = True
            self.news.notify_all()

    def expect(self, count, name="stdout"):
        """The first `count` lines, waited for."""
        with self.news:
            self.news.wait_for(lambda: len(self.lines[name]) >= count
                               or self.ended[name], DEADLINE)
            assert len(self.lines[name]) >= count, self.lines
            return self.lines[name][:count]

    def expect_text(self, pattern, name="stderr"):
        def found():
            return re.search(pattern, "\n".join(self.lines[name]))

        with self.news:
            assert self.news.wait_for(found, DEADLINE), self.lines

    def wait(self):
        status = self.process.wait(DEADLINE)
        for thread in self.threads:
            thread.join(DEADLINE)
        return status

    def finish(self, status=0):
        """Its output, once it has ended with `status`."""
        assert self.wait() == status, self.lines
        return "".join(line + "\n" for line in self.lines["stdout"])

    def kill(self):
        self.process.kill()
        self.wait()


@pytest.fixture
def command():
    """command(…) starts one; it is killed at the test's end."""
    started = []

    def begin(*arguments, **kwargs):
        started.append(Command(*arguments, **kwargs))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


def run(*arguments, status=0, text=None, **settings):
    """Runs one to its end. Returns stdout, or stderr where that says why."""
    done = subprocess.run(
        WRAPPER + [ISIMUD, *map(str, arguments)], timeout=DEADLINE, text=True,
        env=environment({"PASSWORD": PASSWORD, **settings}),
        capture_output=True,
        **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}))
    assert done.returncode == status, done
    return done.stderr if status else done.stdout


def url(server, user="news@"):
    return "http://%s%s:%d" % (user, *server.address)


def wait_for_subscribers(server, count):
    server.wait_until(
        lambda: sum(value for name, value in server.metrics().items()
                    if name.startswith("isimud_subscriptions{")) >= count,
        f"{count} subscriptions")


# --- pub and sub


def test_what_is_published_is_printed(server, command):
    sub = command("sub", "--url", url(server), "--count", 3, "a", "b/c")
    wait_for_subscribers(server, 2)
    assert run("pub", "--url", url(server), "a", "1 : 0") == ""
    sub.expect(1)
    run("pub", "--url", url(server), "--json", "b/c", '{"x": [1, "é"]}')
    sub.expect(2)
    run("pub", "--url", url(server), "a", text="from a pipe\n")
    assert sub.finish() == '1 : 0\n{"x":[1,"é"]}\nfrom a pipe\n'
    assert sub.lines["stderr"] == []


def test_json_prints_whole_messages(server, command):
    sub = command("sub", "--url", url(server), "--json", "--count", 1, "t")
    wait_for_subscribers(server, 1)
    receipt = json.loads(run("pub", "--url", url(server), "--receipts",
                             "--event", "goal", "--traceparent", TRACE,
                             "t", "x"))
    assert receipt["subscribers"] == 1
    assert json.loads(sub.finish()) == {
        "type": "message", "publisher": "news", "topic": "t",
        "id": receipt["id"], "event": "goal", "traceparent": TRACE,
        "data": "x"}


def test_lines_are_messages_and_each_has_a_receipt(server, command):
    sub = command("sub", "--url", url(server), "--count", 1000, "lines")
    wait_for_subscribers(server, 1)
    lines = [f"line {i} " + "x" * (i % 700) for i in range(999)] + ["last"]
    receipts = run("pub", "--url", url(server), "--lines", "--receipts",
                   "lines", text="\r\n".join(lines)).splitlines()
    assert [int(json.loads(receipt)["id"].rpartition("-")[2])
            for receipt in receipts] == list(range(1, 1001))
    assert sub.finish().splitlines() == lines


def test_a_line_goes_out_before_the_next_one_is_there(server, command):
    sub = command("sub", "--url", url(server), "slow")
    wait_for_subscribers(server, 1)
    pub = command("pub", "--url", url(server), "--lines", "slow",
                  stdin=subprocess.PIPE)
    for count, line in enumerate(["one", "two"], 1):
        pub.process.stdin.write(line + "\n")
        pub.process.stdin.flush()
        assert sub.expect(count)[-1] == line
    pub.process.stdin.close()
    pub.finish()


def test_a_key_publishes_once(server):
    for _ in range(2):
        receipts = run("pub", "--url", url(server), "--key", "k", "--receipts",
                       "--lines", "once", text="a\nb\n").splitlines()
        assert [json.loads(receipt)["id"].rpartition("-")[2]
                for receipt in receipts] == ["1", "2"]


def test_last_and_since_begin_in_the_history(server):
    receipts = [json.loads(line) for line in run(
        "pub", "--url", url(server), "--lines", "--receipts", "h",
        text="a\nb\nc\n").splitlines()]
    assert run("sub", "--url", url(server), "--last", 2, "--count", 2,
               "h") == "b\nc\n"
    assert run("sub", "--url", url(server), "--since", receipts[0]["id"],
               "--count", 2, "h") == "b\nc\n"


def test_sub_goes_on_where_it_was_over_a_restart(start, command, tmp_path):
    settings = {"HISTORY_FILE": tmp_path / "history", "PORT": free_port()}
    first = start(**settings)
    sub = command("sub", "--url", url(first), "--count", 3, "t")
    wait_for_subscribers(first, 1)
    run("pub", "--url", url(first), "t", "before")
    sub.expect(1)
    first.stop()
    second = start(**settings)
    run("pub", "--url", url(second), "--lines", "t", text="1\n2\n")
    assert sub.finish() == "before\n1\n2\n"
    assert not any("lost" in line for line in sub.lines["stderr"])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.parametrize("exact", [False, True])
def test_a_loss_is_told(start, command, exact):
    port = free_port()
    first = start(PORT=port)
    sub = command("sub", "--url", url(first), *["--exact"] * exact, "t")
    wait_for_subscribers(first, 1)
    run("pub", "--url", url(first), "t", "before")
    sub.expect(1)
    first.stop()
    second = start(PORT=port)
    if exact:
        assert sub.wait() == 5
    else:
        sub.expect_text("t: messages were lost")
        wait_for_subscribers(second, 1)
        run("pub", "--url", url(second), "t", "after")
        assert sub.expect(2)[1] == "after"


def test_sub_ends_where_nobody_publishes(server):
    assert run("sub", "--url", url(server), "--timeout", 0.3, "t",
               status=4) == ""


def test_sub_ends_with_the_connection_if_it_is_told_so(start, command):
    server = start()
    sub = command("sub", "--url", url(server), "--no-retry", "t")
    wait_for_subscribers(server, 1)
    server.terminate()
    assert sub.wait() == 1
    assert "1001" in sub.lines["stderr"][0]


@pytest.mark.skipif(bool(WRAPPER), reason="the wrapper's status, not ours")
def test_a_reader_that_leaves_ends_sub(server):
    reader, writer = os.pipe()
    sub = subprocess.Popen([ISIMUD, "sub", "--url", url(server), "t"],
                           stdin=subprocess.DEVNULL, stdout=writer,
                           env=environment({}))
    try:
        wait_for_subscribers(server, 1)
        os.close(writer)
        os.close(reader)
        run("pub", "--url", url(server), "t", "x")
        assert sub.wait(DEADLINE) == -signal.SIGPIPE
    finally:
        sub.kill()
        sub.wait()


def test_tokens_are_shown_and_refused(start, authority, command):
    authority.rules["bad"] = refuse
    server = start(AUTH_URL=authority.url)
    assert "4403" in run("sub", "--url", url(server), "--token", "bad", "t",
                         status=3)
    assert "4401" in run("sub", "--url", url(server), "t", status=3)
    command("sub", "--url", url(server), "t", ISIMUD_TOKEN="good")
    wait_for_subscribers(server, 1)


def refuse(peer, _authority):
    peer.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")


# --- what goes wrong


@pytest.mark.parametrize("arguments, status, says", [
    (["t", "x"], 0, ""),
    (["--json", "t", "{x}"], 2, "JSON"),
    (["--event", "reset", "t", "x"], 2, "--event"),
    (["--traceparent", "x", "t", "x"], 2, "--traceparent"),
    (["--key", "a b", "t", "x"], 2, "--key"),
    (["--lines", "t", "x"], 2, "--lines"),
    (["--kye=a", "t", "x"], 2, "--kye is no option"),
    (["t", "x", "y"], 2, "usage: isimud pub"),
    ([], 2, "usage: isimud pub"),
])
def test_pub_says_what_is_wrong(server, arguments, status, says):
    assert says in run("pub", "--url", url(server), *arguments, status=status)


def test_the_line_that_is_wrong_is_named(server):
    said = run("pub", "--url", url(server), "--json", "--lines", "t",
               text='1\n{"a"}\n3\n', status=2)
    assert "line 2" in said
    said = run("pub", "--url", url(server, ""), "t", "x", status=2)
    assert "--publisher" in said


def test_a_wrong_password_is_refused(server, tmp_path):
    assert "401" in run("pub", "--url", url(server), "t", "x", status=3,
                        PASSWORD="wrong")
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    run("pub", "--url", url(server), "--password-file", file, "t", "x",
        PASSWORD="wrong")
    assert "--password-file" in run(
        "pub", "--url", url(server), "--password-file", tmp_path / "none",
        "t", "x", status=2)
    assert "no password" in run("pub", "--url", url(server), "t", "x",
                                status=2, PASSWORD=None)


def test_a_server_that_is_not_there_is_said_at_once():
    place = f"http://news@127.0.0.1:{free_port()}"
    assert "connection refused" in run("pub", "--url", place, "t", "x",
                                       status=1)
    assert "connection refused" in run("topics", "--url", place, status=1)
    assert "TLS" in run("pub", "--url", "https://x", "t", "x", status=2)


class BusyAtFirst(Fake):
    """Reads requests to their ends; the first is answered 503."""

    def serve_one(self, client):
        with client, client.makefile("rb") as lines:
            client.settimeout(DEADLINE)
            while first := lines.readline():
                head = first + b"".join(iter(lines.readline, b"\r\n"))
                lines.read(int(re.search(rb"Content-Length: (\d+)",
                                         head).group(1)))
                self.requests.append(head)
                status = 503 if len(self.requests) == 1 else 200
                client.sendall(b"HTTP/1.1 %d So\r\nContent-Length: 2\r\n\r\n"
                               b"{}" % status)


def test_pub_waits_for_a_server_that_is_busy():
    with BusyAtFirst(b"") as fake:
        run("pub", "--url", f"http://news@127.0.0.1:{fake.port}", "t", "x")
        keys = {re.search(rb"Idempotency-Key: (\S+)", head).group(1)
                for head in fake.requests}
    assert len(fake.requests) == 2 and len(keys) == 1


@pytest.mark.parametrize("answer", [
    b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n"
    b"Sec-WebSocket-Protocol: isimud.v1\r\n\r\n"])
def test_sub_speaks_to_nothing_else(answer):
    with Fake(answer) as fake:
        said = run("sub", "--no-retry", "t", "--url",
                   f"http://news@127.0.0.1:{fake.port}", status=1)
    assert "answer" in said


@pytest.mark.parametrize("status, ends_with", [
    (401, 3), (403, 3), (404, 3), (421, 3),  # coming back is of no use
    (408, 1), (429, 1), (500, 1), (503, 1)])
def test_sub_tells_what_is_answered_instead_of_a_websocket(status, ends_with):
    body = b'{"error":"Why it is not"}'
    with Fake(b"HTTP/1.1 %d So\r\nContent-Length: %d\r\n\r\n%s" % (
            status, len(body), body)) as fake:
        said = run("sub", "--no-retry", "t", "--url",
                   f"http://news@127.0.0.1:{fake.port}", status=ends_with)
    assert f"answers {status}: Why it is not" in said


def test_sub_tells_that_a_name_is_too_long(server):
    said = run("sub", "--url", url(server), "t" * 2000, status=3)
    assert "1024" in said or "1 KiB" in said, said


def test_a_server_is_found_by_its_name(server, command):
    place = f"http://news@localhost:{server.address[1]}"
    sub = command("sub", "--url", place, "sports")
    wait_for_subscribers(server, 1)
    run("pub", "--url", place, "sports", "by name")
    assert sub.expect(1) == ["by name"]
    assert run("sub", "--no-retry", "--url", "http://news@nobody.invalid:1",
               "t", status=1)


# --- which server


def test_it_finds_the_server_beside_it(start, tmp_path):
    """By its flags and environment, its password included."""
    program = str(tmp_path / "isimud")
    shutil.copy(ISIMUD, program)
    server = Server(program, PORT=0, LISTEN=f"unix:{tmp_path}/socket")
    try:
        done = subprocess.run([program, "pub", "--publisher", "news", "t",
                               "x"], env=environment({}), timeout=DEADLINE,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        listed = subprocess.run([program, "topics", "--all"], text=True,
                                env=environment({}), timeout=DEADLINE,
                                capture_output=True)
        assert listed.returncode == 0 and "news  t" in listed.stdout
    finally:
        server.stop()


def test_the_environment_names_a_server(server):
    run("pub", "t", "x", ISIMUD_URL=url(server, ""), ISIMUD_PUBLISHER="news")
    assert "ISIMUD_URL" in run("pub", "t", "x", ISIMUD_URL="ftp://x",
                               status=2)


def test_a_server_ignores_what_is_for_its_clients(start):
    start(ISIMUD_URL="http://x", ISIMUD_PUBLISHER="p", ISIMUD_TOKEN="t")


# --- topics


def test_topics_are_listed_over_pages(server):
    names = [f"topic {i:04}" for i in range(1100)]
    for name in names:
        server.publish("lister", name, "x")
    place = url(server, "lister@")
    listed = run("topics", "--url", place).splitlines()
    assert "TOPIC" in listed[0]
    assert sorted(line[-10:] for line in listed[1:]) == names
    entries = [json.loads(line) for line in
               run("topics", "--url", place, "--json").splitlines()]
    assert sorted(entry["topic"] for entry in entries) == names
    one = json.loads(run("topics", "--url", place, "--json", names[7]))
    assert one["topic"] == names[7] and one["history"] == 1
    assert "404" in run("topics", "--url", place, "none", status=3)


# --- top


def test_top_shows_what_the_server_does(start, command):
    server = start(ADMIN_PORT=0, WORKERS=2)
    admin = "http://%s:%d" % server.admin
    command("sub", "--url", url(server), "t")
    server.wait_until(lambda: "subscribers 1 " in re.sub(" +", " ", run(
        "top", "--once", "--interval", 0.05, "--url", admin)), "a subscriber")
    run("pub", "--url", url(server), "t", "x")
    shown = run("top", "--once", "--interval", 0.05, "--url", admin)
    assert shown.startswith("isimud ") and ", 2 workers" in shown
    assert re.search(r"^subscribers +1 +websocket 1, ", shown, re.MULTILINE)
    assert re.search(r"^ +1 +\d", shown, re.MULTILINE)  # the second worker
    assert re.search(r"^200 +[\d.]+ +\d+$", shown, re.MULTILINE)
    assert "\033" not in shown


def test_top_asks_the_main_listener_with_the_password(server):
    assert "published/s" in run("top", "--once", "--interval", 0.05,
                                "--url", url(server))
    assert "401" in run("top", "--once", "--url", url(server), status=3,
                        PASSWORD="wrong")


@pytest.mark.skipif(bool(WRAPPER), reason="the wrapper's status, not ours")
def test_top_is_refreshed_in_place_on_a_terminal(server):
    ours, theirs = os.openpty()
    top = subprocess.Popen([ISIMUD, "top", "--interval", "0.05", "--url",
                            url(server)], stdin=subprocess.DEVNULL,
                           stdout=theirs, env=environment(
                               {"PASSWORD": PASSWORD}))
    try:
        os.close(theirs)
        shown = b""
        while shown.count(b"\033[H") < 3:
            shown += os.read(ours, 4096)
        assert shown.count(b"\033[2J") == 1
    finally:
        top.kill()
        top.wait()
        os.close(ours)


# --- help


COMMANDS = ("pub", "sub", "topics", "top", "bench", "reload", "healthcheck", "completion",
            "help")


def test_every_command_explains_itself():
    listed = run("help")
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        shown = run(name, "--help")
        assert shown.startswith(f"usage: isimud {name}")
        assert shown == run("help", name)
        assert max(map(len, shown.splitlines())) <= 80
        if name in ("pub", "sub", "topics", "top", "bench"):
            assert "--url URL" in shown and "examples:" in shown
            assert "exit status:" in shown


def complete(*words):
    """What bash makes of Tab behind the last of `words`."""
    script = (f'PATH={os.path.dirname(ISIMUD)}:$PATH; '
              'source <(isimud completion bash); compopt() { :; }; '
              'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
              'COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; _isimud; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "bash", *words], text=True,
                          capture_output=True, timeout=DEADLINE, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(bool(WRAPPER), reason="bash runs the program itself")
def test_bash_completes_commands_options_and_settings():
    assert set(complete("isimud", "pu")) == {"pub "}
    assert {"--key=", "--json ", "--url="} <= set(
        complete("isimud", "pub", "--"))
    assert complete("isimud", "sub", "--co") == ["--count="]
    assert complete("isimud", "--max-b") == ["--max-body=", "--max-buffered="]
    assert complete("isimud", "completion", "z") == ["zsh "]
    assert complete("isimud", "bench", "la") == ["latency "]


@pytest.mark.skipif(bool(WRAPPER), reason="bash runs the program itself")
def test_bash_completes_topics_of_the_server(server, tmp_path):
    evil = f"$(touch {tmp_path}/done)`touch {tmp_path}/done`"
    for topic in ("completed one", "completed.two", "complete:d", evil,
                  "completed \n line", "other"):
        server.publish("tabs", topic, "x")
    url = "--url=http://tabs:secret@%s:%d" % server.address
    for name in ("pub", "sub", "topics"):
        assert sorted(complete("isimud", name, url, "completed")) == [
            "completed.two ", "completed\\ one "]
    assert complete("isimud", "sub", url, "other", "completed.") == [
        "completed.two "]
    assert any("touch" in one and one.startswith("\\$\\(") for one in
               complete("isimud", "sub", url, ""))
    assert not os.path.exists(tmp_path / "done")
    # The shell takes the part behind the colon for the word.
    assert complete("isimud", "sub", url, "complete:d") == ["complete:d "]
    # Nobody there, or a wrong password: there are none, and nothing is said.
    for place in ("http://127.0.0.1:1", "http://tabs:wrong@%s:%d"
                  % server.address):
        assert complete("isimud", "sub", "--url=" + place, "completed") == [""]


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh_takes_its_script():
    script = run("completion", "zsh")
    done = subprocess.run(
        ["zsh", "-f", "-c", "autoload -U compinit; compinit -u -D; "
         'eval "$1"; print $_comps[isimud]', "zsh", script],
        stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "_isimud\n" and done.stderr == "", done


@pytest.mark.skipif(not shutil.which("zsh") or bool(WRAPPER),
                    reason="no zsh here, or it runs the program itself")
def test_zsh_completes_topics_of_the_server(server):
    for topic in ("one word", "$(false)"):
        server.publish("tabz", topic, "x")
    done = subprocess.run(
        ["zsh", "-f", "-c", f'PATH={os.path.dirname(ISIMUD)}:$PATH; '
         'compdef() { :; }; eval "$(isimud completion zsh)"; '
         'compadd() { print -rl -- "$@"; }; words=("$@" ""); CURRENT=$#words; '
         '_isimud_topics', "zsh", "sub", "--url", "http://tabz:secret@%s:%d" %
         server.address],
        stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stderr == "", done
    # In no order, as /topics has them.
    assert sorted(done.stdout.splitlines()) == ["$(false)", "--", "one word"]


@pytest.mark.skipif(not shutil.which("scdoc"), reason="no scdoc here")
def test_the_man_page_has_every_command_and_setting():
    source = subprocess.run(
        [os.path.join(ROOT, "scripts", "package", "man.sh"), ISIMUD], text=True,
        capture_output=True, timeout=DEADLINE, check=True).stdout
    page = subprocess.run(["scdoc"], input=source, text=True, check=True,
                          capture_output=True, timeout=DEADLINE).stdout
    for name in COMMANDS:
        assert f'.SS "isimud {name}"' in page or f".SS isimud {name}" in page
    settings = re.findall(r"^  (--[a-z-]+) ", run("--help"), re.MULTILINE)
    assert len(settings) > 40
    for setting in settings:
        assert setting.replace("-", "\\-") in page or setting in page
