"""Gives jobs to a library's threads, by a busy thread of its own and beside another one, and shows who did what when."""

import sys
import threading
import time

import pool

sys.setswitchinterval(0.0005)
calls = []
total = 0


def called(worker, job):
    global total
    for k in range(300):
        total += k % 3
    calls.append((worker, job, threading.get_ident() == threading.main_thread().ident, len(calls)))
    if job % 20 == 19:
        time.monotonic()


def own():
    global total
    for k in range(40000):
        total += k % 5
        if k % 4000 == 0:
            calls.append(("own", k))


pool.start(called)
other = threading.Thread(target=own)
other.start()
found = []
for job in range(300):
    pool.put(job)
    if job % 16 == 0:
        found += pool.take()
    if job % 50 == 0:
        for k in range(20000):
            total += k % 7
other.join()
while len(found) < 300:
    found += pool.take()
    time.sleep(0.001)
print("stopped", pool.stop())
print(len(calls), total)
for entry in found + calls:
    print(entry)
