"""Threads that compute at once, so that they preempt each other."""

import sys
import threading

sys.setswitchinterval(0.0005)


def count(name, rounds):
    total = 0
    for number in range(rounds):
        total += number
    return name, total


threads = [threading.Thread(target=count, args=(f"n{i}", 30_000), name=f"worker-{i}") for i in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
