/* Threads that C code makes by CPython's own function, and waits for with its locks: what `_testcapi` and embedding
 * programs do. */
#include <Python.h>
#include <pythread.h>

static PyThread_type_lock begun, ended;
static PyObject *callback;
static int number;

static void run(void *argument)
{
    int own = (int)(intptr_t)argument;
    /* Whoever made this thread waits for it, and has the GIL. */
    PyThread_release_lock(begun);
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction(callback, "i", own);
    if (result == NULL)
        PyErr_Clear();
    Py_XDECREF(result);
    PyGILState_Release(state);
    PyThread_release_lock(ended);
}

static PyObject *start(PyObject *self, PyObject *function)
{
    Py_XSETREF(callback, Py_NewRef(function));
    begun = PyThread_allocate_lock();
    ended = PyThread_allocate_lock();
    PyThread_acquire_lock(begun, 1);
    PyThread_acquire_lock(ended, 1);
    PyThread_start_new_thread(run, (void *)(intptr_t)number++);
    PyThread_acquire_lock(begun, 1);
    Py_RETURN_NONE;
}

static PyObject *join(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    PyThread_acquire_lock(ended, 1);
    Py_END_ALLOW_THREADS
    PyThread_release_lock(ended);
    PyThread_free_lock(begun);
    PyThread_free_lock(ended);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"start", start, METH_O, NULL}, {"join", join, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "made", NULL, -1, methods};

PyMODINIT_FUNC PyInit_made(void) { return PyModule_Create(&module); }
