"""isimud behind nginx, Caddy, HAProxy, Apache, Envoy and Traefik, with the very files of scripts/proxy/: only
names, ports, paths and time-outs are replaced. All goes through TLS."""
import atexit
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import pytest

from client import (DEADLINE, PASSWORD, SCALE, Http, WebSocket, basic,
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
        pytest.skip(f"{name} is not installed: scripts/build/deps.sh proxy")
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


def haproxy_command(folder, port, replacements):
    """The certificate and its key in one file, and no `global`."""
    tls = replacements.pop("/etc/ssl/isimud")
    pem = folder / "haproxy.pem"
    pem.write_text(open(f"{tls}/cert.pem").read()
                   + open(f"{tls}/key.pem").read())
    (folder / "haproxy.cfg").write_text(configuration("haproxy.cfg", {
        **replacements, "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/ssl/isimud/haproxy.pem": str(pem)}))
    return [path_of("haproxy"), "-db", "-f", f"{folder}/haproxy.cfg"]


APACHE_MODULES = """authz_core headers http2 lbmethod_byrequests log_config
    mime mpm_event proxy proxy_balancer proxy_http rewrite slotmem_shm
    socache_shmcb ssl unixd""".split()


def apache_command(folder, port, replacements):
    """Writes what Debian's apache2.conf has around a site."""
    modules = "/usr/lib/apache2/modules"
    # Its user can't look into pytest's folders.
    public = tempfile.mkdtemp(prefix="isimud-away-")
    os.chmod(public, 0o755)
    atexit.register(shutil.rmtree, public)
    away = os.path.join(public, "isimud-away.txt")
    with open(away, "w") as file:
        file.write("retry: 2000\n\n")
    os.chmod(away, 0o644)
    replacements.pop("75s")
    site = configuration("apache.conf", {
        **replacements, "*:443": f"127.0.0.1:{port}",
        "127.0.0.1:3001": f"127.0.0.1:{free_port()}",
        "Timeout 75": f"Timeout {TIMEOUT}",
        "/etc/apache2/isimud-away.txt": away,
        "/var/log/apache2/isimud.log": f"{folder}/access.log"})
    loads = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n"
                    for name in APACHE_MODULES
                    if os.path.exists(f"{modules}/mod_{name}.so"))
    (folder / "apache.conf").write_text(
        f"{loads}ServerRoot {folder}\nServerName {NAME}\n"
        f"DefaultRuntimeDir {folder}\nPidFile {folder}/pid\n"
        f"ErrorLog {folder}/stderr\nMutex file:{folder}\n"
        f"TypesConfig /dev/null\nListen 127.0.0.1:{port}\n"
        "User www-data\nGroup www-data\n" + site)
    return [path_of("apache2"), "-D", "FOREGROUND", "-f",
            f"{folder}/apache.conf"]


def envoy_command(folder, port, replacements):
    host, _, backend = replacements.pop("127.0.0.1:3000").partition(":")
    (folder / "envoy.yaml").write_text(configuration("envoy.yaml", {
        **replacements, "address: 127.0.0.1, port_value: 3000":
        f"address: {host}, port_value: {backend}",
        "address: 0.0.0.0, port_value: 443":
        f"address: 127.0.0.1, port_value: {port}"}))
    return [path_of("envoy"), "-c", f"{folder}/envoy.yaml",
            "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]


class Away(http.server.BaseHTTPRequestHandler):
    """The static server that Traefik asks while isimud is away."""

    def do_GET(self):
        content = b"retry: 2000\n\n" if self.path == "/retry" else b""
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def traefik_command(folder, port, replacements):
    """Writes the static configuration, with the entry point that the file asks
    for."""
    replacements.pop("75s")
    away = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Away)
    away.daemon_threads = True
    threading.Thread(target=away.serve_forever, daemon=True).start()
    atexit.register(away.server_close)
    (folder / "dynamic.yaml").write_text(configuration("traefik.yaml", {
        **replacements,
        "127.0.0.1:3001": "127.0.0.1:%d" % away.server_address[1]}))
    (folder / "traefik.yaml").write_text(f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
accessLog:
  filePath: {folder}/access.log
  format: json
  fields: {{names: {{RequestPath: drop, RequestLine: drop}}}}
entryPoints:
  secure:
    address: 127.0.0.1:{port}
    asDefault: true
    transport: {{respondingTimeouts: {{readTimeout: 0}}}}
    http: {{sanitizePath: false}}
providers: {{file: {{filename: {folder}/dynamic.yaml}}}}
""")
    return [path_of("traefik"), f"--configfile={folder}/traefik.yaml"]


COMMANDS = {"nginx": nginx_command, "caddy": caddy_command,
            "haproxy": haproxy_command, "apache": apache_command,
            "envoy": envoy_command, "traefik": traefik_command}
# What a proxy is called where that is not its name.
PROGRAMS = {"apache": "apache2"}


class Proxy:
    """A running proxy, and all the clients a test has of it."""

    def __init__(self, kind, folder, tls, backend):
        self.kind = kind
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
                                    "HOME": str(folder)},
                start_new_session=True)

    def is_listening(self):
        assert self.process.poll() is None, (self.folder / "stderr").read_text()
        try:
            with socket.create_connection(self.address, DEADLINE) as client:
                # Traefik listens before it has read its certificates.
                self.context.wrap_socket(client, server_hostname=NAME).close()
        except (ConnectionRefusedError, ssl.SSLError, ConnectionResetError):
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
        if self.process.poll() is not None:
            return
        if self.kind == "apache":  # it waits for its subscribers
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()


@pytest.fixture(params=sorted(COMMANDS))
def front(request, tls, tmp_path):
    """front(address) starts the proxy before what listens there."""
    proxies = []
    path_of(PROGRAMS.get(request.param, request.param))

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
    proxy = front(server.address)  # Apache ends connections after some errors
    assert proxy.http().publish(body=b"no JSON", fields=HOST).status == 400
    assert proxy.http().publish(
        fields={"Content-Type": "a/b", **HOST}).status == 415
    client = proxy.http()
    assert client.ask("GET", "/sub", HOST).error()
    assert proxy.http().ask("PUT", "/pub", HOST).field("Allow") == "OPTIONS, POST"
    too_large = proxy.http().publish(data="x" * (2 << 20), fields=HOST)
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


# In the path as it is sent, each byte for byte or not at all.
SLASHES = {"/pub/a%2Fb": "a/b", "/pub/a%2f%2Fb": "a//b", "/pub/c//d": "c//d",
           "/pub//e": "/e", "/pub/f/./g": "f/./g", "/pub/f/../g": "f/../g",
           "/pub/h%20i": "h i", "/pub/%C3%A9": "\u00e9", "/pub/100%25": "100%"}


def test_a_topic_with_slashes_arrives_as_it_is(server, front):
    proxy = front(server.address)
    publisher = proxy.kind
    fields = {**HOST, "Authorization": basic(publisher, PASSWORD)}
    for target in SLASHES:
        response = proxy.http().ask("POST", target, fields, b"x")
        assert response.status == 200, (target, response.body)
    topics = json.loads(server.ask("GET", "/topics", fields).body)["topics"]
    assert ({topic["topic"] for topic in topics} == set(SLASHES.values()))


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


def test_an_event_source_tries_again_while_isimud_is_away(front):
    port = free_port()  # nobody listens there
    proxy = front(("127.0.0.1", port))
    answer = CurlAnswer(proxy, "/sub?publisher=alice&topic=news",
                        "Accept: text/event-stream")
    assert answer.status == 200
    assert answer.type.startswith("text/event-stream")
    assert "retry: 2000\n" in answer.text
    assert CurlAnswer(proxy, "/topics", "Accept: */*").status in (502, 503)


class CurlAnswer:
    """The whole answer to a GET, of any length and coding."""

    def __init__(self, proxy, target, field):
        port = proxy.address[1]
        done = subprocess.run(
            ["curl", "-sS", "-k", "--resolve", f"{NAME}:{port}:127.0.0.1",
             "--noproxy", "*", "-H", field, "--max-time", str(DEADLINE),
             "-w", "\n%{http_code} %{content_type}",
             f"https://{NAME}:{port}{target}"],
            capture_output=True, text=True, timeout=2 * DEADLINE)
        self.text, _, last = done.stdout.rpartition("\n")
        status, _, self.type = last.partition(" ")
        self.status = int(status)


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
    proxy = front(server.address)
    if proxy.kind == "traefik":
        pytest.skip("it has no such time-out")
    subscriber = proxy.subscribe()
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
            while not self.head or self.head.startswith(b"GET /readyz"):
                self.answer_one()

        def answer_one(self):
            """HAProxy's checks come too."""
            peer, _ = self.listener.accept()
            self.head = b""
            with peer:
                while b"\r\n\r\n" not in self.head:
                    self.head += peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\n"
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
