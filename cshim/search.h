/* A search for a recorded position, on replay: looks at each check of the eval breaker, at little cost.
 *
 * Where a signal is pending, CPython asks at every check whether the thread is the main one, before anything else
 * (handle_signals of Python/ceval_gil.c in 3.12 and Python/ceval.c in 3.11, _Py_ThreadCanHandleSignals). That calls
 * pthread_self(), which leaves the interpreter through its import table. So a search sets the flag of pending signals,
 * compares the innermost frame there, and where that is another one answers with an ident that nobody has: CPython then
 * goes on, and the flag stays. Where it is the one, the thread drops the GIL at this very check, or the signal is tripped,
 * and all of the fingerprint is compared as ever. To drop the GIL at every check costs ten times as much. */
#ifndef RETRACE_SEARCH_H
#define RETRACE_SEARCH_H

#include <Python.h>
#include <stdint.h>

/* Learns what such a call looks like from below, by running code that passes checks. Behind retrace_learn_checks, with
 * retrace_hook_pthread_self in place. -1 with an exception set. */
int retrace_learn_search(PyObject *code, PyObject *globals);

/* Looks for a frame with that `near` (fingerprint.h) from now on. `signal`: its handler ran there, so that it is tripped;
 * else 0. Returns 0 where that can't be done: who wants it has to come to each check the other way. The GIL is held. */
int retrace_search(uint64_t near, int signal);

/* Nothing is looked for any more. */
void retrace_search_end(void);

/* How many checks were passed over so since this was last asked. */
uint64_t retrace_search_passed(void);

/* In place of pthread_self(). */
unsigned long retrace_hook_pthread_self(void);

#endif
