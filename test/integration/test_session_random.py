"""Random commands of isimud.v1, valid and not, cut and mixed at random: each is
answered exactly once, in order, as a model here says; what comes between the
answers is what the subscriptions are for; and the connections live.

SEED=… tries another walk; a failure names its own.
"""
import collections
import itertools
import json
import os
import random

from client import CONTINUATION, PING, SCALE, TEXT, frame
from session import Follower, number_of, session

SEED = int(os.environ.get("SEED", "1"))
COMMANDS = 80000 // SCALE
SUBSCRIPTIONS_MAX = 5
PUBLISHERS = ["alice", "bob", ""]
TOPICS = ["a", "b", "é\0\u2028", "", "x" * 300]
KEYS = list(itertools.product(PUBLISHERS, TOPICS))
JUNK = ["", "{", "nul", '{"type":"ping"}}', "[1,]", "\ufeff{}", "\0", '"',
        '{"type":"ping","ref":01}', '{"type":"ping","ref":"\\ud800"}']
NOT_COMMANDS = ["null", "[]", "7", '"ping"', "{}", '{"type":7}',
                '{"TYPE":"ping"}', '{"type":"ping","type":"ping"}',
                '{"type":"ping","x":' + 600 * "[" + 600 * "]" + "}"]
REFS = [0, 1, -7, 2.5, 10 ** 30, "", "a", "é\0\"\\", "x" * 126]
DONE = ["pong", "subscribed", "unsubscribed", "published"]
KINDS = DONE + ["bad_json", "bad_command", "unknown_type", "already_subscribed",
                "not_subscribed", "too_many_subscriptions", "forbidden"]
BAD_REFS = [None, True, [], {}, "x" * 127]


class Walker:
    """One session, and a model of what the server knows of it."""

    def __init__(self, server, rng, publisher):
        self.rng = rng
        self.publisher = publisher
        self.socket = session(server, publisher)
        self.followers = {}  # those subscribed, by key
        self.expected = []   # what is not answered yet
        self.ids = {}        # the last id told of each key
        self.pings = 0
        self.seen = collections.Counter()  # answers, by type or code

    # --- what is sent; each returns the text, and notes what must come

    def expect(self, kind, ref, key=None, since=None):
        self.expected.append((kind, ref, key, since))

    def command(self, type, members, kind, key=None, since=None):
        value = {"type": type, **members}
        ref = None
        if self.rng.random() < 0.7:
            ref = value["ref"] = self.rng.choice(REFS)
        if self.rng.random() < 0.05:
            value["ref"] = self.rng.choice(BAD_REFS)
            kind, ref, key = "bad_command", None, None
        if self.rng.random() < 0.2:
            value["more"] = self.value()
        items = list(value.items())
        self.rng.shuffle(items)
        self.expect(kind, ref, key, since)
        return json.dumps(dict(items), ensure_ascii=self.rng.random() < 0.5,
                          indent=self.rng.choice([None, 1]))

    def value(self, depth=0):
        pick = self.rng.randrange(9 if depth < 4 else 7)
        if pick == 7:
            return [self.value(depth + 1) for _ in range(pick - 5)]
        if pick == 8:
            return {name: self.value(depth + 1) for name in ("", "b")}
        return [None, True, 0, -1.5, "", "\0é\u2028\"",
                "x" * self.rng.randrange(2000)][pick]

    def ping(self):
        return self.command("ping", {}, "pong")

    def key(self):
        """Rather one that is subscribed, so that both happen often."""
        if self.will_have and self.rng.random() < 0.5:
            return self.rng.choice(sorted(self.will_have))
        return self.rng.choice(KEYS)

    def subscribe(self):
        key, since, kind = self.key(), None, "subscribed"
        members = {"publisher": key[0], "topic": key[1]}
        if self.rng.random() < 0.3:
            members["slow"] = self.rng.choice(["close", "drop"])
        if self.rng.random() < 0.5:
            since = members["since"] = self.rng.choice(
                ["0123456789abcdef-5", self.ids.get(key, "f" * 16 + "-0")])
        if self.rng.random() < 0.1:
            members[self.rng.choice(["publisher", "topic", "slow"])] = 7
            kind = "bad_command"
        elif key in self.will_have:
            kind = "already_subscribed"
        elif len(self.will_have) == SUBSCRIPTIONS_MAX:
            kind = "too_many_subscriptions"
        elif self.rng.random() < 0.1:
            members["since"] = "yesterday"
            kind = "bad_command"
        return self.command("subscribe", members, kind, key, since)

    def unsubscribe(self):
        key = self.key()
        kind = "unsubscribed" if key in self.will_have else "not_subscribed"
        return self.command("unsubscribe", {
            "publisher": key[0], "topic": key[1]}, kind, key)

    def publish(self):
        key = (self.publisher, self.rng.choice(TOPICS))
        kind = "forbidden" if self.publisher is None else "published"
        return self.command("publish", {
            "topic": key[1], "data": self.value()}, kind, key)

    def unknown(self):
        return self.command(self.rng.choice(["", "PING", "message", "x" * 99]),
                            {}, "unknown_type")

    def junk(self):
        text = self.rng.choice(JUNK)
        if self.rng.random() < 0.5:  # no object is whole without its end
            text = json.dumps({"type": "ping", "ref": 1, "x": self.value()})
            text = text[:self.rng.randrange(len(text))]
        self.expect("bad_json", None)
        return text

    def no_command(self):
        self.expect("bad_command", None)
        return self.rng.choice(NOT_COMMANDS)

    # --- how it is sent

    @property
    def will_have(self):
        """The keys subscribed once all that was sent is answered."""
        have = set(self.followers)
        for kind, _, key, _ in self.expected:
            if kind == "subscribed":
                have.add(key)
            elif kind == "unsubscribed":
                have.discard(key)
        return have

    def frames(self, text):
        """A message in one frame or some, with pings between them."""
        data = text.encode()
        cuts = sorted(self.rng.randrange(len(data) + 1) for _ in range(
            self.rng.choice([0, 0, 0, 1, 3])))
        out = b""
        for i, (start, end) in enumerate(zip([0] + cuts, cuts + [len(data)])):
            out += frame(CONTINUATION if i else TEXT, data[start:end],
                         fin=i == len(cuts))
            if self.rng.random() < 0.1:
                out += frame(PING, b"%d" % self.pings)
                self.pings += 1
        return out

    def send(self, count):
        makers = [self.ping, self.subscribe, self.subscribe, self.unsubscribe,
                  self.publish, self.publish, self.unknown, self.junk,
                  self.no_command]
        stream = b"".join(self.frames(self.rng.choice(makers)())
                          for _ in range(count))
        pieces = sorted(self.rng.randrange(len(stream))
                        for _ in range(self.rng.choice([0, 0, 1, 5])))
        for start, end in zip([0] + pieces, pieces + [len(stream)]):
            self.socket.send(stream[start:end])

    # --- what comes

    def take(self, value):
        """Takes an answer or a message."""
        if value["type"] in ("message", "gap"):
            key = (value["publisher"], value["topic"])
            self.followers[key].take(value)
            assert not self.followers[key].gaps  # it reads
            self.ids[key] = value["id"]
            return
        kind, ref, key, since = self.expected.pop(0)
        self.seen[kind] += 1
        assert value.get("code", value["type"]) == kind, value
        assert value.get("ref") == ref and ("ref" in value) == (
            ref is not None), value
        if kind == "subscribed":
            assert (value["publisher"], value["topic"]) == key
            assert ("resumed" in value) == (since is not None), value
            if value.get("resumed"):
                assert value["id"] == since
            self.followers[key] = Follower(value)
            self.ids[key] = value["id"]
        elif kind == "unsubscribed":
            assert (value["publisher"], value["topic"]) == key
            del self.followers[key]
        elif kind == "published":
            assert number_of(value["id"]) > 0 and value["subscribers"] >= 0
        elif kind != "pong":
            assert value["type"] == "error" and value["message"]

    def read_answers(self):
        while self.expected:
            self.take(self.socket.receive_json())

    def finish(self, lasts):
        """Reads the last message of each topic. Nothing else comes, and no
        ping was forgotten."""
        while any(follower.last < lasts[key]
                  for key, follower in self.followers.items()):
            self.take(self.socket.receive_json())
        for key, follower in self.followers.items():
            assert follower.last == lasts[key]
        self.socket.send_json({"type": "ping", "ref": "last"})
        assert self.socket.receive_json() == {"type": "pong", "ref": "last"}
        assert self.socket.pongs == [b"%d" % i for i in range(self.pings)]


def test_each_command_is_answered_once_and_in_order(start):
    server = start(WORKERS=3, MAX_SUBSCRIPTIONS=SUBSCRIPTIONS_MAX)
    print(f"SEED={SEED}")
    rng = random.Random(SEED)
    walkers = [Walker(server, random.Random(f"{SEED} {i}"), publisher)
               for i, publisher in enumerate(["alice", "bob", "", None])]
    sent = 0
    while sent < COMMANDS:
        walker = rng.choice(walkers)
        count = rng.choice([1, 2, 10, 40])
        walker.send(count)
        sent += count
        walker.read_answers()
    lasts = {}
    for publisher, topic in KEYS:
        receipt = server.http().publish(publisher, topic, "last").json()
        lasts[publisher, topic] = number_of(receipt["id"])
    for walker in walkers:
        walker.finish(lasts)
    metrics = server.metrics()
    assert metrics["isimud_commands_total"] == sent + len(walkers)
    seen = sum((walker.seen for walker in walkers), collections.Counter())
    assert all(seen[kind] > 5 for kind in KINDS), seen
    assert metrics["isimud_command_errors_total"] == sum(
        seen[kind] for kind in KINDS if kind not in DONE)
    assert server.total("websocket") == len(walkers)
