/* A library that could do I/O, and whose threads compute without the GIL until another thread has set a flag. */
#define _GNU_SOURCE
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLAGS 8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_t threads[FLAGS];
static volatile int flags[FLAGS];
static int woken, done[FLAGS * 2], count;

static void finish(int flag)
{
    pthread_mutex_lock(&mutex);
    done[count++] = flag;
    pthread_mutex_unlock(&mutex);
}

static void compute_until(int flag)
{
    while (!flags[flag]) {}
    finish(flag);
}

static void *at_once(void *flag)
{
    compute_until((int)(long)flag);
    return NULL;
}

static void *after_a_wait(void *flag)
{
    pthread_mutex_lock(&mutex);
    while (!woken) pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    compute_until((int)(long)flag);
    close(eventfd(0, 0));
    return NULL;
}

/* compute(flag, locked): without the GIL, behind a mutex that it has had, and with one that it has. */
static PyObject *compute(PyObject *module, PyObject *args)
{
    int flag, locked;
    if (!PyArg_ParseTuple(args, "ii", &flag, &locked)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    if (locked) {
        finish(-flag);
        pthread_mutex_lock(&held);
    }
    compute_until(flag);
    if (locked) pthread_mutex_unlock(&held);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *start(PyObject *module, PyObject *args)
{
    int flag, waits;
    if (!PyArg_ParseTuple(args, "ii", &flag, &waits)) return NULL;
    if (pthread_create(&threads[flag], NULL, waits ? after_a_wait : at_once, (void *)(long)flag)) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *wake(PyObject *module, PyObject *ignored)
{
    pthread_mutex_lock(&mutex);
    woken = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
    Py_RETURN_NONE;
}

static PyObject *set(PyObject *module, PyObject *flag)
{
    flags[PyLong_AsLong(flag)] = 1;
    Py_RETURN_NONE;
}

static PyObject *join(PyObject *module, PyObject *flag)
{
    pthread_t thread = threads[PyLong_AsLong(flag)];
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *order(PyObject *module, PyObject *ignored)
{
    PyObject *list = PyList_New(count);
    for (int k = 0; list && k < count; k++) PyList_SET_ITEM(list, k, PyLong_FromLong(done[k]));
    return list;
}

static PyObject *could_do_io(PyObject *module, PyObject *ignored)
{
    return PyLong_FromLong(socket(AF_UNIX, SOCK_STREAM, 0));
}

static PyMethodDef functions[] = {
    {"compute", compute, METH_VARARGS, NULL},
    {"start", start, METH_VARARGS, NULL},
    {"wake", wake, METH_NOARGS, NULL},
    {"set", set, METH_O, NULL},
    {"join", join, METH_O, NULL},
    {"order", order, METH_NOARGS, NULL},
    {"could_do_io", could_do_io, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "busy", NULL, -1, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_busy(void) { return PyModule_Create(&definition); }
