"""Objects that C code is given: called back untraced, let go, changed by a callback, of types without a module."""

import gc
import os
import select
import signal
import sqlite3
import sys
import time
import weakref

# Audit hooks are not traced.
seen = []


def hook(event, arguments):
    if event == "os.listdir":
        seen.append(event)


def trace(frame, event, argument):
    if frame.f_code.co_name in ("hook", "traced"):
        seen.append((frame.f_code.co_name, event))
    return trace


def traced():
    os.listdir(".")


sys.addaudithook(hook)
sys.settrace(trace)
traced()
sys.settrace(None)
print(seen)


# A class that no name leads to, an instance without attributes, its method called by C.
def make():
    class Progress:
        def report(self, *how):
            print("progress", type(self).__name__, how, self is progress)

    return Progress()


progress = make()
source, target = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
source.execute("create table numbers (n)")
source.commit()
source.backup(target, progress=progress.report)
target.close()


# What a call replaces is let go.
def handler(number):
    def handle(*arguments):
        calls[number] = calls.get(number, 0) + 1

    alive.append(weakref.ref(handle))
    return handle


calls, alive = {}, []
for number in range(3):
    source.set_trace_callback(handler(number))
    source.execute("select 1")
    print([one() is not None for one in alive], calls)
source.set_trace_callback(None)
print([one() is not None for one in alive])

# A connection that nobody closes is garbage, with what it keeps for itself.
for _ in range(30):
    lost = sqlite3.connect(":memory:")
    lost.execute("select 1").fetchall()
    del lost
    time.time()
gc.collect()
for _ in range(3000):
    cycle = [time.time()]
    cycle.append(cycle)
print("collected")


# A list that changes while C reads it.
class Changing:
    def fileno(self):
        del waiting[-1]
        return 1


waiting = [Changing() for _ in range(10)]
print(len(select.select([], waiting, [], 0)[1]), len(waiting))

# What C found by itself goes with its class.
def found():
    class Number:
        def __divmod__(*arguments):
            return "neither"

    weakref.finalize(Number.__divmod__, print, "the method has gone")
    try:
        os.utime(".", ns=(Number(), 1))
    except TypeError as error:
        print(str(error).split(" of ")[0][:8])


gc.collect()
found()
print(gc.collect())

# Types that are not where their names say.
try:
    signal.setitimer(-1, 0)
except OSError as error:
    print(type(error).__name__, type(error) is signal.ItimerError)
del sys.modules["posix"]
import posix  # noqa: E402

print(type(posix.stat(".")) is posix.stat_result, posix.stat_result is os.stat_result, type(os.stat(".")).__name__)
