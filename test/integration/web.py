"""isimud.js in node, and what stands between it and a server."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from client import DEADLINE, PASSWORD
from program import ROOT
from session import epoch_of, number_of

DRIVER = os.path.join(ROOT, "test", "web", "driver.mjs")
# A WebSocket of node's modules, node's own, and none: event streams.
SOCKETS = ["own", "builtin", "none"]
# So that a test takes no longer than it must.
QUICK = {"minDelay": 50, "maxDelay": 400}


def node():
    """Where node is; None where it is not installed, or too old."""
    path = shutil.which("node")
    if not path:
        return None
    version = subprocess.run([path, "--version"], capture_output=True,
                             text=True, timeout=DEADLINE).stdout
    return path if int(version[1:].partition(".")[0]) >= 18 else None


def flag_for_websocket():
    """What makes node have a WebSocket: [] where it needs nothing; None where
    nothing does."""
    for flags in ([], ["--experimental-websocket"]):
        if subprocess.run([node(), *flags, "-e", "process.exit("
                           "typeof WebSocket === 'function' ? 0 : 1)"],
                          capture_output=True, timeout=DEADLINE
                          ).returncode == 0:
            return flags
    return None


class Client:
    """A node with isimud.js. What happened to it is a list of dicts; `what`
    tells them apart (driver.mjs)."""

    def __init__(self, address, socket="own", publisher="alice", **options):
        flags = []
        if socket == "builtin":
            flags = flag_for_websocket()
        self.events = []
        self.news = threading.Condition()
        options = {"url": "http://%s:%d" % address, "publisher": publisher,
                   "socket": socket, **QUICK, **options}
        self.process = subprocess.Popen(
            [node(), "--no-warnings", *flags, DRIVER, json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.errors = []
        self.readers = [threading.Thread(target=self.read, daemon=True),
                        threading.Thread(target=self.read_errors, daemon=True)]
        for reader in self.readers:
            reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()

    def read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)

    def do(self, command, **members):
        """Returns once it has done it; what comes of it are events."""
        before = len(self.all("did"))
        self.process.stdin.write(json.dumps({"command": command, **members})
                                 + "\n")
        self.process.stdin.flush()
        self.wait(lambda: len(self.all("did")) > before, command)

    def all(self, what, **members):
        """All events of that kind, oldest first."""
        return [event for event in list(self.events) if event["what"] == what
                and members.items() <= event.items()]

    def wait(self, condition, what):
        with self.news:
            done = self.news.wait_for(condition, 2 * DEADLINE)
        assert done, (f"{what}: not in time; last of {len(self.events)}: "
                      f"{str(self.events[-12:])[-3000:]} {''.join(self.errors)}")

    def wait_for(self, what, count=1, **members):
        """The `count`th event of that kind."""
        self.wait(lambda: len(self.all(what, **members)) >= count,
                  f"{what} {members}")
        return self.all(what, **members)[count - 1]

    def wait_for_data(self, topic, data):
        return self.wait_for("message", topic=topic, data=data)

    def follow(self, *topics, **members):
        for topic in topics:
            self.do("subscribe", topic=topic, **members)

    def open(self, count=1):
        return self.wait_for("status", count, status="open")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout,
                     self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        assert not self.errors, "".join(self.errors)


def check_complete(events, topic):
    """Of what was told of a topic, each message follows the one before, unless
    a reset, a gap or a state says where it goes on. Returns how many resets
    there were."""
    place, resets = None, 0
    for event in events:
        if event.get("topic") != topic:
            continue
        if event["what"] == "message":
            if place:
                assert epoch_of(event["id"]) == epoch_of(place), event
                assert number_of(event["id"]) == number_of(place) + 1, (
                    place, event)
            place = event["id"]
        elif event["what"] == "reset":
            resets += 1
            place = event["id"]
        elif event["what"] == "gap":
            if place:
                assert number_of(event["from"]) == number_of(place) + 1
            place = event["to"]
        elif event["what"] == "state" and event["id"]:
            if not place or epoch_of(place) != epoch_of(event["id"]) or (
                    number_of(event["id"]) > number_of(place)):
                place = event["id"]
    return resets


class Cutter:
    """Passes bytes between clients and `backend` until cut() ends all that
    there is, in the middle of whatever goes on. With `refuses_upgrades` a
    handshake of a WebSocket is answered as some proxies do."""

    def __init__(self, backend, refuses_upgrades=False):
        self.backend = backend
        self.refuses_upgrades = refuses_upgrades
        self.refused = 0
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,),
                             daemon=True).start()

    def serve(self, client):
        try:
            first = client.recv(65536)
            if self.refuses_upgrades and b"pgrade: websocket" in first:
                self.refused += 1
                client.sendall(b"HTTP/1.1 403 Forbidden\r\n"
                               b"Content-Length: 0\r\n"
                               b"Connection: close\r\n\r\n")
                client.close()
                return
            server = socket.create_connection(self.backend)
            server.sendall(first)
        except OSError:
            client.close()
            return
        with self.lock:
            self.pairs.append((client, server))
        threading.Thread(target=self.copy, args=(server, client),
                         daemon=True).start()
        self.copy(client, server)

    @staticmethod
    def copy(source, sink):
        try:
            while data := source.recv(4096):
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self, with_reset=False):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for one in pair:
                try:
                    if with_reset:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RDWR)
                    one.close()
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


def freeze(server):
    """Stops it, and returns once none of its threads runs any more."""
    server.process.send_signal(signal.SIGSTOP)

    def is_stopped(task):
        with open(f"/proc/{server.pid}/task/{task}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"

    end = time.monotonic() + DEADLINE
    while not all(map(is_stopped, os.listdir(f"/proc/{server.pid}/task"))):
        assert time.monotonic() < end, "it is not stopped"
        time.sleep(0.001)


class Numbers:
    """Publishes 1, 2, 3, … to topics of alice, in turn, until it is stopped."""

    def __init__(self, server, topics, pause=0.01):
        self.server = server
        self.topics = topics
        self.pause = pause
        self.last = {topic: 0 for topic in topics}
        self.stopping = threading.Event()
        self.failure = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        client = self.server.http()
        try:
            while not self.stopping.wait(self.pause):
                for topic in self.topics:
                    answer = client.publish("alice", topic,
                                            self.last[topic] + 1)
                    assert answer.status == 200, answer.body
                    self.last[topic] += 1
        except Exception as error:  # told by stop()
            self.failure = error

    def stop(self):
        self.stopping.set()
        self.thread.join(DEADLINE)
        assert not self.failure, self.failure


def publish(server, topic, *data):
    for one in data:
        server.publish("alice", topic, one)


__all__ = ["Client", "Cutter", "Numbers", "PASSWORD", "SOCKETS",
           "check_complete", "flag_for_websocket", "freeze", "node", "publish", "time"]
