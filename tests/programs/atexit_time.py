"""Events while the interpreter shuts down: atexit, finalizers, module teardown."""

import atexit
import time
import weakref


class Last:
    clock = time.time

    def __del__(self, clock=time.time, show=print):
        show("deleted at", clock())


atexit.register(lambda: print("atexit", time.time(), time.ctime()))
atexit.register(print, "registered second, runs first")
kept = Last()
weakref.finalize(kept, print, "finalized")
cycle = [Last()]
cycle.append(cycle)
print("end of the program", time.monotonic())
