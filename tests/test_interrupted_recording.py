"""What was committed survives: the recorded process is killed, the trace is cut, the disk or the limit is full."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness import DIVERGED, RETRACE, clean_environment, compile_extension
from trace_file import EXTENT_HEADER, TraceBytes


def test_killed_by_itself(trial):
    """The kill is the last event: the replay has everything and ends the same way."""
    trial.assert_replays(["counting.py", "500", "kill"], programs=["counting.py"], exit=-signal.SIGKILL)


def ends_before_the_program(trial, replayed):
    """The replay came to the end of a cut recording, said so, and did not call it a divergence."""
    if replayed.exit == DIVERGED or b"recording ends" not in replayed.stderr or b"Traceback" in replayed.stderr:
        trial.fail("should have ended where the recording ends, and said so", replayed)


def test_killed_from_outside(trial):
    """SIGKILL at any moment: every line that came out of the program comes out of the replay."""
    trial.prepare("counting.py")
    command, extra = trial.record_command(["counting.py"], "cli", trial.trace)
    env = trial.environment() | extra
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=trial.work, env=env, bufsize=0, **pipes) as program:
        seen = b"".join(program.stdout.readline() for _ in range(3000))
        program.kill()
        rest, errors = program.communicate()
    assert (program.returncode, errors) == (-signal.SIGKILL, b"")
    printed = seen + rest
    replayed = trial.replay(trial.trace)
    replayed.trace = trial.trace
    ends_before_the_program(trial, replayed)
    # The last write reached the pipe, perhaps, before its event was committed: one line at most is missing.
    whole = printed.splitlines(keepends=True)
    if replayed.stdout not in (printed, b"".join(whole[:-1])):
        trial.fail(f"{len(whole)} lines printed, {len(replayed.stdout.splitlines())} replayed", replayed)


def test_segmentation_fault(trial):
    trial.prepare()
    program = "import os, time, ctypes\nfor n in range(50): os.write(1, b'%d %d\\n' % (n, time.time_ns()))\nctypes.string_at(0)"
    recorded = trial.record(["-c", program])
    assert recorded.exit == -signal.SIGSEGV, recorded
    replayed = trial.replay(recorded.trace)
    assert replayed.stdout == recorded.stdout, replayed


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_tail_that_was_lost(trial, keep):
    """The last extent's commit is taken back: what is left replays to there."""
    trial.prepare("counting.py")
    recorded = trial.record(["counting.py", "3000"])
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    last = max((e for e in trace.extents() if e.stream == 0), key=lambda extent: extent.sequence)
    trace.u64(last.offset + 16, int(last.committed * keep))
    replayed = trial.replay(trace.write(trial.folder / "cut.retrace"))
    ends_before_the_program(trial, replayed)
    assert recorded.stdout.startswith(replayed.stdout), replayed
    assert len(replayed.stdout) < len(recorded.stdout)


def test_nothing_was_committed_but_the_start(trial):
    trial.prepare("counting.py")
    recorded = trial.record(["counting.py", "10"])
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    for extent in trace.extents():
        trace.u64(extent.offset + 16, 0)
    replayed = trial.replay(trace.write(trial.folder / "empty.retrace"))
    assert replayed.exit == 2 and replayed.stdout == b"", replayed
    assert replayed.stderr.startswith(b"retrace: "), replayed


def test_size_limit(trial):
    """The recording ends at the limit, the program goes on; the trace says why."""
    trial.prepare("counting.py")
    command, extra = trial.record_command(["counting.py", "200000"], "cli", trial.trace)
    command[2:2] = ["--max-size", "4M"]
    done = subprocess.run(command, cwd=trial.work, env=trial.environment() | extra, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(b"200000 ")
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"retrace: "), done.stderr
    # Room for the header and the extent in which the limit was met.
    assert os.stat(trial.trace).st_size <= (4 << 20) + (2 << 20)
    replayed = trial.replay(trial.trace)
    ends_before_the_program(trial, replayed)
    assert done.stdout.startswith(replayed.stdout) and len(replayed.stdout) > 100_000
    info = trial.tool("info", trial.trace)
    assert b"recording stopped" in info.stdout, info


@pytest.mark.parametrize("limit", [600, 1100, 1500, 2048])
def test_a_small_size_limit_is_used_up(trial, limit):
    """In KiB. Nearly all of it is the recording's, also where that is hardly more than the parts of a large trace."""
    trial.prepare("counting.py")
    command, extra = trial.record_command(["counting.py", "200000"], "cli", trial.trace)
    command[2:2] = ["--max-size", f"{limit}K"]
    done = subprocess.run(command, cwd=trial.work, env=trial.environment() | extra, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1), done.stderr
    assert (limit << 10) * 0.6 < os.stat(trial.trace).st_size <= limit << 10
    replayed = trial.replay(trial.trace)
    ends_before_the_program(trial, replayed)
    assert done.stdout.startswith(replayed.stdout) and len(replayed.stdout) > limit * 5


FINALIZERS = """
import gc, os
r, w = os.pipe()
class Loop:
    def __init__(self):
        self.me = self
    def __del__(self):
        for _ in range(20):
            os.write(w, b"1")
            os.read(r, 1)
gc.set_threshold(50)
for _ in range(8000):
    Loop()
print("done")
"""


def test_size_limit_in_a_collection(trial):
    """What a collection runs meets the limit: the program goes on."""
    trial.prepare()
    command = [RETRACE, "record", "--max-size", "3M", "-o", trial.trace, "--", trial.python, "-c", FINALIZERS]
    done = subprocess.run(command, cwd=trial.work, env=trial.environment(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"done\n"), done
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"retrace: "), done.stderr
    ends_before_the_program(trial, trial.replay(trial.trace))


def test_full_disk(trial, tmp_path):
    """A file system without room: one line, the program goes on, what was committed replays."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False)
    assert mounted.returncode == 0, f"this test mounts a small tmpfs: run it as root\n{mounted.stderr.decode()}"
    try:
        trial.prepare("counting.py")
        recorded = trial.record(["counting.py", "200000"], trace=disk / "full.retrace")
        assert recorded.exit == 0
        assert recorded.stdout.splitlines()[-1].startswith(b"200000 ")
        assert recorded.stderr.count(b"\n") == 1 and recorded.stderr.startswith(b"retrace: "), recorded
        replayed = trial.replay(recorded.trace)
        assert replayed.exit != DIVERGED and recorded.stdout.startswith(replayed.stdout), replayed
    finally:
        subprocess.run(["umount", disk], check=True)


def test_extents_that_were_claimed_but_never_used_cost_little(trial):
    """A finished recording of next to nothing is small."""
    trial.prepare("counting.py")
    recorded = trial.record(["counting.py", "3"])
    assert os.stat(recorded.trace).st_blocks * 512 < 8 << 20
    committed = sum(extent.committed + EXTENT_HEADER for extent in TraceBytes(recorded.trace).extents())
    assert committed < 4 << 20
    assert re.fullmatch(rb"(\d+ \d+\n){3}", recorded.stdout)


LEAVING = """
import os, time
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
for _ in range(200_000):
    time.time()
print("end", os.getuid(), time.time())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_trace_is_out_of_reach_for_the_program(trial):
    """The program becomes another user, who may not open the trace, and forks, which stops the helper: the trace, of several
    extents, is whole none the less."""
    (trial.prepare() / "program.py").write_text(LEAVING)
    recorded = trial.record(["program.py"])
    assert (recorded.stderr, recorded.exit) == (b"", 0)
    trial.same(recorded, trial.replay(trial.trace), ("recorded", "replayed"))


FORKING = """
import os
import sys
import time

if sys.argv[1] == "python":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
else:
    import leaver
    leaver.leave()
for round in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(60_000):
            time.time()
        inner = os.fork()
        if inner:
            os.waitpid(inner, 0)
        print("child", round, inner > 0, os.getuid(), time.time(), flush=True)
        os._exit(3)
    if round < 2:
        print(os.waitpid(pid, 0)[1], flush=True)
print("end", time.time())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_goes_on_with_its_parents_open_file(trial):
    """Forked by a program that may not open the trace any more. The last one outlives its parent."""
    (trial.prepare() / "program.py").write_text(FORKING)
    recorded = trial.record(["program.py", "python"])
    assert (recorded.stderr, recorded.exit) == (b"", 0)
    information = json.loads(trial.tool("info", "--json", trial.trace).stdout)
    assert information["unrecorded_children"] == 0, information
    processes = information["processes"]
    assert [process["ending"].get("status") for process in processes[1:]] == [3] * 6, processes
    printed = recorded.stdout.splitlines()
    for process in range(1, 7):
        replayed = trial.replay(trial.trace, "--process", str(process))
        assert replayed.exit == 3 and printed.count(replayed.stdout.strip()) == 1, replayed
    assert trial.replay(trial.trace).stdout.splitlines() == [line for line in printed if b"child" not in line]


LEAVER = """
#include <Python.h>
#include <unistd.h>

static PyObject *leave(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"leave", leave, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leaver", NULL, -1, methods};
PyMODINIT_FUNC PyInit_leaver(void) { return PyModule_Create(&module); }
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_that_cannot_be_recorded_is_counted(trial):
    """C code became another user: nobody has the trace open then."""
    trial.prepare(inputs=False)
    compile_extension(trial, trial.work / "leaver", LEAVER)
    (trial.work / "program.py").write_text(FORKING)
    recorded = trial.record(["program.py", "c"])
    assert (recorded.stderr, recorded.exit) == (b"", 0)
    assert json.loads(trial.tool("info", "--json", trial.trace).stdout)["unrecorded_children"] == 3, recorded
    assert b"3 forked processes were not recorded" in trial.tool("info", trial.trace).stdout, recorded


STARTING = """
import os
import subprocess
import sys

def leave():
    os.setgid(65534)
    os.setuid(65534)

child = ["/bin/sh", "-c", "id -u"]
how = sys.argv[1]
if how == "user":
    for command in [child, child, ["/nowhere"]]:
        try:
            print(subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True))
        except FileNotFoundError as error:
            print(error)
elif how == "preexec":
    print(subprocess.run(child, preexec_fn=leave, capture_output=True))
elif how == "spawn":
    leave()
    print(os.waitpid(os.posix_spawn(child[0], child, {}), 0)[1])
elif os.fork() == 0:
    leave()
    os.execvpe("sh", child, {"PATH": "/nowhere:/bin"})
else:
    print(os.wait()[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("how", "count"), [("user", 2), ("preexec", 1), ("spawn", 1), ("exec", 1)])
def test_a_program_of_another_user_is_counted(trial, how, count):
    """If it is a Python, it can't open the trace, and says nothing: its stderr is its parent's to read."""
    (trial.prepare(inputs=False) / "program.py").write_text(STARTING)
    recorded = trial.record(["program.py", how])
    assert (recorded.stderr, recorded.exit) == (b"", 0) and b"65534" in recorded.stdout, recorded
    information = json.loads(trial.tool("info", "--json", trial.trace).stdout)
    assert information["unrecorded_programs"] == count, (recorded, information)
    assert b"could not be recorded if" in trial.tool("info", trial.trace).stdout


SUBINTERPRETER = """
import os
import time
import _xxsubinterpreters

print("begun", time.time(), flush=True)
made = _xxsubinterpreters.create()
_xxsubinterpreters.run_string(made, "open('made', 'w').close(); print('inside', flush=True)")
_xxsubinterpreters.destroy(made)
print("went on", os.path.exists("made"))
"""


def test_a_subinterpreter_ends_the_recording(trial):
    """Its modules have no hooks: the program is left alone, and the replay does not run it, but ends before."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(SUBINTERPRETER)
    recorded = trial.record(["program.py"])
    assert recorded.exit == 0 and recorded.stdout.endswith(b"inside\nwent on True\n"), recorded
    assert b"recording ended: the program makes a subinterpreter" in recorded.stderr, recorded
    assert b"makes a subinterpreter" in trial.tool("info", recorded.trace).stdout
    (trial.work / "made").unlink()
    replayed = trial.replay(recorded.trace)
    ends_before_the_program(trial, replayed)
    assert replayed.stdout == recorded.stdout.splitlines(keepends=True)[0], replayed
    assert not (trial.work / "made").exists(), replayed


EMBEDDER = """
#include <Python.h>

static PyObject *run(PyObject *self, PyObject *text)
{
    PyThreadState *before = PyThreadState_Get(), *made;
#if OWN_GIL && PY_VERSION_HEX >= 0x030c0000
    PyInterpreterConfig config = {.check_multi_interp_extensions = 1, .gil = PyInterpreterConfig_OWN_GIL};
    if (PyStatus_Exception(Py_NewInterpreterFromConfig(&made, &config)))
        Py_FatalError("no interpreter");
#else
    made = Py_NewInterpreter();
#endif
    int failed = PyRun_SimpleString(PyUnicode_AsUTF8(text));
    Py_EndInterpreter(made);
    PyThreadState_Swap(before);
    return PyLong_FromLong(failed);
}

static PyMethodDef methods[] = {{"run", run, METH_O, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "embedder", NULL, -1, methods};
PyMODINIT_FUNC PyInit_embedder(void) { return PyModule_Create(&module); }
"""

EMBEDDED = """
import os
import sys
import threading
import time

import embedder

def run():
    return embedder.run("open('made', 'w').close(); print('inside', flush=True)")

print("begun", time.time(), flush=True)
if sys.argv[1:] == ["thread"]:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
else:
    run()
print("went on", os.path.exists("made"))
"""


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("own_gil", [False, True], ids=["shared", "own"])
def test_a_subinterpreter_of_c_code_ends_the_recording(trial, where, own_gil):
    """As servers make them that embed Python."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(EMBEDDED)
    compile_extension(trial, trial.work / "embedder", EMBEDDER, f"-DOWN_GIL={int(own_gil)}")
    recorded = trial.record(["program.py", where])
    assert recorded.exit == 0 and recorded.stdout.endswith(b"inside\nwent on True\n"), recorded
    assert b"recording ended: the program makes a subinterpreter" in recorded.stderr, recorded
    (trial.work / "made").unlink()
    replayed = trial.replay(recorded.trace)
    ends_before_the_program(trial, replayed)
    assert b"the program makes a subinterpreter" in replayed.stderr, replayed
    assert replayed.stdout == recorded.stdout.splitlines(keepends=True)[0], replayed
    assert not (trial.work / "made").exists(), replayed


def test_what_a_killed_replay_leaves_is_removed_by_the_next_one(trial):
    trial.prepare("counting.py")
    recorded = trial.record(["counting.py", "30000"])
    scratch = trial.folder / "replay-scratch"
    env = clean_environment(trial.folder / "replay-home", scratch)
    theirs = scratch / "retrace-of-somebody-else"
    theirs.mkdir()
    (theirs / "notes").write_text("kept")
    with subprocess.Popen(
        [RETRACE, "replay", recorded.trace], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as replay:
        replay.stdout.readline()
        folder = next(path for path in scratch.iterdir() if path.name.startswith("retrace-") and path != theirs)
        os.utime(folder, (0, 0))
        assert trial.replay(recorded.trace).exit == 0
        assert folder.exists(), "a replay that goes on needs it"
        replay.kill()
        # To its end: until then the interpreter writes there.
        replay.communicate()
    os.utime(folder, (0, 0))
    os.utime(theirs, (0, 0))
    assert trial.replay(recorded.trace).exit == 0
    assert not folder.exists() and (theirs / "notes").exists()
