/* A library's thread that waits for what nobody knows of, and has made others wait for it. */
#define _GNU_SOURCE
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_t thread;

static void *wait_unseen(void *argument)
{
    /* A raw system call: the C library's function would be seen. */
    siginfo_t about;
    syscall(SYS_waitid, P_PID, (id_t)(long)argument, &about, WEXITED, NULL);
    return NULL;
}

static PyObject *start(PyObject *module, PyObject *args)
{
    int pid;
    if (!PyArg_ParseTuple(args, "i", &pid)) return NULL;
    close(eventfd(0, 0));
    if (pthread_create(&thread, NULL, wait_unseen, (void *)(long)pid)) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *stop(PyObject *module, PyObject *ignored)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"start", start, METH_VARARGS, NULL},
    {"stop", stop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "stuck", NULL, -1, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_stuck(void) { return PyModule_Create(&definition); }
