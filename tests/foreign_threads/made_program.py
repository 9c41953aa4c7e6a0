"""Threads that C code makes by CPython's own function run the program's code, while Python's own threads do."""

import sys
import threading
import time

import made

sys.setswitchinterval(0.0005)
calls = []
total = 0


def called(number):
    global total
    for k in range(2000):
        total = total + k % 3
    calls.append(("called", number, threading.get_ident() == threading.main_thread().ident, len(calls)))
    time.monotonic()
    if number == 5:
        raise ValueError


def own():
    global total
    for k in range(60000):
        total = total + k % 5
        if k % 3000 == 0:
            calls.append(("own", k))


threads = [threading.Thread(target=own) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(12):
    made.start(called)
    kept = [threading.local() for _ in range(200)]
    made.join()
for thread in threads:
    thread.join()
print(total)
for call in calls:
    print(call)
