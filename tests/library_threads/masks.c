/* A library that does I/O and whose threads block signals, each its own. */
#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREADS 3

static int descriptor;

static int blocked(void)
{
    sigset_t now;
    int count = 0;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int number = 1; number < 32; number++)
        count += sigismember(&now, number) == 1;
    return count;
}

static void *inner(void *into)
{
    *(int *)into = blocked();
    return NULL;
}

struct seen { int at_first, with_all, without_one, of_inner; };

static void *run(void *argument)
{
    struct seen *seen = argument;
    uint64_t one = 1;
    sigset_t all, some;
    pthread_t thread;
    seen->at_first = blocked();
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (write(descriptor, &one, sizeof one) != sizeof one)
        return NULL;
    seen->with_all = blocked();
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigprocmask(SIG_UNBLOCK, &some, NULL);
    seen->without_one = blocked();
    if (pthread_create(&thread, NULL, inner, &seen->of_inner) == 0)
        pthread_join(thread, NULL);
    return NULL;
}

static PyObject *look(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct seen seen[THREADS] = {{0}};
    pthread_t threads[THREADS];
    uint64_t count = 0;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    descriptor = eventfd(0, 0);
    Py_BEGIN_ALLOW_THREADS
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run, &seen[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    Py_END_ALLOW_THREADS
    if (read(descriptor, &count, sizeof count) != sizeof count)
        return PyErr_SetFromErrno(PyExc_OSError);
    close(descriptor);
    PyObject *found = PyList_New(0);
    for (int i = 0; found != NULL && i < THREADS; i++) {
        PyObject *item = Py_BuildValue("iiii", seen[i].at_first, seen[i].with_all, seen[i].without_one, seen[i].of_inner);
        if (item == NULL || PyList_Append(found, item) < 0)
            return NULL;
        Py_DECREF(item);
    }
    return Py_BuildValue("iiN", blocked(), (int)count, found);
}

static PyMethodDef methods[] = {{"look", look, METH_NOARGS, NULL}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "masks", NULL, -1, methods};

PyMODINIT_FUNC PyInit_masks(void) { return PyModule_Create(&module); }
