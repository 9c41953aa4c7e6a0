/* An extension module whose worker threads answer into variables of which each thread has its own: who asks waits for its own. */
#define _GNU_SOURCE
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#define WORKERS 3

struct latch { pthread_mutex_t mutex; pthread_cond_t is_set; int set; long answer; struct latch *next; };

static __thread struct latch own = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
static __thread long asked[500];  /* so many that they are not beside the thread pointer */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t has_jobs = PTHREAD_COND_INITIALIZER;
static struct latch *jobs;

static void *work(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&mutex);
        while (!jobs) pthread_cond_wait(&has_jobs, &mutex);
        struct latch *job = jobs;
        jobs = job->next;
        pthread_mutex_unlock(&mutex);
        unsigned char drawn;
        getrandom(&drawn, 1, 0);
        own.answer += drawn;  /* this worker's, which nobody asked for */
        pthread_mutex_lock(&job->mutex);
        job->answer += own.answer;
        job->set = 1;
        pthread_cond_broadcast(&job->is_set);
        pthread_mutex_unlock(&job->mutex);
    }
    return NULL;
}

static PyObject *ask(PyObject *module, PyObject *unused)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&mutex);
    own.next = jobs;
    jobs = &own;
    pthread_cond_signal(&has_jobs);
    pthread_mutex_unlock(&mutex);
    pthread_mutex_lock(&own.mutex);
    while (!own.set) pthread_cond_wait(&own.is_set, &own.mutex);
    own.set = 0;
    pthread_mutex_unlock(&own.mutex);
    asked[own.answer % 500]++;
    Py_END_ALLOW_THREADS
    long times = 0;
    for (int k = 0; k < 500; k++) times += asked[k];
    return Py_BuildValue("ll", own.answer, times);
}

static PyMethodDef methods[] = {{"ask", ask, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "latch", NULL, -1, methods};

PyMODINIT_FUNC PyInit_latch(void)
{
    eventfd(0, 0);
    for (int k = 0; k < WORKERS; k++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, NULL);
        pthread_detach(thread);
    }
    return PyModule_Create(&definition);
}
