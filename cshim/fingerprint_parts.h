/* What the files of the fingerprint (see fingerprint.h) know of each other: what is known about a code object, about a
 * type, and the hash of a value. */
#ifndef RETRACE_FINGERPRINT_PARTS_H
#define RETRACE_FINGERPRINT_PARTS_H

#include "fingerprint.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include <stdatomic.h>

/* Stand for what has no content to hash. */
enum { NOTHING = 1, DYING, KNOWN, NEW, CUT, ADDRESS, NO_POSITION };

static inline uint64_t
fold(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

/* ---- code objects: fingerprint_code.c ---- */

typedef struct {
    uint32_t position : 31;   /* the instruction this unit belongs to, by which it is named */
    uint32_t comes_back : 1;  /* a handler reraises from here: the frame stands here again meanwhile */
    uint16_t depth;           /* the value stack below what that instruction takes */
    uint16_t handler_depth;   /* what is sure to be left of it while an exception raised there goes up */
} unit_facts;

/* A slot of the cache. `code` is taken out when that code object is freed, before another can have its address. */
typedef struct {
    _Atomic(PyCodeObject *) code;
    uint64_t identity;
    unit_facts *units;
    int count, capacity;
} code_facts;

/* What is known about `code`, or NULL when there is no memory for it. */
code_facts *retrace_code_facts(PyCodeObject *code);

/* ---- types: fingerprint_types.c ---- */

typedef enum {
    OPAQUE,     /* known by its type's name only */
    ABSENT,     /* not looked at at all */
    INT, FLOAT, COMPLEX, TEXT, BYTES, BYTE_ARRAY,
    SIZED,      /* a variable-size object: its size */
    DICT, SET, CELL, GENERATOR, TYPE, FUNCTION, CODE, BUILTIN, FIELDS, ARRAY, DECIMAL, MEMORY_VIEW,
} value_kind;

typedef enum {
    LEAF,
    BY_TRAVERSE,
    BY_CONTENT, /* by tp_traverse of a type that nothing else is known of, in the order of what its members hold */
    BY_FUNCTION, BY_GENERATOR,
} walk_kind;

/* C state that tp_traverse does not show. Offsets come from copies of private structures; a type is recognised by its
 * name and its size, so that another layout makes it opaque. */
typedef struct {
    const char *name;
    size_t size;
    struct { uint16_t offset, width; } fields[5];   /* numbers */
    uint16_t objects[4];                            /* objects, which may be NULL */
    struct { uint16_t offset, size; } raw;          /* bytes */
    struct { uint16_t offset, count, tuple; } array; /* Py_ssize_t *, and where its length is or the tuple as long */
} type_row;

typedef struct {
    uint64_t name_hash;
    uint8_t kind, walk, has_managed_dict;
    uint8_t row;
} type_facts;

extern const type_row retrace_type_rows[];

/* A heap type's address may be another's soon, but a version tag is never given twice. Without one it is studied anew,
 * into `*room`. */
const type_facts *retrace_type_facts(PyTypeObject *type, type_facts *room);

/* Private structures that have a kind of their own. */
typedef struct { /* Modules/arraymodule.c, arrayobject and arraydescr */
    PyObject_VAR_HEAD
    char *items;
    Py_ssize_t allocated;
    const struct { char typecode; int item_size; } *descr;
    PyObject *weakrefs;
    Py_ssize_t exports;
} array_object;

typedef struct { /* Modules/_decimal/_decimal.c, PyDecObject; libmpdec/mpdecimal.h, mpd_t */
    PyObject_HEAD
    Py_hash_t hash;
    uint8_t flags;
    Py_ssize_t exponent, digits, length, allocated;
    uint64_t *data;
    uint64_t inline_data[4];
} decimal_object;

/* ---- values: fingerprint_values.c ---- */

uint64_t retrace_position_hash(uint64_t hash, struct _PyInterpreterFrame *frame);

/* The frame of a generator that is not running and not finished, else NULL. Its stacktop is valid. */
struct _PyInterpreterFrame *retrace_waiting_frame(PyObject *generator);

uint64_t retrace_content_hash(PyObject *object, const type_facts *facts, int levels);

/* `object` may be NULL. `levels`: how far to look into cells and generators. An object without references is being
 * deallocated: its type is there, its members may not be. */
uint64_t retrace_value_hash(PyObject *object, int levels);

#endif
