/* The shim's fingerprints as a Python module of their own, for the tests beside this file. */
#include "fingerprint.h"
#include "pycore_frame.h"
#include "pycore_interp.h"
#include <stdlib.h>

/* Runs `hash` as Retrace does: with no current thread state. */
static uint64_t
detached(uint64_t (*hash)(PyThreadState *))
{
    PyThreadState *tstate = PyThreadState_Swap(NULL);
    uint64_t result = hash(tstate);
    PyThreadState_Swap(tstate);
    return result;
}

static PyObject *
place(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(detached(retrace_fingerprint_place));
}

static PyObject *
shallow(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(detached(retrace_fingerprint_shallow));
}

static PyObject *
deep(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(detached(retrace_fingerprint_deep));
}

static PyObject *
forget(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    retrace_fingerprint_forget();
    Py_RETURN_NONE;
}

/* ---- the stack of frames whose top is known ---- */

static unsigned long long depths_compared, depths_wrong;
static char first_wrong[512];

static void
compare_depth(struct _PyInterpreterFrame *frame)
{
    int computed = retrace_fingerprint_static_depth(frame);
    int real = frame->stacktop - frame->f_code->co_nlocalsplus;
    depths_compared++;
    if ((computed < 0 ? 0 : computed) != real && depths_wrong++ == 0) {
        snprintf(first_wrong, sizeof first_wrong, "%s at byte %d: computed %d, real %d",
                 PyUnicode_AsUTF8(frame->f_code->co_qualname), _PyInterpreterFrame_LASTI(frame) * 2, computed, real);
    }
}

/* A frame that called a Python function without leaving the evaluation loop has saved its top. */
static void
compare_depths(PyThreadState *tstate)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    int python_below = 0;
    for (; frame != NULL; frame = frame->previous) {
        int is_python = retrace_is_python_frame(frame);
        if (is_python && python_below && frame->stacktop >= 0 && !tstate->tracing) {
            compare_depth(frame);
        }
        python_below = is_python;
    }
}

/* generator_depths(list): compares for those of its items that are generators or coroutines and are not running. */
static PyObject *
generator_depths(PyObject *Py_UNUSED(module), PyObject *list)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        if ((PyGen_CheckExact(item) || PyCoro_CheckExact(item) || PyAsyncGen_CheckExact(item))
            && ((PyGenObject *)item)->gi_frame_state < FRAME_EXECUTING) {
            compare_depth((struct _PyInterpreterFrame *)((PyGenObject *)item)->gi_iframe);
        }
    }
    Py_RETURN_NONE;
}

/* depths(): (how many were compared, how many were wrong, the first wrong one) */
static PyObject *
depths(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("KKs", depths_compared, depths_wrong, first_wrong);
}

/* ---- sampling at every check of the eval breaker ---- */

static retrace_fingerprint *samples;
static size_t sample_count, sample_capacity, deep_every, calls;
static int sampling, keeping;

/* A pending call: it runs at a check of the eval breaker, on the main thread. It asks for itself again; CPython takes
 * NPENDINGCALLS from its queue at one check, so all but the first of so many are let pass. */
static int
sample(void *Py_UNUSED(ignored))
{
    if (!sampling) {
        return 0;
    }
    if (calls++ % NPENDINGCALLS == 0) {
        PyThreadState *tstate = PyThreadState_Swap(NULL);
        retrace_fingerprint now = {retrace_fingerprint_place(tstate), retrace_fingerprint_shallow(tstate), 0};
        if (sample_count % deep_every == 0) {
            now.deep = retrace_fingerprint_deep(tstate);
        }
        PyThreadState_Swap(tstate);
        compare_depths(tstate);
        if (keeping) {
            if (sample_count == sample_capacity) {
                sample_capacity = sample_capacity ? sample_capacity * 2 : 1 << 16;
                samples = realloc(samples, sample_capacity * sizeof *samples);
            }
            samples[sample_count] = now;
        }
        sample_count++;
    }
    if (PyThreadState_Get()->c_tracefunc != NULL) {
        return 0; /* 3.11 repeats the check before RESUME until the breaker is clear when the program is traced */
    }
    return Py_AddPendingCall(sample, NULL);
}

/* start(keep, deep_every): samples from now on; `deep` only at each deep_every-th check. */
static PyObject *
start(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_ssize_t every;
    if (!PyArg_ParseTuple(arguments, "pn", &keeping, &every)) {
        return NULL;
    }
    sample_count = calls = 0;
    deep_every = (size_t)every;
    sampling = 1;
    Py_AddPendingCall(sample, NULL);
    Py_RETURN_NONE;
}

/* stop(): [(place, shallow, deep), …] if they were kept, else how many there were */
static PyObject *
stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    sampling = 0;
    if (!keeping) {
        return PyLong_FromSize_t(sample_count);
    }
    PyObject *list = PyList_New((Py_ssize_t)sample_count);
    for (size_t i = 0; i < sample_count && list != NULL; i++) {
        PyObject *triple = Py_BuildValue("KKK", samples[i].place, samples[i].shallow, samples[i].deep);
        if (triple == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, triple);
    }
    return list;
}

static PyMethodDef methods[] = {
    {"place", place, METH_NOARGS, NULL},
    {"shallow", shallow, METH_NOARGS, NULL},
    {"deep", deep, METH_NOARGS, NULL},
    {"forget", forget, METH_NOARGS, NULL},
    {"generator_depths", generator_depths, METH_O, NULL},
    {"depths", depths, METH_NOARGS, NULL},
    {"start", start, METH_VARARGS, NULL},
    {"stop", stop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fingerprint_probe", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_fingerprint_probe(void)
{
    return PyModule_Create(&definition);
}

/* What the version's file refers to of the schedule, which is not here. */
#include "gil.h"
struct retrace_gil_view retrace_gil;
void retrace_request_check(void);
void retrace_request_check(void) {}
void retrace_begun_after_check(void);
void retrace_begun_after_check(void) {}
void retrace_collection_due(void);
void retrace_collection_due(void) {}

/* … and of the timeline. */
#include "line_events.h"
void retrace_on_line(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(code), int Py_UNUSED(line)) {}
void retrace_on_instruction(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(code), int Py_UNUSED(offset)) {}
void retrace_on_start(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(code), int Py_UNUSED(resumed)) {}
void retrace_on_reraise(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(exception)) {}
void retrace_on_unwind(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(code), PyObject *Py_UNUSED(exception)) {}
void retrace_on_raise(PyThreadState *Py_UNUSED(tstate), PyObject *Py_UNUSED(code), PyObject *Py_UNUSED(exception),
                      int Py_UNUSED(origin)) {}
