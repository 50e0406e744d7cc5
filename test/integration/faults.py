"""What goes wrong in a cluster: each fault breaks something, waits for the
caller, and mends it. Fault tests and test/cluster/soak.py share them."""
import signal
import threading
import time

from client import SCALE

FAULTS = {}


def fault(function):
    """Notes a generator of one step: what is before `yield` breaks, what is
    behind it mends."""
    FAULTS[function.__name__] = function
    return function


def run(one, name, hold=2):
    """Breaks, holds for so many seconds, and mends, whatever happens."""
    steps = FAULTS[name](one)
    next(steps)
    time.sleep(hold)
    assert next(steps, None) is None


def others(one, servers):
    """A server that is none of these."""
    return next(i for i in range(1, one.nats.count + 1) if i not in servers)


# --- servers

def down(one, servers, signal_name="kill"):
    one.nats.run(signal_name, *servers)
    yield
    for i in servers:
        one.nats.run("add", i)


@fault
def leader_killed(one):
    yield from down(one, [one.nats.leader()])


@fault
def follower_killed(one):
    yield from down(one, [others(one, [one.nats.leader()])])


@fault
def most_servers_killed(one):
    leader = one.nats.leader()
    yield from down(one, [leader, others(one, [leader])])


@fault
def all_servers_killed(one):
    yield from down(one, range(1, one.nats.count + 1))


@fault
def log_wiped(one):
    everyone = range(1, one.nats.count + 1)
    one.nats.run("kill", *everyone)
    one.nats.run("wipe", *everyone)
    yield
    for i in everyone:
        one.nats.run("add", i)


@fault
def servers_restarted(one):
    for i in range(1, one.nats.count + 1):
        one.nats.run("term", i)
        one.nats.wait_for_end(i)
        one.nats.run("add", i)
        one.nats.leader()
        one.publishes(20, 60 * SCALE)
    yield


def frozen(one, servers):
    one.nats.run("freeze", *servers)
    try:
        yield
    finally:
        one.nats.run("thaw", *servers)


@fault
def leader_frozen(one):
    yield from frozen(one, [one.nats.leader()])


@fault
def follower_frozen(one):
    yield from frozen(one, [others(one, [one.nats.leader()])])


@fault
def all_servers_frozen(one):
    yield from frozen(one, range(1, one.nats.count + 1))


def cut(one, *command):
    one.nats.run(*command)
    try:
        yield
    finally:
        one.nats.run("heal")


@fault
def leader_cut_off(one):
    yield from cut(one, "cut", one.nats.leader())


@fault
def follower_cut_off(one):
    yield from cut(one, "cut", others(one, [one.nats.leader()]))


# --- nodes

def pick(one):
    """The index of a node that is up."""
    return one.random.choice(
        [i for i, node in enumerate(one.nodes) if node.is_up])


@fault
def node_killed(one):
    i = pick(one)
    one.kill_node(i)
    yield
    one.replace_node(i)


@fault
def node_frozen(one):
    node = one.nodes[pick(one)]
    node.is_up = False
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)
        node.is_up = True


@fault
def node_cut_off(one):
    yield from cut(one, "part", one.nodes[pick(one)].pid)


@fault
def node_slow(one):
    """It runs for a tenth of the time."""
    node = one.nodes[pick(one)]
    is_over = threading.Event()

    def slow_down():
        while not is_over.is_set():
            node.process.send_signal(signal.SIGSTOP)
            is_over.wait(0.18)
            node.process.send_signal(signal.SIGCONT)
            is_over.wait(0.02)

    thread = threading.Thread(target=slow_down, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        node.process.send_signal(signal.SIGCONT)


@fault
def nodes_restarted(one):
    for i, node in enumerate(one.nodes):
        if node.is_up:
            one.restart_node(i)
            one.publishes(20, 60 * SCALE)
    yield


NEED_IPTABLES = {name for name in FAULTS if name.endswith("cut_off")}
# What older servers may answer by losing what they acknowledged.
NEED_CARE = {name for name in FAULTS
             if name.endswith(("_frozen", "_cut_off"))} - {"node_frozen"}
