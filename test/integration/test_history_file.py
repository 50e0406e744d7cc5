"""HISTORY_FILE: that a restart is a short absence like any other, and that a
file which is no use is no reason not to serve."""
import contextlib
import hashlib
import os
import random
import re
import signal
import stat
import subprocess
import time
from urllib.parse import quote

import pytest

from client import DEADLINE, SCALE, basic, sub_target
from program import ISIMUD, Program, Server

ID = re.compile("([0-9a-f]{16})-([0-9]+)")
ALICE = {"Authorization": basic("alice")}
SAVED_AT = 17 + 8 + 8  # src/README.md: "The history file"
DIGEST = 32
REFUSED = "starting without history: "
LOST = "the history is lost: "


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "history")


@pytest.fixture
def lives(start, path):
    """lives() ends the server, if there is one, by a signal, while its clients
    are connected, and starts the next one on the same file."""
    servers = []

    def next_life(number=signal.SIGTERM, **settings):
        if servers:
            end(servers[-1], number)
        servers.append(start(HISTORY_FILE=path, **settings))
        return servers[-1]

    return next_life


def end(server, number=signal.SIGTERM):
    """Its clients are still connected; nothing happens if it has ended."""
    if server.is_stopping:
        return
    server.is_stopping = True
    server.process.send_signal(number)
    assert server.wait() == 0, server.text()


def publish(server, topic, *data):
    http = server.http()
    return [http.publish("alice", topic, one).json()["id"] for one in data]


def said(server):
    """Its lines about history."""
    return [line for line in server.lines
            if "history" in line and "settings: " not in line]


def epoch_of(server):
    return ID.fullmatch(publish(server, "epoch", "?")[0])[1]


def number_of(id):
    return int(ID.fullmatch(id)[2])


def history_of(server, topic):
    answer = server.ask("GET", f"/topics/{topic}", ALICE)
    return answer.json()["history"] if answer.status == 200 else None


def v1(server):
    return server.websocket(subprotocols=["isimud.v1"])


def last_of(server, publisher, topic):
    """Its last id. Not every publisher's name can be in credentials."""
    if ":" not in publisher:
        told = server.ask("GET", f"/topics/{quote(topic, safe='')}",
                          {"Authorization": basic(publisher)})
        if told.status == 200:
            return told.json()["id"]
    page = server.ask("GET", "/topics?all=true&limit=1000", ALICE).json()
    return next(one["id"] for one in page["topics"]
                if (one["publisher"], one["topic"]) == (publisher, topic))


def resume(server, topic, since, publisher="alice"):
    """By isimud.v1: whether it is exact, and the data that was missed, if so."""
    socket = v1(server)
    answer = socket.command("subscribe", publisher=publisher, topic=topic,
                            since=since)
    data = []
    for number in range(number_of(answer["id"]),
                        number_of(last_of(server, publisher, topic))):
        message = socket.receive_json()
        assert number_of(message["id"]) == number + 1
        data.append(message["data"])
    socket.close()
    return answer["resumed"], data if answer["resumed"] else []


def goes_on_at(server, stream):
    """The same EventSource, at the next server."""
    stream.address = server.address
    server.clients.append(stream)
    return stream.reconnect()


def place_of(stream):
    until = time.monotonic() + DEADLINE
    while not stream.last_event_id:
        assert stream.step(until) is None
    return stream.last_event_id


def unlock(path):
    """So that nobody knows which file was saved last."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path + ".lock")


def rewrite(path, change):
    """Changes what is in the file; its digest is right again after."""
    with open(path, "rb") as file:
        content = bytearray(file.read()[:-DIGEST])
    change(content)
    with open(path, "wb") as file:
        file.write(content + hashlib.sha256(content).digest())
    unlock(path)


def shift(path, seconds):
    """As if it had been saved earlier by so much."""
    def change(content):
        saved_ms = int.from_bytes(content[SAVED_AT:SAVED_AT + 8], "little")
        content[SAVED_AT:SAVED_AT + 8] = (
            saved_ms - int(seconds * 1000)).to_bytes(8, "little")

    rewrite(path, change)


# --- nothing is lost ---------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_restart_is_an_absence_like_any_other(lives, number):
    server = lives()
    ids = publish(server, "news", *"abc")
    server = lives(number)
    assert "restored the history of 1 topics" in server.text()
    assert resume(server, "news", ids[0]) == (True, ["b", "c"])
    assert publish(server, "news", "d") == [
        f"{ID.fullmatch(ids[0])[1]}-{number_of(ids[2]) + 1}"]
    assert resume(server, "news", ids[1]) == (True, ["c", "d"])


def test_an_event_stream_goes_on(lives):
    server = lives()
    stream = server.event_stream(sub_target("alice", "news"))
    place_of(stream)
    for life in range(3):
        publish(server, "news", f"seen in {life}")
        assert stream.event().data == f"seen in {life}"
        stream.close()
        publish(server, "news", f"missed in {life}")
        server = lives()
        publish(server, "news", f"missed after {life}")
        goes_on_at(server, stream)
        assert stream.data_of(2) == [f"missed in {life}",
                                     f"missed after {life}"]


def test_so_does_one_of_several_topics(lives):
    server = lives()
    stream = server.event_stream(sub_target("alice", "a", "b", "c"))
    place_of(stream)
    publish(server, "b", "seen")
    assert stream.event().data == "seen"
    stream.close()
    publish(server, "c", "to c")
    publish(server, "b", "to b")
    server = lives()
    goes_on_at(server, stream)
    assert stream.data_of(2) == ["to b", "to c"]
    publish(server, "a", "to a")
    assert stream.event().data == "to a"


def test_and_a_raw_websocket(lives):
    server = lives()
    ids = publish(server, "news", *"abc")
    server = lives()
    socket = server.websocket(
        target=sub_target("alice", "news", since=ids[0]))
    publish(server, "news", "d")
    assert [socket.receive() for _ in range(3)] == ["b", "c", "d"]


def test_who_is_connected_when_it_ends_goes_on(lives):
    """Everybody is told of the end, after all that came before it."""
    server = lives(DRAIN_SECONDS=2)
    streams = [server.event_stream(sub_target("alice", f"topic {i}"))
               for i in range(10)]
    for i, stream in enumerate(streams):
        place_of(stream)
        server.publish("alice", f"topic {i}", f"before {i}")
    end(server)
    for i, stream in enumerate(streams):
        assert stream.event().data == f"before {i}"
        stream.expect_end(1001)
    server = lives()
    for i, stream in enumerate(streams):
        server.publish("alice", f"topic {i}", f"after {i}")
        goes_on_at(server, stream)
        assert stream.event().data == f"after {i}"


def test_the_number_of_a_topic_without_history_is_kept_too(lives, path):
    """Its last message is too old, its last subscriber is not."""
    server = lives(HISTORY_TTL=0.5, CLOSE_TIMEOUT=0.1)
    socket = v1(server)
    socket.command("subscribe", publisher="alice", topic="quiet")
    ids = publish(server, "quiet", "a", "b")
    publish(server, "other", *"abcdefgh")  # so that its number is no default
    server.wait_until(lambda: history_of(server, "quiet") == 0, "too old")
    end(server)
    shift(path, -3600)  # however long the start takes
    server = lives(HISTORY_TTL=60)
    assert history_of(server, "quiet") == 0
    assert resume(server, "quiet", ids[1]) == (True, [])
    assert resume(server, "quiet", ids[0]) == (False, [])


def test_data_and_names_come_back_as_they_were(lives):
    server = lives()
    names = ["", "\u00e9\u4e16\U0001f600", "a\u0000b", "x" * 1024, "\n"]
    values = ["", "text", "\u00e9\u4e16\U0001f600\u0000\n", "x" * 100_000, "[1]",
              "null", None, True, -1.5, [], {"a": [1, {"b": "\u00fc"}]}]
    before = []
    for name in names:
        http = server.http()
        before += [http.publish(name, name, value).json()["id"]
                   for value in values]
    server = lives(WORKERS=3)
    for i, name in enumerate(names):
        first = before[i * len(values)]
        since = f"{ID.fullmatch(first)[1]}-{number_of(first) - 1}"
        assert resume(server, name, since, publisher=name) == (True, values)


def test_fifty_thousand_messages(lives):
    topics, each = 10, 5000 // SCALE
    server = lives(HISTORY_SIZE=each, MAX_BUFFERED="64M")
    for i in range(topics):
        server.http().publish_all(
            "alice", f"topic {i}", [f"{n}" for n in range(each)], window=500)
    epoch = epoch_of(server)
    server = lives(HISTORY_SIZE=each, MAX_BUFFERED="64M")
    for i in range(topics):
        assert resume(server, f"topic {i}", f"{epoch}-0") == (
            True, [f"{n}" for n in range(each)])


def test_many_topics(lives):
    topics = 20_000 // SCALE
    server = lives(HISTORY_BYTES="1G")
    http = server.http()
    for first in range(0, topics, 100):
        answer = http.publish("", "", body=(b"[" + b",".join(
            b'{"topic":"%d","data":"%d"}' % (i, i)
            for i in range(first, first + 100)) + b"]"))
        assert answer.status == 200
    epoch = epoch_of(server)
    server = lives(HISTORY_BYTES="1G")
    assert server.metrics()["isimud_topics"] == topics + 1
    for i in range(0, topics, topics // 20):
        assert resume(server, f"{i}", f"{epoch}-0", publisher="") == (
            True, [f"{i}"])


# --- the file ----------------------------------------------------------------


def test_the_file_is_there_between_two_lives_only(lives, path):
    folder = os.path.dirname(path)
    server = lives()
    assert "no history to restore" in server.text()
    assert os.listdir(folder) == ["history.lock"]
    publish(server, "news", "a")
    assert os.listdir(folder) == ["history.lock"]
    end(server)
    assert "saved the history of 1 topics" in server.text()
    assert sorted(os.listdir(folder)) == ["history", "history.lock"]
    for name in os.listdir(folder):
        assert stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode) == 0o600
    server = lives()
    server.wait_for_line("restored the history of 1 topics")
    assert os.listdir(folder) == ["history.lock"]


def test_a_server_without_the_setting_says_nothing_of_it(start):
    server = start()
    publish(server, "news", "a")
    end(server)
    assert said(server) == []


def test_a_history_of_nothing_keeps_the_epoch(lives):
    server = lives(HISTORY_TTL=0.01)
    epoch = epoch_of(server)
    server.wait_until(lambda: server.metrics()["isimud_topics"] == 0, "gone")
    assert epoch_of(lives(HISTORY_TTL=60)) == epoch


def test_after_a_crash_everything_is_new(path, lives):
    server = lives()
    ids = publish(server, "news", "a", "b")
    end(server)
    crashed = Server(HISTORY_FILE=path)
    more = publish(crashed, "news", "c")
    assert number_of(more[0]) == number_of(ids[1]) + 1
    crashed.kill()
    server = lives()
    assert "no history to restore" in server.text()
    [id] = publish(server, "news", "d")
    assert ID.fullmatch(id)[1] != ID.fullmatch(more[0])[1]
    for seen in ids + more:
        assert resume(server, "news", seen) == (False, [])


def test_a_second_signal_leaves_no_file(path, lives):
    server = Server(HISTORY_FILE=path, DRAIN_SECONDS=60)
    server.subscribe()
    publish(server, "news", "a")
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    # The one is taken from the queue of signals before the other counts.
    while server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(0.1)
        except subprocess.TimeoutExpired:
            pass
    assert server.process.returncode == 128 + signal.SIGTERM
    server.kill()
    assert os.listdir(os.path.dirname(path)) == ["history.lock"]
    assert "no history to restore" in lives().text()


def test_what_a_crash_left_half_written_is_removed(lives, path):
    with open(path + ".new", "w") as file:
        file.write("half")
    server = lives()
    assert os.listdir(os.path.dirname(path)) == ["history.lock"]
    publish(server, "news", "a")
    server = lives()
    assert "restored the history of 1 topics" in server.text()
    assert os.listdir(os.path.dirname(path)) == ["history.lock"]


def test_a_start_that_fails_keeps_it(start, path, lives):
    """As where descriptors run out after it was read: others than the server
    knew of have them."""
    content, epoch = saved_file(start, path)
    ended = set()
    for held in range(50, 0, -1):
        with open(path, "wb") as file:
            file.write(content)
        unlock(path)
        program = Program(ISIMUD, {"PASSWORD": "secret", "PORT": 0,
                                   "WORKERS": 2, "DRAIN_SECONDS": 0,
                                   "HISTORY_FILE": path}, nofile=64, held=held)
        with program.news:
            program.news.wait_for(lambda: program.ended or any(
                "listening" in line for line in program.lines), DEADLINE)
        program.process.send_signal(signal.SIGTERM)
        status = program.wait()
        program.kill()
        if status < 0 or "restored" not in program.text():
            continue  # libuv can't do with so few; or the file can't be read
        assert os.path.exists(path), program.text()
        ended.add(status)
        if status == 0:
            break
    assert ended == {0, 1}
    assert resume(lives(), "news", f"{epoch}-1") == (True, [1])


# --- time, and other settings ------------------------------------------------


def test_ages_count_on_while_no_server_runs(lives, path):
    server = lives()
    ids = publish(server, "news", "a", "b")
    end(server)
    shift(path, 59 - DEADLINE)
    server = lives()
    assert resume(server, "news", ids[0]) == (True, ["b"])
    end(server)
    shift(path, 61)
    server = lives()
    assert "older than HISTORY_TTL" in server.text()
    assert history_of(server, "news") is None
    assert resume(server, "news", ids[0]) == (False, [])
    # Who knows what was published meanwhile by a process without the file.
    assert epoch_of(server) != ID.fullmatch(ids[0])[1]


def test_a_clock_that_was_set_back_makes_nothing_older(lives, path):
    server = lives()
    ids = publish(server, "news", "a", "b")
    end(server)
    shift(path, -7200)
    assert resume(lives(), "news", ids[0]) == (True, ["b"])


@pytest.mark.parametrize("before, after", [(10, 3), (3, 10), (64, 1)])
def test_history_size_may_be_another(lives, before, after):
    server = lives(HISTORY_SIZE=before)
    ids = publish(server, "news", *map(str, range(10)))
    kept = min(before, after)
    server = lives(HISTORY_SIZE=after)
    assert history_of(server, "news") == kept
    assert resume(server, "news", ids[9 - kept]) == (
        True, [str(i) for i in range(10 - kept, 10)])
    if kept < 10:
        assert resume(server, "news", ids[8 - kept]) == (False, [])


def test_history_may_be_off_meanwhile(lives):
    server = lives()
    ids = publish(server, "news", "a", "b")
    server = lives(HISTORY_SIZE=0)
    more = publish(server, "news", "c")
    assert ID.fullmatch(more[0])[1] == ID.fullmatch(ids[0])[1]
    assert number_of(more[0]) > number_of(ids[1])
    assert resume(server, "news", ids[1]) == (False, [])
    server = lives()
    assert resume(server, "news", ids[1]) == (False, [])
    [last] = publish(server, "news", "d")
    assert number_of(last) > number_of(more[0])
    assert resume(server, "news", more[0]) == (True, ["d"]) or (
        number_of(last) > number_of(more[0]) + 1)


def test_a_history_larger_than_history_bytes_loses_the_oldest(lives):
    server = lives()
    for topic in ("oldest", "older", "newest"):
        publish(server, topic, *["x" * 1000] * 20)
    server = lives(HISTORY_BYTES="40K")
    assert server.metrics()["isimud_history_bytes"] <= 40 << 10
    assert history_of(server, "newest") == 20
    assert not history_of(server, "oldest")


@pytest.mark.skipif(SCALE > 1, reason="a sanitizer's memory is not measured")
def test_a_history_larger_than_the_memory_there_is_does_no_harm(lives):
    server = lives(HISTORY_BYTES="1G", HISTORY_SIZE=65536, MEMORY_LIMIT=0)
    http = server.http()
    for i in range(60):
        http.publish_all("alice", f"topic {i}", ["x" * 100_000] * 10)
    server = lives(HISTORY_BYTES="1G", MEMORY_LIMIT="32M", ADMIN_PORT=0)
    server.wait_until(
        lambda: server.ask_admin("GET", "/readyz").status == 200,
        "history makes room")
    publish(server, "news", "a")


# --- what is no use ----------------------------------------------------------


def saved_file(start, path):
    """A small one: its bytes, and its epoch."""
    server = start(HISTORY_FILE=path)
    epoch = ID.fullmatch(publish(server, "news", "hello", 1)[0])[1]
    end(server)
    with open(path, "rb") as file:
        content = file.read()
    os.unlink(path)
    unlock(path)
    return content, epoch


def check_that_it_serves_anew(path, epoch, **settings):
    """One line tells why there is no history, and all is as without. Returns
    the line."""
    unlock(path)
    server = Server(HISTORY_FILE=path, **settings)
    try:
        assert epoch_of(server) != epoch
        lines = said(server)
        assert len(lines) == 1, lines
        assert REFUSED in lines[0] and path in lines[0]
    finally:
        server.stop()
    return lines[0]


def check_refused(path, epoch, content):
    with open(path, "wb") as file:
        file.write(content)
    line = check_that_it_serves_anew(path, epoch)
    assert "it is not a history file, or a torn one" in line
    with open(path + ".refused", "rb") as file:
        assert file.read() == content, "it is left for who wants to look"
    os.unlink(path)


def test_a_torn_file_is_refused_wherever_it_is_torn(start, path):
    content, epoch = saved_file(start, path)
    assert len(content) < 200
    for length in range(0, len(content), 1 if SCALE == 1 else 11):
        check_refused(path, epoch, content[:length])


def test_so_is_one_with_a_bit_that_has_flipped(start, path):
    content, epoch = saved_file(start, path)
    rng = random.Random(4)
    for at in range(17, len(content), 3 if SCALE == 1 else 17):
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.randrange(8)
        check_refused(path, epoch, flipped)


def test_one_that_goes_on_is_refused(start, path):
    content, epoch = saved_file(start, path)
    check_refused(path, epoch, content + b"x")
    check_refused(path, epoch, content + content)


@pytest.mark.parametrize("foreign", [
    b"hello\n", b"\0" * 300, b"isimud history 2\n" * 1000, b"isimud",
    b"\x7fELF" * 50], ids=range(5))
def test_a_foreign_file_is_refused(path, foreign):
    check_refused(path, None, foreign)


def test_one_of_another_version_is_refused(start, path):
    content, epoch = saved_file(start, path)
    with open(path, "wb") as file:
        file.write(content.replace(b"isimud history 2\n",
                                   b"isimud history 3\n", 1))
    line = check_that_it_serves_anew(path, epoch)
    assert "another version of isimud wrote it" in line


def signed_nonsense(content):
    """One with another bit changed each, and a digest that is right."""
    for at in range(17, len(content) - DIGEST):
        changed = bytearray(content[:-DIGEST])
        changed[at] ^= 1 << at % 8
        yield bytes(changed) + hashlib.sha256(changed).digest()


def test_whatever_it_says_it_does_no_harm(start, path):
    """Who writes the digest may write anything."""
    content, _ = saved_file(start, path)
    for changed in list(signed_nonsense(content))[::3 * SCALE]:
        with open(path, "wb") as file:
            file.write(changed)
        unlock(path)
        server = Server(HISTORY_FILE=path)
        publish(server, "news", "a")
        server.stop()


def refused_settings(path, **kwargs):
    """A server that must not start, as the setting names what can't be: its
    one line that says so."""
    program = Program(ISIMUD, {"PASSWORD": "secret", "PORT": 0,
                               "HISTORY_FILE": path}, **kwargs)
    status = program.wait()
    program.kill()
    assert status == 2, program.text()
    assert "listening" not in program.text()
    lines = said(program)
    assert len(lines) == 1 and " error " in lines[0], program.text()
    return lines[0]


def test_a_folder_is_no_history(path):
    os.mkdir(path)
    assert f"can't write {path}: it is not a file" in refused_settings(path)
    assert os.path.isdir(path), "it stays as it is"


def test_neither_is_a_fifo_which_is_not_waited_for(path):
    os.mkfifo(path)
    assert f"can't write {path}: it is not a file" in refused_settings(path)
    assert stat.S_ISFIFO(os.stat(path).st_mode), "it stays as it is"


def test_an_unreadable_file(start, path):
    content, epoch = saved_file(start, path)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0)
    line = check_that_it_serves_anew(path, epoch, obeys_modes=True)
    assert "permission denied" in line


def test_an_unwritable_folder(start, path):
    """Said at the start, not at the end, when it is too late."""
    content, epoch = saved_file(start, path)
    with open(path, "wb") as file:
        file.write(content)
    folder = os.path.dirname(path)
    for lock_is_there in (True, False):
        unlock(path)
        if lock_is_there:
            open(path + ".lock", "w").close()
        os.chmod(folder, 0o500)
        try:
            line = refused_settings(path, obeys_modes=True)
        finally:
            os.chmod(folder, 0o700)
        assert f"can't write {path}" in line and "permission denied" in line
        with open(path, "rb") as file:
            assert file.read() == content


def test_a_folder_that_is_not_there(tmp_path):
    line = refused_settings(tmp_path / "none" / "history")
    assert "no such file" in line


@pytest.fixture
def small_disk(tmp_path):
    folder = str(tmp_path / "disk")
    os.mkdir(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none",
                       folder], capture_output=True).returncode != 0:
        pytest.skip("a full disk can't be had without the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(small_disk, start):
    path = os.path.join(small_disk, "history")
    server = start(HISTORY_FILE=path)
    epoch = ID.fullmatch(publish(server, "news", *["x" * 10_000] * 20)[0])[1]
    end(server)
    assert f"{LOST}can't write {path}.new: no space left" in server.text() or (
        f"{LOST}can't write {path}: no space left" in server.text())
    assert os.listdir(small_disk) == ["history.lock"]
    server = start(HISTORY_FILE=path)
    assert epoch_of(server) != epoch
    end(server)
    assert "history" in os.listdir(small_disk), "little is no problem"


def test_a_disk_that_is_full_at_the_start_is_said_then(small_disk, start):
    path = os.path.join(small_disk, "history")
    filler = os.path.join(small_disk, "filler")
    with contextlib.suppress(OSError), open(filler, "wb", 0) as file:
        while True:
            file.write(b"x" * 4096)
    server = start(HISTORY_FILE=path)
    assert "the history can't be saved now" in server.text()
    assert "no space left" in server.text()
    publish(server, "news", "a")


def test_a_disk_that_is_read_only_is_said_at_the_start(small_disk, start):
    path = os.path.join(small_disk, "history")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    server = start(HISTORY_FILE=path)
    line, = said(server)
    assert "the history can't be saved now" in line and "read-only" in line
    publish(server, "news", "a")
    end(server)
    assert len(said(server)) == 1
