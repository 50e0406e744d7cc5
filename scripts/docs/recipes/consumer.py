"""A consumer in Python, with requests: every message once and in order, over
cuts and restarts; or it is told that some were lost.

usage: consumer.py URL PUBLISHER TOPIC      (URL: http://127.0.0.1:3000)
"""
import random
import sys
import time

import requests


def follow(url, publisher, topic, on_message, on_reset, token=None):
    """Calls on_message(data, id) with each, and on_reset(reason) where messages
    may be lost: read the state again there. Returns never; raises HTTPError
    where coming back is no use (the token is refused, say)."""
    last_id, pause = "", 1.0
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        if token:
            headers["Authorization"] = f"Bearer {token()}"
        try:
            # 90 s: longer than twice PING_INTERVAL. Else the link is dead.
            with requests.get(f"{url}/sub", headers=headers, stream=True, timeout=(10, 90),
                              params={"publisher": publisher, "topic": topic}) as answer:
                if answer.status_code in (400, 401, 403, 404):
                    answer.raise_for_status()
                event, data, id = "message", [], last_id
                # Bytes: as text, lines would end at U+2028 and the like, too.
                for line in answer.iter_lines() if answer.ok else ():
                    name, _, value = line.decode().partition(":")
                    value = value.removeprefix(" ")
                    if name == "data":
                        data.append(value)
                    elif name == "event":
                        event = value
                    elif name == "id":
                        id = value
                    elif name == "retry":
                        pause = int(value) / 1000
                    elif not line:  # the end of an event
                        text = "\n".join(data)
                        if event == "reset":
                            on_reset(text)
                        elif data and event != "close":
                            on_message(text, id)
                        # Only now: half an event is none.
                        event, data, last_id = "message", [], id
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            pass
        time.sleep(pause * random.uniform(0.5, 1))  # not all at once


if __name__ == "__main__":
    follow(*sys.argv[1:],
           on_message=lambda data, id: print(data, flush=True),
           on_reset=lambda reason: print("reset", flush=True))
