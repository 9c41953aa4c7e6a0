/* Brings everything that stored a hash before the install in line with the new hashes. */
#ifndef RETRACE_REHASH_H
#define RETRACE_REHASH_H

#include "heap_walk.h"
#include "identity_hash.h"

/* Recomputes the hashes that `heap`'s containers store and puts their entries where lookups will look for them.
 * May run `__hash__` of classes written in Python: `heap` must be held. Clears what they raise, and needs memory only
 * for sets and contexts: one that can't be had leaves its container as it was (counted in rehash_errors). */
void retrace_rehash(retrace_heap *heap, retrace_identity_stats *stats);

#endif
