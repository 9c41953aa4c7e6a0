"""Several threads at once in the code of a library that does I/O."""

import sys
import threading

import shared

sys.setswitchinterval(0.0005)
found = []
together = threading.Barrier(6)


def client(number):
    together.wait()
    for k in range(8):
        found.append((number, k, shared.serve_all(number * 5 + k, 12)))
        sum(range(2000))


threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("served", len(found))
for entry in found:
    print(*entry)
