/* A plain library, which knows nothing of Python: threads that call back, and a queue that threads wait at. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef long (*call)(long number, long drawn);

struct caller { pthread_t thread; call call; long count, total; };

static void *calls(void *caller_)
{
    struct caller *caller = caller_;
    for (long k = 0; k < caller->count; k++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (k % 3 == 0) usleep(500);
        caller->total += caller->call(k, now.tv_nsec % 1000);
    }
    return NULL;
}

struct caller *start(call call, long count)
{
    struct caller *caller = calloc(1, sizeof *caller);
    caller->call = call;
    caller->count = count;
    pthread_create(&caller->thread, NULL, calls, caller);
    return caller;
}

long finish(struct caller *caller)
{
    pthread_join(caller->thread, NULL);
    long total = caller->total;
    free(caller);
    return total;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long queue[1000], first, last;

void put(long item)
{
    pthread_mutex_lock(&mutex);
    queue[last++ % 1000] = item;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}

long get(void)
{
    pthread_mutex_lock(&mutex);
    while (first == last) pthread_cond_wait(&changed, &mutex);
    long item = queue[first++ % 1000];
    pthread_mutex_unlock(&mutex);
    return item;
}
