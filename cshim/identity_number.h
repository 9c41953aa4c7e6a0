/* The numbers themselves: shared by the hash functions, the walk that names what exists already, and the free-watch. */
#ifndef RETRACE_IDENTITY_NUMBER_H
#define RETRACE_IDENTITY_NUMBER_H

#include "name_hash.h"
#include "number_table.h"
#include "version.h"

/* Where a number comes from shows in its top bits, so that the four kinds never meet. Each is a valid hash: positive.
 * The low bits of a counter are consecutive, which is the best that a dict or set can get. */
#define RETRACE_NAMED_NUMBER (UINT64_C(1) << 60)    /* 60 bits of a hashed name */
#define RETRACE_UNNAMED_NUMBER (UINT64_C(1) << 61)  /* counts what existed before the install and has no name */
#define RETRACE_EXTERNAL_NUMBER (UINT64_C(1) << 62) /* counts what external code hashed first */
/* 0 and up: counts what the program hashed first */

extern retrace_number_table retrace_numbers;

static inline uint64_t
retrace_named_number(uint64_t name_hash)
{
    return RETRACE_NAMED_NUMBER | (name_hash & (RETRACE_NAMED_NUMBER - 1));
}

/* The tp_hash that takes the place of the pointer hash. */
Py_hash_t retrace_identity_hash(PyObject *object);

/* Whether `type` hashes its instances by identity. Before the install is done, also by CPython's pointer hash. */
int retrace_hashes_by_identity(PyTypeObject *type);

/* Whether instances of `type` have numbers of their own: those hashed by identity and, as the `self` of a bound
 * method, those of a class written in Python. All other objects share the number of their type: watching the frees
 * of str or list is out of the question, and who hashes a bound method of a list seldom has many of them. */
int retrace_has_own_numbers(PyTypeObject *type);

/* Whether `type` is one of the descriptor types of C, whose number follows from class and name (no matter when). */
int retrace_is_descriptor(PyTypeObject *type);

/* The number of `object`, or 0 if it has none. Reads only its address. */
static inline uint64_t
retrace_identity_peek(void *object)
{
    retrace_number_slot *slot = retrace_table_find_seldom(&retrace_numbers, object);
    return slot != NULL ? slot->number : 0;
}

/* Drops the entry of an address if it still holds `number`. */
void retrace_identity_forget_number(void *address, uint64_t number);

#endif
