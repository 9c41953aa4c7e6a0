/* An extension with threads of its own that call Python: what a driver's event loop does. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>
#include <time.h>

#define THREADS 3

static pthread_t threads[THREADS];
static int started, rounds;
static PyObject *callback;

static void *run(void *argument)
{
    struct timespec pause = {0, 200000};
    for (int k = 0; k < rounds; k++) {
        nanosleep(&pause, NULL);
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *result = PyObject_CallFunction(callback, "ni", (Py_ssize_t)(intptr_t)argument, k);
        if (result == NULL)
            PyErr_Clear();
        Py_XDECREF(result);
        PyGILState_Release(state);
    }
    return NULL;
}

static PyObject *start(PyObject *self, PyObject *args)
{
    PyObject *function;
    if (!PyArg_ParseTuple(args, "Oi", &function, &rounds))
        return NULL;
    callback = Py_NewRef(function);
    for (started = 0; started < THREADS; started++)
        if (pthread_create(&threads[started], NULL, run, (void *)(intptr_t)started) != 0)
            return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *join(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(started);
}

static PyMethodDef methods[] = {{"start", start, METH_VARARGS, NULL}, {"join", join, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "foreign", NULL, -1, methods};

PyMODINIT_FUNC PyInit_foreign(void) { return PyModule_Create(&module); }
