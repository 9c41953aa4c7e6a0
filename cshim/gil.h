/* The GIL as the schedule sees it: where its parts are, and the hooks on what CPython calls to hand it over.
 *
 * CPython signals `cond` when a thread drops the GIL and `switch_cond` when one has taken it (Python/ceval_gil.c in
 * 3.12, Python/ceval_gil.h in 3.11: drop_gil, take_gil). Both calls leave libpython through its import table, where
 * src/schedule.rs puts the functions below.
 *
 * Why C: the GIL's structure is internal to CPython, and telling a drop at the eval breaker from any other needs the
 * return addresses on the stack. */
#ifndef RETRACE_GIL_H
#define RETRACE_GIL_H

#include <Python.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>

/* What C reads and writes of a thread's entry: the beginning of `Actor` in src/schedule.rs, field by field. */
struct retrace_actor {
    uint8_t holds_gil;
    uint8_t wait_end;         /* how its last wait for a lock ended, until that is logged: 0 with the lock */
    uint8_t at_check;         /* it dropped the GIL at a check of the eval breaker */
    uint8_t is_foreign;       /* Python did not make it */
    uint8_t is_outside;       /* a function that is declared external started it */
    uint8_t of_schedule[2];
    uint8_t was_external;     /* `*external` when it gave the GIL up */
    const sem_t *found_busy;  /* the lock that it tried last, with the GIL and in vain: it may wait for it; else NULL */
    const sem_t *waited_for;  /* the lock whose wait a signal interrupted, until a lock is tried again; else NULL */
    const uint8_t *external;  /* whether external code runs on it; valid while it holds the GIL */
    uint64_t tries;           /* of locks, with the GIL, since another thread had it */
    uint32_t turn;            /* `Hold` of src/turns.rs: not 0 if it has the turn, or had it until that was taken away */
    uint64_t passed;          /* the rest of `Hold` */
    uint64_t serial;          /* its number, which no other thread of the program's has */
    uint8_t has_left;         /* it has done what may have to be logged, without the GIL */
    uint8_t more_of_schedule[7];
    uint64_t gave_up_at;      /* `steps` when it gave the GIL up */
    const void *frees;        /* not NULL while it frees an external object */
    PyThreadState *gave_up;   /* what it gave the GIL up with, if that was plainly */
};

/* Addresses of the main interpreter's GIL, and what the hooks need with them. `GilView` in abi/src/lib.rs. The first cache
 * line is what is needed each time. */
struct retrace_gil_view {
    pthread_cond_t *cond;
    volatile int *drop_request;
    PyThreadState *volatile *last_holder;
    /* What the hooks replaced: written before they are reachable. */
    int (*next_cond_signal)(pthread_cond_t *);
    int (*next_mutex_unlock)(pthread_mutex_t *);
    /* How often a lock was tried with the GIL, the GIL was given up, or went to another thread: what happens without the GIL
     * is placed between these. Written by who has the GIL. */
    uint64_t steps;
    struct retrace_actor *gave_up;  /* who gave the GIL up plainly, and nobody has taken it since; else NULL */
    int collection_asked;  /* a collection was put off and shall run at the next check (3.11: version_3_11.c) */
    uint8_t is_plain;      /* recording, and no library threads take turns */
    uint8_t has_ended;     /* threads that have ended have left something to log */
    uint8_t waits_itself;  /* who wants the GIL waits as src/gil_waits.rs has it */
    volatile int turn_asked;  /* set by a thread that has no GIL; whoever drops the GIL takes it back */
    pthread_cond_t *switch_cond;
    pthread_mutex_t *mutex, *switch_mutex;
    volatile int *locked, *eval_breaker, *signals_pending;
    const volatile unsigned long *interval; /* us, after which a thread that waits asks for the GIL */
} __attribute__((aligned(64)));

extern struct retrace_gil_view retrace_gil;

/* How those who want the GIL wait while `waits_itself`: src/gil_waits.rs. `GilWaits` in abi/src/lib.rs. The GIL's mutex is
 * held by whoever writes it. */
struct retrace_gil_waits {
    uint32_t signals; /* how often the GIL was given up while somebody waited: what they wait for a change of */
    uint32_t waiters;
    uint32_t due;     /* one is to be woken as soon as the mutex is unlocked */
    uint32_t coming;  /* one was woken, and has not come to the mutex yet */
} __attribute__((aligned(64)));

extern struct retrace_gil_waits retrace_gil_waits;

/* The state of the thread that has the GIL; NULL where none has it: that of who had it last may be freed then. */
PyThreadState *retrace_gil_holder(void);

static inline void retrace_gil_step(void)
{
    __atomic_store_n(&retrace_gil.steps, retrace_gil.steps + 1, __ATOMIC_RELAXED);
}

/* The functions below one that drops the GIL at a check, the innermost first, as far as they were seen: search.c. */
#define RETRACE_CHECK_FUNCTIONS 4
extern const void *retrace_check_functions[RETRACE_CHECK_FUNCTIONS];

/* Whether a thread runs a traced frame, which comes to some checks more than once. Each version's own. */
int retrace_is_traced(PyThreadState *tstate);

/* Has the running thread drop the GIL at its next check. */
void retrace_request_check(void);

/* Whether a thread that has just passed a check comes to that very check next, if another one is asked for. Then
 * `retrace_begun_after_check` is called when it has got beyond it. Each version's own. */
int retrace_check_repeats(PyThreadState *tstate);

/* A check is over: what `retrace_check_repeats` says is about the next one. */
void retrace_check_passed(void);

/* A thread that waits for the turn wants whoever has the GIL to give it up at its next check. */
void retrace_ask_for_turn(void);

/* src/user_threads/turns.rs. */
void retrace_begun_after_check(void);

/* src/record.rs: makes up for a collection that was put off. The GIL is held, the current thread state set. */
void retrace_collection_due(void);

/* Has it called at the next check, whichever thread comes to one: each version's own way. */
void retrace_ask_collection(void);

#endif
