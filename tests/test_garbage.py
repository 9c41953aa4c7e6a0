"""Garbage collections begin where they began, also in code that crosses no boundary."""

import re
import shutil

import pytest
from harness import record_extension


@pytest.mark.parametrize(
    "part",
    [
        "cycles",
        "cycles_in_threads",
        "callbacks",
        "counts",
        "counts_in_threads",
        "thresholds",
        "small_thresholds",
        "freezing",
        "disabling",
        "weak_references",
        "resurrected",
        "in_handlers",
        "picklers",
    ],
)
def test_part(trial, part):
    recorded = trial.assert_replays(["garbage.py", part], programs=["garbage.py"])
    assert recorded.stdout and not recorded.stderr, recorded


def test_a_small_threshold_collects_at_once(trial):
    recorded = trial.assert_replays(["garbage.py", "at_once"], programs=["garbage.py"])
    for line in recorded.stdout.decode().splitlines():
        threshold, *_, last = line.split()
        # While the generator is resumed, or with the objects that are made after that.
        assert "start" in line and (last == "resumed" or int(threshold) > 2), recorded


def test_callbacks_that_fail(trial):
    recorded = trial.assert_replays(["garbage.py", "callbacks_that_fail"], programs=["garbage.py"])
    assert b"ValueError('start', 0) True " in recorded.stderr, recorded


@pytest.mark.parametrize("part", ["cycles", "methods", "unraisable", "files"])
def test_kept_by_c(trial, part):
    recorded = trial.assert_replays(["kept_by_c.py", part], programs=["kept_by_c.py"])
    if part == "cycles":
        assert (recorded.stdout.count(b"database"), recorded.stdout.count(b"server")) == (5, 3), recorded
    elif part == "methods":
        assert recorded.stdout.count(b"select double") == 3, recorded
    elif part == "unraisable":
        assert recorded.stdout.count(b"UnraisableHookArgs <class 'ValueError'>") == 2, recorded
        told = re.search(rb"OverflowError'> .* (True|False) (\[.*\])", recorded.stdout)
        assert told and told[1] == b"True" and told[2].startswith(b"[('unraisable', "), recorded


SETTERS = (b"create_function", b"create_collation", b"set_authorizer", b"set_trace_callback", b"set_progress_handler")


PARTS = ["handlers", "finalizers", "clears", "converters", "again", "connections", "connections_in_threads", "known_weakly"]
PARTS += ["called_when_closed"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_let_go_of(trial, part):
    recorded = trial.assert_replays(["let_go.py", part], programs=["let_go.py"], deterministic=part != "again")
    told = {
        "handlers": [b"deleted: a global", b"written: b'not"],
        "finalizers": [b"ResourceWarning unclosed"],
        "clears": [b"joined"],
        "converters": [b"('a global',)", b"deleted: a global", b"written: b'not"],
        "again": [b"True 19"],
        "connections": [b"by the collector\na connection is deleted", *[setter + b" True\nclosed False" for setter in SETTERS]],
        "connections_in_threads": [b"joined"],
        "known_weakly": [b"gone: True True\nNone False", b"finalized: Cursor", b"gone: True True\nFalse True None", b"\n0\n"],
        "called_when_closed": [b"deleted: function", b"deleted: method", b"deleted: object"],
    }
    assert all(text in recorded.stdout for text in told[part]), recorded


# Objects in the order of a hash of their addresses.
TABLE = r"""
#include <Python.h>
enum { SLOTS = 256 };
typedef struct { PyObject_HEAD PyObject *slots[SLOTS]; } Table;
static PyObject *add(Table *self, PyObject *object)
{
    unsigned slot = (unsigned)(((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15u >> 56);
    while (self->slots[slot] != NULL) {
        slot = (slot + 1) % SLOTS;
    }
    self->slots[slot] = Py_NewRef(object);
    Py_RETURN_NONE;
}
static int traverse(Table *self, visitproc visit, void *arg)
{
    for (int i = 0; i < SLOTS; i++) {
        Py_VISIT(self->slots[i]);
    }
    return 0;
}
static int clear(Table *self)
{
    for (int i = 0; i < SLOTS; i++) {
        Py_CLEAR(self->slots[i]);
    }
    return 0;
}
static void dealloc(Table *self)
{
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_TYPE(self)->tp_free(self);
}
static PyMethodDef methods[] = {{"add", (PyCFunction)add, METH_O, NULL}, {NULL}};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "table.Table", .tp_basicsize = sizeof(Table), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)traverse, .tp_clear = (inquiry)clear, .tp_dealloc = (destructor)dealloc,
    .tp_methods = methods, .tp_new = PyType_GenericNew, .tp_free = PyObject_GC_Del,
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "table", NULL, 0, NULL};
PyMODINIT_FUNC PyInit_table(void)
{
    PyObject *module = PyType_Ready(&type) < 0 ? NULL : PyModule_Create(&definition);
    if (module != NULL) {
        PyModule_AddObjectRef(module, "Table", (PyObject *)&type);
    }
    return module;
}
"""
IN_REACH = """
import os, sys
sys.path.insert(0, os.environ["WHERE"])
import table

kept = table.Table()
for number in range(20):
    kept.add([number] * number)
    kept.add(lambda given=(number, [number]): given)
    kept.add(set().union)


class Counted:
    alive = most = 0

    def __init__(self):
        self.me = self
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        Counted.alive -= 1


def work(reached):
    return [(Counted(), Counted.alive)[1] for _ in range(30000)]


counts = work([kept])
print(Counted.most, sum(counts), hash(tuple(counts)))
"""


def test_a_table_of_addresses_in_reach(trial):
    """Its members come to the collector, and to a walk like its, in another order on replay."""
    recorded = record_extension(trial, "table", TABLE, IN_REACH)
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
