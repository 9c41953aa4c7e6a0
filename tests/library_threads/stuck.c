/* A library's thread that waits for what nobody knows of, or that only computes, and has made others wait for it. */
#define _GNU_SOURCE
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_t thread;
static volatile int *go;

static void *spin(void *argument)
{
    while (!*go) {}
    return NULL;
}

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
    if (!go) go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    close(eventfd(0, 0));
    if (pthread_create(&thread, NULL, pid ? wait_unseen : spin, (void *)(long)pid)) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *stop(PyObject *module, PyObject *ignored)
{
    *go = 1;
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
