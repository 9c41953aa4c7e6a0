/* See fingerprint.h: what is known about a type, what of its instances can be read. */
#include "fingerprint_parts.h"
#include "name_hash.h"
#define _PY_DATETIME_IMPL
#include "datetime.h"
#include <string.h>

/* Objects/listobject.c, tupleobject.c, unicodeobject.c, bytesobject.c, bytearrayobject.c, iterobject.c: each has one;
 * Objects/enumobject.c, reversedobject; Modules/arraymodule.c, arrayiterobject begins so. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t index;
    PyObject *sequence;
} sequence_iterator;

typedef struct { /* Modules/arraymodule.c, arrayiterobject */
    sequence_iterator head;
    void *get_item;
} array_iterator;

typedef struct { /* Objects/memoryobject.c, memoryiterobject (3.12) */
    sequence_iterator head;
    Py_ssize_t length;
    const char *format;
} memory_iterator;

typedef struct { /* Objects/enumobject.c, enumobject */
    PyObject_HEAD
    Py_ssize_t index;
    PyObject *iterator, *result, *long_index, *one;
} enumeration;

typedef struct { /* Objects/dictobject.c, dictiterobject */
    PyObject_HEAD
    PyObject *dict;
    Py_ssize_t used, position;
    PyObject *result;
    Py_ssize_t length;
} dict_iterator;

typedef struct { /* Objects/setobject.c, setiterobject */
    PyObject_HEAD
    PyObject *set;
    Py_ssize_t used, position, length;
} set_iterator;

typedef struct { /* Modules/_collectionsmodule.c, dequeobject */
    PyObject_VAR_HEAD
    void *left_block, *right_block;
    Py_ssize_t left_index, right_index;
    size_t state; /* counts changes */
    Py_ssize_t maxlen, free_count;
    void *free_blocks[16];
    PyObject *weakrefs;
} deque_object;

typedef struct { /* Modules/_collectionsmodule.c, dequeiterobject */
    PyObject_HEAD
    void *block;
    Py_ssize_t index;
    PyObject *deque;
    size_t state;
    Py_ssize_t counter;
} deque_iterator;

/* Modules/itertoolsmodule.c, whose names these are. */
typedef struct { PyObject_HEAD Py_ssize_t cnt; PyObject *long_cnt, *long_step; } count_object;
typedef struct { PyObject_HEAD PyObject *it; Py_ssize_t next, stop, step, cnt; } islice_object;
typedef struct { PyObject_HEAD PyObject *element; Py_ssize_t cnt; } repeat_object;
typedef struct { PyObject_HEAD PyObject *it, *saved; Py_ssize_t index; int firstpass; } cycle_object;
typedef struct { PyObject_HEAD PyObject *func, *it; long flag; } while_object;
typedef struct { PyObject_HEAD PyObject *pools; Py_ssize_t *indices; PyObject *result; int stopped; } product_object;
typedef struct {
    PyObject_HEAD
    PyObject *pool;
    Py_ssize_t *indices;
    PyObject *result;
    Py_ssize_t r;
    int stopped;
} combinations_object;
typedef struct {
    PyObject_HEAD
    PyObject *pool;
    Py_ssize_t *indices, *cycles;
    PyObject *result;
    Py_ssize_t r;
    int stopped;
} permutations_object;
typedef struct {
    PyObject_HEAD
    Py_ssize_t tuplesize, numactive;
    PyObject *ittuple, *result, *fillvalue;
} zip_longest_object;

typedef struct { /* Objects/rangeobject.c, rangeobject */
    PyObject_HEAD
    PyObject *start, *stop, *step, *length;
} range_object;

typedef struct { /* Modules/_randommodule.c, RandomObject */
    PyObject_HEAD
    int index;
    uint32_t state[624];
} random_object;

typedef struct { /* Modules/_struct.c, unpackiterobject */
    PyObject_HEAD
    PyObject *structure;
    Py_buffer buffer;
    Py_ssize_t index;
} unpack_iterator;

typedef struct { /* Modules/_queuemodule.c, simplequeueobject */
    PyObject_HEAD
    void *lock;
    int locked;
    PyObject *list;
    Py_ssize_t position;
    PyObject *weakrefs;
} simple_queue;

/* Modules/_io/bytesio.c, bytesio, and stringio.c, stringio, begin alike. */
typedef struct {
    PyObject_HEAD
    void *buffer;
    Py_ssize_t position, size;
} memory_file;

#define F(structure, field) {offsetof(structure, field), sizeof(((structure *)0)->field)}
#define SEQUENCE_ITERATOR(type_name) \
    {.name = type_name, .size = sizeof(sequence_iterator), .fields = {F(sequence_iterator, index)}}
#define DICT_ITERATOR(type_name) \
    {.name = type_name, .size = sizeof(dict_iterator), .fields = {F(dict_iterator, used), F(dict_iterator, position), \
                                                                  F(dict_iterator, length)}}
#define DEQUE_ITERATOR(type_name) \
    {.name = type_name, .size = sizeof(deque_iterator), .fields = {F(deque_iterator, index), \
                                                                   F(deque_iterator, counter)}}
#define COMBINATIONS(type_name) \
    {.name = type_name, .size = sizeof(combinations_object), .fields = {F(combinations_object, stopped)}, \
     .objects = {offsetof(combinations_object, result)}, \
     .array = {offsetof(combinations_object, indices), offsetof(combinations_object, r), 0}}
#define WHILE(type_name) {.name = type_name, .size = sizeof(while_object), .fields = {F(while_object, flag)}}

const type_row retrace_type_rows[] = {
    SEQUENCE_ITERATOR("list_iterator"),
    SEQUENCE_ITERATOR("list_reverseiterator"),
    SEQUENCE_ITERATOR("tuple_iterator"),
    SEQUENCE_ITERATOR("str_iterator"),
    SEQUENCE_ITERATOR("str_ascii_iterator"),
    SEQUENCE_ITERATOR("bytes_iterator"),
    SEQUENCE_ITERATOR("bytearray_iterator"),
    SEQUENCE_ITERATOR("iterator"),
    SEQUENCE_ITERATOR("reversed"),
    {.name = "array.arrayiterator", .size = sizeof(array_iterator), .fields = {F(array_iterator, head.index)}},
    {.name = "memory_iterator", .size = sizeof(memory_iterator), .fields = {F(memory_iterator, head.index)}},
    {.name = "enumerate", .size = sizeof(enumeration), .fields = {F(enumeration, index)},
     .objects = {offsetof(enumeration, long_index)}},
    {.name = "range_iterator", .size = sizeof(retrace_range_iterator),
     .raw = {sizeof(PyObject), sizeof(retrace_range_iterator) - sizeof(PyObject)}},
    {.name = "longrange_iterator", .size = sizeof(retrace_long_range_iterator),
     .objects = {offsetof(retrace_long_range_iterator, numbers[0]), offsetof(retrace_long_range_iterator, numbers[1]),
                 offsetof(retrace_long_range_iterator, numbers[2]),
                 sizeof(retrace_long_range_iterator) > offsetof(retrace_long_range_iterator, numbers) + 24
                     ? offsetof(retrace_long_range_iterator, numbers) + 24 : 0}},
    DICT_ITERATOR("dict_keyiterator"),
    DICT_ITERATOR("dict_valueiterator"),
    DICT_ITERATOR("dict_itemiterator"),
    DICT_ITERATOR("dict_reversekeyiterator"),
    DICT_ITERATOR("dict_reversevalueiterator"),
    DICT_ITERATOR("dict_reverseitemiterator"),
    {.name = "set_iterator", .size = sizeof(set_iterator), .fields = {F(set_iterator, used), F(set_iterator, position),
                                                                     F(set_iterator, length)}},
    {.name = "collections.deque", .size = sizeof(deque_object), .fields = {F(PyVarObject, ob_size),
                                                                           F(deque_object, state)}},
    DEQUE_ITERATOR("_collections._deque_iterator"),
    DEQUE_ITERATOR("collections._deque_iterator"),
    DEQUE_ITERATOR("_collections._deque_reverse_iterator"),
    DEQUE_ITERATOR("collections._deque_reverse_iterator"),
    {.name = "itertools.count", .size = sizeof(count_object), .fields = {F(count_object, cnt)},
     .objects = {offsetof(count_object, long_cnt)}},
    {.name = "itertools.islice", .size = sizeof(islice_object), .fields = {F(islice_object, next),
                                                                          F(islice_object, cnt)}},
    {.name = "itertools.repeat", .size = sizeof(repeat_object), .fields = {F(repeat_object, cnt)}},
    {.name = "itertools.cycle", .size = sizeof(cycle_object), .fields = {F(cycle_object, index),
                                                                        F(cycle_object, firstpass)}},
    WHILE("itertools.takewhile"),
    WHILE("itertools.dropwhile"),
    {.name = "itertools._tee", .size = sizeof(retrace_tee), .fields = {F(retrace_tee, index)}},
    {.name = "itertools.product", .size = sizeof(product_object), .fields = {F(product_object, stopped)},
     .objects = {offsetof(product_object, result)}, .array = {offsetof(product_object, indices), 0, offsetof(product_object, pools)}},
    COMBINATIONS("itertools.combinations"),
    COMBINATIONS("itertools.combinations_with_replacement"),
    {.name = "itertools.permutations", .size = sizeof(permutations_object), .fields = {F(permutations_object, stopped)},
     .objects = {offsetof(permutations_object, result)}, .array = {offsetof(permutations_object, indices), 0, offsetof(permutations_object, pool)}},
    {.name = "itertools.zip_longest", .size = sizeof(zip_longest_object), .fields = {F(zip_longest_object, numactive)}},
    {.name = "range", .size = sizeof(range_object),
     .objects = {offsetof(range_object, start), offsetof(range_object, stop), offsetof(range_object, step)}},
    {.name = "_random.Random", .size = sizeof(random_object), .fields = {F(random_object, index),
                                                                        F(random_object, state[0])}},
    {.name = "unpack_iterator", .size = sizeof(unpack_iterator), .fields = {F(unpack_iterator, index)}},
    {.name = "_struct.unpack_iterator", .size = sizeof(unpack_iterator), .fields = {F(unpack_iterator, index)}},
    {.name = "_queue.SimpleQueue", .size = sizeof(simple_queue), .fields = {F(simple_queue, position)}},
    {.name = "_io.BytesIO", .fields = {F(memory_file, position), F(memory_file, size)}},
    {.name = "_io.StringIO", .fields = {F(memory_file, position), F(memory_file, size)}},
    {.name = "datetime.timedelta", .size = sizeof(PyDateTime_Delta),
     .fields = {F(PyDateTime_Delta, days), F(PyDateTime_Delta, seconds), F(PyDateTime_Delta, microseconds)}},
    {.name = "datetime.date", .size = sizeof(PyDateTime_Date), .raw = F(PyDateTime_Date, data)},
    {.name = "datetime.time", .size = sizeof(PyDateTime_Time), .raw = F(PyDateTime_Time, data)},
    {.name = "datetime.datetime", .size = sizeof(PyDateTime_DateTime), .raw = F(PyDateTime_DateTime, data)},
};

/* Types whose instances have stand-ins on replay, or system state: their members are not looked at. Those named here by
 * how their names begin; any other that the boundary says is external. */
static const char *const external[] = {"_io.", "_socket.", "_ssl.", "select.", "posix.", "mmap."};
static int (*is_external)(PyTypeObject *type);

void
retrace_fingerprint_ask_external(int (*ask)(PyTypeObject *type))
{
    is_external = ask;
}

/* Types that tell what they refer to in the order of addresses: a pickler's memo is a hash table of them
 * (Modules/_pickle.c, Pickler_traverse). */
static const char *const by_address[] = {"_pickle.Pickler"};

typedef struct {
    PyTypeObject *type;
    const char *name;
    uint64_t version;
    type_facts facts;
} type_slot;

enum { TYPE_BITS = 10 };
static type_slot type_cache[1 << TYPE_BITS];

/* The nearest base that is not made by a class statement: whose C structure the instances begin with. */
static PyTypeObject *
c_base(PyTypeObject *type)
{
    while (type->tp_flags & Py_TPFLAGS_HEAPTYPE && ((PyHeapTypeObject *)type)->ht_module == NULL
           && type->tp_base != NULL) {
        type = type->tp_base;
    }
    return type;
}

static value_kind
kind_by_layout(PyTypeObject *type, PyTypeObject *base, uint8_t *row)
{
    if (type->tp_flags & Py_TPFLAGS_LONG_SUBCLASS) {
        return INT;
    }
    if (type->tp_flags & Py_TPFLAGS_UNICODE_SUBCLASS) {
        return TEXT;
    }
    if (type->tp_flags & Py_TPFLAGS_BYTES_SUBCLASS) {
        return BYTES;
    }
    if (type->tp_flags & (Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS)) {
        return SIZED;
    }
    if (type->tp_flags & Py_TPFLAGS_DICT_SUBCLASS) {
        return DICT;
    }
    if (type->tp_flags & Py_TPFLAGS_TYPE_SUBCLASS) {
        return TYPE;
    }
    static const struct { PyTypeObject *type; value_kind kind; } known[] = {
        {&PyFloat_Type, FLOAT}, {&PyComplex_Type, COMPLEX}, {&PyByteArray_Type, BYTE_ARRAY}, {&PySet_Type, SET},
        {&PyFrozenSet_Type, SET}, {&PyCell_Type, CELL}, {&PyGen_Type, GENERATOR}, {&PyCoro_Type, GENERATOR},
        {&PyAsyncGen_Type, GENERATOR}, {&PyFunction_Type, FUNCTION}, {&PyCode_Type, CODE}, {&PyCFunction_Type, BUILTIN},
        {&PyMemoryView_Type, MEMORY_VIEW}, {&PyFrame_Type, ABSENT}, {&PyTraceBack_Type, ABSENT},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++) {
        if (base == known[i].type) {
            return known[i].kind;
        }
    }
    if (strcmp(base->tp_name, "array.array") == 0 && base->tp_basicsize == sizeof(array_object)) {
        return ARRAY;
    }
    if (strcmp(base->tp_name, "decimal.Decimal") == 0 && base->tp_basicsize == sizeof(decimal_object)) {
        return DECIMAL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(retrace_type_rows); i++) {
        if (strcmp(base->tp_name, retrace_type_rows[i].name) == 0
            && (retrace_type_rows[i].size == (size_t)base->tp_basicsize
                || (retrace_type_rows[i].size == 0 && (size_t)base->tp_basicsize >= sizeof(memory_file)))) {
            *row = (uint8_t)i;
            return FIELDS;
        }
    }
    return OPAQUE;
}

static walk_kind
walk_of(PyTypeObject *type, PyTypeObject *base, value_kind kind)
{
    switch (kind) {
    case TYPE: case CODE: case ABSENT:
        return LEAF;
    case FUNCTION:
        return BY_FUNCTION;
    case GENERATOR:
        return BY_GENERATOR;
    default:
        break;
    }
    if (!PyType_IS_GC(type) || type->tp_traverse == NULL || base == &PyModule_Type
        || PyType_FastSubclass(type, Py_TPFLAGS_TYPE_SUBCLASS) || base == &_PyWeakref_RefType
        || base == &_PyWeakref_ProxyType || base == &_PyWeakref_CallableProxyType) {
        return LEAF;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(external); i++) {
        if (strncmp(base->tp_name, external[i], strlen(external[i])) == 0) {
            return LEAF;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(by_address); i++) {
        if (strcmp(base->tp_name, by_address[i]) == 0) {
            return LEAF;
        }
    }
    if (is_external != NULL && is_external(type)) {
        return LEAF;
    }
    return kind == OPAQUE && base != &PyBaseObject_Type ? BY_CONTENT : BY_TRAVERSE;
}

static void
study(PyTypeObject *type, type_facts *facts)
{
    PyTypeObject *base = c_base(type);
    facts->row = 0;
    facts->kind = (uint8_t)kind_by_layout(type, base, &facts->row);
    facts->walk = (uint8_t)walk_of(type, base, facts->kind);
    facts->has_managed_dict = (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) != 0;
    facts->name_hash = retrace_name_text(0, type->tp_name);
}

const type_facts *
retrace_type_facts(PyTypeObject *type, type_facts *room)
{
    uint64_t version = type->tp_flags & Py_TPFLAGS_HEAPTYPE ? type->tp_version_tag : UINT64_MAX;
    type_slot *slot = &type_cache[((uintptr_t)type >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - TYPE_BITS)];
    if (slot->type == type && slot->version == version && slot->name == type->tp_name) {
        return &slot->facts;
    }
    if (version == 0) {
        study(type, room);
        return room;
    }
    study(type, &slot->facts);
    slot->type = type;
    slot->version = version;
    slot->name = type->tp_name;
    return &slot->facts;
}
