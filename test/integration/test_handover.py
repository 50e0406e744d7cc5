"""Processes that follow each other, overlap, or are two by mistake: what they
share is one's at a time, and nothing is taken for what it is not."""
import os
import re
import shutil
import signal

import pytest

from client import DEADLINE, Http, sub_target
from program import ISIMUD, Program, Server

ID = re.compile("([0-9a-f]{16})-([0-9]+)")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "history")


def begin(**settings):
    """A program that may not come to listen."""
    return Program(ISIMUD, {"PASSWORD": "secret", "PORT": 0, "WORKERS": 1,
                            "DRAIN_SECONDS": 0, **settings})


def assert_refused(program, says):
    """It ended with status 2 and one line that says why."""
    status = program.wait()
    program.kill()
    assert status == 2, program.text()
    errors = [line for line in program.lines if " error " in line]
    assert len(errors) == 1 and says in errors[0], program.text()
    assert "listening" not in program.text()


def publish(server, data, topic="news"):
    answer = server.http().publish("alice", topic, data)
    assert answer.status == 200
    return answer.json()["id"]


def is_exact(server, since, topic="news"):
    socket = server.websocket(subprotocols=["isimud.v1"])
    answer = socket.command("subscribe", publisher="alice", topic=topic,
                            since=since)
    socket.close()
    return answer["resumed"]


def end(server):
    server.is_stopping = True
    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0, server.text()


def kill(server):
    server.is_stopping = True
    server.kill()


def epoch_of(id):
    return ID.fullmatch(id)[1]


# --- HISTORY_FILE ------------------------------------------------------------


def test_a_second_process_on_one_history_file_is_refused(start, path):
    server = start(HISTORY_FILE=path)
    id = publish(server, "a")
    assert_refused(begin(HISTORY_FILE=path),
                   f"another isimud, process {server.pid}, has {path}")
    end(server)
    assert "saved the history of 1 topics" in server.text()
    assert is_exact(start(HISTORY_FILE=path), id)


def test_a_successor_waits_for_one_that_drains_and_goes_on_there(start, path):
    server = start(HISTORY_FILE=path, DRAIN_SECONDS=2)
    subscriber = server.event_stream(sub_target("alice", "news"))
    first = publish(server, "seen")
    assert subscriber.event().data == "seen"
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    successor = begin(HISTORY_FILE=path, DRAIN_SECONDS=2)
    try:
        successor.wait_for_line(
            f"waiting for process {server.pid}, which is draining")
        server.publish("alice", "news", "missed")
        subscriber.close()
        assert server.wait() == 0
        successor.wait_for_line("restored the history of 1 topics")
    finally:
        successor.process.send_signal(signal.SIGTERM)
        assert successor.wait() == 0
        successor.kill()
    server = start(HISTORY_FILE=path)
    assert is_exact(server, first)


def test_one_that_waits_ends_when_it_is_told_to(start, path):
    server = start(HISTORY_FILE=path, DRAIN_SECONDS=30)
    server.subscribe()
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    successor = begin(HISTORY_FILE=path)
    successor.wait_for_line("waiting for process")
    successor.process.send_signal(signal.SIGTERM)
    assert successor.wait() == 0
    successor.kill()
    assert "stopped" in successor.text()
    server.close_clients()
    assert server.wait() == 0
    assert "saved the history" in server.text()


def test_after_a_kill_the_file_is_free(start, path):
    kill(Server(HISTORY_FILE=path))
    assert "no history to restore" in start(HISTORY_FILE=path).text()


def test_who_has_lost_the_lock_does_not_save(path):
    """As where somebody thought the lock file to be rubbish."""
    loser = Server(HISTORY_FILE=path)
    publish(loser, "a")
    os.unlink(path + ".lock")
    winner = Server(HISTORY_FILE=path)
    id = publish(winner, "b")
    end(loser)
    assert (f"the history is lost: another isimud has {path} now"
            in loser.text())
    assert not os.path.exists(path)
    loser.kill()
    end(winner)
    winner.kill()
    last = Server(HISTORY_FILE=path)
    assert is_exact(last, id)
    last.stop()


def test_a_lock_file_that_was_removed_is_made_again(start, path):
    server = start(HISTORY_FILE=path)
    id = publish(server, "a")
    os.unlink(path + ".lock")
    end(server)
    assert "saved the history of 1 topics" in server.text()
    assert is_exact(start(HISTORY_FILE=path), id)


def test_a_file_that_a_life_lies_behind_is_refused(start, path):
    """A copy put back after a process that was killed, and after one that
    saved its own."""
    server = start(HISTORY_FILE=path)
    old = publish(server, "a")
    end(server)
    shutil.copy(path, path + ".copy")
    server = Server(HISTORY_FILE=path)
    publish(server, "not in the copy")
    kill(server)
    shutil.copy(path + ".copy", path)
    server = start(HISTORY_FILE=path)
    assert "another process has run since it was saved" in server.text()
    assert not is_exact(server, old)
    assert os.path.exists(path + ".refused")
    end(server)
    shutil.copy(path + ".copy", path)
    server = start(HISTORY_FILE=path)
    assert "another process has run since it was saved" in server.text()
    assert not is_exact(server, old)


def test_of_many_that_start_at_once_one_serves(path):
    for _ in range(5):
        programs = [begin(HISTORY_FILE=path, LISTEN="127.0.0.1:0")
                    for _ in range(4)]
        try:
            for program in programs:
                with program.news:
                    program.news.wait_for(lambda: program.ended or (
                        "listening" in program.text()), DEADLINE)
            serving = [p for p in programs if not p.ended]
            assert len(serving) == 1, [p.text() for p in programs]
            for program in programs:
                if program is not serving[0]:
                    assert_refused(program, "another isimud")
        finally:
            for program in programs:
                program.kill()


# --- Unix sockets and ports --------------------------------------------------


@pytest.fixture
def socket_path(tmp_path):
    (tmp_path / "run").mkdir()
    return str(tmp_path / "run" / "isimud.sock")


def test_a_second_process_on_one_port_is_refused(start):
    server = start()
    port = server.address[1]
    assert_refused(begin(PORT=port), f"can't listen on 127.0.0.1:{port}")


def test_a_second_process_on_one_socket_is_refused(start, socket_path):
    server = start(LISTEN=f"unix:{socket_path}")
    assert_refused(begin(LISTEN=f"unix:{socket_path}"),
                   f"process {server.pid}, has it")
    publish(server, "a")


def test_one_that_drains_leaves_its_successors_socket_alone(
        start, socket_path):
    """The successor comes as soon as the path is free, whenever that is; the
    predecessor ends later."""
    server = start(LISTEN=f"unix:{socket_path}", DRAIN_SECONDS=3)
    subscriber = server.subscribe()
    server.terminate()
    server.wait_for_line("draining on SIGTERM")
    successor = start(LISTEN=f"unix:{socket_path}", DRAIN_SECONDS=3)
    subscriber.close()
    assert server.wait() == 0
    assert os.path.exists(socket_path)
    publish(successor, "a")


def test_a_socket_that_is_another_file_now_is_not_removed(start, socket_path):
    server = start(LISTEN=f"unix:{socket_path}")
    os.unlink(socket_path)
    with open(socket_path, "w") as file:
        file.write("precious")
    end(server)
    with open(socket_path) as file:
        assert file.read() == "precious"


def test_successors_of_killed_ones_are_reached_at_once(socket_path):
    """kill -9 leaves file and lock behind, at any moment; the next start does
    away with both."""
    for i in range(20):
        server = begin(LISTEN=f"unix:{socket_path}")
        if i % 4:
            server.wait_for_line("listening on")
        else:
            server.wait_for_line("settings: ")
        server.kill()
    server = Server(LISTEN=f"unix:{socket_path}")
    publish(server, "a")
    server.stop()
    assert os.listdir(os.path.dirname(socket_path)) == []


def test_of_many_that_start_at_once_on_a_stale_socket_one_listens(
        socket_path):
    begun = Server(LISTEN=f"unix:{socket_path}")
    for _ in range(5):
        begun.kill()
        programs = [begin(LISTEN=f"unix:{socket_path}") for _ in range(4)]
        try:
            for program in programs:
                with program.news:
                    program.news.wait_for(lambda: program.ended or (
                        "listening on" in program.text()), DEADLINE)
            serving = [p for p in programs if not p.ended]
            assert len(serving) == 1, [p.text() for p in programs]
            begun = serving[0]
            client = Http(socket_path)
            assert client.publish("alice", "news", "a").status == 200
            client.close()
            for program in programs:
                if program is not begun:
                    assert_refused(program, "has it")
        finally:
            for program in programs:
                if program is not begun:
                    program.kill()
    begun.kill()


def test_restarts_in_a_row_never_lose_the_path(socket_path):
    """Each successor is started while its predecessor drains."""
    server = Server(LISTEN=f"unix:{socket_path}", DRAIN_SECONDS=1)
    for _ in range(10):
        subscriber = server.subscribe()
        server.terminate()
        server.wait_for_line("draining on SIGTERM")
        successor = Server(LISTEN=f"unix:{socket_path}", DRAIN_SECONDS=1)
        publish(successor, "a")
        subscriber.close()
        assert server.wait() == 0
        server.kill()
        publish(successor, "a")
        server = successor
    server.stop()
    assert os.listdir(os.path.dirname(socket_path)) == []
