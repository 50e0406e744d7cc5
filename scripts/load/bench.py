"""Measures the figures and prints the table; see bench.sh."""

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "build", "bench")
OURS = [os.path.join(ROOT, "build", "isimud"), "bench"]
PEERS_BENCH = [os.path.join(ROOT, "build", "release", "bench", "peers")]
PEER_SCRIPTS = os.path.join(ROOT, "test", "bench", "peers")
FILES = os.sysconf("SC_OPEN_MAX")
IDLE_SUBS = min(int(os.environ.get("IDLE_SUBS", "19000")), FILES - 200)
ROUNDS = int(os.environ.get("ROUNDS") or "1")
NOISE_CORES = 0.2

SHORT = ["--warmup", "0.5", "--duration", "1.5"]
SUBS = min(5000, FILES - 200)
FIGURES = {  # key: arguments of isimud bench
    "fanout-w1": ["fanout", "--window", "1", *SHORT],
    "fanout-w64": ["fanout", "--window", "64", *SHORT],
    "fanout-w128": ["fanout", "--window", "128", *SHORT],
    "fanout-1k": ["fanout", "--size", "1024", "--window", "64", *SHORT],
    "many": ["fanout", "--topics", "1000", "--subscribers", "10000", *SHORT],
    "publish-1": ["publish", *SHORT],
    "publish-16": ["publish", "--pipeline", "16", *SHORT],
    "latency": ["latency", "--rate", "1000", "--warmup", "0.5",
                "--duration", "3"],
    "idle": ["idle", "--subscribers", str(IDLE_SUBS)],
    "storm": ["storm", "--subscribers", str(SUBS)],
    "stalled": ["fanout", "--stalled", "2000", "--duration", "5"],
    "v1-w64": ["fanout", "--window", "64", *SHORT],
    "v1-idle": ["idle", "--subscribers", str(IDLE_SUBS)],
    "sse-w1": ["fanout", "--window", "1", *SHORT],
    "sse-w64": ["fanout", "--window", "64", *SHORT],
    "sse-idle": ["idle", "--subscribers", str(IDLE_SUBS)],
}
FRESH = ("idle", "v1-idle", "sse-idle", "stalled")  # new processes: memory
RAWFAN = {  # key: connections, bytes, frames per system call
    "fanout-w1": (100, 64, 1),
    "fanout-w64": (100, 64, 32),
    "fanout-w128": (100, 64, 64),
    "fanout-1k": (100, 1024, 32),
    "many": (10000, 64, 1),
}
CPU, RATE = "cpu_s_per_million", "deliveries_per_s"
ROWS = [  # section, text, figure's key, field of the result, scale, aim
    ("CPU seconds per million deliveries, all threads of the server",
     "fan-out to 100, 64 B, window 1", "fanout-w1", CPU, 1, "<= 6.2"),
    (None, "fan-out to 100, 64 B, window 64", "fanout-w64", CPU, 1, "<= 0.29"),
    (None, "fan-out to 100, 64 B, window 128", "fanout-w128", CPU, 1,
     "<= 0.38"),
    (None, "fan-out to 100, 1 KiB, window 64", "fanout-1k", CPU, 1, "<= 0.60"),
    (None, "1,000 topics x 10 subscribers, 64 B", "many", CPU, 1, "<= 11.5"),
    ("Thousand deliveries per second",
     "fan-out to 100, 64 B, window 1", "fanout-w1", RATE, 1e-3, None),
    (None, "fan-out to 100, 64 B, window 64", "fanout-w64", RATE, 1e-3, None),
    (None, "fan-out to 100, 64 B, window 128", "fanout-w128", RATE, 1e-3, None),
    (None, "fan-out to 100, 1 KiB, window 64", "fanout-1k", RATE, 1e-3, None),
    (None, "1,000 topics x 10 subscribers, 64 B", "many", RATE, 1e-3, None),
    ("Thousand publish requests per second, 64 connections",
     "pipeline 1", "publish-1", "publications_per_s", 1e-3, ">= 113"),
    (None, "pipeline 16", "publish-16", "publications_per_s", 1e-3, ">= 500"),
    ("Latency at 100,000 deliveries/s (100 subscribers), microseconds",
     "p50", "latency", "p50_us", 1, "<= 500"),
    (None, "p99", "latency", "p99_us", 1, "<= 2100"),
    ("Memory, RSS bytes per idle subscriber",
     f"{IDLE_SUBS:,} WebSockets", "idle", "rss_per_connection", 1, "<= 512"),
    (None, "of isimud.v1", "v1-idle", "rss_per_connection", 1, "<= 540"),
    (None, "event streams", "sse-idle", "rss_per_connection", 1, None),
    ("Connecting",
     "microseconds of CPU a connection", "idle", "cpu_us_per_connect", 1,
     "<= 22"),
    (None, f"storm of {SUBS:,}: all subscribed, ms", "storm", "ready_s", 1e3,
     "<= 290"),
    (None, "the same, CPU ms of the server", "storm", "server_cpu_s", 1e3, "<= 180"),
    ("2,000 more that read nothing, 5 s of fan-out",
     "peak RSS, MB", "stalled", "rss_peak", 1e-6, None),
    (None, "TCP buffers of the machine, MB", "stalled", "tcp_peak", 1e-6,
     "<= 300"),
    ("CPU seconds per million deliveries, isimud.v1",
     "fan-out to 100, 64 B, window 64", "v1-w64", CPU, 1, None),
    ("CPU seconds per million deliveries, event streams",
     "fan-out to 100, 64 B, window 1", "sse-w1", CPU, 1, None),
    (None, "fan-out to 100, 64 B, window 64", "sse-w64", CPU, 1, None),
]


def misused(text):
    print(f"bench: {text}", file=sys.stderr)
    sys.exit(2)


def wanted_figures():
    words = os.environ.get("BENCH_ONLY", "").replace(",", " ").split()
    keys = [k for k in FIGURES
            if not words or k in words or k.split("-")[0] in words]
    unknown = [w for w in words
               if w not in FIGURES and w not in {k.split("-")[0] for k in FIGURES}]
    if unknown:
        misused(f"BENCH_ONLY: no figure {', '.join(unknown)}; "
                f"there are {' '.join(FIGURES)}")
    return keys


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Server:
    """One server under test; started and ended by the pid it reported.
    `protos`: the --protocol of its WebSockets, its event streams, and of
    acknowledged subscriptions; what it can't is missing. `generator` speaks
    them."""

    generator, token = OURS, None

    def __init__(self, name, protos):
        self.name, self.protos = name, protos
        self.pid = self.port = None

    def proto(self, key):
        """The protocol for a figure, or None."""
        kind = key.split("-")[0]
        return self.protos.get(kind if kind in ("sse", "v1") else "ws")

    def start(self):
        self.port = free_port()
        self.pid = self.launch()
        if not wait_for(lambda: accepts(self.port) or not self.is_up(), 10) \
                or not self.is_up():
            self.stop()
            raise RuntimeError("it did not start" + self.last_words())

    def is_up(self):
        return self.pid is not None and is_alive(self.pid)

    def stop(self):
        """Asks once, waits, then insists; whatever is raised meanwhile."""
        pid, self.pid = self.pid, None
        if pid is None:
            return
        for sig, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
            if is_alive(pid):
                os.kill(pid, sig)
            if wait_for(lambda: not is_alive(pid), patience):
                break
        self.reap()

    def reap(self):
        pass

    def last_words(self):
        return ""


class Isimud(Server):
    def __init__(self, name, binary, workers=None):
        super().__init__(name, {"ws": "raw", "sse": "sse", "v1": "v1"})
        self.binary, self.workers = binary, workers
        self.log = os.path.join(OUT, name.replace(" ", "-") + ".log")

    def launch(self):
        env = {k: v for k, v in os.environ.items() if k != "WORKERS"}
        env.update(PASSWORD="secret", PORT=str(self.port), LOG_LEVEL="warn")
        if self.workers:
            env["WORKERS"] = str(self.workers)
        # A session of its own: Ctrl-C reaches this script, which ends it.
        with open(self.log, "ab") as log:
            self.log_from = log.tell()
            self.child = subprocess.Popen(
                [self.binary], env=env, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        return self.child.pid

    def reap(self):
        self.child.wait()

    def last_words(self):
        with open(self.log, errors="replace") as f:
            f.seek(self.log_from)
            lines = f.read().split("\n")[-6:]
        text = " / ".join(line for line in lines if line)
        return f": {text}" if text else f" (see {self.log})"


class Peer(Server):
    """A server of test/bench/peers, whose script prints its pid. The scripts
    name fixed ports; they run from a copy in which those are free ones."""

    PEERS = {  # name: its fixed port, its program, how to speak to it
        "nchan": ("3101", "nginx",
                  {"ws": "nchan", "sse": "nchan-sse"}),
        "nats": ("3102", "nats-server", {"ws": "nats"}),
        "mosquitto": ("3103", "mosquitto", {"ws": "mqtt"}),
        "centrifugo": ("3106", "centrifugo",
                       {"ws": "centrifugo", "sse": "centrifugo-sse"}),
        "mercure": ("3107", "mercure", {"sse": "mercure"}),
        "isimud_rs": ("3108", "isimud-rs", {"ws": "isimud-rs"}),
    }
    generator = PEERS_BENCH

    def __init__(self, name, scratch):
        self.fixed_port, _, protos = self.PEERS[name]
        super().__init__(name, dict(protos))
        self.scratch = scratch
        if name == "centrifugo":
            self.token = "bench"
        if name == "mercure":
            self.token = subprocess.run(
                ["sh", os.path.join(PEER_SCRIPTS, "mercure.sh"), "token"],
                stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    @classmethod
    def is_installed(cls, name):
        program = cls.PEERS[name][1]
        return shutil.which(os.environ.get(name.upper(), program)) is not None

    def launch(self):
        with open(os.path.join(PEER_SCRIPTS, self.name + ".sh")) as f:
            text = f.read()
        text = text.replace(self.fixed_port, str(self.port))
        text = re.sub(r"\b311\d\b", lambda _: str(free_port()), text)
        script = os.path.join(self.scratch, self.name + ".sh")
        with open(script, "w") as f:
            f.write(text)
        out = subprocess.run(["sh", script], stdout=subprocess.PIPE, text=True,
                             env=dict(os.environ, TMPDIR=self.scratch),
                             start_new_session=True, check=True).stdout
        return int(out.split()[0])


def machine_cpu():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:8]]
    return (sum(v[0:3]) + v[5] + v[6]) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience=3):
    """Waits until other processes leave the machine alone, but not for long."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = machine_cpu()
        time.sleep(0.2)
        if (machine_cpu() - before) / 0.2 < NOISE_CORES:
            return


def run_json(command, env=None):
    """Runs isimud bench or rawfan; an error text stands for what went wrong."""
    try:
        p = subprocess.run(command, stdout=subprocess.PIPE, timeout=60,
                           stderr=subprocess.PIPE, text=True, env=env)
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": "no end within 60 s"}
    report = [line.strip() for line in p.stderr.split("\n") if line.strip()]
    try:
        r = json.loads(p.stdout)
    except ValueError:
        r = {"ok": False}
    if p.returncode != 0 or not r["ok"]:
        r["ok"] = False
        wrong = [f"{name} {r[name]:g}" for name in CHECKED if r.get(name)]
        r["error"] = report[-1] if report else ", ".join(wrong) or \
            f"exit status {p.returncode}"
        if p.returncode < 0:
            r["error"] = "no end: " + signal.Signals(-p.returncode).name
    return r


CHECKED = ("lost", "doubled", "out_of_order", "damaged", "misrouted", "ended",
           "refused", "unanswered")


class MemoryWatch:
    """The most that a server and the machine's TCP have taken meanwhile, while
    some subscribers read nothing."""

    def __init__(self, server):
        self.pid, self.rss, self.tcp = server.pid, 0, 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()

    def family(self):
        """The server's process, and its children: nginx has its memory there."""
        found = [self.pid]
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{int(name)}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == self.pid:
                        found.append(int(name))
            except (ValueError, OSError):
                pass
        return found

    def watch(self):
        page = os.sysconf("SC_PAGESIZE")
        family = self.family()
        while not self.stopping.wait(0.05):
            rss = 0
            for pid in family:
                try:
                    with open(f"/proc/{pid}/statm") as f:
                        rss += int(f.read().split()[1]) * page
                except OSError:
                    pass
            with open("/proc/net/sockstat") as f:
                tcp = int(f.read().split("TCP: ")[1].split(" mem ")[1]
                          .split()[0]) * page
            self.rss, self.tcp = max(self.rss, rss), max(self.tcp, tcp)


def measure_rawfan(key):
    conns, size, frames = RAWFAN[key]
    return run_json([os.path.join(OUT, "rawfan"), "--conns", str(conns),
                     "--size", str(size), "--coalesce", str(frames),
                     "--duration", "1.5", "--json"])


def measure_server(server, key):
    fresh = key in FRESH  # freed memory of earlier connections is reused
    try:
        if fresh or not server.is_up():
            server.stop()
            server.start()
        wait_for_quiet()
        command = [*server.generator, *FIGURES[key], "--json", "--protocol",
                   server.proto(key), "--pid", str(server.pid), "--url",
                   f"http://127.0.0.1:{server.port}"]
        env = dict(os.environ, PASSWORD="secret")
        if server.token:
            env["ISIMUD_TOKEN"] = server.token
        if key == "stalled":
            with MemoryWatch(server) as memory:
                r = run_json(command, env)
            r["rss_peak"], r["tcp_peak"] = memory.rss, memory.tcp
        else:
            r = run_json(command, env)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as e:
        return {"ok": False, "error": str(e)}
    if not server.is_up():
        r["ok"] = False
        r["error"] = "the server is gone" + server.last_words()
    if not r["ok"]:
        server.stop()  # what follows gets a fresh one
    return r


class Results:
    def __init__(self, path):
        self.file = open(path, "w")
        self.of = {}
        self.failures = []

    def add(self, name, key, r):
        self.of.setdefault((name, key), []).append(r)
        self.file.write(json.dumps({"name": name, "figure": key, **r}) + "\n")
        self.file.flush()
        if r["ok"]:
            noise = r.get("foreign_cores") or 0
            text = "ok"
            if "idle" not in key and noise > NOISE_CORES:
                text += f", noisy: others used {noise:.2f} cores"
        else:
            text = "FAILED: " + r["error"]
            self.failures.append((name, key, r["error"]))
        print(f"  {name:<16} {key:<12} {text}", file=sys.stderr, flush=True)

    def median(self, name, key, field):
        """None if it was not measured, "FAILED" if any of its runs failed."""
        runs = self.of.get((name, key), [])
        if any(not r["ok"] for r in runs):
            return "FAILED"
        values = [r[field] for r in runs if r.get(field) is not None]
        return statistics.median(values) if values else None

    def is_noisy(self, name, key):
        return "idle" not in key and any(
            (r.get("foreign_cores") or 0) > NOISE_CORES
            for r in self.of.get((name, key), []))

    def is_saturated(self, name, key):
        return key.split("-")[0] in ("fanout", "many") and \
            name != "rawfan" and any(
                (r.get("generator_cores") or 0) > 0.93
                for r in self.of.get((name, key), []))


def number(v):
    if v is None:
        return "-"
    if isinstance(v, str):
        return v
    return f"{v:,.0f}" if v >= 1000 else f"{v:.0f}" if v >= 100 else \
        f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def compare(values, peers, field):
    """isimud's ratio to rawfan, else to the best peer."""
    mine = values.get("isimud")
    if not isinstance(mine, float):
        return ""
    if field == RATE:
        one = values.get("isimud 1 worker")
        return f"{mine / one:.2f} x 1 worker" if isinstance(one, float) else ""
    if isinstance(values.get("rawfan"), float):
        return f"{mine / values['rawfan']:.2f} x rawfan"
    others = {p: values[p] for p in peers if isinstance(values.get(p), float)}
    if not others:
        return ""
    best = (max if field.endswith("_per_s") else min)(others, key=others.get)
    return f"{mine / others[best]:.2f} x {best}"


def judge(value, aim):
    if aim is None or value is None:
        return ""
    if isinstance(value, str):
        return value
    sign, limit = aim.split()
    met = value <= float(limit) if sign == "<=" else value >= float(limit)
    return "met" if met else f"missed by {abs(value / float(limit) - 1):.0%}"


def print_table(results, names, peers, keys):
    line = "{:<37}" + "{:>10}" * len(names) + "  {:<17}{:<9} {}"
    # "isimud 1 worker" is too wide for its column.
    heads = [n.replace("isimud 1 worker", "1 worker") for n in names]
    print(line.format("", *heads, "isimud is", "aim", "").rstrip())
    section = None
    for title, text, key, field, scale, aim in ROWS:
        section = title or section
        if key not in keys or (field == RATE and names == ["rawfan"]):
            continue
        if section:
            print(section)
            section = None
        values, cells = {}, []
        for name in names:
            v = results.median(name, key, field)
            values[name] = v if v is None or v == "FAILED" else v * scale
            mark = "~" if results.is_noisy(name, key) else ""
            if field == RATE and results.is_saturated(name, key):
                mark += "*"
            cells.append(number(values[name]) + mark)
        print(line.format("  " + text, *cells, compare(values, peers, field),
                          aim or "", judge(values.get("isimud"), aim)).rstrip())
    cells = [(name, key) for name in names for key in keys]
    if any(results.is_noisy(*cell) for cell in cells):
        print(f"~ other processes used over {NOISE_CORES} cores meanwhile:"
              " measure again on a quiet machine")
    if any(results.is_saturated(*cell) for cell in cells):
        print("* the load generator was at its limit: a lower bound")


def write_summary(results, names, keys):
    """build/bench/results.json: what was measured, for bench_plot.py."""
    rows = []
    section = None
    for title, text, key, field, scale, aim in ROWS:
        section = title or section
        if key not in keys:
            continue
        values = {}
        for name in names:
            v = results.median(name, key, field)
            if isinstance(v, (int, float)):
                values[name] = v * scale
        rows.append({"section": section, "figure": text, "key": key,
                     "field": field, "aim": aim, "values": values})
    path = os.path.join(OUT, "results.json")
    with open(path, "w") as f:
        json.dump({"cpus": len(os.sched_getaffinity(0)), "rounds": ROUNDS,
                   "time": time.strftime("%Y-%m-%d"), "rows": rows}, f,
                  indent=1)
    print(f"written: {os.path.relpath(path, ROOT)}, for `make bench-plot`")


def describe_machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo") as f:
        for text in f:
            if text.startswith("model name"):
                model = text.split(":", 1)[1].strip()
                break
    print(f"\n{len(os.sched_getaffinity(0))} CPUs ({model}), Linux "
          f"{os.uname().release}, {ROUNDS} round{'s' if ROUNDS > 1 else ''}"
          f"{', medians' if ROUNDS > 1 else ''}\n")


def make_servers(scratch):
    servers = []
    binary = os.environ.get("ISIMUD", "")
    if binary:
        binary = os.path.abspath(binary)
        servers += [Isimud("isimud", binary),
                    Isimud("isimud 1 worker", binary, workers=1)]
        for s in servers:
            open(s.log, "w").close()
    wanted = os.environ.get("PEERS")
    names = [n for n in Peer.PEERS if Peer.is_installed(n)] \
        if wanted is None else wanted.replace(",", " ").split()
    for name in names:
        if name not in Peer.PEERS:
            misused(f"PEERS: no peer {name}; "
                    f"there are {' '.join(Peer.PEERS)}")
        servers.append(Peer(name, scratch))
    return servers


def measure_all(servers, keys, results):
    for i in range(ROUNDS):
        print(f"round {i + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        for key in keys:
            if key in RAWFAN:
                wait_for_quiet()
                results.add("rawfan", key, measure_rawfan(key))
        for server in servers:
            try:
                for key in keys:
                    if server.proto(key):
                        results.add(server.name, key,
                                    measure_server(server, key))
            finally:
                server.stop()


def main():
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(130))  # runs every `finally`
    keys = wanted_figures()
    results = Results(os.path.join(OUT, "results.jsonl"))
    with tempfile.TemporaryDirectory(dir=OUT, prefix="run-") as scratch:
        os.chmod(scratch, 0o755)
        servers = make_servers(scratch)
        measure_all(servers, keys, results)
    describe_machine()
    names = ["rawfan"] + [s.name for s in servers]
    print_table(results, names, [s.name for s in servers
                                 if isinstance(s, Peer)], keys)
    write_summary(results, names, keys)
    for name, key, error in results.failures:
        print(f"FAILED: {name} {key}: {error}")
    if any(name.startswith("isimud") for name, _, _ in results.failures):
        return 1
    return 0 if any(r["ok"] for rs in results.of.values() for r in rs) else 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
