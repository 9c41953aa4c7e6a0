/* Notices when an object that has a number is freed: a later object at its address must get a number of its own. */
#ifndef RETRACE_FREE_WATCH_H
#define RETRACE_FREE_WATCH_H

#include "version.h"

/* Looks up what the watch needs of this interpreter. 0, or -1 with nothing changed. */
int retrace_free_watch_init(void);

/* Keeps `__class__` and `__bases__` assignment working between watched and unwatched classes. Cannot fail. */
void retrace_free_watch_guard_assignments(void);

/* Watches the frees of `type`'s instances (not of its subtypes' instances). Cheap where it is watched already. */
void retrace_free_watch_type(PyTypeObject *type);

/* Whether instances of `type` are freed by CPython's subtype_dealloc, as those of any class written in Python are. */
int retrace_is_subtype_dealloc(PyTypeObject *type);

/* Counters for retrace_identity_read_stats. */
extern uint64_t retrace_watched_deallocs;
extern uint64_t retrace_unwatched_types;
extern const char *retrace_unwatched_type;

#endif
