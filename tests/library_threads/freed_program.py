"""A library's threads call Python at each job, and go on without the state that they had for it, while Python's own threads
take the GIL from each other."""

import sys
import threading

import pool

sys.setswitchinterval(0.0001)
calls = []
total = 0


def called(worker, job):
    global total
    for k in range(50):
        total += k % 3
    calls.append((worker, job))


def own():
    global total
    while len(calls) < JOBS:
        for k in range(200):
            total += k % 5


JOBS = 300
pool.start(called)
others = [threading.Thread(target=own) for _ in range(2)]
for thread in others:
    thread.start()
for job in range(JOBS):
    pool.put(job * 10 + 9)
for thread in others:
    thread.join()
print(pool.stop()[0], len(calls), total)
print(calls)
print(sorted(pool.take()))
