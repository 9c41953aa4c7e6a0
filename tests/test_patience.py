"""A replay that does not come on ends with a report, also where C code runs on; and with whoever started it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import DIVERGED, HANG, RETRACE, clean_environment, compile_extension

# Goes on as soon as a file is there, which it asks the system for in a way that is not recorded.
SPINS = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sys/syscall.h>
#include <unistd.h>
static void spin(const char *path) { while (syscall(SYS_access, path, F_OK) != 0) ; }
static PyObject *with_gil(PyObject *self, PyObject *path) { spin(PyUnicode_AsUTF8(path)); Py_RETURN_NONE; }
static PyObject *without_gil(PyObject *self, PyObject *path)
{
    const char *text = PyUnicode_AsUTF8(path);
    Py_BEGIN_ALLOW_THREADS
    spin(text);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"with_gil", with_gil, METH_O}, {"without_gil", without_gil, METH_O}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "spins", NULL, 0, methods};
PyMODINIT_FUNC PyInit_spins(void) { return PyModule_Create(&definition); }
"""

PROGRAM = """\
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import spins
print("begins", flush=True)
spin = getattr(spins, sys.argv[3])
if sys.argv[4] == "thread":
    thread = threading.Thread(target=spin, args=(sys.argv[2],))
    thread.start()
    thread.join()
else:
    spin(sys.argv[2])
print("ends", time.time())
"""


@pytest.fixture
def recorded(trial, request):
    """A recording whose replay comes to no end, because the file is gone."""
    folder = trial.folder / "modules"
    folder.mkdir()
    compile_extension(trial, folder / "spins", SPINS)
    there = trial.folder / "there"
    there.touch()
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(PROGRAM)
    how = getattr(request, "param", "with_gil main").split()
    recorded = trial.record(["program.py", str(folder), str(there), *how])
    assert recorded.exit == 0 and recorded.stdout.startswith(b"begins\nends"), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    there.unlink()
    return recorded


@pytest.mark.parametrize(
    "recorded", ["with_gil main", "without_gil main", "with_gil thread", "without_gil thread"], indirect=True
)
def test_code_that_runs_on(trial, recorded):
    result = trial.replay(recorded.trace, "--patience", "1")
    assert (result.stdout, result.exit) == (b"begins\n", DIVERGED), result
    report = result.stderr.decode()
    # Where there is a thread, who goes on next is what it does not come to.
    next_event = "\n  expected: " if recorded.command[-1] == "thread" else "\n  expected: time.time()"
    assert report.count("left the recording at event") == 1 and next_event in report, result
    assert "s of CPU time, in which C code ran on" in report, result


def processes_with(word):
    """The processes of this machine that have it among their arguments."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in place.read_bytes() and int(place.parent.name) != os.getpid():
                found.append(int(place.parent.name))
        except OSError:
            pass
    return found


def test_a_killed_replay_leaves_nothing_behind(trial, recorded):
    """Who kills the command kills the replay, which is in a process group of its own."""
    env = clean_environment(trial.folder / "replay-home", trial.folder / "replay-scratch")
    command = [RETRACE, "replay", "--patience", "100000", recorded.trace]
    with subprocess.Popen(
        command, cwd=trial.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as replay:
        assert replay.stdout.readline() == b"begins\n"
        # The program's arguments are the replay's, too.
        word = str(trial.folder / "modules")
        assert processes_with(word)
        replay.send_signal(signal.SIGKILL)
        # Only when nobody has the pipe any more does this end.
        assert replay.stdout.read() == b""
    until = time.monotonic() + HANG
    while processes_with(word):
        assert time.monotonic() < until, processes_with(word)
        time.sleep(0.01)
