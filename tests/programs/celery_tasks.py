"""Celery's app and tasks: a result, a retry, an error, time and randomness. CELERY_REDIS is the broker's port."""

import os
import random
import time

from celery import Celery

url = f"redis://127.0.0.1:{os.environ['CELERY_REDIS']}"
app = Celery("tasks", broker=f"{url}/0", backend=f"{url}/1")
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False


def say(*what):
    # In one write: processes share the output.
    os.write(1, f"[{os.getpid()}] {' '.join(map(str, what))}\n".encode())


@app.task
def add(a, b):
    say("add", a, b, time.time_ns(), random.random())
    return a + b


@app.task(bind=True, max_retries=3)
def flaky(self, name):
    say("flaky", name, self.request.retries, time.time())
    if self.request.retries < 2:
        raise self.retry(countdown=0, exc=ConnectionError(name))
    return self.request.retries


@app.task
def fail(name):
    say("fail", name, os.urandom(4).hex())
    raise LookupError(name)
