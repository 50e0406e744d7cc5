"""Debian's chromium without a window, told what to do over its DevTools
protocol; and the web servers whose pages it opens.

It has a profile of its own in a temporary folder, looks no name up and knows no
proxy, so that it reaches nothing but this machine.
"""
import asyncio
import http.server
import json
import os
import re
import shutil
import subprocess
import threading

import websockets

from client import DEADLINE

# It takes seconds to start on a machine that is busy with something else.
PATIENCE = 4 * DEADLINE

FLAGS = [
    "--headless=new",
    # It refuses to run as root otherwise; all that it opens is ours.
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--no-first-run", "--disable-gpu",
    "--disable-dev-shm-usage", "--disable-breakpad", "--password-store=basic",
]
LISTENING = re.compile(r"DevTools listening on (ws://\S+)")

# What a page does leaves notes, which a test waits for.
PRELUDE = """
    const notes = [];
    let on_note = () => {};
    function note(...values) { notes.push(values); on_note(); }
    function noted(condition) {
        return new Promise(resolve => {
            on_note = () => condition() && resolve(notes);
            on_note();
        });
    }
"""


def path():
    """Where chromium is; None where it is not installed."""
    return shutil.which("chromium")


class DevTools:
    """Commands and events of the DevTools protocol over its WebSocket."""

    def __init__(self, url):
        self.loop = asyncio.new_event_loop()
        self.socket = self.run(self.connect(url))
        self.last_id = 0
        self.events = []  # (session, method, parameters), not yet asked for

    @staticmethod
    async def connect(url):
        return await websockets.connect(url, max_size=None,
                                        ping_interval=None)

    def run(self, coroutine):
        return self.loop.run_until_complete(
            asyncio.wait_for(coroutine, PATIENCE))

    def read(self):
        """The next message that is no event; None for an event, which is
        kept."""
        message = json.loads(self.run(self.socket.recv()))
        if "id" in message:
            return message
        self.events.append((message.get("sessionId"), message["method"],
                            message["params"]))
        return None

    def send(self, method, session=None, **parameters):
        """Sends a command without waiting for what comes of it. Returns its
        number."""
        self.last_id += 1
        command = {"id": self.last_id, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        self.run(self.socket.send(json.dumps(command)))
        return self.last_id

    def call(self, method, session=None, **parameters):
        """The result of a command."""
        number = self.send(method, session, **parameters)
        while True:
            answer = self.read()
            if answer and answer["id"] == number:
                break
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def event(self, method, session):
        """The parameters of the next event of that name."""
        while True:
            for event in self.events:
                if event[:2] == (session, method):
                    self.events.remove(event)
                    return event[2]
            self.read()

    def close(self):
        try:
            self.run(self.socket.close())
        finally:
            self.loop.close()


class Page:
    """A tab of a profile that no other tab has."""

    def __init__(self, devtools, url):
        self.devtools = devtools
        self.context = devtools.call(
            "Target.createBrowserContext")["browserContextId"]
        self.target = devtools.call(
            "Target.createTarget", url="about:blank",
            browserContextId=self.context)["targetId"]
        self.session = devtools.call("Target.attachToTarget", flatten=True,
                                     targetId=self.target)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.open(url)

    def call(self, method, **parameters):
        return self.devtools.call(method, self.session, **parameters)

    def open(self, url):
        """Goes there, and waits until the page is loaded."""
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        self.devtools.event("Page.loadEventFired", self.session)
        self.run(PRELUDE)

    def run(self, script):
        """Runs a script in the page. Returns the value of its last expression,
        and if that is a promise, what it comes to."""
        answer = self.call("Runtime.evaluate", expression=script,
                           awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def notes(self, count):
        """What the page has noted, once there are `count` notes."""
        return self.notes_until(f"notes.length >= {count}")

    def notes_until(self, condition):
        """The same, once an expression holds."""
        return self.run(f"noted(() => {condition})")

    def logged(self):
        """The arguments of the next console.log()."""
        event = self.devtools.event("Runtime.consoleAPICalled", self.session)
        return [argument.get("value") for argument in event["args"]]

    def pause(self):
        """Lets it do nothing, nor read from the network, up to resume()."""
        self.call("Debugger.enable")
        self.devtools.send("Runtime.evaluate", self.session,
                           expression="debugger")
        self.devtools.event("Debugger.paused", self.session)

    def resume(self):
        self.call("Debugger.resume")
        self.call("Debugger.disable")

    def close_tab(self):
        self.devtools.call("Target.closeTarget", targetId=self.target)

    def close(self):
        """Forgets the profile, and what is open of it."""
        self.devtools.call("Target.disposeBrowserContext",
                           browserContextId=self.context)


class Browser:
    """A running chromium. `folder` is its own, for all that it writes."""

    def __init__(self, folder):
        self.pages = []
        self.process = subprocess.Popen(
            [path(), *FLAGS, f"--user-data-dir={folder}/profile"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"],
                                         "HOME": str(folder),
                                         "TMPDIR": str(folder)})
        try:
            self.devtools = DevTools(self.find_devtools())
        except BaseException:
            self.kill()
            raise
        # What else it says nobody needs, but it must be able to say it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def find_devtools(self):
        lines = []
        for line in self.process.stderr:
            lines.append(line.decode("utf-8", "replace"))
            if match := LISTENING.search(lines[-1]):
                return match.group(1)
        raise AssertionError("chromium does not run:\n" + "".join(lines))

    def page(self, url):
        """A new page, with no traces of others."""
        self.pages.append(Page(self.devtools, url))
        return self.pages[-1]

    def close_pages(self):
        while self.pages:
            self.pages.pop().close()

    def stop(self):
        try:
            self.devtools.close()
            self.process.terminate()
            self.process.wait(PATIENCE)
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# --- the servers of pages ----------------------------------------------------


class EmptyPage(http.server.BaseHTTPRequestHandler):
    """Answers every GET with a page without content."""
    CONTENT = b"<!DOCTYPE html><title>a page</title><link rel=icon href=data:,>"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.CONTENT)))
        self.end_headers()
        self.wfile.write(self.CONTENT)

    def log_message(self, *_args):
        pass


class Site:
    """A web server on loopback; its port makes it an origin of its own."""

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      EmptyPage)
        self.origin = "http://127.0.0.1:%d" % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(DEADLINE)
