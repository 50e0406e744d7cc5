"""A lone replica that is restarted as a StatefulSet restarts it: SIGTERM, its
end is waited for, and the next one has the same port and the same volume."""
import threading
import time

import pytest

from client import DEADLINE, SCALE, Http, sub_target

STREAMS = 40
TOPIC = "score"


class Publisher(threading.Thread):
    """Publishes numbers, each on a connection of its own, as `curl` in a loop
    does. Notes when each was answered 200; one that was not comes again."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.answered = []  # times
        self.statuses = set()
        self.stopping = threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.01):
            client = None
            try:
                client = Http(self.address)
                status = client.publish("alice", TOPIC,
                                        str(len(self.answered))).status
            except (ConnectionError, EOFError):
                continue  # nobody listens
            finally:
                if client:
                    client.close()
            self.statuses.add(status)
            if status == 200:
                self.answered.append(time.monotonic())

    def stop(self):
        self.stopping.set()
        self.join(DEADLINE)
        assert not self.is_alive()

    def wait_for_more(self, count=20):
        """Publications that begin from now on."""
        end = time.monotonic() + DEADLINE
        until = len(self.answered) + count
        while len(self.answered) < until:
            assert time.monotonic() < end, "nothing is published"
            time.sleep(0.01)


@pytest.fixture
def restart(start, tmp_path):
    """restart(old) ends it, starts the next, and returns that, with the seconds
    that it took from its process to its first `listening`."""
    def begin(**settings):
        return start(HISTORY_FILE=f"{tmp_path}/history", HISTORY_SIZE=10000,
                     DRAIN_SECONDS=2, ADMIN_PORT=0, **settings)

    def restart_one(old=None):
        if old is None:
            return begin()
        old.terminate()
        assert old.wait() == 0, old.text()
        begun = time.monotonic()
        server = begin(PORT=old.address[1])
        server.seconds_to_start = time.monotonic() - begun
        return server

    return restart_one


def pause_of(publisher, around):
    """The longest time without a publication after `around`."""
    times = [t for t in list(publisher.answered) if t >= around]
    return max(b - a for a, b in zip(times, times[1:]))


def test_publishers_are_refused_for_less_than_a_second_beyond_the_start(
        restart):
    server = restart()
    streams = [server.event_stream(sub_target("alice", TOPIC))
               for _ in range(STREAMS)]
    # These do not even answer Close.
    for subprotocols in ((), ("isimud.v1",)):
        server.websocket(target=sub_target("alice", TOPIC),
                         subprotocols=subprotocols)
    publisher = Publisher(server.address)
    publisher.wait_for_more()
    begun = time.monotonic()
    successor = restart(server)
    publisher.wait_for_more()
    refused = pause_of(publisher, begun) - successor.seconds_to_start
    print(f"refused for {refused:.3f} s, a start takes "
          f"{successor.seconds_to_start:.3f} s")
    assert refused < SCALE, publisher.answered
    # What was answered while the first one drained is not lost, either: each
    # stream comes back, and has every number once and in order.
    for stream in streams:
        stream.address = successor.address
        stream.seen = []
        with pytest.raises(EOFError):
            while True:
                event = stream.event()
                if event.type == "message":
                    stream.seen.append(int(event.data))
        stream.reconnect()
    publisher.stop()
    assert publisher.statuses == {200}
    count = len(publisher.answered)
    for stream in streams:
        while len(stream.seen) < count:
            event = stream.event()
            assert event.type == "message", event
            stream.seen.append(int(event.data))
        assert stream.seen == list(range(count))


def test_without_subscribers_there_is_no_drain_to_wait_for(restart):
    server = restart()
    publisher = Publisher(server.address)
    publisher.wait_for_more()
    begun = time.monotonic()
    successor = restart(server)
    publisher.wait_for_more()
    publisher.stop()
    assert publisher.statuses == {200}
    refused = pause_of(publisher, begun) - successor.seconds_to_start
    assert refused < 0.5 * SCALE
