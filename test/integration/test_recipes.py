"""scripts/docs/recipes: each consumer and publisher as it is printed, against
the real server; skipped without its language. Pages: test_recipe_pages."""
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest

from client import DEADLINE, PASSWORD
from program import ROOT, Server
from session import session, subscribe, told

FOLDER = os.path.join(ROOT, "scripts", "docs", "recipes")


def has_module(*names, program=sys.executable):
    return subprocess.run([program, "-c", "import " + ", ".join(names)],
                          capture_output=True).returncode == 0


def php_finds(path):
    return shutil.which("php") and subprocess.run(
        ["php", "-r", f"exit(@include '{path}' ? 0 : 1);"],
        capture_output=True).returncode == 0


# --- consumers ---------------------------------------------------------------


def build(tmp_path_factory, language):
    """The command of a consumer, or why there is none."""
    folder = str(tmp_path_factory.mktemp(language))
    if language == "python":
        if not has_module("requests"):
            pytest.skip("requests is not installed: scripts/build/deps.sh test")
        return [sys.executable, os.path.join(FOLDER, "consumer.py")]
    if language == "go":
        if not shutil.which("go"):
            pytest.skip("go is not in PATH")
        program = os.path.join(folder, "consumer")
        subprocess.run(["go", "build", "-o", program,
                        os.path.join(FOLDER, "consumer_go", "main.go")],
                       check=True, env={**os.environ, "GOTOOLCHAIN": "local",
                                        "CGO_ENABLED": "0"})
        return [program]
    if not (shutil.which("java") and shutil.which("javac")):
        pytest.skip("java and javac are not in PATH")
    subprocess.run(["javac", "-d", folder,
                    os.path.join(FOLDER, "IsimudConsumer.java")], check=True)
    return ["java", "-cp", folder, "-Dhttp.proxyHost=", "IsimudConsumer"]


@pytest.fixture(scope="module", params=["python", "go", "java"])
def command(request, tmp_path_factory):
    return build(tmp_path_factory, request.param)


class Consumer:
    """A running consumer; its lines come by a thread."""

    def __init__(self, command, address):
        self.process = subprocess.Popen(
            [*command, "http://%s:%d" % address, "alice", "news"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", env={
                **os.environ, "PYTHONUTF8": "1",
                "JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-8"})
        self.lines = queue.Queue()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def next(self, count):
        return [self.lines.get(timeout=DEADLINE) for _ in range(count)]

    def stop(self):
        self.process.kill()
        self.process.communicate()
        self.thread.join(DEADLINE)


@pytest.fixture
def follow(command):
    consumers = []

    def follow(address):
        consumers.append(Consumer(command, address))
        return consumers[-1]

    yield follow
    for one in consumers:
        one.stop()


def wait_for_reader(server):
    server.wait_until(lambda: server.total("event_stream") == 1, "a reader")


def test_a_consumer_gets_every_message_once_over_restarts(follow, tmp_path):
    settings = {"SSE_RETRY": 0.2, "HISTORY_FILE": tmp_path / "history",
                "DRAIN_SECONDS": 0}
    server = Server(**settings)
    consumer = follow(server.address)
    wait_for_reader(server)
    texts = ["one", "zwei: ü🦀", '{"a":1}', "two\nlines", " space ", "x" * 100_000]
    for text in texts:
        server.publish("alice", "news", text)
    expected = "\n".join(texts).split("\n")
    assert consumer.next(len(expected)) == expected
    server.publish("alice", "news", "last words")
    server.stop()
    server = Server(PORT=server.address[1], **settings)
    for i in range(3):
        server.publish("alice", "news", str(i))
    assert consumer.next(4) == ["last words", "0", "1", "2"]
    wait_for_reader(server)
    server.process.send_signal(signal.SIGKILL)
    server.kill()
    server = Server(PORT=server.address[1], **settings)
    server.publish("alice", "news", "after")
    assert consumer.next(2) == ["reset", "after"]
    server.stop()
    assert consumer.lines.empty()


def test_a_consumer_ends_where_coming_back_is_no_use(follow, start):
    server = start(AUTH_URL="http://127.0.0.1:1/")
    consumer = follow(server.address)  # without a token
    assert consumer.process.wait(DEADLINE) != 0
    assert "40" in consumer.process.stderr.read()


def test_half_an_event_is_none(follow):
    """A cut between an id and its data: the message is still to come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        consumer = follow(listener.getsockname()[:2])
        asked = []
        for body in (b"retry: 10\nid: e-0\n\nid: e-1\ndata: 1\n\nid: e-2\nda",
                     b"id: e-2\ndata: 2\n\n", b""):
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(DEADLINE)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += peer.recv(65536)
                found = re.search(rb"(?i)last-event-id: (\S*)", head)
                asked.append(found and found.group(1))
                peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                             b"Content-Type: text/event-stream\r\n\r\n"
                             + b"%x\r\n%b\r\n" % (len(body), body) * bool(body))
        assert asked == [None, b"e-1", b"e-2"]
        assert consumer.next(2) == ["1", "2"]


# --- publishers --------------------------------------------------------------


def environment(server):
    return {**os.environ, "ISIMUD_URL": "http://%s:%d" % server.address,
            "ISIMUD_PUBLISHER": "alice", "ISIMUD_PASSWORD": PASSWORD}


def run(server, *command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True,
                          timeout=60 + DEADLINE, env=environment(server))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


DJANGO = """
import os, sys
sys.path.insert(0, sys.argv[1])
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    ISIMUD_URL=os.environ["ISIMUD_URL"], ISIMUD_PUBLISHER=os.environ["ISIMUD_PUBLISHER"],
    ISIMUD_PASSWORD=os.environ["ISIMUD_PASSWORD"])
django.setup()
from django.db import transaction
import publish_django as isimud
score = {"home": 1, "away": 0}
with transaction.atomic():
    isimud.publish("match/1", score, event="goal")
    score["home"] = 2
    print(len(transaction.get_connection().run_on_commit))
try:
    with transaction.atomic():
        isimud.publish("match/1", "rolled back")
        raise KeyError
except KeyError:
    pass
isimud.publish("match/1", "end")
print(isimud.send(b"{}"))
settings.ISIMUD_URL = "http://127.0.0.1:1"
print(isimud.send(b"{}"))
"""


def test_django_publishes_what_is_committed(start):
    if not has_module("django", "requests", program="/usr/bin/python3"):
        pytest.skip("Django is not installed: scripts/build/deps.sh recipes")
    server = start()
    reader = session(server)
    subscribe(reader, "alice", "match/1")
    said = run(server, "/usr/bin/python3", "-c", DJANGO, FOLDER)
    assert said.split() == ["1", "None", "None"]
    got = [told(reader) for _ in range(2)]
    assert [(one["data"], one.get("event")) for one in got] == [
        ({"home": 1, "away": 0}, "goal"), ("end", None)]


RUBY = """
require File.join(ARGV[0], "isimud_publisher")
one = IsimudPublisher.new
puts JSON.generate(one.publish("match/1", {home: 1}, event: "goal", key: "k"))
puts JSON.generate(one.publish("match/1", {home: 1}, event: "goal", key: "k"))
puts JSON.generate(one.publish("match/1", "end"))
begin
  IsimudPublisher.new(password: "wrong").publish("match/1", 1)
rescue IsimudPublisher::Unavailable
  abort "it is no outage"
rescue IsimudPublisher::Error => e
  puts e.message
end
begin
  IsimudPublisher.new(url: "http://127.0.0.1:1").publish("match/1", 1)
rescue IsimudPublisher::Unavailable
  puts "unavailable"
end
"""


def test_ruby_publishes_once_however_often_a_job_is_run(start):
    if not shutil.which("ruby"):
        pytest.skip("ruby is not in PATH: scripts/build/deps.sh recipes")
    server = start()
    reader = session(server)
    subscribe(reader, "alice", "match/1")
    first, again, last, wrong, away = run(
        server, "ruby", "-e", RUBY, "--", FOLDER).splitlines()
    assert first == again and json.loads(first)["subscribers"] == 1
    assert "401" in wrong and away == "unavailable"
    got = [told(reader) for _ in range(2)]
    assert [(one["id"], one["data"], one.get("event")) for one in got] == [
        (json.loads(first)["id"], {"home": 1}, "goal"),
        (json.loads(last)["id"], "end", None)]


LARAVEL = "Illuminate/autoload.php", "GuzzleHttp/autoload.php"
PHP = """<?php
require 'Illuminate/autoload.php';
require 'GuzzleHttp/autoload.php';
require $argv[1] . '/IsimudBroadcaster.php';
use App\\Broadcasting\\IsimudBroadcaster;
use Illuminate\\Broadcasting\\Channel;
$config = ['url' => getenv('ISIMUD_URL'), 'publisher' => getenv('ISIMUD_PUBLISHER'),
           'password' => getenv('ISIMUD_PASSWORD')];
$one = new IsimudBroadcaster(new Illuminate\\Http\\Client\\Factory(), $config);
$one->broadcast([new Channel('match/1'), new Channel('match/2')], 'goal', ['home' => 1, 'socket' => null]);
$one->broadcast(['match/1'], 'end', []);
foreach ([['password' => 'wrong'], ['url' => 'http://127.0.0.1:1']] as $wrong) {
    $other = new IsimudBroadcaster(new Illuminate\\Http\\Client\\Factory(), array_merge($config, $wrong));
    try {
        $other->broadcast(['match/1'], 'no', []);
    } catch (Illuminate\\Broadcasting\\BroadcastException $error) {
        echo $error->getMessage(), "\\n";
    }
}
"""


def test_laravel_broadcasts_an_event_to_its_channels(start, tmp_path):
    if not all(map(php_finds, LARAVEL)):
        pytest.skip("Laravel is not installed: scripts/build/deps.sh recipes")
    server = start()
    reader = session(server)
    for topic in ("match/1", "match/2"):
        subscribe(reader, "alice", topic)
    script = tmp_path / "broadcast.php"
    script.write_text(PHP)
    said = run(server, "php", "-d", "error_reporting=8191", "-d",
               "display_errors=stderr", str(script), FOLDER)
    assert "401" in said and said.count("isimud: ") == 2
    got = [told(reader) for _ in range(3)]
    assert [(one["topic"], one["event"], one["data"]) for one in got] == [
        ("match/1", "goal", {"home": 1}), ("match/2", "goal", {"home": 1}),
        ("match/1", "end", {})]


# --- the list ----------------------------------------------------------------


def test_each_recipe_is_in_the_list():
    with open(os.path.join(FOLDER, "README.md"), encoding="utf-8") as file:
        named = set(re.findall(r"`([\w.]+/?)`", file.read()))
    there = {name + "/" * os.path.isdir(os.path.join(FOLDER, name))
             for name in os.listdir(FOLDER)} - {"README.md"}
    assert there <= named, there - named
