"""Programs with threads: whatever comes out depends on who ran when, and comes out again."""

import json
import shutil

import pytest
from harness import record_extension

SHAPES = [
    "counter",
    "recursion",
    "equal_nodes",
    "heap_while",
    "popping",
    "generators",
    "comprehensions",
    "repeated",
    "compression",
    "dictionaries",
    "exceptions",
    "sorting",
    "mixed",
]
RACES = [
    *((shape, 3, 0.0005, 3) for shape in SHAPES),
    ("counter", 2, 0.00001, 2),
    ("recursion", 4, 0.0001, 2),
    ("equal_nodes", 8, 0.0001, 2),
    ("heap_while", 2, 0.000001, 1),
    ("generators", 6, 0.00005, 1),
    ("dictionaries", 3, 0.00001, 1),
    ("mixed", 12, 0.0001, 3),
    ("mixed", 24, 0.005, 6),
]


@pytest.mark.parametrize("race", RACES, ids=lambda race: "-".join(map(str, race[:3])))
def test_race(trial, race):
    trial.assert_replays(["races.py", *map(str, race)], programs=["races.py"])


LOCKS = """
import queue, sys, threading, time
plain, again, condition = threading.Lock(), threading.RLock(), threading.Condition()
event, simple, full = threading.Event(), queue.SimpleQueue(), queue.Queue()
own, semaphore = threading.Condition(threading.Lock()), threading.Semaphore(2)
thread = threading.Thread(target=event.wait)
thread.start()
time.time()
for _ in range(int(sys.argv[1])):
    with plain, again, again, condition:
        condition.notify_all()
    plain.acquire(timeout=1)
    plain.release()
    event.is_set()
    simple.put(1), simple.get()
    full.put(1), full.get()
    with plain, own, semaphore:
        own.notify_all()
        assert plain.locked() and not plain.acquire(blocking=False) and not plain.acquire(timeout=0)
time.monotonic()
event.set()
thread.join()
"""


def test_locks_that_are_free_log_nothing(trial):
    """Nor do tries of one that the same thread has: so a condition asks whether it has its own."""
    (trial.prepare() / "program.py").write_text(LOCKS)
    for rounds in ("1", "2000"):
        recorded = trial.record(["program.py", rounds])
        listed = [json.loads(line) for line in trial.tool("events", "--json", recorded.trace).stdout.splitlines()]
        functions = [event.get("function") for event in listed]
        first = len(functions) - 1 - functions[::-1].index("time.time")
        between = listed[first + 1 : functions.index("time.monotonic", first)]
        # The other thread may begin to wait meanwhile; collections are where they are.
        logged = [event for event in between if event["type"] not in ("switch", "collect", "collected")]
        assert len(logged) <= 4, logged
        trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_synchronised(trial):
    trial.assert_replays(["synchronised.py"], programs=["synchronised.py"])


@pytest.mark.parametrize("options", [[], ["debug"]], ids=["plain", "debug"])
def test_asyncio(trial, options):
    trial.assert_replays(["asyncio_parts.py", *options], programs=["asyncio_parts.py"])


@pytest.mark.parametrize(
    "part",
    [
        "started_by_threads",
        "left_running",
        "daemons",
        "preempted_where_traced",
        "local_storage",
        "idents",
        "many",
        "finalizers",
        "connections",
        "tiny_interval",
        "traced",
        "pool_at_exit",
        "shared_objects",
    ],
)
def test_part(trial, part):
    recorded = trial.assert_replays(["threads.py", part], programs=["threads.py"])
    assert recorded.stdout and not recorded.stderr, recorded


@pytest.mark.parametrize(
    "part",
    [
        "without_gil",
        "waits",
        "queues",
        "late_queues",
        "timers",
        "family",
        "weak_references",
        "changed_while_used",
        "thrown_into",
        "thrown_into_again",
        "written",
        "own_values",
        "processes_of_threads",
        "children_that_end",
        "loop_with_ticks",
    ],
)
def test_storm(trial, part):
    recorded = trial.assert_replays(["storms.py", part], programs=["storms.py"])
    assert recorded.stdout, recorded


def test_waits_one_after_another(trial):
    program = "waits_one_after_another.py"
    recorded = trial.assert_replays([program], programs=[program], deterministic=True)
    assert recorded.stdout == b"[" + b", ".join([b"True, False, False"] * 6) + b"]\n", recorded


def test_handed_over(trial):
    trial.assert_replays(["handed_over.py"], programs=["handed_over.py"], deterministic=True)


def test_daemons_in_calls(trial):
    """The recording does not harm them: the process ends as it would. Their ends are no part of the schedule."""
    recorded = trial.assert_replays(["threads.py", "daemons_in_calls"], programs=["threads.py"])
    assert recorded.stdout.startswith(b"ends ") and not recorded.stderr, recorded


def test_writes_to_one_descriptor(trial):
    recorded = trial.assert_replays(["threads.py", "writes"], programs=["threads.py"])
    assert (recorded.stdout.count(b"\n"), recorded.stderr.count(b"\n")) == (4 * 600, 4 * 600), recorded


def test_writes_to_one_file_by_several_descriptors(trial):
    recorded = trial.assert_replays(["threads.py", "writes_by_duplicates"], programs=["threads.py"])
    assert recorded.stdout.count(b"\n") == 4 * 300, recorded


def test_deep_recursion_in_threads(trial):
    """Python's own limits hold in a replay: the stack is as large as the recorded one."""
    trial.assert_replays(["threads.py", "recursion"], programs=["threads.py"], deterministic=True)


def test_a_thread_ends_the_process(trial):
    recorded = trial.assert_replays(["threads.py", "ended_by_thread"], programs=["threads.py"], exit=9)
    assert recorded.stdout.startswith(b"ends the process "), recorded


def test_threads_that_exit(trial):
    trial.assert_replays(["threads.py", "ended_by_main"], programs=["threads.py"], exit=4)


def test_unhandled_exceptions(trial):
    recorded = trial.assert_replays(["threads.py", "unhandled"], programs=["threads.py"])
    assert recorded.stderr.count(b"ValueError: ('from a thread', ") == 3, recorded
    assert recorded.stderr.count(b"    inner(k)\n") == 3, recorded


def test_the_program_s_excepthook(trial):
    recorded = trial.assert_replays(["threads.py", "excepthook"], programs=["threads.py"])
    assert recorded.stdout.count(b"'ValueError', 'fails-") == 3, recorded
    assert b"the hook itself" in recorded.stderr and b"Exception in thread fails-0" in recorded.stderr, recorded


MANY_THREADS = """
import threading
import time


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def make(count):
    for _ in range(count):
        thread = threading.Thread(target=time.time)
        thread.start()
        thread.join()


make(2000)
before = resident()
make(16000)
print(resident() - before)
"""


def test_threads_that_have_ended_take_no_memory(trial):
    """A server makes a thread for each request."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(MANY_THREADS)
    recorded = trial.record([program])
    assert int(recorded.stdout) < 100 * 16000, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


SWAPS = r"""
#include <Python.h>
static PyObject *without(PyObject *module, PyObject *none)
{
    PyThreadState *state = PyThreadState_Swap(NULL);
    PyThreadState_Swap(state);
    return PyList_New(3);
}
static PyMethodDef methods[] = {{"without", without, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "swaps", NULL, 0, methods};
PyMODINIT_FUNC PyInit_swaps(void) { return PyModule_Create(&definition); }
"""
SWAPPING = """
import os, sys, threading
sys.path.insert(0, os.environ["WHERE"])
import swaps

order = []


def work(k):
    for i in range(300):
        swaps.without()
        order.append(k)


sys.setswitchinterval(0.00001)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(order), hash(tuple(order)))
"""


def test_c_code_swaps_its_thread_state(trial):
    """From 3.12 on that gives the GIL up before the state is unset, and takes it after the other one is set."""
    recorded = record_extension(trial, "swaps", SWAPS, SWAPPING)
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
