"""Threads that Python did not make wait for the GIL, for the first time, when Python makes a thread."""

import _thread
import sys
from functools import partial
from operator import call

import foreign

sys.setswitchinterval(0.0005)
calls = []
done = _thread.allocate_lock()
done.acquire()


def called(thread, number):
    calls.append((thread, number))
    return number


def own():
    calls.append("own")
    done.release()


foreign.start(called, 3)
# One call of C code: nobody else gets the GIL before the thread is made, and somebody does right after.
list(map(call, [partial(sum, range(3_000_000)), partial(_thread.start_new_thread, own, ())]))
done.acquire()
print("joined", foreign.join())
print(calls)
