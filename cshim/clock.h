#ifndef RETRACE_CLOCK_H
#define RETRACE_CLOCK_H
#include <time.h>

/* clock_gettime, for the import tables of extension modules. */
int retrace_hook_clock_gettime(clockid_t clock, struct timespec *into);

#endif
