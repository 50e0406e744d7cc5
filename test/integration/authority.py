"""A real HTTP server for AUTH_URL, which answers as badly as it is told to.

What it does with a check is decided by the bearer token: `rules[token]` is one
of the functions here that take (socket, authority); without a rule it allows.
"""
import queue
import socket
import ssl
import threading

from client import DEADLINE


def answer(status, fields="", body=""):
    """A whole response."""
    def send(peer, _authority):
        peer.sendall(f"HTTP/1.1 {status} Status\r\n{fields}"
                     f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return send


def say(data, then=None):
    """Sends `data` and then, by default, closes the connection."""
    def send(peer, authority):
        peer.sendall(data)
        if then:
            then(peer, authority)
    return send


def wait_until_left(peer, authority):
    """Says nothing more until the server gives up."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        pass
    authority.left.put(True)


def wait_for_release(peer, authority):
    """Allows, but only once the test sets `authority.release`."""
    authority.release.wait(DEADLINE)
    allow(peer, authority)


def repeat(start, part, pause=0.0):
    """Sends `start`, then `part` again and again until the server leaves."""
    def send(peer, authority):
        try:
            peer.sendall(start)
            while not authority.stopping.wait(pause):
                peer.sendall(part)
        except OSError:
            authority.left.put(True)
    return send


allow = answer(200)
refuse = answer(403)
stall_before_head = wait_until_left
stall_in_head = say(b"HTTP/1.1 200 OK\r\nX-Half: ", wait_until_left)
stall_in_content = say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
                       wait_until_left)
refuse_and_stall = say(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nab",
                       wait_until_left)
drip = repeat(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x", 0.02)
endless_fields = repeat(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1000
                        + b"\r\n")
endless_content = repeat(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000)
hang_up = say(b"")
not_http = say(b"220 smtp.example ESMTP\r\n\r\n")


class Authority:
    """`certificate`: (file of the certificate, of its key), for https."""
    def __init__(self, certificate=None):
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.rules = {}
        self.asked = queue.Queue()  # (method, target, fields, content)
        self.left = queue.Queue()   # one for each peer that gave up
        self.release = threading.Event()
        self.stopping = threading.Event()
        self.peers = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/check?for=isimud"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.release.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for peer in self.peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        while not self.stopping.is_set():
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.peers.append(peer)
            threading.Thread(target=self.serve, args=(peer,),
                             daemon=True).start()

    def serve(self, peer):
        """Serves one connection, kept alive as long as rules leave it whole."""
        if self.tls:
            try:
                peer = self.tls.wrap_socket(peer, server_side=True)
            except OSError:
                peer.close()
                return
        with peer:
            data = b""
            while True:
                try:
                    while b"\r\n\r\n" not in data:
                        more = peer.recv(65536)
                        if not more:
                            return
                        data += more
                    head, _, data = data.partition(b"\r\n\r\n")
                    rule = self.take(head.decode("latin-1"), data)
                    rule(peer, self)
                except OSError:
                    return
                if not getattr(rule, "__qualname__", "").startswith("answer"):
                    return

    def take(self, head, content):
        start, *lines = head.split("\r\n")
        method, target, _ = start.split(" ")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        self.asked.put((method, target, fields, content))
        token = fields.get("authorization", [""])[0].partition(" ")[2]
        return self.rules.get(token, allow)

    def next_asked(self):
        return self.asked.get(timeout=DEADLINE)

    def wait_until_left(self):
        self.left.get(timeout=DEADLINE)


class FullBacklog:
    """A listener that never accepts and whose queue is full: the kernel drops
    further SYNs, so connecting to it takes for ever."""

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        address = self.listener.getsockname()
        self.url = f"http://127.0.0.1:{address[1]}/"
        self.fillers = [socket.socket() for _ in range(4)]
        for filler in self.fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        return self

    def __exit__(self, *_):
        for one in [*self.fillers, self.listener]:
            one.close()


def closed_port():
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
