#!/usr/bin/python3
"""An authority (AUTH_URL) for tokens.js: yes to GOOD_TOKEN ("good"), no (401)
to all others. Prints its URL on a line of its own, and runs until it is killed.
"""
import http.server
import os


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        good = "Bearer " + os.environ.get("GOOD_TOKEN", "good")
        self.send_response(
            200 if self.headers["Authorization"] == good else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
