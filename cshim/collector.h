/* Automatic collections run where we say, not where CPython's allocation counts say.
 *
 * Generation 0's threshold becomes INT_MAX; gc.get_threshold and gc.set_threshold keep showing the program its own.
 * The hooks ask retrace_collector_due() at their entry and log and run what it answers; replay runs what the log says.
 * Every function below needs the GIL, and the main interpreter.
 *
 * Why C: due() is read on every hooked call, and the collector's state is internal to CPython.
 */
#ifndef RETRACE_COLLECTOR_H
#define RETRACE_COLLECTOR_H

#include <Python.h>

/* The hot path's view: `*count` is CPython's own count of generation 0, `limit` the program's threshold, or INT_MAX
 * where no collection may be due (not installed, threshold 0). */
typedef struct {
    const int *count;
    int limit;
} retrace_collector_view;

extern retrace_collector_view retrace_collector;

/* Told that CPython would have collected by itself: too much has been made since the last hooked call. Nothing has been
 * collected, and CPython will not try again before retrace_collect() was called. The GIL is held; an exception may be
 * set and must stay. Not told where CPython would have collected at a check of the eval breaker: there
 * retrace_collection_due() is called instead. */
typedef void (*retrace_collector_observer)(void);

/* Takes over automatic collection. With an observer (recording), it is told once generation 0 has grown to eight times
 * its threshold: a program that makes garbage without ever crossing the boundary keeps its memory bounded. Without one (replay) nothing is collected but what retrace_collect() is asked for.
 * Returns 0, or -1 with nothing changed. Sets no exception. */
int retrace_collector_install(retrace_collector_observer observer);

/* Called when a collection has ended that somebody asked for; NULL for nobody. */
extern void (*retrace_collected)(void);

/* Learns what a collection that CPython begins at a check of the eval breaker looks like from below, by running code
 * that passes a check. Call once, after retrace_collector_install(), before the session is active. Returns 0, or -1 with
 * an exception set. */
int retrace_collector_learn_checks(PyObject *code, PyObject *globals);

/* Call after the module `gc` was created: its `callbacks` shall be the program's list. Sets no exception. */
void retrace_collector_gc_module(PyObject *module);

/* Gives it back, with the program's own threshold in force again. */
void retrace_collector_uninstall(void);

/* Compiles source and runs it in a namespace, for good: nothing of what it makes may be freed. The program finds none of it: the collector does
 * not know it, and classes are not among the subclasses of `object`. Returns 0, or -1 with an exception set. */
int retrace_run_unseen(const char *source, const char *file, PyObject *globals);

/* The rest of the rule, where the count has passed the limit. */
int retrace_collector_choose(void);

/* An object that the program does not know of was made, or will be freed: generation 0 is to count so many more. */
void retrace_count_object(int more);

/* The generation that CPython would collect now (0, 1, 2), or -1. */
static inline int
retrace_collector_due(void)
{
    if (__builtin_expect(*retrace_collector.count <= retrace_collector.limit, 1)) {
        return -1;
    }
    return retrace_collector_choose();
}

/* Collects `generation` as an automatic collection does (gc.callbacks, gc.get_stats, finalizers), the caller's
 * exception put aside. Returns the number of unreachable objects found, 0 if a collection is already running. */
Py_ssize_t retrace_collect(int generation);

#endif
