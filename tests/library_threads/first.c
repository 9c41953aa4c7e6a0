/* A library that does I/O, and something once, for whoever asks first. */
#include <Python.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int times, asked;

static void begin(void)
{
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    if (descriptor >= 0)
        close(descriptor);
    times++;
}

void first_asked(void)
{
    asked++;
    pthread_once(&once, begin);
}

static PyObject *counts(PyObject *self, PyObject *Py_UNUSED(ignored)) { return Py_BuildValue("ii", times, asked); }

static PyMethodDef methods[] = {{"counts", counts, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "first", NULL, -1, methods};

PyMODINIT_FUNC PyInit_first(void) { return PyModule_Create(&module); }
