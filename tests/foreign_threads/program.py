"""Python code called by threads that Python did not make, while Python's own threads run."""

import sys
import threading
import time

import foreign

sys.setswitchinterval(0.0005)
calls = []
total = 0


def called(thread, number):
    global total
    for k in range(500):
        total = total + k % 3
    calls.append((thread, number, threading.get_ident() == threading.main_thread().ident, len(calls)))
    if number % 10 == 7:
        time.monotonic()
    if number == 15:
        calls.append("raises")
        raise ValueError((thread, number))
    return number


def own():
    global total
    for k in range(60000):
        total = total + k % 5
        if k % 3000 == 0:
            calls.append(("own", k))


foreign.start(called, 30)
threads = [threading.Thread(target=own) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("joined", foreign.join())
print(len(calls), total)
for call in calls:
    print(call)
