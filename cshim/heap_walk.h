/* Finds every object that exists at the install, and gives those that hash by identity a number made from a name. */
#ifndef RETRACE_HEAP_WALK_H
#define RETRACE_HEAP_WALK_H

#include "version.h"

/* Borrowed references, valid until Python code runs; see retrace_heap_hold. */
typedef struct {
    PyObject **items;
    size_t count;
    size_t capacity;
} retrace_objects;

enum {
    RETRACE_TYPES,            /* every ready type, bases before subclasses */
    RETRACE_NUMBERED_TYPES,   /* the types of the objects that were numbered */
    RETRACE_DICTS,            /* with general keys: str keys alone have no stale hash */
    RETRACE_SETS,             /* sets and frozensets */
    RETRACE_WEAKREFS,         /* with a cached hash */
    RETRACE_CONTEXTS,         /* contextvars.Context, not empty */
    RETRACE_HASHED_SEQUENCES, /* functools._HashedSeq: the keys of a pure-Python lru_cache */
    RETRACE_LIST_COUNT
};

typedef struct {
    retrace_objects lists[RETRACE_LIST_COUNT];
    uint64_t named;
    uint64_t unnamed;
} retrace_heap;

/* Fills in `heap` and puts numbers into retrace_numbers. Runs no Python code, changes no object.
 * 0, or -1 without memory; call retrace_heap_release in either case. */
int retrace_heap_walk(retrace_heap *heap);

/* Makes the references strong, so that Python code may run; retrace_heap_release gives them back. */
void retrace_heap_hold(retrace_heap *heap);

void retrace_heap_release(retrace_heap *heap, int held);

#endif
