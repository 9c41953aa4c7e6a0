"""Gives the GIL up in a library's code when another thread has long asked for it."""

import sys
import threading

import pool

sys.setswitchinterval(0.0005)
done = False
turns = 0


def own():
    global turns
    while not done:
        turns += 1


pool.start(None)
other = threading.Thread(target=own)
other.start()
for job in range(10):
    pool.put_late(job)
done = True
other.join()
print(turns)
print(pool.stop())
