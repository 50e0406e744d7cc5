"""isimud behind nginx and Caddy, with the very files of scripts/proxy/: only
names, ports, paths and time-outs are replaced. All goes through TLS."""
import os
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from client import (DEADLINE, PASSWORD, SCALE, Http, WebSocket,
                    publish_request)
from program import ROOT

NAME = "push.example.org"
HOST = {"Host": NAME}
# The proxies' time-outs in seconds, in place of 75, and pings to match.
TIMEOUT = max(2, SCALE // 2)
PING_INTERVAL = TIMEOUT / 4


# --- certificates ------------------------------------------------------------


def openssl(*args):
    subprocess.run(("openssl",) + args, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A folder with a CA of our own and a certificate by it for NAME."""
    folder = tmp_path_factory.mktemp("tls")
    ca, ca_key = str(folder / "ca.pem"), str(folder / "ca.key")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    csr, extensions = str(folder / "csr.pem"), folder / "extensions"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca,
            "-days", "2", "-subj", "/CN=isimud test CA")
    openssl("req", "-new", *new_key, "-keyout", key, "-out", csr,
            "-subj", f"/CN={NAME}")
    extensions.write_text(f"subjectAltName=DNS:{NAME}\n")
    openssl("x509", "-req", "-in", csr, "-CA", ca, "-CAkey", ca_key,
            "-set_serial", "1", "-days", "2", "-extfile", str(extensions),
            "-out", cert)
    return folder


# --- proxies -----------------------------------------------------------------


def path_of(name):
    """The program's path; skips the test where it is not installed."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if not path:
        pytest.skip(f"{name} is not installed: scripts/deps.sh proxy")
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def configuration(file, replacements):
    """The text of scripts/proxy/`file`; every replacement must be of use."""
    with open(os.path.join(ROOT, "scripts", "proxy", file)) as stream:
        text = stream.read()
    for old, new in replacements.items():
        assert old in text, f"{file} has no {old!r}"
        text = text.replace(old, new)
    return text


def nginx_command(folder, port, replacements):
    """Writes what nginx needs around scripts/proxy/nginx.conf."""
    (folder / "isimud.conf").write_text(configuration("nginx.conf", {
        **replacements,
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/var/log/nginx/isimud.log": f"{folder}/access.log",
    }))
    temporary = "".join(
        f"{use}_temp_path {folder}/{use};\n" for use in
        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off;\nuser root;\npid {folder}/pid;\nerror_log stderr;\n"
        "events { worker_connections 1024; }\n"
        f"http {{\n{temporary}include {folder}/isimud.conf;\n}}\n")
    return [path_of("nginx"), "-e", "stderr", "-c", f"{folder}/nginx.conf"]


def caddy_command(folder, port, replacements):
    """Writes what keeps Caddy on loopback and in `folder`."""
    (folder / "Caddyfile").write_text(
        "{\n\tadmin off\n\tgrace_period 1s\n\tdefault_bind 127.0.0.1\n"
        "\tauto_https disable_redirects\n"
        f"\tstorage file_system {folder}\n}}\n"
        + configuration("Caddyfile", {
            **replacements, f"{NAME} {{": f"https://{NAME}:{port} {{"}))
    return [path_of("caddy"), "run", "--adapter", "caddyfile",
            "--config", f"{folder}/Caddyfile"]


COMMANDS = {"nginx": nginx_command, "caddy": caddy_command}


class Proxy:
    """A running proxy, and all the clients a test has of it."""

    def __init__(self, kind, folder, tls, backend):
        self.folder = folder
        self.address = ("127.0.0.1", free_port())
        self.context = ssl.create_default_context(cafile=tls / "ca.pem")
        self.clients = []
        command = COMMANDS[kind](folder, self.address[1], {
            "127.0.0.1:3000": "%s:%d" % backend,
            "/etc/ssl/isimud": str(tls),
            "75s": f"{TIMEOUT}s",
        })
        with open(folder / "stderr", "wb") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr,
                stderr=stderr, env={"PATH": os.environ["PATH"],
                                    "HOME": str(folder)})

    def is_listening(self):
        assert self.process.poll() is None, (self.folder / "stderr").read_text()
        try:
            socket.create_connection(self.address, DEADLINE).close()
        except ConnectionRefusedError:
            return False
        return True

    def secured(self, client):
        """TLS on a client that has sent nothing yet."""
        client.socket = self.context.wrap_socket(client.socket,
                                                 server_hostname=NAME)
        self.clients.append(client)
        return client

    def http(self):
        """An HTTP/1.1 connection; send `HOST` with each request."""
        return self.secured(Http(self.address))

    def subscribe(self, topic="news", **kwargs):
        client = self.secured(WebSocket(self.address, open=False, **kwargs))
        client.open(fields=HOST)
        return client.subscribe("alice", topic)

    def stop(self):
        for client in self.clients:
            client.close()
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()


@pytest.fixture(params=sorted(COMMANDS))
def front(request, tls, tmp_path):
    """front(address) starts the proxy before what listens there."""
    proxies = []
    path_of(request.param)

    def start_one(backend):
        proxy = Proxy(request.param, tmp_path, tls, backend)
        proxies.append(proxy)
        wait_until(proxy.is_listening, "the proxy listens")
        return proxy

    yield start_one
    for proxy in proxies:
        proxy.stop()


def wait_until(condition, what):
    """Asks for `condition()`, as nothing tells when a proxy is ready."""
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"not in time: {what}")


# --- what goes through -------------------------------------------------------


def test_a_message_goes_from_https_to_wss(server, front):
    proxy = front(server.address)
    subscriber = proxy.subscribe(topic="tls")
    publisher = proxy.http()
    for text in ("one", "", "drei \u2603", "x" * 900_000):
        response = publisher.publish("alice", "tls", text, fields=HOST)
        assert response.status == 200, response.body
        assert subscriber.receive() == text


def test_isimuds_own_refusals_come_through(server, front):
    client = front(server.address).http()
    assert client.publish(body=b"no JSON", fields=HOST).status == 400
    assert client.publish(fields={"Content-Type": "a/b", **HOST}).status == 415
    assert client.ask("GET", "/sub", HOST).error()
    assert client.ask("PUT", "/pub", HOST).field("Allow") == "OPTIONS, POST"
    too_large = client.publish(data="x" * (2 << 20), fields=HOST)
    assert too_large.status == 413 and too_large.error()


def test_a_publisher_may_speak_http_2(server, tls, front):
    proxy = front(server.address)
    subscriber = proxy.subscribe(topic="h2")
    port = proxy.address[1]
    done = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", str(tls / "ca.pem"),
         "--resolve", f"{NAME}:{port}:127.0.0.1", "--noproxy", "*",
         "-u", f"alice:{PASSWORD}", "-H", "Content-Type: application/json",
         "-d", '{"topic":"h2","data":"hello"}', "-o", "/dev/null",
         "-w", "%{http_version} %{http_code}", f"https://{NAME}:{port}/pub"],
        capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("2 200", "")
    assert subscriber.receive() == "hello"


def test_a_large_burst_arrives_whole_and_in_order(start, front):
    server = start(MAX_BUFFERED="64M")
    proxy = front(server.address)
    subscribers = [proxy.subscribe() for _ in range(4)]
    client = proxy.http()
    # nginx takes 1,000 requests a connection.
    texts = [f"{i} " + "x" * 16384 for i in range(960)]
    window = 32

    def publish_all():
        for i in range(0, len(texts), window):
            client.send(b"".join(
                publish_request("alice", "news", text, fields=HOST)
                for text in texts[i:i + window]))
            for _ in texts[i:i + window]:
                assert client.response().status == 200

    publisher = threading.Thread(target=publish_all)
    publisher.start()
    for subscriber in subscribers:
        assert [subscriber.receive() for _ in texts] == texts
    publisher.join(DEADLINE)
    assert not publisher.is_alive()


def test_the_end_of_isimud_reaches_a_subscriber_as_1001(start, front):
    server = start()
    subscriber = front(server.address).subscribe()
    server.terminate()
    assert subscriber.read_to_close() == 1001


def test_a_subscriber_who_does_not_read_is_ended_and_counted(start, front):
    server = start()
    front(server.address).subscribe()
    publisher = server.http()

    def is_counted():
        publisher.publish_all("alice", "news", ["x" * 16384] * 8)
        return server.stats()["closed_slow"] == 1

    server.wait_until(is_counted, "the slow subscriber is ended")


# --- event streams -----------------------------------------------------------


class CurlStream:
    """An event stream that curl reads, by lines."""

    def __init__(self, proxy, tls, topic, version):
        port = proxy.address[1]
        self.process = subprocess.Popen(
            ["curl", "-sSN", version, "--cacert", str(tls / "ca.pem"),
             "--resolve", f"{NAME}:{port}:127.0.0.1", "--noproxy", "*",
             "--max-time", str(DEADLINE),
             f"https://{NAME}:{port}/sub?publisher=alice&topic={topic}"],
            stdout=subprocess.PIPE)
        proxy.clients.append(self)

    def expect(self, wanted):
        """Reads up to a line that is `wanted`."""
        for line in self.process.stdout:
            if line.decode().rstrip("\n") == wanted:
                return
        raise AssertionError(f"the stream has ended, without {wanted!r}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_events_go_out_as_they_come(start, front, tls, version):
    server = start(PING_INTERVAL=PING_INTERVAL)
    stream = CurlStream(front(server.address), tls, "events", version)
    stream.expect(":")  # it is open, and stays so while nothing happens
    for text in ("one", "two"):
        server.publish("alice", "events", text)
        stream.expect(f"data: {text}")
    server.terminate()
    stream.expect("event: close")


def test_comments_keep_an_idle_stream_past_the_proxys_time_out(
        start, front, tls):
    server = start(PING_INTERVAL=PING_INTERVAL)
    stream = CurlStream(front(server.address), tls, "events", "--http1.1")
    for _ in range(int(2 * TIMEOUT / PING_INTERVAL)):
        stream.expect(":")
    server.publish("alice", "events", "still there")
    stream.expect("data: still there")


# --- idle subscribers --------------------------------------------------------


def test_pings_keep_an_idle_subscriber_past_the_proxys_time_out(start, front):
    server = start(PING_INTERVAL=PING_INTERVAL)
    subscriber = front(server.address).subscribe()
    for _ in range(int(2 * TIMEOUT / PING_INTERVAL)):
        subscriber.expect_ping()
    server.publish("alice", "news", "still there")
    assert subscriber.receive() == "still there"


def test_without_pings_in_time_the_proxy_ends_an_idle_subscriber(start, front):
    server = start(PING_INTERVAL=100 * TIMEOUT)
    subscriber = front(server.address).subscribe()
    subscriber.wait_until_ended()
    server.wait_until_empty()


# --- who the client is -------------------------------------------------------


@pytest.fixture
def recorder():
    """Stands for isimud: answers one request and keeps its head."""
    class Recorder(threading.Thread):
        def __init__(self):
            super().__init__(daemon=True)
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.listener.settimeout(DEADLINE)
            self.address = self.listener.getsockname()
            self.head = b""

        def run(self):
            peer, _ = self.listener.accept()
            with peer:
                while b"\r\n\r\n" not in self.head:
                    self.head += peer.recv(65536)
                peer.sendall(b"HTTP/1.1 404 Not Found\r\n"
                             b"Content-Length: 0\r\n\r\n")

    one = Recorder()
    one.start()
    yield one
    one.join(DEADLINE)
    one.listener.close()


def test_isimud_is_told_the_clients_address_not_what_the_client_claims(
        front, recorder):
    proxy = front(recorder.address)
    proxy.http().ask("GET", "/sub?access_token=hush", {
        "X-Forwarded-For": "192.0.2.1", "Authorization": "Bearer abc", **HOST})
    recorder.join(DEADLINE)
    start, *lines = recorder.head.decode().rstrip().split("\r\n")
    fields = [tuple(line.lower().split(": ", 1)) for line in lines]
    assert start == "GET /sub?access_token=hush HTTP/1.1"
    assert [value for name, value in fields
            if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert ("x-forwarded-proto", "https") in fields
    assert ("host", NAME) in fields
    assert ("authorization", "bearer abc") in fields


def test_a_token_in_the_query_is_in_no_log_of_the_proxy(server, front):
    proxy = front(server.address)
    assert proxy.http().ask("GET", "/sub?access_token=hush",
                            HOST).status == 426
    proxy.stop()
    logs = [path.read_text() for path in proxy.folder.glob("*")
            if path.name in ("stderr", "access.log")]
    assert logs and "hush" not in "".join(logs)
