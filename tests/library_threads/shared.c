/* An extension module that Python's threads are in without the GIL, several at once, and that makes no thread. What they
 * share they look at without a lock before they do something once, and behind read-write locks and mutexes; what a thread
 * sends shows what it found. */
#define _GNU_SOURCE
#include <Python.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PLACES 8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once[PLACES];
static atomic_int is_done[PLACES];  /* looked at before `once` */
static int cached[PLACES], misses;
static atomic_int in_all;
static long inside;

static void compute(int rounds)
{
    for (volatile int k = 0; k < rounds * 100; k++) {}
}

static int doing;

static void do_once(void)
{
    compute(2000);
    poll(NULL, 0, 1);
    is_done[doing] = 1;
}

/* One request of a client's; returns what it has seen. */
static long serve(int fd, int number)
{
    int place = number / 4 % PLACES;
    long seen = 0;
    compute(number * 37 % 300);
    if (!is_done[place]) {
        pthread_mutex_lock(&mutex);
        doing = place;
        pthread_once(&once[place], do_once);
        pthread_mutex_unlock(&mutex);
        seen += 1;
    }
    pthread_rwlock_rdlock(&rwlock);
    int found = cached[place] != 0;
    compute(number * 13 % 200);
    pthread_rwlock_unlock(&rwlock);
    if (!found) {
        pthread_rwlock_wrlock(&rwlock);
        misses++;
        if (!cached[place]) cached[place] = number + 1;
        seen += misses * 10L + cached[place] * 1000L;
        pthread_rwlock_unlock(&rwlock);
    }
    /* Lasts longer than it takes another thread to come here. */
    pthread_mutex_lock(&mutex);
    inside = inside * 3 % 1000003 + number;
    compute(500);
    seen += inside * 100000;
    pthread_mutex_unlock(&mutex);
    seen += (long)atomic_fetch_add(&in_all, 1) << 40;
    if (send(fd, &seen, sizeof seen, 0) != sizeof seen) abort();
    return seen;
}

/* Makes a connection, sends so many requests over it, and returns the sum of what they saw. */
static PyObject *serve_all(PyObject *module, PyObject *args)
{
    int first, count, pair[2];
    long sum = 0, got;
    if (!PyArg_ParseTuple(args, "ii", &first, &count)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    /* As a driver does: it computes before it has a socket. */
    compute(300);
    int asked = socket(AF_UNIX, SOCK_STREAM, 0);
    if (asked < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) abort();
    for (int k = 0; k < count; k++) {
        sum += serve(pair[0], first + k) % 1000003;
        if (recv(pair[1], &got, sizeof got, 0) != sizeof got) abort();
    }
    close(asked);
    close(pair[0]);
    close(pair[1]);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(sum);
}

/* Computes without the GIL, for as long as it is told in milliseconds of its own time. */
static PyObject *compute_for(PyObject *module, PyObject *args)
{
    int milliseconds;
    if (!PyArg_ParseTuple(args, "i", &milliseconds)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    struct timespec now, began;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &began);
    do {
        compute(1000);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000 < milliseconds);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"serve_all", serve_all, METH_VARARGS, NULL},
    {"compute_for", compute_for, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "shared", NULL, -1, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_shared(void)
{
    for (int k = 0; k < PLACES; k++) once[k] = PTHREAD_ONCE_INIT;
    return PyModule_Create(&definition);
}
