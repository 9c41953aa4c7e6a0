"""Python's threads and a library's own compute without the GIL, and end only when the main thread says so."""

import threading
import time

import busy

computing = {flag: threading.Thread(target=busy.compute, args=(flag, flag % 2)) for flag in (1, 2, 3)}
for flag, thread in computing.items():
    thread.start()
    print("started", flag, sum(range(1000)))
busy.start(4, 0)
print("a thread that computes at once")
busy.start(5, 1)
time.sleep(0.01)
busy.wake()
print("a thread that computes when it was woken")
time.sleep(0.05)
for flag in (5, 2, 4, 1, 3):
    busy.set(flag)
    if flag in computing:
        computing[flag].join()
    else:
        busy.join(flag)
    print(flag, "is done")
order = busy.order()
print([flag for flag in order if flag > 0], sorted(flag for flag in order if flag < 0))
