"""Objects whose __del__ crosses the boundary, freed by reference count, by collections and by gc.collect()."""

import gc
import os
import socket
import time
import warnings
import weakref

log = []


class Noisy:
    def __init__(self, number):
        self.number = number
        self.me = self  # a cycle: only the collector can free it

    def __del__(self):
        log.append((self.number, time.monotonic_ns(), os.getpid()))


for number in range(3000):
    Noisy(number)
    if number % 5 == 0:
        os.getppid()
print("collected so far", len(log), [n for n, _, _ in log[:20]], [n for n, _, _ in log[-20:]])
print(sum(t for _, t, _ in log))
print("explicit", gc.collect(), len(log), [n for n, _, _ in log[-5:]])
print(gc.get_threshold(), gc.isenabled(), gc.get_count()[2] >= 0, gc.garbage)

gc.disable()
for number in range(1000):
    Noisy(-number)
before = len(log)
time.time()
print("disabled", len(log) - before)
gc.enable()
gc.set_threshold(50, 5, 5)
print(gc.get_threshold())
for number in range(500):
    Noisy(number)
    time.time()
print("small threshold", len(log) - before > 0, len(log), log[-1][0])

calls = []
gc.callbacks.append(lambda phase, info: calls.append((phase, info["generation"], time.time_ns())))
for number in range(300):
    Noisy(number)
    time.perf_counter()
gc.callbacks.clear()
print("callbacks", len(calls), [(p, g) for p, g, _ in calls[:10]], sum(t for _, _, t in calls))
references = [weakref.ref(Noisy(n), lambda r, n=n: log.append((n, time.time_ns(), 0))) for n in range(50)]
gc.collect()
print("weakrefs", [r() for r in references].count(None), len(log))


class Simple:
    def __del__(self):
        print("freed at", time.time())


def scope():
    first, second = Simple(), Simple()
    del first
    return os.getpid()


scope()
try:
    holder = Simple()
    raise ValueError
except ValueError:
    pass
del holder

# A closed socket leaves no trace when it dies; the open one that dies next is warned about.
warnings.simplefilter("always", ResourceWarning)
warnings.showwarning = lambda message, *_: print(str(message)[:24], "at", time.time_ns())
closed, unclosed = socket.socket(), socket.socket()
unclosed.bind(("127.0.0.1", 0))
closed.close()
del closed
del unclosed
