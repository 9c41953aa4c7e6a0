"""Threads that C code makes, and that call Python."""

from harness import DIVERGED, compile_extension

CALLER = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

typedef struct {
    PyObject *callable;
    long number;
    PyThread_type_lock done;
} Task;

static void call(Task *task)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction(task->callable, "l", task->number);
    if (result == NULL)
        PyErr_WriteUnraisable(task->callable);
    Py_XDECREF(result);
    PyGILState_Release(state);
}

static void *by_c(void *task)
{
    call(task);
    return NULL;
}

static void by_cpython(void *task)
{
    call(task);
    PyThread_release_lock(((Task *)task)->done);
}

static PyObject *run(PyObject *args, int is_ours)
{
    Task tasks[4];
    pthread_t threads[4];
    PyObject *callable;
    if (!PyArg_ParseTuple(args, "O", &callable))
        return NULL;
    for (int i = 0; i < 4; i++) {
        tasks[i] = (Task){callable, i, NULL};
        if (is_ours) {
            pthread_create(&threads[i], NULL, by_c, &tasks[i]);
        } else {
            tasks[i].done = PyThread_allocate_lock();
            PyThread_acquire_lock(tasks[i].done, WAIT_LOCK);
            PyThread_start_new_thread(by_cpython, &tasks[i]);
        }
    }
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < 4; i++) {
        if (is_ours) {
            pthread_join(threads[i], NULL);
        } else {
            PyThread_acquire_lock(tasks[i].done, WAIT_LOCK);
            PyThread_release_lock(tasks[i].done);
            PyThread_free_lock(tasks[i].done);
        }
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *of_c(PyObject *self, PyObject *args) { return run(args, 1); }
static PyObject *of_cpython(PyObject *self, PyObject *args) { return run(args, 0); }
static PyMethodDef methods[] = {{"of_c", of_c, METH_VARARGS}, {"of_cpython", of_cpython, METH_VARARGS}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "caller", NULL, -1, methods};
PyMODINIT_FUNC PyInit_caller(void) { return PyModule_Create(&definition); }
"""

PROGRAM = """\
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import caller
seen = []
def note(number):
    seen.append((number, time.time(), threading.current_thread() is threading.main_thread()))
    time.sleep(0.001 * (number % 2))
    seen.append((-number, time.monotonic()))
print("begins", flush=True)
getattr(caller, sys.argv[2])(note)
print(seen)
"""
BOUNDARY = """\
module = "caller"
[functions]
of_c = { treatment = "record", why = "Its threads call what it is given." }
"""


def record(trial, how, **env):
    folder = trial.folder / "modules"
    folder.mkdir()
    compile_extension(trial, folder / "caller", CALLER, "-pthread")
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(PROGRAM)
    (trial.folder / "boundary.toml").write_text(BOUNDARY)
    recorded = trial.record(["program.py", str(folder), how], env=env)
    assert recorded.exit == 0 and recorded.stdout.count(b"False") == 4, recorded
    return recorded


def test_threads_made_by_cpythons_function(trial):
    """They are threads as Python's are."""
    recorded = record(trial, "of_cpython")
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_threads_of_a_function_that_is_recorded(trial):
    """What they call is the call's callbacks, which replay makes again, without C code's threads."""
    recorded = record(trial, "of_c", RETRACE_BOUNDARY=str(trial.folder / "boundary.toml"))
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_threads_that_may_call_back(trial):
    """They take turns with Python's, because their library makes them and takes the GIL, and are replayed."""
    recorded = record(trial, "of_c")
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


FREE = """\
module = "caller"
treatment = "libc"
threads = "free"
why = "They are to be real ones on replay."
"""


def test_threads_that_go_their_own_way_and_call_back(trial):
    """They are real ones on replay, and none of them may run Python: it ends with a report."""
    boundary = trial.folder / "free.toml"
    boundary.write_text(FREE)
    recorded = record(trial, "of_c", RETRACE_BOUNDARY=str(boundary))
    result = trial.replay(recorded.trace, "--patience", "1")
    assert (result.stdout, result.exit) == (b"begins\n", DIVERGED), result
    assert b"left the recording" in result.stderr and b"wants to run Python" in result.stderr, result


PARALLEL = """
#include <Python.h>

/* As Cython writes a parallel section. */
static PyObject *sum(PyObject *self, PyObject *args)
{
    long count;
    double all = 0;
    if (!PyArg_ParseTuple(args, "l", &count))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
#pragma omp parallel num_threads(3)
    {
        PyGILState_STATE state = PyGILState_Ensure();
        double own = 0;
        PyObject *object = PyLong_FromLong(count * 1000);
        Py_BEGIN_ALLOW_THREADS
#pragma omp for
        for (long i = 0; i < count; i++)
            own += i % 7;
        Py_END_ALLOW_THREADS
        Py_DECREF(object);
        PyGILState_Release(state);
#pragma omp critical
        all += own;
    }
    Py_END_ALLOW_THREADS
    return PyFloat_FromDouble(all);
}

static PyMethodDef methods[] = {{"sum", sum, METH_VARARGS}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "parallel", NULL, -1, methods};
PyMODINIT_FUNC PyInit_parallel(void) { return PyModule_Create(&definition); }
"""
SUMS = """\
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import parallel
seen = []
def work():
    for number in range(30):
        seen.append((parallel.sum(2000 * number), time.time_ns() % 1000))
def computes():
    for number in range(200000):
        if number % 20000 == 0:
            seen.append((number, time.time_ns() % 1000))
threads = [threading.Thread(target=work) for work in (work, computes)]
for thread in threads:
    thread.start()
work()
for thread in threads:
    thread.join()
print(seen)
"""


def test_threads_that_take_the_gil_and_give_it_back(trial):
    """OpenMP's, which run no Python with it: real ones on replay as well, where nobody else runs Python meanwhile."""
    folder = trial.folder / "modules"
    folder.mkdir()
    compile_extension(trial, folder / "parallel", PARALLEL, "-fopenmp")
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(SUMS)
    recorded = trial.record(["program.py", str(folder)])
    assert recorded.exit == 0, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
