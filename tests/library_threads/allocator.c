/* A library with a thread that takes no turns, made by a function that was looked up as an allocator does, and that has a mutex
 * for a while now and then; the library's own threads, which take turns, want it too. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int stopping;
static long shared, busy;
static unsigned char order[4000];

static void *in_background(void *unused)
{
    while (!stopping) {
        pthread_mutex_lock(&mutex);
        for (volatile int k = 0; k < 300000; k++);
        pthread_mutex_unlock(&mutex);
        for (volatile int k = 0; k < 300000; k++);
    }
    return NULL;
}

static void *work(void *number)
{
    for (int k = 0; k < 200; k++) {
        unsigned char drawn;
        getrandom(&drawn, 1, 0);
        if (k % 2) pthread_mutex_lock(&mutex);
        else if (pthread_mutex_trylock(&mutex)) { busy++; continue; }
        order[shared++] = (long)number * 16 + drawn % 16;
        pthread_mutex_unlock(&mutex);
        sched_yield();
    }
    return NULL;
}

static PyObject *run(PyObject *module, PyObject *unused)
{
    pthread_t threads[4], background;
    int (*make)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_DEFAULT, "pthread_create");
    make(&background, NULL, in_background, NULL);
    Py_BEGIN_ALLOW_THREADS
    for (long k = 0; k < 4; k++) pthread_create(&threads[k], NULL, work, (void *)k);
    for (int k = 0; k < 4; k++) pthread_join(threads[k], NULL);
    stopping = 1;
    Py_END_ALLOW_THREADS
    return Py_BuildValue("iy#", (int)(shared + busy), order, (Py_ssize_t)shared);
}

static PyMethodDef methods[] = {{"run", run, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "allocator", NULL, -1, methods};

PyMODINIT_FUNC PyInit_allocator(void)
{
    eventfd(0, 0);
    return PyModule_Create(&definition);
}
