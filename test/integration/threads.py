"""Threads whose errors are not lost."""
import threading

from client import SCALE


def in_threads(*jobs):
    """Runs functions side by side; fails with the first of their errors."""
    errors = []

    def run(job):
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True)
               for job in jobs]
    for thread in threads:
        thread.start()
    return threads, errors


def join(started):
    threads, errors = started
    for thread in threads:
        thread.join(60 * SCALE)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
