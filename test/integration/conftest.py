import os
import signal
import sys

import pytest

sys.dont_write_bytecode = True
pytest.register_assert_rewrite("client", "program", "session", "threads")

from authority import Authority  # noqa: E402
from client import SCALE  # noqa: E402
from program import ECHO, ROOT, Server  # noqa: E402

sys.path.append(os.path.join(ROOT, "scripts", "api"))

from cluster import Cluster, Node  # noqa: E402

TEST_SECONDS = 60 * SCALE

# websockets 15 would ask a proxy for the way to 127.0.0.1.
for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
    del os.environ[name]


@pytest.fixture(autouse=True)
def no_test_hangs():
    """Ends a test that waits for ever, with the place where it waits."""
    def on_alarm(_signal, _frame):
        raise TimeoutError(f"the test took over {TEST_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def start():
    """start(SETTING=…) starts a server for this test alone."""
    servers = []

    def start_one(**settings):
        servers.append(Server(**settings))
        return servers[-1]

    yield start_one
    stop_all(servers)


def stop_all(servers):
    errors = []
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def cluster():
    """cluster(nodes=3, servers=3) starts one; its nodes must end well."""
    clusters, nodes = [], []

    def start_node(nats, **settings):
        nodes.append(Node(nats, **settings))
        return nodes[-1]

    def start(**kwargs):
        clusters.append(Cluster(start_node, **kwargs))
        return clusters[-1]

    yield start
    try:
        stop_all([node for node in nodes if node.is_up])
    finally:
        for node in nodes:
            node.kill()
        for one in clusters:
            one.stop()


def shared(**settings):
    """A fixture of one server for all tests of a module, which must not leave
    traces in it but topics of the same name."""
    @pytest.fixture(scope="module")
    def fixture():
        server = Server(**settings)
        yield server
        stop_all([server])

    return fixture


module_server = shared()
module_echo = shared(path=ECHO)


def lent(server):
    yield server
    server.close_clients()
    assert server.process.poll() is None, "it ended: " + server.text()


@pytest.fixture
def server(module_server):
    """A server with the default settings, shared by the module's tests."""
    yield from lent(module_server)


@pytest.fixture
def echo(module_echo):
    """The echo program, shared in the same way."""
    yield from lent(module_echo)


@pytest.fixture(scope="session")
def openapi():
    """scripts/api/openapi.yaml; check_response() and check_event()."""
    from documents import OpenApi
    return OpenApi()


@pytest.fixture(scope="session")
def asyncapi():
    """scripts/api/asyncapi.yaml; check_server_message()."""
    from documents import AsyncApi
    return AsyncApi()


@pytest.fixture
def authority():
    """A fake of what AUTH_URL points to."""
    with Authority() as one:
        yield one
