#!/usr/bin/python3
"""Fails the nth allocation of the real binary, libraries' included, for all n.

usage: oom.py [--scene WORD] [--every K] [--burst B] [--seed N]

The server runs with fail.c under it. A scene is a few clients that do one
thing. It is played with the first allocation failing, then with the second,
and so on until none has failed; --every 7 tries each seventh of them, from one
that --seed chooses; --burst 20 fails that many in a row. The scenes `start`
and `restart` are whole lives of the process.

While one fails, a client gets what is right, or is told 500 or 503, or is
ended; it never waits for an answer in vain, is told of a mistake of its own, or
misses what was taken. Right after, everything is right for everybody. The process
ends by none but the aborts named in LIBUV_ABORTS.
"""
import argparse
import collections
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path += [os.path.join(ROOT, *folder) for folder in (
    ("test", "integration"), ("scripts", "api"), ("test", "oom"))]

from authority import Authority  # noqa: E402
from board import Board, Symbols  # noqa: E402
from client import (Closed, PASSWORD, basic, chunked,  # noqa: E402
                    publish_request, request, sub_target)
from program import ALARMS, ISIMUD, Server, environment  # noqa: E402

CLONE_NEWNS = 0x20000  # of unshare(2)
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
LIBRARY = os.path.join(ROOT, "build", "oom", "fail.so")

# libuv calls abort() where it can't tell its caller that memory is out: when its
# table of descriptors has to grow (uv__io_start), once for each power of two of
# them, and in its set-up. Nothing can be done from outside. By our function that
# calls, what it calls:
LIBUV_ABORTS = {
    "move_reading": "uv_read_start, of a new connection",
    "on_socket": "uv_poll_start, of a connection to AUTH_URL",
    "worker_init": "uv_loop_init, at the start",
    "acceptor_init": "uv_loop_init, at the start",
}


class Refused(Exception):
    """The server could not, and said so or ended the connection."""


class Wrong(Exception):
    """What must never happen."""


# --- what clients do ---------------------------------------------------------


def answer_of(act):
    """The answer that act() gets, of 200, 204 or 101; Refused if the server
    can't, Wrong if it calls that the client's mistake."""
    try:
        response = act()
    except TimeoutError:
        raise Wrong("no answer in time")
    except (EOFError, ConnectionError):
        raise Refused("the connection was ended")
    if response.status in (500, 503):
        raise Refused(f"{response.status}")
    if response.status not in (200, 204):
        raise Wrong(f"{response.status}: {response.body!r:.200}")
    return response


def publish(server, topic, data, **kwargs):
    """The receipt; None if it was refused; False if the connection was ended
    instead of an answer, so that nobody knows."""
    http = server.http()
    try:
        return answer_of(
            lambda: http.publish("alice", topic, data, **kwargs)).json()
    except Refused as refused:
        return None if str(refused) in ("500", "503") else False


def opened(act):
    """What act() opens."""
    try:
        return act()
    except TimeoutError:
        raise Wrong("no handshake in time")
    except (EOFError, ConnectionError):
        raise Refused("the connection was ended")
    except AssertionError as error:
        # client.py insists on 101 or 200, and puts the rest in the message.
        if any(word in str(error) for word in (
                "memory", "500", "503", "Internal server error", "again")):
            raise Refused(str(error))
        raise Wrong(f"no handshake: {error}")


def next_of(act):
    """The next message or event that act() waits for."""
    try:
        got = act()
    except TimeoutError:
        raise Wrong("nothing came in time")
    except (EOFError, ConnectionError):
        raise Refused("the connection was ended")
    except Closed as closed:
        if closed.code in (1011, 1012, 1013):
            raise Refused(str(closed))
        raise Wrong(str(closed))
    if getattr(got, "type", None) == "close":
        raise Refused(got.data)
    return got


def publish_some(server, topic, texts):
    """Those of `texts` that were not refused, and whether it was certain that
    they were taken."""
    answers = [(text, publish(server, topic, text)) for text in texts]
    return [(text, bool(answer)) for text, answer in answers
            if answer is not None]


def follow(receive, published):
    """Reads by receive() what publish_some() told of: all that was taken, in
    order, and nothing that was refused. Returns what may still come."""
    published = list(published)
    while any(is_taken for _, is_taken in published):
        got = next_of(receive)
        while published and published[0][0] != got and not published[0][1]:
            published.pop(0)
        if not published or got != published.pop(0)[0]:
            raise Wrong(f"{got!r:.80} came instead")
    return published


def command(socket, type, **members):
    """The answer to a command of isimud.v1; Refused if it is an error that
    memory explains."""
    try:
        socket.send_json({"type": type, **members})
    except ConnectionError:
        raise Refused("the connection was ended")
    answer = next_of(socket.receive_json)
    while answer["type"] == "message":  # nobody knew whether it would come
        answer = next_of(socket.receive_json)
    if answer["type"] == "error":
        if answer["code"] in ("no_memory", "busy", "auth_failed"):
            raise Refused(answer["code"])
        raise Wrong(str(answer))
    if answer.get("ref") != members.get("ref"):
        raise Wrong(f"another ref: {answer}")
    return answer


# --- scenes: each takes the server and a name that no other play has ----------

def scene_publish(server, name):
    http = server.http()
    answer_of(lambda: http.publish("alice", name, {"a": [1, "\u2603"]}))
    batch = b'[{"topic":"%b","data":1},{"topic":"%b","data":"x"}]' % (
        (name.encode(),) * 2)
    answer_of(lambda: http.publish(body=batch))
    answer_of(lambda: http.publish(
        target=f"/pub/{name}", body=b"text",
        fields={"Content-Type": "text/plain"}))
    answer_of(lambda: http.publish(
        target=f"/pub/{name}", body=chunked(b"x" * 50000, size=9000),
        fields={"Content-Type": None, "Transfer-Encoding": "chunked"}))


def scene_pipeline(server, name):
    """A head in pieces and several requests at once; answers wait in order."""
    http = server.http()
    one = publish_request("alice", name, "x" * 3000)
    http.send(one[:20])
    http.send(one[20:] + one * 5)
    for _ in range(6):
        answer_of(http.response)


def scene_reads(server, name):
    http = server.http()
    mine = {"Authorization": basic("alice")}
    publish(server, name, "x")
    answer_of(lambda: http.ask("GET", "/topics?all=true", mine))
    answer_of(lambda: http.ask("GET", "/metrics", mine))
    answer_of(lambda: http.ask("GET", "/healthz"))
    answer_of(lambda: http.ask("GET", "/readyz"))
    answer_of(lambda: http.ask("OPTIONS", "/pub", {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type"}))
    server.process.send_signal(signal.SIGUSR1)


def scene_repeat(server, name):
    """The same key twice publishes once, whichever of them was refused."""
    fields = {"Idempotency-Key": name}
    ids = [receipt["id"] for receipt in
           (publish(server, name, "x", fields=fields) for _ in range(3))
           if receipt]
    if len(set(ids)) > 1:
        raise Wrong(f"one key published twice: {ids}")
    if not ids:
        raise Refused("all three")


def scene_raw(server, name):
    socket = opened(lambda: server.websocket())
    next_of(lambda: socket.subscribe("alice", name))
    texts = ["one", "x" * 70000, "three"]
    follow(socket.receive, publish_some(server, name, texts))


def scene_url(server, name):
    socket = opened(lambda: server.websocket(
        target=sub_target("alice", name)))
    texts = ["one", "two"]
    follow(socket.receive, publish_some(server, name, texts))
    socket.close()
    id = publish(server, name, "three")
    if not id:
        raise Refused("three")
    published = publish_some(server, name, ["four"])
    again = opened(lambda: server.websocket(
        target=sub_target("alice", name, since=id["id"])))
    published += publish_some(server, name, ["five"])
    follow(again.receive, published)


def scene_fragments(server, name):
    """A subscribe message in fragments, byte by byte, with pings between."""
    from client import CONTINUATION, PING, TEXT, frame, subscription
    socket = opened(lambda: server.websocket())
    text = subscription("alice", name)
    parts = [text[:5], text[5:9], text[9:]]
    data = (frame(TEXT, parts[0], fin=False) + frame(PING, b"p")
            + frame(CONTINUATION, parts[1], fin=False)
            + frame(CONTINUATION, parts[2]) + frame(PING, b"q"))
    try:
        socket.send_bytewise(data)
    except ConnectionError:
        raise Refused("ended")
    next_of(lambda: socket.expect_pong(b"p"))
    next_of(lambda: socket.expect_pong(b"q"))
    follow(socket.receive, publish_some(server, name, ["one"]))


def v1(server, target="/sub", **fields):
    return opened(lambda: server.websocket(
        target=target, subprotocols=["isimud.v1"], fields=fields))


def scene_v1(server, name):
    socket = v1(server, Authorization=basic("alice"))
    command(socket, "subscribe", publisher="alice", topic=name, ref=1)
    command(socket, "ping", ref="\u2603")
    texts = ["one", "x" * 5000]
    taken = publish_some(server, name, texts)
    follow(lambda: socket.receive_json()["data"], taken)
    command(socket, "unsubscribe", publisher="alice", topic=name)
    answer = command(socket, "publish", topic=name, data={"n": 1}, ref=2)
    again = v1(server)
    back = command(again, "subscribe", publisher="alice", topic=name,
                   since=answer["id"])
    if not back["resumed"]:
        raise Refused("history was given up")
    command(again, "subscribe", publisher="alice", topic=name + "b",
            slow="drop")
    taken = publish_some(server, name + "b", texts)
    follow(lambda: data_or_gap(again), taken)


def data_or_gap(socket):
    message = socket.receive_json()
    if message["type"] == "gap":
        raise Refused("a gap, as asked for")
    return message["data"]


def scene_stream(server, name):
    target = sub_target("alice", name, name + "b", envelope="true")
    stream = opened(lambda: server.event_stream(target))
    texts = ["one\ntwo", "x" * 20000]
    if follow(lambda: read_data(stream)["data"],
              publish_some(server, name, texts)):
        raise Refused("nobody knows what comes next")
    stream.close()
    published = publish_some(server, name + "b", ["three"])
    if not stream.last_event_id:
        raise Refused("nothing to go on from")
    opened(stream.reconnect)
    follow(lambda: read_data(stream)["data"], published)


def read_data(stream):
    """The data of the next event, of its envelope if it has one."""
    event = stream.event()
    if event.type in ("close", "reset"):
        raise Refused(event.data)
    return (json.loads(event.data) if event.data.startswith('{"type":')
            else event.data)


def scene_replay(server, name):
    """What was missed, in each form."""
    first = publish(server, name, "0")
    texts = [f"{i}\n" + "y" * 2000 for i in range(1, 9)]
    published = publish_some(server, name, texts)
    if not first:
        raise Refused("the first one")
    raw = opened(lambda: server.websocket(
        target=sub_target("alice", name, since=first["id"])))
    follow(raw.receive, published)
    stream = opened(lambda: server.event_stream(
        sub_target("alice", name, since=first["id"])))
    follow(lambda: read_data(stream), published)
    session = v1(server, target=sub_target("alice", name, since=first["id"]))
    if next_of(session.receive_json)["type"] != "subscribed":
        raise Refused("no_memory")
    follow(lambda: session.receive_json()["data"], published)


def scene_compressed(server, name):
    """Compressed both ways, in each form: what there is no memory to compress
    comes as it is."""
    from client import PING, TEXT, deflate, frame, subscription
    raw = opened(lambda: server.websocket(
        extensions="permessage-deflate; server_max_window_bits=9"))
    try:
        raw.send(frame(TEXT, deflate(subscription("alice", name)), rsv=4)
                 + frame(PING, b"subscribed?"))
    except ConnectionError:
        raise Refused("ended")
    next_of(lambda: raw.expect_pong(b"subscribed?"))
    session = opened(lambda: server.websocket(
        subprotocols=["isimud.v1"], extensions="permessage-deflate"))
    command(session, "subscribe", publisher="alice", topic=name)
    streams = [opened(lambda: server.event_stream(
        target, fields={"Accept-Encoding": "gzip"})) for target in (
            sub_target("alice", name), sub_target("alice", name, name + "b"))]
    texts = ["short", "z" * 5000, "y" * 30000, "x" * 300000]
    published = publish_some(server, name, texts)
    follow(raw.receive, published)
    follow(lambda: session.receive_json()["data"], published)
    for stream in streams:
        follow(lambda: read_data(stream), published)


def scene_many(server, name):
    """Tables grow: subscribers of one topic, topics of one publisher."""
    sockets = [opened(lambda: server.websocket(
        target=sub_target("alice", name, f"{name}-{i}"))) for i in range(12)]
    texts = ["one"]
    taken = publish_some(server, name, texts)
    for socket in sockets:
        follow(socket.receive, taken)


def scene_auth(server, name):
    for token in (name, name, name + "b"):
        socket = opened(lambda: server.websocket(
            target=sub_target("alice", name, access_token=token)))
        follow(socket.receive, publish_some(server, name, ["one"]))
        socket.close()


def scene_auth_tls(server, name):
    """The same by https: TLS's allocations, which are thousands. The handshake
    is done anew where one failed, and the connection used again where not."""
    for token in (name, name + "b"):
        socket = opened(lambda: server.websocket(
            target=sub_target("alice", name, access_token=token)))
        socket.close()


def scene_auth_crowd(server, name):
    """Checks that overlap, of one token and of others."""
    from client import WebSocket, handshake
    sockets = [WebSocket(server.address, open=False) for _ in range(6)]
    server.clients += sockets
    for i, socket in enumerate(sockets):
        socket.send(handshake(sub_target("alice", name,
                                         access_token=f"{name}{i % 3}")))
    refused = 0
    for socket in sockets:
        try:
            opened(lambda: socket.check_opened(socket.response()))
        except Refused:
            refused += 1
    if refused:
        raise Refused(f"{refused} of them")


# Not each allocation is tried where there are so many: each of so many.
STEPS = {"auth_tls": 29}
# For so many seconds it may go on being refused.
PATIENCE = {"auth_tls": 3}

SCENES = {name[6:]: scene for name, scene in list(globals().items())
          if name.startswith("scene_")}


# --- playing them ------------------------------------------------------------


class Player:
    """Plays scenes on a server, starts another one when it has ended, and
    notes what went wrong."""

    def __init__(self, args, folder, authority, tls):
        self.args = args
        self.tls = tls
        self.board = Board(os.path.join(folder, "board"))
        self.folder = folder
        self.authority = authority
        self.server = None
        self.plays = 0
        self.refused = 0
        self.named = collections.Counter()
        self.faults = collections.OrderedDict()  # text -> list of (scene, n)
        self.failures = 0
        self.random = random.Random(args.seed)

    def settings(self, scene):
        settings = {"LD_PRELOAD": LIBRARY, "FAIL_FILE": self.board.path,
                    "PASSWORD": PASSWORD, "WORKERS": 2, "HISTORY_TTL": 5,
                    "AUTH_TIMEOUT": 2, "PORT": 0, "DRAIN_SECONDS": 0,
                    # What was freed is not what it was.
                    "MALLOC_PERTURB_": 165,
                    "ASAN_OPTIONS": "verify_asan_link_order=0:"
                    "detect_leaks=1:" + os.environ.get("ASAN_OPTIONS", ""),
                    "LSAN_OPTIONS": "suppressions=" + os.path.join(
                        ROOT, "test", "oom", "lsan.supp")}
        if scene.startswith("auth"):
            settings["AUTH_URL"] = (self.tls if scene.endswith("tls") else
                                    self.authority).url
        return settings

    def begin(self, scene):
        self.board.arm(0, 0)
        self.server = Server(**self.settings(scene))
        self.symbols = Symbols(self.board.path + ".maps", ISIMUD)

    def end(self):
        """The server's clean end, which shows leaks under ASan."""
        if self.server is None or self.has_died("end", 0):
            return
        try:
            self.server.stop()
        except AssertionError as error:
            self.note(f"at its end: {error}", "-", 0)
        self.server = None

    def note(self, text, scene, n):
        self.faults.setdefault(text, []).append((scene, n))

    def trace(self):
        names = self.symbols.names(self.board.failed_at())
        return "\n    ".join(names[:14])

    def has_died(self, scene, n):
        """Notes why, if it has."""
        if self.is_alive():
            return False
        status = self.server.wait()
        self.note_end(status, self.server.text(), scene, n)
        self.server.close_clients()
        self.server.kill()
        self.server = None
        return True

    def is_alive(self):
        """A process that is about to end answers nobody any more."""
        if self.server.process.poll() is not None or self.board.aborted_at():
            return False
        try:
            for _ in range(4):  # each worker
                self.server.ask("GET", "/healthz")
        except (EOFError, OSError):
            return False
        finally:
            self.server.close_clients()
        return True

    def note_end(self, status, text, scene, n):
        """The process has ended by itself. libuv's own aborts are counted."""
        aborted = self.symbols.names(self.board.aborted_at())
        if "libasan" in self.trace():
            return  # a sanitizer's own, of a thread that begins
        if status == -signal.SIGABRT and aborted:
            ours = next((name.split()[0] for name in aborted
                         if ":" not in name.split()[0]), None)
            if aborted[0].startswith("libuv:") and ours in LIBUV_ABORTS:
                self.named[ours] += 1
                return
        last = "\n      ".join(line for line in text.splitlines()[-4:]
                               if " settings: " not in line)
        self.note(f"ended with {status}; aborted by {aborted[:6]}\n      {last}"
                  f"\n    failed at {self.trace()}", scene, n)

    def play(self, scene, name):
        """None, or what the server refused; raises Wrong."""
        try:
            SCENES[scene](self.server, name)
        except Refused as refused:
            return str(refused)
        except (EOFError, ConnectionError) as error:
            return repr(error)
        except (TimeoutError, AssertionError, KeyError) as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise Wrong(f"{error!r} at {at.name}:{at.lineno}") from error
        finally:
            self.server.close_clients()
        return None

    def play_failing(self, scene, n):
        """Returns whether an allocation has failed."""
        last = n + self.args.burst - 1
        self.board.arm(n, last)
        failed = None
        try:
            if self.play(scene, f"{scene}-{n}-f"):
                self.refused += 1
        except Wrong as wrong:
            failed = str(wrong)
        _, count = self.board.disarm()
        self.failures += count > 0
        if self.has_died(scene, n):
            return True
        if failed:
            self.note(f"while failing: {failed}\n    failed at "
                      f"{self.trace()}", scene, n)
        return count > 0

    def play_again(self, scene, n):
        """Once memory is there again, all is right."""
        text = None
        try:
            refused = self.play(scene, f"{scene}-{n}-s")
            until = time.monotonic() + PATIENCE.get(scene, 0)
            while refused and time.monotonic() < until and self.server:
                time.sleep(0.2)
                refused = self.play(scene, f"{scene}-{n}-s")
            text = refused and f"afterwards refused: {refused}"
        except Wrong as wrong:
            text = f"afterwards wrong: {wrong}"
        if text and not self.has_died(scene, n):
            self.note(f"{text}\n    had failed at {self.trace()}", scene, n)
            self.end()

    def run(self, scene, is_fresh):
        """`is_fresh`: each time on a server that has done nothing yet, whose
        tables and pools are empty."""
        before = len(self.faults)
        every = max(self.args.every, STEPS.get(scene, 1))
        n = 1 + self.random.randrange(every)
        began = time.monotonic()
        while True:
            if self.server is None:
                self.begin(scene)
                if not is_fresh:
                    self.play(scene, f"{scene}-{n}-warm")
            self.plays += 1
            if not self.play_failing(scene, n):
                break
            if self.server is not None:
                self.play_again(scene, n)
            if is_fresh:
                self.end()
            n += every
        self.end()
        how = "fresh" if is_fresh else "warm"
        print(f"oom: {scene}, {how}: {n - 1} allocations, "
              f"{len(self.faults) - before} kinds of faults "
              f"({time.monotonic() - began:.0f} s)", flush=True)


class Life:
    """A whole life of a process, from its first allocation to its last."""

    def __init__(self, player, scene):
        self.player = player
        self.scene = scene
        self.file = os.path.join(player.folder, "history")
        settings = player.settings(scene)
        if scene == "restart":
            settings.update(HISTORY_FILE=self.file, HISTORY_TTL=3600)
            self.make_file(settings)
        self.env = environment(settings)

    def make_file(self, settings):
        """A history file, `seed`, that each life starts from a copy of."""
        server = Server(**settings)
        for topic in ("one", "two"):
            server.publish("alice", topic, {"n": 1}, times=3)
        server.stop()
        os.rename(self.file, self.file + ".seed")

    def run(self, n):
        """Returns whether an allocation has failed."""
        player = self.player
        player.board.arm(n, n + player.args.burst - 1)
        if self.scene == "restart":
            shutil.copy(self.file + ".seed", self.file)
        process = subprocess.Popen(
            [ISIMUD], env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        lines = []
        try:
            for line in process.stderr:
                lines.append(line.decode(errors="replace").rstrip())
                if "listening on" in lines[-1]:
                    process.send_signal(signal.SIGTERM)
            status = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            player.note(f"it did not end\n    failed at {player.trace()}",
                        self.scene, n)
        finally:
            process.stderr.close()
        _, failed = player.board.disarm()
        player.failures += failed > 0
        player.symbols = Symbols(player.board.path + ".maps", ISIMUD)
        text = "\n".join(lines)
        if status < 0 or ALARMS.search(text):
            player.note_end(status, text, self.scene, n)
        elif status != 0 and not lines:
            player.note(f"it ended with {status} without a word\n    failed "
                        f"at {player.trace()}", self.scene, n)
        return failed > 0


def run_life(player, scene):
    before = len(player.faults)
    began = time.monotonic()
    life = Life(player, scene)
    n = 1 + player.random.randrange(player.args.every)
    life.run(10 ** 9)  # tells how many there are
    total, _ = player.board.disarm()
    # The beginning is the dynamic linker's and libcrypto's, thousands of them.
    every = max(player.args.every, total * player.args.every // 1500)
    while life.run(n):
        player.plays += 1
        n += every
    print(f"oom: {scene}: {n - 1} allocations, each {every}th, "
          f"{len(player.faults) - before} kinds of faults "
          f"({time.monotonic() - began:.0f} s)", flush=True)


# --- a CA of our own ---------------------------------------------------------


def make_certificate(folder):
    """(certificate, key) of 127.0.0.1, by nobody but itself."""
    paths = tuple(os.path.join(folder, name) for name in ("crt", "key"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=oom",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, stderr=subprocess.DEVNULL)
    return paths


def trust(certificate):
    """Puts a certificate in the place of the CA bundle, for this process and
    its children. Returns whether that is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return False
    return all(subprocess.run(["mount", *arguments]).returncode == 0
               for arguments in (["--make-rprivate", "/"],
                                 ["--bind", certificate, CA_BUNDLE]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--seed", type=int,
                        default=random.SystemRandom().randrange(1 << 16))
    args = parser.parse_args()
    scenes = [scene for scene in [*SCENES, "start", "restart"]
              if args.scene in scene]
    if not scenes:
        parser.error(f"no scene has {args.scene!r} in its name")
    print(f"oom: seed {args.seed}, every {args.every}, burst {args.burst}",
          flush=True)
    folder = tempfile.mkdtemp()
    certificate = make_certificate(folder)
    if not trust(certificate[0]) and "auth_tls" in scenes:
        print("oom: auth_tls needs root, to have a CA of its own: skipped")
        scenes.remove("auth_tls")
    with Authority() as authority, Authority(certificate) as tls:
        player = Player(args, folder, authority, tls)
        for scene in scenes:
            if scene in SCENES:
                player.run(scene, is_fresh=True)
                player.run(scene, is_fresh=False)
            else:
                run_life(player, scene)
    shutil.rmtree(folder)
    for text, places in player.faults.items():
        print(f"FAULT ({len(places)} times, first {places[0][0]} at "
              f"{places[0][1]}): {text}")
    for name, count in sorted(player.named.items()):
        print(f"named: {count} aborts in {name}: {LIBUV_ABORTS[name]}")
    print(f"oom: {player.failures} failed allocations, {player.refused} plays "
          f"refused in part, {sum(player.named.values())} aborts of libuv's, "
          f"{len(player.faults)} kinds of faults")
    return 1 if player.faults else 0


if __name__ == "__main__":
    sys.exit(main())
