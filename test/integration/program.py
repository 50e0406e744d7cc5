"""Starts the real binary, reads its stderr, and ends it."""
import ctypes
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import threading
import time

from client import (DEADLINE, PASSWORD, EventStream, Http, WebSocket, basic,
                    sub_target)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
ISIMUD = os.environ.get("ISIMUD", os.path.join(ROOT, "build", "isimud"))
ECHO = os.environ.get("ECHO", os.path.join(ROOT, "build", "echo"))
# A command to run it under, such as `valgrind --error-exitcode=9`.
WRAPPER = shlex.split(os.environ.get("WRAPPER", ""))

# What a clean run never says.
ALARMS = re.compile("ERROR: AddressSanitizer|WARNING: ThreadSanitizer|"
                    "runtime error|LeakSanitizer|CHECK failed")
LISTENING = re.compile(r"listening on (?:unix:([^\s\"]+)|([^\s\"]+):(\d+)\b)")
ADMIN = re.compile(r"health and metrics on port (\d+)")


def fields_of(line):
    """The fields of a log line, text or JSON, as a dict of strings and, from
    JSON, numbers; with "message"."""
    if line.startswith("{"):
        return json.loads(line)
    message, mark, rest = line.partition(" event=")
    fields = {name: plain if plain else quoted for name, quoted, plain in
              re.findall(r'(\w+)=(?:"([^"]*)"|([^ "]*))(?= |$)',
                         "event=" + rest if mark else "")}
    return {**fields, "message": message[31:]}


def environment(settings):
    """The settings, and nothing else that the program could be led by; a
    setting of None is left unset."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    env = {name: value for name, value in os.environ.items()
           if name in kept or name.endswith("SAN_OPTIONS")}
    env.update({name: str(value) for name, value in settings.items()
                if value is not None})
    return env


# prctl(2), capabilities(7)
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
LIBC = ctypes.CDLL(None)


def holding(descriptors):
    """A command that takes so many descriptors and then runs another with
    them."""
    if not descriptors:
        return []
    return ["bash", "-c", f"for ((i = 0; i < {descriptors}; i++)); do "
            'exec {fd}<&0; done; exec "$@"', "bash"]


class Program:
    """A running process; its stderr is read line by line by a thread. With
    `obeys_modes` those of files count even if it is root's; `held` descriptors
    are taken from the start."""

    def __init__(self, path, settings, arguments=(), nofile=None,
                 cgroup=None, obeys_modes=False, held=0):
        def limit():
            if obeys_modes and os.geteuid() == 0:
                for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
                    assert LIBC.prctl(PR_CAPBSET_DROP, capability) == 0
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
            if cgroup:
                with open(cgroup + "/cgroup.procs", "w") as procs:
                    procs.write(str(os.getpid()))

        self.lines = []
        self.ended = False
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            holding(held) + WRAPPER + [path, *map(str, arguments)],
            env=environment(settings),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=limit if nofile or cgroup or obeys_modes else None)
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append(line.decode("utf-8", "backslashreplace")
                                  .rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def wait_for_line(self, pattern, after=0, count=1):
        """Waits until `count` lines from the `after`th on match."""
        pattern = re.compile(pattern)

        def matches():
            return [m for m in map(pattern.search, self.lines[after:]) if m]

        with self.news:
            self.news.wait_for(
                lambda: self.ended or len(matches()) >= count, DEADLINE)
            found = matches()
        assert len(found) >= count, (
            f"no line like {pattern.pattern!r} in:\n" + self.text())
        return found

    def wait(self):
        """The exit status; all of stderr is read then."""
        status = self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)
        return status

    def text(self):
        return "\n".join(self.lines)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(DEADLINE)
        self.process.stderr.close()


class Server(Program):
    """A program that listens, and all the clients a test has of it."""

    def __init__(self, path=ISIMUD, nofile=None, cgroup=None,
                 obeys_modes=False, held=0, **settings):
        settings = {"PASSWORD": PASSWORD, "PORT": 0, "WORKERS": 2,
                    "DRAIN_SECONDS": 0, **settings}
        super().__init__(path, settings, (), nofile, cgroup, obeys_modes, held)
        self.workers_count = int(settings["WORKERS"])
        self.clients = []
        self.publishers = {}
        self.is_stopping = False
        try:
            self.addresses = self.find_addresses(
                len((settings.get("LISTEN") or "").split(",")))
            if "ADMIN_PORT" in settings:
                port = self.wait_for_line(ADMIN)[0].group(1)
                self.admin = ("127.0.0.1", int(port))
        except AssertionError:
            self.kill()
            raise
        self.address = self.addresses[0]

    def find_addresses(self, count):
        """What it listens on: (ip, port), or the path of a Unix socket."""
        return [match.group(1) or (match.group(2).strip("[]"),
                                   int(match.group(3)))
                for match in self.wait_for_line(LISTENING, count=count)]

    # --- clients; `to` is one of the addresses, by default the first

    def http(self, to=None, **kwargs):
        self.clients.append(Http(to or self.address, **kwargs))
        return self.clients[-1]

    def websocket(self, to=None, **kwargs):
        self.clients.append(WebSocket(to or self.address, **kwargs))
        return self.clients[-1]

    def subscribe(self, publisher="alice", topic="news", read=True, **kwargs):
        """A subscriber in force; `read` False is for one that will not read,
        so that little is lost in the kernel's buffers."""
        if not read:
            kwargs.setdefault("rcvbuf", 4096)
        return self.websocket(**kwargs).subscribe(publisher, topic)

    def event_stream(self, target=None, to=None, **kwargs):
        """An open event stream, by default of alice's news."""
        self.clients.append(EventStream(
            to or self.address, target or sub_target("alice", "news"),
            **kwargs))
        return self.clients[-1]

    def ask(self, *args, **kwargs):
        """The response to request(...), on a connection of its own."""
        return self.http().ask(*args, **kwargs)

    def publish(self, publisher, topic, data, times=1):
        """Publishes on a connection kept for that; each must be taken."""
        key = threading.get_ident()
        if key not in self.publishers:
            self.publishers[key] = self.http()
        for _ in range(times):
            response = self.publishers[key].publish(publisher, topic, data)
            assert response.status == 200, response.body

    def ask_admin(self, *args, **kwargs):
        """The same, by way of ADMIN_PORT, which takes few at a time."""
        client = Http(self.admin)
        try:
            return client.ask(*args, **kwargs)
        finally:
            client.close()

    def close_clients(self):
        for client in self.clients:
            client.close()
        self.clients.clear()
        self.publishers.clear()

    # --- what it says of itself

    def report(self):
        """What SIGUSR1 makes it print: the counters, and a dict per worker."""
        mark = len(self.lines)
        self.process.send_signal(signal.SIGUSR1)
        counters = self.wait_for_line(r"event\W+counters\b.*", mark)[-1]
        workers = self.wait_for_line(r"event\W+worker\b.*", mark,
                                     self.workers_count)

        def numbers(match):
            return {key: int(value) for key, value
                    in fields_of(match.string).items()
                    if key != "worker" and str(value).isdigit()}

        return numbers(counters), [numbers(match) for match in workers]

    def events(self, event, after=0):
        """The fields of each line of that event, oldest first."""
        return [fields for fields in map(fields_of, self.lines[after:])
                if fields.get("event") == event]

    def wait_for_event(self, event, after=0, count=1):
        self.wait_for_line(rf"event\W+{event}\b", after, count)
        return self.events(event, after)

    def stats(self):
        return self.report()[0]

    def total(self, key):
        """The sum of a value over all workers: http, event_stream, closing…"""
        return sum(worker.get(key, 0) for worker in self.report()[1])

    def metrics(self):
        """/metrics as a dict, from 'name{labels}' to the value."""
        if hasattr(self, "admin"):
            response = self.ask_admin("GET", "/metrics")
        else:
            response = self.ask("GET", "/metrics",
                                {"Authorization": basic("prometheus")})
        assert response.status == 200, response.body
        lines = response.body.decode("ascii").splitlines()
        return {name: float(value) for name, _, value in (
            line.rpartition(" ") for line in lines if line[0] != "#")}

    def wait_until(self, condition, what):
        """Asks until `condition()` holds; each answer comes with an event of
        the server's, so this is no busy loop."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"{what}: not in time; {self.text()}"
            time.sleep(0.01)

    def wait_for_stat(self, key, at_least=1):
        self.wait_until(lambda: self.stats().get(key, 0) >= at_least,
                        f"{key} >= {at_least}")

    def wait_until_empty(self):
        """Until no connection is left: all that came before is cleared."""
        self.wait_until(lambda: not any(map(self.total, (
            "http", "websocket", "event_stream", "closing"))),
            "no connection left")

    def rss_bytes(self, part="VmRSS"):
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(part + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no " + part)

    def own_bytes(self):
        """What of the resident set counts against MEMORY_LIMIT."""
        return self.rss_bytes("RssAnon")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")

    # --- its end

    def terminate(self):
        """Asks it to stop, once: a second SIGTERM would end it at once."""
        if not self.is_stopping:
            self.is_stopping = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """Ends it, and fails the test unless that and its life were clean."""
        self.close_clients()
        try:
            self.terminate()
            status = self.wait()
        except subprocess.TimeoutExpired:
            raise AssertionError("SIGTERM did not end it: " + self.text())
        finally:
            self.kill()
        assert not ALARMS.search(self.text()), self.text()
        assert status == 0, f"exit status {status}: " + self.text()
