"""A link that is slow: what a server is connected to through it."""
import selectors
import socket
import threading
import time

STEP = 0.01  # seconds


class Relay:
    """Passes bytes on between its clients and a server; to each client at most
    `speed` bytes a second, and holds hardly any meanwhile, so that the server
    notices. What clients send goes at once."""

    def __init__(self, server, speed):
        self.server = server  # its address
        self.speed = speed
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        # Of the server's sockets: [client, bytes it may have, bytes that it
        # has not taken yet].
        self.pairs = {}
        self.is_open = True
        self.selector.register(self.listener, selectors.EVENT_READ, self.join)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def join(self):
        client, _ = self.listener.accept()
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        server.connect(self.server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.pairs[server] = [client, 0, b""]
        self.selector.register(
            client, selectors.EVENT_READ, lambda: self.pass_up(client, server))

    def pass_up(self, client, server):
        try:
            data = client.recv(1 << 16)
            server.sendall(data)
        except OSError:
            data = b""
        if not data:
            self.part(client, server)

    def pass_down(self, server):
        """One client that does not read holds nobody else up."""
        pair = self.pairs[server]
        client, allowed, rest = pair
        allowed = min(allowed + self.speed * STEP, self.speed / 10 + 1)
        try:
            while allowed >= 1:
                if not rest:
                    rest = server.recv(int(allowed), socket.MSG_DONTWAIT)
                    if not rest:
                        raise EOFError
                sent = client.send(rest[:int(allowed)], socket.MSG_DONTWAIT)
                rest = rest[sent:]
                allowed -= sent
        except BlockingIOError:
            pass
        except (EOFError, OSError):
            self.part(client, server)
            return
        pair[1:] = allowed, rest

    def part(self, client, server):
        if self.pairs.pop(server, None):
            self.selector.unregister(client)
            client.close()
            server.close()

    def run(self):
        due = time.monotonic()
        while self.is_open:
            for key, _ in self.selector.select(max(0, due - time.monotonic())):
                if key.fileobj.fileno() >= 0:
                    key.data()
            if time.monotonic() >= due:
                due = time.monotonic() + STEP
                for server in list(self.pairs):
                    self.pass_down(server)

    def close(self):
        self.is_open = False
        self.thread.join()
        for server, (client, *_) in self.pairs.items():
            client.close()
            server.close()
        self.listener.close()
