/* See gil.h. */
#define _GNU_SOURCE
#include "gil.h"
#include "version.h"
#include <errno.h>
#include <setjmp.h>
#include <unwind.h>

struct retrace_gil_view retrace_gil;
struct retrace_gil_waits retrace_gil_waits;
_Static_assert(offsetof(struct retrace_actor, gave_up) == 88, "as src/schedule.rs has it");

PyThreadState *retrace_gil_holder(void)
{
    return *retrace_gil.locked ? *retrace_gil.last_holder : NULL;
}

/* The calling thread's entry, or NULL. Initial-exec: one load, no call; the C library keeps room for such variables of
 * libraries that are loaded late. */
static __thread __attribute__((tls_model("initial-exec"))) struct retrace_actor *actor;

struct retrace_actor *retrace_actor(void) { return actor; }
void retrace_set_actor(struct retrace_actor *its) { actor = its; }

/* How many of extension modules' signal handlers the calling thread is in: src/native_handlers.rs. */
static __thread __attribute__((tls_model("initial-exec"))) int handlers;

int retrace_handlers(void) { return handlers; }
void retrace_set_handlers(int count) { handlers = count; }

/* src/schedule.rs. `at_check`: the GIL is dropped at a check of the eval breaker. Returns whether drop_gil may wait for
 * another thread to take it. Hidden, because a call by way of the table of imports costs something here. */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN int retrace_gil_dropped(struct retrace_actor *its, int at_check, int for_leaving);
HIDDEN void retrace_gil_taken(struct retrace_actor *its, int for_leaving);
void retrace_lock_busy(struct retrace_actor *its);
void retrace_lock_retried(struct retrace_actor *its);
/* src/turns.rs. */
void retrace_turn_given_up(struct retrace_actor *its);
/* src/library_locks.rs. */
void retrace_lock_taken_alone(const sem_t *lock);
/* src/gil_waits.rs. */
HIDDEN void retrace_wake_waiter(void);

/* What the hooks replaced. */
int (*retrace_next_sem_trywait)(sem_t *);
int (*retrace_next_sem_wait)(sem_t *);
int (*retrace_next_sem_post)(sem_t *);
void (*retrace_next_pthread_exit)(void *);
int (*retrace_next_sem_clockwait)(sem_t *, clockid_t, const struct timespec *);
int (*retrace_next_sem_timedwait)(sem_t *, const struct timespec *);

/* ---- where the eval breaker drops the GIL from ---- */

/* Seen once, by provoking it (`retrace_learn_checks`): the return address of the hook, and the return addresses that lie
 * at a fixed distance from its frame. Code that returns to the same place has the same frame below it, so the distance
 * holds, and the addresses are enough: no unwinding in earnest. */
#define SITES 8
struct site {
    const void *inner;   /* where the hook returns to */
    ptrdiff_t distance;  /* from the hook's frame to the next return address */
    const void *outer;   /* NULL where the first one says it all */
};
static struct sites {
    struct site all[SITES];
    int count;
} checks,
    lock_tries, /* where `_thread.lock` tries its lock from */
    c_tries;    /* where others do */
enum { BY_C = 2 };
static int learning;
const void *retrace_check_functions[RETRACE_CHECK_FUNCTIONS];

struct walk {
    int depth;
    const char *frame;
    const void *inner, *outer;
    ptrdiff_t distance;
    int complete;
    int is_check;
};

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    const void *ip = (const void *)_Unwind_GetIP(context);
    /* The return address into this frame's function was pushed just below this frame's stack pointer. */
    const void *const *place = (const void *const *)_Unwind_GetCFA(context) - 1;
    if (walk->inner == NULL)
        return _URC_END_OF_STACK;
    if (walk->depth == 0 && ip != walk->inner)
        return _URC_NO_REASON;
    if (walk->depth == 1) {
        walk->outer = ip;
        walk->distance = (const char *)place - walk->frame;
        walk->complete = *place == ip;
    }
    if (walk->is_check && checks.count == 0)
        retrace_check_functions[walk->depth] = (const void *)_Unwind_GetRegionStart(context);
    return ++walk->depth == RETRACE_CHECK_FUNCTIONS ? _URC_END_OF_STACK : _URC_NO_REASON;
}

/* Out of line: the hook, which calls it in the beginning only, is run through all the time. */
__attribute__((noinline, cold)) static void learn(struct sites *sites, const void *inner, const char *frame)
{
    struct walk walk = {0, frame, inner, NULL, 0, 0, sites == &checks};
    _Unwind_Backtrace(step, &walk);
    if (!walk.complete || sites->count == SITES)
        return;
    for (int i = 0; i < sites->count; i++)
        if (sites->all[i].inner == inner && sites->all[i].outer == walk.outer)
            return;
    sites->all[sites->count++] = (struct site){inner, walk.distance, walk.outer};
}

static inline int is_one_of(const struct sites *sites, const void *inner, const char *frame)
{
    for (int i = 0; i < sites->count; i++) {
        const struct site *site = &sites->all[i];
        if (site->inner == inner
            && (site->outer == NULL || *(const void *const *)(frame + site->distance) == site->outer))
            return 1;
    }
    return 0;
}

/* Whether the thread that took the GIL last did so only to end: another one finalizes the interpreter (tstate_must_exit
 * of CPython). The GIL or its mutex is held. */
static inline int is_for_leaving(void)
{
    PyThreadState *finalizing = _PyRuntimeState_GetFinalizing(&_PyRuntime);
    /* The thread's state may be freed by now: nothing of it is read. */
    return finalizing != NULL && finalizing != *retrace_gil.last_holder;
}

void retrace_ask_for_turn(void)
{
    retrace_gil.turn_asked = 1;
    retrace_request_check();
}

/* Most calls that give the GIL up are external ones in which nobody else takes it. Whoever does take it finds what is not
 * noted here: retrace_gil_taken. These are run through right before and right after a system call. */
static inline int drops_plainly(struct retrace_actor *its)
{
    if (its == NULL || !retrace_gil.is_plain || !its->holds_gil || its->is_foreign || its->is_outside || !*its->external
        || its->frees != NULL || *retrace_gil.drop_request)
        return 0;
    its->holds_gil = 0;
    its->at_check = 0;
    its->was_external = 1;
    its->gave_up_at = retrace_gil.steps;
    its->gave_up = *retrace_gil.last_holder;
    retrace_gil.gave_up = its;
    return 1;
}

static inline int takes_plainly(struct retrace_actor *its)
{
    if (its == NULL || retrace_gil.gave_up != its || its->gave_up != *retrace_gil.last_holder || its->has_left
        || its->wait_end != 0 || retrace_gil.has_ended)
        return 0;
    its->holds_gil = 1;
    retrace_gil.gave_up = NULL;
    return 1;
}

/* Both are parts of one structure of CPython's. */
#define FROM_COND_TO_SWITCH_COND \
    (offsetof(struct _gil_runtime_state, switch_cond) - offsetof(struct _gil_runtime_state, cond))

/* Who wants the GIL is woken when its mutex is unlocked, not before: it would only wait for that. And none is while another
 * is on its way, who takes the GIL if it is free by then, and lets the next be woken otherwise. */
static inline int signal_waiter(pthread_cond_t *cond)
{
    if (cond != retrace_gil.cond || !retrace_gil.waits_itself)
        return retrace_gil.next_cond_signal(cond);
    if (retrace_gil_waits.waiters != 0 && !retrace_gil_waits.coming) {
        retrace_gil_waits.coming = 1;
        __atomic_store_n(&retrace_gil_waits.signals, retrace_gil_waits.signals + 1, __ATOMIC_RELEASE);
        __atomic_store_n(&retrace_gil_waits.due, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

__attribute__((noinline)) static int signal_otherwise(pthread_cond_t *cond, const void *inner, const char *frame)
{
    if (cond == retrace_gil.switch_cond)
        retrace_gil_taken(actor, is_for_leaving());
    else if (learning) {
        learn(&checks, inner, frame);
        /* Nobody waits for the GIL: drop_gil would wait for somebody to take it. */
        *retrace_gil.drop_request = 0;
    }
    else {
        /* At a check somebody has asked for it: CPython takes that back behind this call only. */
        int at_check = *retrace_gil.drop_request && is_one_of(&checks, inner, frame);
        int may_wait = retrace_gil_dropped(actor, at_check, is_for_leaving());
        /* It was we who asked: drop_gil would wait for another thread to take the GIL. Who really waits asks again. */
        if (!may_wait || retrace_gil.collection_asked || retrace_gil.turn_asked)
            *retrace_gil.drop_request = 0;
        retrace_gil.turn_asked = 0;
    }
    return signal_waiter(cond);
}

__attribute__((noinline)) int retrace_hook_cond_signal(pthread_cond_t *cond)
{
    int is_plain;
    if ((char *)cond == (char *)retrace_gil.cond + FROM_COND_TO_SWITCH_COND)
        is_plain = takes_plainly(actor);
    else
        is_plain = cond != retrace_gil.cond || drops_plainly(actor);
    if (is_plain)
        return signal_waiter(cond);
    return signal_otherwise(cond, __builtin_return_address(0), __builtin_frame_address(0));
}

/* `due` may be read without the mutex: that is another mutex then. */
static inline int wakes_when_unlocked(const pthread_mutex_t *mutex)
{
    return __builtin_expect(__atomic_load_n(&retrace_gil_waits.due, __ATOMIC_RELAXED), 0) && mutex == retrace_gil.mutex;
}

__attribute__((noinline)) static int unlock_and_wake(pthread_mutex_t *mutex)
{
    __atomic_store_n(&retrace_gil_waits.due, 0, __ATOMIC_RELAXED);
    int result = retrace_gil.next_mutex_unlock(mutex);
    retrace_wake_waiter();
    return result;
}

__attribute__((noinline, cold)) static int unlock_with_collection(pthread_mutex_t *mutex)
{
    int result = wakes_when_unlocked(mutex) ? unlock_and_wake(mutex) : retrace_gil.next_mutex_unlock(mutex);
    if (mutex == retrace_gil.mutex && actor != NULL && actor->holds_gil) {
        if (!actor->at_check)
            retrace_request_check();
        else {
            retrace_gil.collection_asked = 0;
            PyThreadState *before = PyThreadState_Swap(*retrace_gil.last_holder);
            retrace_collection_due();
            PyThreadState_Swap(before);
        }
    }
    return result;
}

/* 3.11: the end of take_gil is where any thread can be made to do something at a check. Who has the GIL asks for it, so that
 * whoever takes the GIL sees that before it unlocks. */
int retrace_hook_mutex_unlock(pthread_mutex_t *mutex)
{
    if (__builtin_expect(retrace_gil.collection_asked, 0))
        return unlock_with_collection(mutex);
    if (wakes_when_unlocked(mutex))
        return unlock_and_wake(mutex);
    return retrace_gil.next_mutex_unlock(mutex);
}

void retrace_request_check(void)
{
    *retrace_gil.drop_request = 1;
    *retrace_gil.eval_breaker = 1;
}

/* Runs code that passes the checks of each kind (a function's beginning, a loop's end, after a call) with the GIL asked
 * for. Returns the number of places learnt, or -1 with an exception set. The GIL is held, no other thread has begun. */
int retrace_learn_checks(PyObject *code, PyObject *globals)
{
    learning = 1;
    for (int i = 0; i < 4; i++) {
        retrace_request_check();
        PyObject *result = PyEval_EvalCode(code, globals, globals);
        if (result == NULL) {
            learning = 0;
            return -1;
        }
        Py_DECREF(result);
    }
    learning = 0;
    *retrace_gil.drop_request = 0;
    return checks.count;
}

void retrace_gil_find(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    struct _gil_runtime_state *gil = retrace_version_gil(interpreter);
    retrace_gil.cond = &gil->cond;
    retrace_gil.switch_cond = &gil->switch_cond;
    retrace_gil.mutex = &gil->mutex;
    retrace_gil.switch_mutex = &gil->switch_mutex;
    retrace_gil.interval = &gil->interval;
    retrace_gil.locked = (volatile int *)&gil->locked._value;
    retrace_gil.last_holder = (PyThreadState *volatile *)&gil->last_holder._value;
    retrace_gil.drop_request = (volatile int *)&interpreter->ceval.gil_drop_request._value;
    retrace_gil.eval_breaker = (volatile int *)&interpreter->ceval.eval_breaker._value;
    retrace_gil.signals_pending = (volatile int *)&_PyRuntime.ceval.signals_pending._value;
}

/* Gives the main thread, which is the calling one, another ident: what pthread_self() will answer from now on. */
void retrace_set_main_thread_ident(unsigned long ident)
{
    _PyRuntime.main_thread = ident;
    PyThreadState_Get()->thread_id = ident;
}

unsigned long retrace_main_thread_ident(void) { return _PyRuntime.main_thread; }

/* ---- locks, while recording: CPython's are semaphores here (Python/thread_pthread.h, PyThread_acquire_lock_timed) ---- */

/* Who took which lock by a try with the GIL, as long as nobody has let it go: only some of them, because two may want one
 * place. A thread that tries such a lock again finds it taken in replay as well, so that needs no event. */
static struct held {
    const sem_t *lock;
    uint64_t by; /* a thread's number */
} held[256];

/* Of the calling thread, for src/queue_waits.rs: whether it has got a lock by a wait, and then tried one in vain. */
enum { GOT_BY_WAIT = 1, TRIED_BEHIND_WAIT = 2 };
static __thread __attribute__((tls_model("initial-exec"))) int lock_wait;

int retrace_swap_lock_wait(int to)
{
    int was = lock_wait;
    lock_wait = to;
    return was;
}

static inline struct held *held_as(const sem_t *lock)
{
    return &held[(uintptr_t)lock / 16 % (sizeof held / sizeof *held)];
}

static inline void let_go(const sem_t *lock)
{
    struct held *place = held_as(lock);
    /* Atomic: C code may let a lock go without the GIL. */
    if (__atomic_load_n(&place->lock, __ATOMIC_RELAXED) == lock)
        __atomic_store_n(&place->lock, NULL, __ATOMIC_RELAXED);
}

void retrace_lock_let_go(const sem_t *lock) { let_go(lock); }

/* Whether a try is one by `_thread.lock.acquire`: such a lock is let go with the GIL only. */
static inline int is_lock_object(const void *inner, const char *frame)
{
    if (learning == 0)
        return is_one_of(&lock_tries, inner, frame);
    learn(learning == BY_C ? &c_tries : &lock_tries, inner, frame);
    return 1;
}

/* A try in vain. */
__attribute__((noinline, cold)) static void tried_in_vain(struct retrace_actor *its, const sem_t *lock, const void *inner,
                                                          const char *frame)
{
    int error = errno;
    if (lock_wait == GOT_BY_WAIT)
        lock_wait = TRIED_BEHIND_WAIT;
    const struct held *place = held_as(lock);
    its->found_busy = error == EAGAIN ? lock : NULL;
    int is_own = place->lock == lock && place->by == its->serial && is_lock_object(inner, frame);
    if (its->found_busy && !is_own)
        retrace_lock_busy(its);
    errno = error;
}

__attribute__((noinline, cold)) static void tried_again(struct retrace_actor *its, const sem_t *lock)
{
    int error = errno;
    if (its->waited_for == lock)
        retrace_lock_retried(its);
    its->waited_for = NULL;
    errno = error;
}

__attribute__((noinline)) int retrace_hook_sem_trywait(sem_t *lock)
{
    int result = retrace_next_sem_trywait(lock);
    struct retrace_actor *its = actor;
    if (its != NULL && its->holds_gil && !*its->external) {
        its->tries++;
        retrace_gil_step();
        if (its->waited_for != NULL)
            tried_again(its, lock);
        if (result == 0) {
            struct held *place = held_as(lock);
            its->found_busy = NULL;
            place->by = its->serial;
            __atomic_store_n(&place->lock, lock, __ATOMIC_RELAXED);
        }
        else
            tried_in_vain(its, lock, __builtin_return_address(0), __builtin_frame_address(0));
    }
    return result;
}

/* src/user_threads/locks.rs: 0, -1 with `errno`, or 1 for a lock that this thread has taken itself. */
int retrace_replayed_try(sem_t *lock);
void retrace_try_is_lost(void);

/* The same on replay. */
__attribute__((noinline)) int retrace_hook_sem_trywait_replayed(sem_t *lock)
{
    int result = retrace_replayed_try(lock);
    if (result == 0 || (result < 0 && !learning))
        return result;
    if (!is_lock_object(__builtin_return_address(0), __builtin_frame_address(0)))
        retrace_try_is_lost();
    errno = EAGAIN;
    return -1;
}

/* Runs code that tries a lock object which is taken: `lock` among the globals. As `retrace_learn_checks`. */
int retrace_learn_lock_tries(PyObject *code, PyObject *globals)
{
    PyThread_type_lock lock = PyThread_allocate_lock();
    if (lock == NULL)
        return -1;
    learning = BY_C;
    PyThread_acquire_lock(lock, NOWAIT_LOCK);
    PyThread_acquire_lock(lock, NOWAIT_LOCK);
    learning = 1;
    PyObject *result = PyEval_EvalCode(code, globals, globals);
    learning = 0;
    PyThread_release_lock(lock);
    PyThread_free_lock(lock);
    /* Where all is compiled into the lock object's own function, what called that may be anything. */
    for (int i = 0; i < lock_tries.count; i++) {
        int is_shared = 0;
        for (int k = 0; k < c_tries.count; k++)
            is_shared |= lock_tries.all[i].inner == c_tries.all[k].inner;
        if (!is_shared)
            lock_tries.all[i].outer = NULL;
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : lock_tries.count;
}

int retrace_hook_sem_post(sem_t *lock)
{
    let_go(lock);
    return retrace_next_sem_post(lock);
}

/* Who waits for a lock lets others go on. */
static inline void before_wait(void)
{
    struct retrace_actor *its = actor;
    lock_wait = 0;
    if (its != NULL && !its->holds_gil && __atomic_load_n(&its->turn, __ATOMIC_RELAXED) != 0)
        retrace_turn_given_up(its);
}

static inline int waited(const sem_t *lock, int result)
{
    struct retrace_actor *its = actor;
    if (its != NULL && !its->holds_gil) {
        its->wait_end = result == 0 ? 0 : errno == EINTR ? 2 : 1;
        lock_wait = result == 0 ? GOT_BY_WAIT : 0;
        its->waited_for = its->wait_end == 2 ? lock : NULL;
        if (result == 0 && its->found_busy != lock)
            retrace_lock_taken_alone(lock);
        its->found_busy = NULL;
    }
    return result;
}

int retrace_hook_sem_wait(sem_t *lock)
{
    before_wait();
    return waited(lock, retrace_next_sem_wait(lock));
}

int retrace_hook_sem_clockwait(sem_t *lock, clockid_t clock, const struct timespec *until)
{
    before_wait();
    return waited(lock, retrace_next_sem_clockwait(lock, clock, until));
}

int retrace_hook_sem_timedwait(sem_t *lock, const struct timespec *until)
{
    before_wait();
    return waited(lock, retrace_next_sem_timedwait(lock, until));
}

/* ---- threads ---- */

struct retrace_beginning {
    struct retrace_actor *actor;
    void *(*start)(void *);
    void *argument;
};

/* src/schedule.rs: takes the beginning out of its box. */
void retrace_take_beginning(struct retrace_beginning *from, struct retrace_beginning *into);

/* Where the running thread ends up when it leaves; NULL in one that CPython did not make. */
static __thread __attribute__((tls_model("initial-exec"))) jmp_buf *way_out;

/* A thread's beginning. */
void *retrace_thread_begins(void *luggage)
{
    struct retrace_beginning beginning;
    jmp_buf out;
    retrace_take_beginning(luggage, &beginning);
    actor = beginning.actor;
    if (_setjmp(out)) return NULL;
    way_out = &out;
    return beginning.start(beginning.argument);
}

/* CPython ends a thread that wants the GIL when the interpreter is gone, a daemon thread in a call mostly, with
 * pthread_exit(), which unwinds its stack. Rust's frames are on it then, through which nothing may unwind: that aborts
 * the process. So such a thread jumps back to its beginning, and nothing in between is run. */
void retrace_hook_pthread_exit(void *value)
{
    if (way_out) _longjmp(*way_out, 1);
    retrace_next_pthread_exit(value);
}
