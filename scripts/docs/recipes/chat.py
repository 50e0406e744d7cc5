"""The application of chat.html: it has the password, so it alone publishes, and
it says who somebody is. As much of it as the recipe needs; use your framework.

usage: ISIMUD_URL=http://127.0.0.1:3000 ISIMUD_PASSWORD=secret chat.py PORT
"""
import http.server
import json
import os
import pathlib
import sys

import requests

PAGE = pathlib.Path(__file__).with_name("chat.html").read_text(encoding="utf-8")
URL = os.environ["ISIMUD_URL"]
isimud = requests.Session()
isimud.auth = ("chat", os.environ["ISIMUD_PASSWORD"])


class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, PAGE.replace("http://127.0.0.1:3000", URL), "text/html; charset=utf-8")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        who = f"guest {self.client_address[0]}"  # of your session, really
        published = isimud.post(f"{URL}/pub", json={
            "topic": "room/lobby", "data": {"from": who, "text": text[:500]}}, timeout=5)
        self.answer(200 if published.ok else 503, json.dumps({}), "application/json")

    def answer(self, status, text, content_type):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application).serve_forever()
