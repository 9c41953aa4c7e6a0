/* See search.h. */
#include "search.h"
#include "fingerprint.h"
#include "gil.h"
#include "version.h"
#include <unwind.h>

/* src/user_threads/pthreads.rs: the running coroutine's ident. */
unsigned long retrace_own_ident(void);
/* src/signals.rs: a signal is tripped. */
void retrace_trips(void);

/* No thread has it. */
#define NOBODY 0

/* One of so many checks is made in full: whoever else waits for one (a timer, a signal of this process's) does not wait
 * for long. */
#define FULL 256

/* ---- what the call looks like from below: as `checks` of gil.c, but with more in between ---- */

enum { LEVELS = 4, CHAINS = 8 };
struct chain {
    const void *inner;              /* where the hook returns to */
    int levels;
    ptrdiff_t distances[LEVELS];    /* from the hook's frame to the next return addresses */
    const void *outer[LEVELS];
};
struct chains { struct chain all[CHAINS]; int count; };
/* The question whether a signal may be handled, and those that follow in the same function, when it computes whether to
 * come to the next check: 3.12 does at some, and both do where they raise what another thread has set. */
static struct chains at_check, behind;
static int learning;

struct walk {
    struct chain chain;
    const char *frame;
    int depth, found; /* the how-manieth of the check's functions was come to, from 1 */
};
/* That of the question. */
static int found_at_check;

static int is_enough(const void *function)
{
    for (int i = 0; i < RETRACE_CHECK_FUNCTIONS; i++)
        if (function != NULL && retrace_check_functions[i] == function)
            return i + 1;
    return 0;
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *data)
{
    struct walk *walk = data;
    const void *ip = (const void *)_Unwind_GetIP(context);
    const void *const *place = (const void *const *)_Unwind_GetCFA(context) - 1;
    if (walk->depth == 0 && ip != walk->chain.inner)
        return _URC_NO_REASON;
    if (walk->depth > 0) {
        if (walk->depth > LEVELS || *place != ip)
            return _URC_END_OF_STACK;
        walk->chain.distances[walk->depth - 1] = (const char *)place - walk->frame;
        walk->chain.outer[walk->depth - 1] = ip;
        walk->chain.levels = walk->depth;
    }
    walk->depth++;
    walk->found = is_enough((const void *)_Unwind_GetRegionStart(context));
    return walk->found ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static int is_known(const struct chains *chains, const void *inner, const char *frame)
{
    for (int i = 0; i < chains->count; i++) {
        const struct chain *c = &chains->all[i];
        int level = c->inner == inner ? 0 : -1;
        while (level >= 0 && level < c->levels)
            level = *(const void *const *)(frame + c->distances[level]) == c->outer[level] ? level + 1 : -1;
        if (level >= 0)
            return 1;
    }
    return 0;
}

static void learn(struct chains *chains, const void *inner, const char *frame)
{
    struct walk walk = {{inner, 0, {0}, {0}}, frame, 0, 0};
    _Unwind_Backtrace(step, &walk);
    if (chains == &at_check)
        found_at_check = walk.found;
    else if (walk.found > found_at_check && walk.chain.levels > 1)
        /* The function that asked has a part elsewhere, for what is rare: its caller, which may be any, was come to. */
        walk.chain.levels--;
    if (walk.found && chains->count < CHAINS)
        chains->all[chains->count++] = walk.chain;
}

/* The answer while it is learnt: with signals_pending set, the first call at a check is the question. */
static unsigned long learn_and_answer(const void *inner, const char *frame)
{
    if (at_check.count == 0)
        learn(&at_check, inner, frame);
    if (is_known(&at_check, inner, frame))
        return NOBODY;
    if (!is_known(&behind, inner, frame))
        learn(&behind, inner, frame);
    return retrace_own_ident();
}

int retrace_learn_search(PyObject *code, PyObject *globals)
{
    int failed = 0;
    learning = 1;
    for (int i = 0; i < 6 && !failed; i++) {
        /* What another thread has it raise is raised behind the question, with a computation of its own. */
        int throws = i >= 4;
        *retrace_gil.signals_pending = 1;
        *retrace_gil.eval_breaker = 1;
        if (throws)
            PyThreadState_SetAsyncExc(PyThreadState_Get()->thread_id, PyExc_RuntimeError);
        PyObject *result = PyEval_EvalCode(code, globals, globals);
        if (throws && result == NULL && PyErr_ExceptionMatches(PyExc_RuntimeError))
            PyErr_Clear();
        else
            failed = throws || result == NULL;
        Py_XDECREF(result);
        /* Both are still set, or it asked in a way that was not understood. */
        if (!*retrace_gil.signals_pending || !*retrace_gil.eval_breaker)
            at_check.count = 0;
    }
    learning = 0;
    *retrace_gil.signals_pending = 0;
    *retrace_gil.eval_breaker = 0;
    return failed ? -1 : 0;
}

/* ---- the search ---- */

static int is_on, wanted_signal;
static uint64_t wanted, passed;

int retrace_search(uint64_t near, int signal)
{
    /* Where nobody has the GIL, who takes it begins the search anew. */
    PyThreadState *holder = retrace_gil_holder();
    if (at_check.count == 0 || (holder != NULL && retrace_is_traced(holder)))
        return 0;
    wanted = near;
    wanted_signal = signal;
    is_on = 1;
    *retrace_gil.signals_pending = 1;
    *retrace_gil.eval_breaker = 1;
    return 1;
}

void retrace_search_end(void) { is_on = 0; }

uint64_t retrace_search_passed(void)
{
    uint64_t count = passed;
    passed = 0;
    return count;
}

static int is_near(void)
{
    return retrace_fingerprint_is_near(*retrace_gil.last_holder, wanted);
}

/* The signal's handler is called next, where the calling thread is the one for that. */
static int trips(void)
{
    if (wanted_signal == 0 || retrace_own_ident() != _PyRuntime.main_thread)
        return 0;
    retrace_trips();
    PyErr_SetInterruptEx(wanted_signal);
    return 1;
}

/* C code that looks for signals asks as well, from wherever the compiler has put that. Whether it may be it: the calling
 * thread has the GIL. */
static int may_look(void)
{
    PyThreadState *holder = retrace_gil_holder();
    return holder != NULL && holder->thread_id == retrace_own_ident();
}

/* Whether CPython shall not see the main thread here. */
static int passes(void)
{
    int is_traced = retrace_is_traced(*retrace_gil.last_holder), near = is_near();
    if (++passed % FULL != 0 && !is_traced && !near)
        return 1;
    is_on = 0;
    retrace_request_check();
    if (!(near && trips()) && is_traced)
        /* Else it would come to this check for ever: see retrace_check_repeats. */
        *retrace_gil.signals_pending = 0;
    return 0;
}

unsigned long retrace_hook_pthread_self(void)
{
    if (__builtin_expect(is_on | learning, 0)) {
        const void *inner = __builtin_return_address(0);
        const char *frame = __builtin_frame_address(0);
        if (learning)
            return learn_and_answer(inner, frame);
        if (is_known(&at_check, inner, frame)) {
            if (passes())
                return NOBODY;
        }
        else if (is_known(&behind, inner, frame))
            /* The next check is to be come to on any thread. */
            return _PyRuntime.main_thread;
        else if (wanted_signal != 0 && may_look() && is_near()) {
            /* Where it was not, the next handler's call begins the search again: `trip_again`. */
            is_on = 0;
            is_on = !trips();
        }
    }
    return retrace_own_ident();
}
