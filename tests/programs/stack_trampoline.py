"""A profiler's trampolines (perf): every function has one, also where the recorder looks at frames itself."""

import os
import sys
import time

if not hasattr(sys, "activate_stack_trampoline"):
    print("none")
    raise SystemExit

MAP = f"/tmp/perf-{os.getpid()}.map"


def before():
    return time.time()


def in_a_call():
    return "in a call"


class Path:
    def __fspath__(self):
        after_a_call()
        return "."


def after_a_call():
    return os.getppid()


def never():
    return time.time()


def in_child():
    return os.getpid()


print("active", sys.is_stack_trampoline_active())
if not sys.is_stack_trampoline_active():
    sys.activate_stack_trampoline("perf")
print("active", sys.is_stack_trampoline_active())
before()
os.stat(Path())
sorted([3, 1, 2], key=lambda _: time.time())
before()
list(map(lambda _: in_a_call(), [1]))
try:
    sys.activate_stack_trampoline("gprof")
except ValueError as error:
    print("error", error)
print("active", sys.is_stack_trampoline_active())
child = os.fork()
if child == 0:
    in_child()
    os._exit(40 + sys.is_stack_trampoline_active())
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.deactivate_stack_trampoline()
print("active", sys.is_stack_trampoline_active())
never()
with open(MAP) as lines:
    found = [line.split()[-1] for line in lines if __file__ in line]
    print(*sorted(name.replace(__file__, "FILE") for name in found), sep="\n")
for pid in (os.getpid(), child):
    try:
        os.unlink(f"/tmp/perf-{pid}.map")
    except FileNotFoundError:
        print("no map of", "the child" if pid == child else "this process")
