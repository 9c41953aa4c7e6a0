/* Identity hashes that are the same in the recording and in the replay.
 *
 * CPython hashes an object that defines no hash of its own by its address, so sets and dicts of such objects iterate
 * in address order. Here they hash by a number instead. Every function below needs the GIL, and the main interpreter.
 *
 * Why C: the hash functions and the watched deallocators are called from CPython's hottest paths, and walking the
 * collector's lists, dict keys and set tables needs CPython's internal headers.
 */
#ifndef RETRACE_IDENTITY_HASH_H
#define RETRACE_IDENTITY_HASH_H

#include <Python.h>
#include <stdint.h>

/* What retrace_identity_read_stats fills in. All are counts since the install. */
typedef struct {
    uint64_t entries;           /* objects that have a number now */
    uint64_t capacity;          /* slots of the table; follows `entries`, not the objects that came and went */
    uint64_t named;             /* objects of before the install that got a number from a name */
    uint64_t unnamed;           /* those that have none: their order in sets may differ between processes */
    uint64_t program_numbers;   /* numbers handed out to the program's objects */
    uint64_t external_numbers;  /* numbers handed out while external code ran */
    uint64_t dropped;           /* entries dropped because the object was freed */
    uint64_t watched_deallocs;  /* trampolines in use */
    uint64_t unwatched_types;   /* types whose frees can't be seen: objects may get numbers of dead ones */
    uint64_t types_patched;
    uint64_t dicts_rehashed;
    uint64_t sets_rehashed;
    uint64_t hashes_refreshed;  /* hashes cached in weakrefs, frozensets and lru_cache elements */
    uint64_t rehash_errors;     /* keys whose __hash__ raised; they keep the old hash */
    const char *unwatched_type; /* name of the first unwatched type, or NULL; static memory */
} retrace_identity_stats;

/* Call once, at the start point: interpreter initialised, the program's first line not yet run, no other thread in
 * Python. Gives every pointer-hashed type our hash, numbers the objects that exist already by their names, and
 * rehashes what was hashed; that may run `__hash__` methods. Both processes need the same modules loaded by then, as
 * far as the program uses them: what a module body makes after the install takes the program's numbers.
 * Returns 0 (also when it is done already), or -1 with no type or object changed and the reason in
 * retrace_identity_error(). Leaves an exception that is set as it is, and sets none. */
int retrace_identity_install(void);

/* Why the install failed; "" if it did not. Static memory. */
const char *retrace_identity_error(void);

/* While on, objects hashed for the first time take numbers from a counter of their own: external code runs
 * differently on replay and may not shift the program's numbers. A plain store; nesting is the caller's business.
 * Returns what was set before, to be put back. */
int retrace_identity_external(int on);

/* As above, but asked at each first hash: does external code run on the thread that holds the GIL? */
void retrace_identity_ask_external(int (*ask)(void));

/* The number that stands for `object` (borrowed), given now if it had none. Instances of C types with a hash of their
 * own, or none (list, str, float …), share the number of their type. Without memory -1, with MemoryError set. */
Py_hash_t retrace_identity_of(PyObject *object);

/* Drops the entry of an address, if there is one: for memory that is freed past our watch. Never reads `address`. */
void retrace_identity_forget(void *address);

/* Makes builtins defined by `hooked` hash like those defined by `original`: call it before `hooked` is put in place,
 * before or after the install. Only their ml_meth, ml_name and ml_doc are read, and only now; each `hooked` needs an
 * ml_meth of its own. */
void retrace_identity_alias(PyMethodDef *hooked, PyMethodDef *original);

/* Call after an extension module was created or executed (`module` borrowed; new `_decimal` types get their hash).
 * Sets no exception. */
void retrace_identity_extension_loaded(PyObject *module);

void retrace_identity_read_stats(retrace_identity_stats *stats);

#endif
