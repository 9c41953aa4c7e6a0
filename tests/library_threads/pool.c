/* An extension module with threads of its own that do I/O. They and Python's thread share memory by every means: mutexes,
 * condition variables with and without time-outs, semaphores, read-write locks, futexes, what is done once, atomics with no
 * lock at all, and values of each thread's own. */
#define _GNU_SOURCE
#include <Python.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 4
#define MOST 4096

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_jobs;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t finished;
static pthread_t workers[WORKERS];
static int jobs[MOST], job_count, job_next, closing, event_fd, null_fd;
static long shared, initialised_by;
static atomic_int door;  /* a futex: 0 open, 1 closed, 2 closed and somebody waits */
static int behind_door;

/* Done without a lock: who comes first decides what stands where. */
struct done { struct done *next; int job, worker, count; long word; };
static _Atomic(struct done *) stack;
static atomic_int order;
static atomic_int departed;

static __thread int own_count = 100;
static __thread int own_number;

static PyObject *called;

static void initialise(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    initialised_by = now.tv_nsec % 1000 * 10 + own_number;
    sched_yield();
}

static void leaves(void *value)
{
    atomic_fetch_add(&departed, *(int *)value);
    free(value);
}

static void enter_door(void)
{
    int was = 0;
    if (atomic_compare_exchange_strong(&door, &was, 1)) return;
    while (was == 2 || atomic_exchange(&door, 2) != 0) {
        syscall(SYS_futex, &door, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
        was = 2;
        if (atomic_exchange(&door, 2) == 0) break;
    }
}

static void leave_door(void)
{
    if (atomic_exchange(&door, 0) == 2) syscall(SYS_futex, &door, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void work(int job)
{
    struct done *done = malloc(sizeof *done);
    struct timespec now, nap = {0, job % 5 * 100000};
    getrandom(&done->word, sizeof done->word, 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (write(null_fd, &now, sizeof now) != sizeof now) abort();
    if (job % 3 == 0) nanosleep(&nap, NULL);
    pthread_once(&once, initialise);
    pthread_rwlock_rdlock(&rwlock);
    long seen = shared;
    if (job % 4 == 0) sched_yield();
    pthread_rwlock_unlock(&rwlock);
    if (job % 7 == 0) {
        pthread_rwlock_wrlock(&rwlock);
        shared = seen + job + now.tv_nsec % 7;
        if (write(null_fd, &shared, sizeof shared) != sizeof shared) abort();
        pthread_rwlock_unlock(&rwlock);
    }
    enter_door();
    behind_door = behind_door * 3 + own_number;
    if (job % 2 == 0 && write(null_fd, &job, sizeof job) != sizeof job) abort();
    leave_door();
    done->job = job;
    done->worker = own_number;
    done->count = own_count++ * 1000 + atomic_fetch_add(&order, 1) % 1000;
    struct done *next = atomic_load(&stack);
    do done->next = next;
    while (!atomic_compare_exchange_weak(&stack, &next, done));
    /* Only the first one rings. */
    if (next == NULL && eventfd_write(event_fd, 1)) abort();
    if (called && job % 10 == 9) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *result = PyObject_CallFunction(called, "ii", own_number, job);
        if (!result) PyErr_Print();
        Py_XDECREF(result);
        PyGILState_Release(state);
    }
    sem_post(&finished);
}

static void *run(void *argument)
{
    own_number = (int)(long)argument;
    int *value = malloc(sizeof *value), idle = 0;
    *value = own_number;
    pthread_setspecific(key, value);
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (job_next == job_count && !closing) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += 3000000;
            if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
            if (own_number % 2) pthread_cond_wait(&has_jobs, &mutex);
            else if (pthread_cond_timedwait(&has_jobs, &mutex, &until)) idle++;
        }
        if (job_next == job_count) break;
        int job = jobs[job_next++];
        pthread_mutex_unlock(&mutex);
        work(job);
    }
    pthread_mutex_unlock(&mutex);
    return (void *)(long)(own_number * 1000 + (idle > 0));
}

static PyObject *start(PyObject *module, PyObject *function)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&has_jobs, &attributes);
    pthread_key_create(&key, leaves);
    sem_init(&finished, 0, 0);
    event_fd = eventfd(0, EFD_NONBLOCK);
    null_fd = open("/dev/null", O_WRONLY);
    called = function == Py_None ? NULL : Py_NewRef(function);
    for (long i = 0; i < WORKERS; i++)
        if (pthread_create(&workers[i], NULL, run, (void *)(i + 1))) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *put(PyObject *module, PyObject *args)
{
    int job;
    if (!PyArg_ParseTuple(args, "i", &job)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&mutex);
    jobs[job_count++] = job;
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&has_jobs);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* As put, by when another thread has asked for the GIL. */
static PyObject *put_late(PyObject *module, PyObject *args)
{
    for (volatile long k = 0; k < 20000000; k++) {}
    return put(module, args);
}

/* What is done so far, in the order in which it is found. */
static PyObject *take(PyObject *module, PyObject *ignored)
{
    PyObject *list = PyList_New(0);
    struct pollfd asked = {event_fd, POLLIN, 0};
    eventfd_t rings;
    Py_BEGIN_ALLOW_THREADS
    if (poll(&asked, 1, 20) > 0) eventfd_read(event_fd, &rings);
    Py_END_ALLOW_THREADS
    struct done *done = atomic_exchange(&stack, NULL);
    while (done) {
        struct done *next = done->next;
        PyObject *item = Py_BuildValue("iiil", done->job, done->worker, done->count, done->word);
        PyList_Append(list, item);
        Py_DECREF(item);
        free(done);
        done = next;
    }
    return list;
}

static PyObject *stop(PyObject *module, PyObject *ignored)
{
    PyObject *ends = PyList_New(0);
    int posted = 0;
    Py_BEGIN_ALLOW_THREADS
    while (posted < job_count) { sem_wait(&finished); posted++; }
    pthread_mutex_lock(&mutex);
    closing = 1;
    pthread_cond_broadcast(&has_jobs);
    pthread_mutex_unlock(&mutex);
    Py_END_ALLOW_THREADS
    for (int i = 0; i < WORKERS; i++) {
        void *end;
        Py_BEGIN_ALLOW_THREADS
        pthread_join(workers[i], &end);
        Py_END_ALLOW_THREADS
        PyObject *number = PyLong_FromLong((long)end);
        PyList_Append(ends, number);
        Py_DECREF(number);
    }
    return Py_BuildValue("Nillii", ends, atomic_load(&departed), shared, initialised_by, behind_door, own_count);
}

static PyMethodDef functions[] = {
    {"start", start, METH_O, NULL},
    {"put", put, METH_VARARGS, NULL},
    {"put_late", put_late, METH_VARARGS, NULL},
    {"take", take, METH_NOARGS, NULL},
    {"stop", stop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "pool", NULL, -1, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_pool(void) { return PyModule_Create(&definition); }
