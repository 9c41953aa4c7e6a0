"""Positions that look alike: three rounds of the same work, told apart only by memory that a fingerprint does not see
(ctypes, a scanner of regular expressions). What was done in which order shows in the next write.

look_alikes.py [INTERVAL]
"""

import ctypes
import os
import re
import sys
import threading

sys.setswitchinterval(float(sys.argv[1]) if len(sys.argv) > 1 else 0.005)
ROUNDS, THREADS = 8, 2
order = (ctypes.c_ubyte * (4 * ROUNDS * THREADS))()
length = ctypes.c_int(0)
nowhere = os.open(os.devnull, os.O_WRONLY)


def work(me):
    for _ in range(20000):
        pass
    order[length.value] = me
    length.value += 1


def spin(me):
    for _ in range(ROUNDS):
        for _ in re.finditer("a", "aaa"):
            work(me)
        os.write(nowhere, bytes(order))


threads = [threading.Thread(target=spin, args=(me + 1,)) for me in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(length.value, bytes(order).hex())
