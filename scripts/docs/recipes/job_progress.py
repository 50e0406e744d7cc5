"""A job that tells how far it is. Each step is a state of its own: one that was
not published is made up for by the next, so steps are tried once; the end, which
must arrive, until isimud answers.

usage: ISIMUD_URL=http://127.0.0.1:3000 ISIMUD_PASSWORD=secret job_progress.py JOB
"""
import os
import sys
import time
import uuid

import requests


class Progress:
    def __init__(self, url, password, job):
        self.url, self.topic = url, f"job/{job}"
        self.session = requests.Session()
        self.session.auth = ("jobs", password)

    def step(self, part, says):
        try:
            self.post("step", part, says)
        except requests.RequestException:
            pass

    def end(self, event, says):
        """`event`: done or failed."""
        key = {"Idempotency-Key": str(uuid.uuid4())}  # one publication, however often
        while True:
            try:
                if self.post(event, 1, says, key).status_code < 500:
                    return
            except requests.RequestException:
                pass
            time.sleep(1)

    def post(self, event, part, says, headers=None):
        return self.session.post(f"{self.url}/pub", headers=headers, timeout=5, json={
            "topic": self.topic, "event": event, "data": {"part": part, "says": says}})


if __name__ == "__main__":
    progress = Progress(os.environ["ISIMUD_URL"], os.environ["ISIMUD_PASSWORD"], sys.argv[1])
    for i in range(10):
        progress.step(i / 10, f"{i} of 10 pages")
        time.sleep(0.01)  # the work
    progress.end("done", "10 pages")
