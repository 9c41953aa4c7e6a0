/* See fingerprint.h.
 *
 * Three parts: what is known about a code object (where its instructions stand and how deep its value stack is there),
 * what is known about a type (what of its instances can be read), and the hashes themselves.
 *
 * The value stack of a running frame has no recorded top, and the slots above its top hold pointers to freed objects.
 * So the depth is computed from the bytecode, as Objects/frameobject.c does for a jump
 * (https://github.com/python/cpython/blob/v3.12.1/Objects/frameobject.c, mark_stacks); unlike there only depths
 * matter, and the result must hold in the middle of an instruction: what the instruction takes from the stack is left
 * out, whether it was taken already or not.
 *
 * What is left out on purpose, because a replay (or a debugger in it) may differ there: frame objects and tracebacks,
 * the members of types that have stand-ins on replay, and whether an instance's attributes lie in a dict of their own.
 */
#include "fingerprint.h"
#include "name_hash.h"
#define _PY_DATETIME_IMPL
#include "datetime.h"
#include "opcode.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_gc.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    INNERMOST_FRAMES = 224,  /* frames of a deep stack that are looked at … */
    OUTERMOST_FRAMES = 32,   /* … at each end: a loop there is told apart by its own variables only */
    FRAMES_WITH_GLOBALS = 8,
    NAMES_PER_FRAME = 64,
    SLOTS_PER_GENERATOR = 64,
    WALK_BUDGET = 2000,      /* values that `deep` looks at … */
    CHILDREN_PER_OBJECT = 500, /* … of them in one object: a long list may not hide what comes after it */
    TEXT_END = 128,          /* of longer text, so many bytes at each end */
};

/* Stand for what has no content to hash. */
enum { NOTHING = 1, DYING, KNOWN, NEW, CUT, ADDRESS, NO_POSITION };

static inline uint64_t
fold(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

/* ---- code objects ---- */

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

enum { CODE_SET_BITS = 11, CODE_SETS = 1 << CODE_SET_BITS, CODE_WAYS = 2, UNKNOWN_DEPTH = UINT16_MAX };

static code_facts code_cache[CODE_SETS][CODE_WAYS];
static uint8_t code_victim[CODE_SETS];
static destructor code_dealloc;

static inline size_t
code_set(PyCodeObject *code)
{
    return ((uintptr_t)code >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - CODE_SET_BITS);
}

/* tp_dealloc of code objects. Other interpreters come here under a GIL of their own, but only with their own code. */
static void
forget_code(PyObject *object)
{
    code_facts *set = code_cache[code_set((PyCodeObject *)object)];
    for (int way = 0; way < CODE_WAYS; way++) {
        if (atomic_load_explicit(&set[way].code, memory_order_relaxed) == (PyCodeObject *)object) {
            atomic_store_explicit(&set[way].code, NULL, memory_order_relaxed);
        }
    }
    code_dealloc(object);
}

void
retrace_fingerprint_forget(void)
{
    for (int set = 0; set < CODE_SETS; set++) {
        for (int way = 0; way < CODE_WAYS; way++) {
            free(code_cache[set][way].units);
            code_cache[set][way] = (code_facts){0};
        }
    }
    if (PyCode_Type.tp_dealloc == forget_code) { /* else somebody wrapped it since, and calls it */
        PyCode_Type.tp_dealloc = code_dealloc;
        code_dealloc = NULL;
    }
}

/* A number of the exception table: 6 bits a byte, the highest first (Objects/exception_handling_notes.txt). */
static const uint8_t *
read_number(const uint8_t *at, const uint8_t *end, int *number)
{
    *number = 0;
    while (at < end) {
        uint8_t byte = *at++;
        *number = *number << 6 | (byte & 63);
        if (!(byte & 64)) {
            break;
        }
    }
    return at;
}

/* Notes that `unit` is reached with `depth` values on the stack. Of two answers the smaller one holds: code that no
 * compiler made may be reached with either. Returns whether that was news. */
static int
reach(code_facts *facts, PyCodeObject *code, int unit, int depth)
{
    if (unit < 0 || unit >= facts->count) {
        return 0;
    }
    if (depth < 0) {
        depth = 0;
    }
    if (depth > code->co_stacksize) {
        depth = code->co_stacksize;
    }
    if (depth >= facts->units[unit].depth) {
        return 0;
    }
    facts->units[unit].depth = (uint16_t)depth;
    return 1;
}

static void
read_handlers(code_facts *facts, PyCodeObject *code)
{
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(code->co_exceptiontable);
    const uint8_t *end = at + PyBytes_GET_SIZE(code->co_exceptiontable);
    while (at < end) {
        int start, size, handler, depth;
        at = read_number(at, end, &start);
        at = read_number(at, end, &size);
        at = read_number(at, end, &handler);
        at = read_number(at, end, &depth);
        int pushes_position = depth & 1;
        depth >>= 1;
        /* A handler that was told the position reraises from there: the frame stands here again while the handler of
         * that handler, or nobody, takes the rest off the stack. */
        for (int unit = start; unit < start + size && unit < facts->count; unit++) {
            facts->units[unit].handler_depth = pushes_position ? 0 : (uint16_t)depth;
            facts->units[unit].comes_back = pushes_position;
        }
        reach(facts, code, handler, depth + pushes_position + 1);
    }
}

/* One pass over the instructions; returns whether any depth changed. */
static int
propagate(code_facts *facts, PyCodeObject *code)
{
    int changed = 0, argument = 0;
    for (int unit = 0; unit < facts->count;) {
        retrace_instruction instruction = retrace_instruction_at(code, unit);
        argument = argument << 8 | _Py_OPARG(_PyCode_CODE(code)[unit]);
        int next = unit + 1 + instruction.cache_units;
        int depth = facts->units[unit].depth;
        if (depth != UNKNOWN_DEPTH) {
            /* RETURN_GENERATOR: what the first resumption sends is on the stack after it. */
            int effect = instruction.opcode == RETURN_GENERATOR ? 1
                : PyCompile_OpcodeStackEffectWithJump(instruction.opcode, argument, 0);
            if (instruction.opcode == EXTENDED_ARG) {
                effect = 0;
            }
            if (effect != PY_INVALID_STACK_EFFECT && instruction.falls_through) {
                changed |= reach(facts, code, next, depth + effect);
            }
            if (instruction.jump) {
                effect = PyCompile_OpcodeStackEffectWithJump(instruction.opcode, argument, 1);
                if (effect != PY_INVALID_STACK_EFFECT) {
                    changed |= reach(facts, code, next + instruction.jump * argument, depth + effect);
                }
            }
        }
        if (instruction.opcode != EXTENDED_ARG) {
            argument = 0;
        }
        unit = next;
    }
    return changed;
}

/* From the depth before each instruction to what holds in its middle, for it and for its caches. */
static void
settle(code_facts *facts, PyCodeObject *code)
{
    int argument = 0;
    for (int unit = 0; unit < facts->count;) {
        retrace_instruction instruction = retrace_instruction_at(code, unit);
        argument = argument << 8 | _Py_OPARG(_PyCode_CODE(code)[unit]);
        unit_facts *here = &facts->units[unit];
        int inputs = retrace_instruction_inputs(instruction.opcode, argument);
        int depth = inputs < 0 || here->depth == UNKNOWN_DEPTH || inputs > here->depth ? 0 : here->depth - inputs;
        if (instruction.rethrows && depth > here->handler_depth) {
            depth = here->handler_depth;
        }
        here->depth = (uint16_t)depth;
        here->position = (uint32_t)unit & INT32_MAX;
        for (int cache = 1; cache <= instruction.cache_units && unit + cache < facts->count; cache++) {
            here[cache] = *here;
        }
        if (instruction.opcode != EXTENDED_ARG) {
            argument = 0;
        }
        unit += 1 + instruction.cache_units;
    }
    for (int unit = facts->count - 1; unit >= 0; unit--) {
        unit_facts *here = &facts->units[unit];
        if (here->position != (uint32_t)unit) {
            continue; /* a cache */
        }
        retrace_instruction instruction = retrace_instruction_at(code, unit);
        int next = unit + 1 + instruction.cache_units;
        if (next >= facts->count
            || !retrace_instruction_continues(instruction.opcode, retrace_instruction_at(code, next).opcode)) {
            continue;
        }
        unit_facts *there = &facts->units[next];
        here->position = there->position;
        here->depth = here->depth < there->depth ? here->depth : there->depth;
        here->handler_depth = here->handler_depth < there->handler_depth ? here->handler_depth : there->handler_depth;
        for (int cache = 1; cache <= instruction.cache_units; cache++) {
            here[cache] = *here;
        }
    }
}

/* The file's base name only: the folder may be another one. */
static uint64_t
file_hash(PyObject *name)
{
    if (!PyUnicode_Check(name) || !PyUnicode_IS_READY(name)) {
        return 0;
    }
    int kind = PyUnicode_KIND(name);
    Py_ssize_t length = PyUnicode_GET_LENGTH(name), start = length;
    while (start > 0 && PyUnicode_READ(kind, PyUnicode_DATA(name), start - 1) != '/') {
        start--;
    }
    return retrace_name_bytes(0, (char *)PyUnicode_DATA(name) + start * kind, (size_t)((length - start) * kind));
}

static int
analyse(code_facts *facts, PyCodeObject *code)
{
    int count = (int)Py_SIZE(code);
    if (count > facts->capacity) {
        unit_facts *units = realloc(facts->units, (size_t)count * sizeof *units);
        if (units == NULL) {
            return -1;
        }
        facts->units = units;
        facts->capacity = count;
    }
    facts->count = count;
    for (int unit = 0; unit < count; unit++) {
        facts->units[unit] = (unit_facts){.depth = UNKNOWN_DEPTH};
    }
    reach(facts, code, 0, 0);
    read_handlers(facts, code);
    while (propagate(facts, code)) {
    }
    settle(facts, code);
    facts->identity = fold(retrace_name_str(file_hash(code->co_filename), code->co_qualname),
                           (uint64_t)code->co_firstlineno);
    return 0;
}

/* What is known about `code`, or NULL when there is no memory for it. */
static code_facts *
facts_of(PyCodeObject *code)
{
    size_t number = code_set(code);
    code_facts *set = code_cache[number];
    for (int way = 0; way < CODE_WAYS; way++) {
        if (atomic_load_explicit(&set[way].code, memory_order_relaxed) == code) {
            return &set[way];
        }
    }
    if (code_dealloc == NULL) {
        code_dealloc = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = forget_code;
    }
    code_facts *facts = &set[code_victim[number]++ % CODE_WAYS];
    atomic_store_explicit(&facts->code, NULL, memory_order_relaxed);
    if (analyse(facts, code) < 0) {
        return NULL;
    }
    atomic_store_explicit(&facts->code, code, memory_order_relaxed);
    return facts;
}

/* ---- types ---- */

typedef enum {
    OPAQUE,     /* known by its type's name only */
    ABSENT,     /* not looked at at all */
    INT, FLOAT, COMPLEX, TEXT, BYTES, BYTE_ARRAY,
    SIZED,      /* a variable-size object: its size */
    DICT, SET, CELL, GENERATOR, TYPE, FUNCTION, CODE, BUILTIN, FIELDS, ARRAY, DECIMAL, MEMORY_VIEW,
} value_kind;

typedef enum { LEAF, BY_TRAVERSE, BY_FUNCTION, BY_GENERATOR } walk_kind;

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

static const type_row rows[] = {
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

typedef struct {
    uint64_t name_hash;
    uint8_t kind, walk, has_managed_dict;
    uint8_t row;
} type_facts;

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
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rows); i++) {
        if (strcmp(base->tp_name, rows[i].name) == 0
            && (rows[i].size == (size_t)base->tp_basicsize
                || (rows[i].size == 0 && (size_t)base->tp_basicsize >= sizeof(memory_file)))) {
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
    return is_external != NULL && is_external(type) ? LEAF : BY_TRAVERSE;
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

/* A heap type's address may be another's soon, but a version tag is never given twice. Without one it is studied anew,
 * into `*room`. */
static inline const type_facts *
facts_of_type(PyTypeObject *type, type_facts *room)
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

/* ---- values ---- */

static uint64_t value_hash(PyObject *object, int levels);

/* An int that may be an address counts as one: id() of anything, in a variable or a memo. */
static inline uint64_t
int_hash(uint64_t hash, PyObject *number)
{
    const digit *digits;
    int negative;
    size_t count = retrace_int_digits(number, &digits, &negative);
    hash = fold(hash, count * 2 + (size_t)negative);
    if (count <= 2) {
        uint64_t value = count == 0 ? 0 : count == 1 ? digits[0] : digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
        return fold(hash, value >> 40 != 0 && value >> 48 == 0 ? ADDRESS : value);
    }
    for (size_t i = 0; i < count && i < 8; i++) {
        hash = fold(hash, digits[i]);
    }
    for (size_t i = count > 16 ? count - 8 : 8; i < count; i++) {
        hash = fold(hash, digits[i]);
    }
    return hash;
}

static uint64_t
bytes_hash(uint64_t hash, const char *bytes, size_t size)
{
    hash = fold(hash, size);
    if (size <= 2 * TEXT_END) {
        return retrace_name_bytes(hash, bytes, size);
    }
    return retrace_name_bytes(retrace_name_bytes(hash, bytes, TEXT_END), bytes + size - TEXT_END, TEXT_END);
}

/* Text with "0x" in it is likely a repr with an address, of which even the length may differ. */
static int
shows_address(int kind, const void *data, Py_ssize_t length)
{
    if (kind == PyUnicode_1BYTE_KIND) {
        const char *at = data, *end = at + length;
        while ((at = memchr(at, 'x', (size_t)(end - at))) != NULL) {
            if (at > (const char *)data && at[-1] == '0') {
                return 1;
            }
            at++;
        }
        return 0;
    }
    for (Py_ssize_t i = 1; i < length; i++) {
        if (PyUnicode_READ(kind, data, i) == 'x' && PyUnicode_READ(kind, data, i - 1) == '0') {
            return 1;
        }
    }
    return 0;
}

/* So is text with a decimal number of an address's size: a name made unique by id(). */
static int
shows_decimal_address(int kind, const void *data, Py_ssize_t length)
{
    enum { FEWEST = 13, MOST = 15 }; /* digits of the numbers that int_hash takes for addresses */
    for (Py_ssize_t at = FEWEST - 1; at < length; at += FEWEST) {
        Py_ssize_t start = at, end = at;
        while (start > 0 && Py_ISDIGIT(PyUnicode_READ(kind, data, start - 1))) {
            start--;
        }
        while (end < length && Py_ISDIGIT(PyUnicode_READ(kind, data, end))) {
            end++;
        }
        if (end > at && end - start >= FEWEST && end - start <= MOST) {
            return 1;
        }
        at = end;
    }
    return 0;
}

static uint64_t
text_hash(uint64_t hash, PyObject *text)
{
    if (!PyUnicode_IS_READY(text)) {
        return fold(hash, NOTHING);
    }
    int kind = PyUnicode_KIND(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), looked_at = 4 * TEXT_END;
    if (length < looked_at) {
        looked_at = length;
    }
    if (shows_address(kind, PyUnicode_DATA(text), looked_at)
        || shows_decimal_address(kind, PyUnicode_DATA(text), looked_at)) {
        return fold(hash, ADDRESS);
    }
    return bytes_hash(hash, PyUnicode_DATA(text), (size_t)length * (size_t)kind);
}

static uint64_t
fields_hash(uint64_t hash, PyObject *object, const type_row *row, int levels)
{
    const char *base = (const char *)object;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(row->fields) && row->fields[i].width; i++) {
        uint64_t value = 0;
        memcpy(&value, base + row->fields[i].offset, row->fields[i].width); /* little-endian */
        hash = fold(hash, value);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(row->objects) && row->objects[i]; i++) {
        hash = fold(hash, value_hash(*(PyObject *const *)(base + row->objects[i]), levels));
    }
    if (row->raw.size) {
        hash = retrace_name_bytes(hash, base + row->raw.offset, row->raw.size);
    }
    if (row->array.offset) {
        const Py_ssize_t *array = *(const Py_ssize_t *const *)(base + row->array.offset);
        PyObject *tuple = row->array.tuple ? *(PyObject *const *)(base + row->array.tuple) : NULL;
        Py_ssize_t count = row->array.count ? *(const Py_ssize_t *)(base + row->array.count)
            : tuple != NULL && PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
        for (Py_ssize_t i = 0; array != NULL && i < count && i < 32; i++) {
            hash = fold(hash, (uint64_t)array[i]);
        }
    }
    return hash;
}

/* By its name alone: the walk meets many functions that never ran, and analysing them would take milliseconds. */
static uint64_t
code_hash(uint64_t hash, PyCodeObject *code)
{
    return fold(retrace_name_str(hash, code->co_qualname), (uint64_t)code->co_firstlineno);
}

static inline uint64_t
position_hash(uint64_t hash, struct _PyInterpreterFrame *frame)
{
    code_facts *facts = facts_of(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    if (facts == NULL || unit < 0 || unit >= facts->count) {
        return fold(hash, NO_POSITION);
    }
    return fold(fold(hash, facts->identity), facts->units[unit].position);
}

/* The frame of a generator that is not running and not finished, else NULL. Its stacktop is valid. */
static struct _PyInterpreterFrame *
waiting_frame(PyObject *generator)
{
    PyGenObject *g = (PyGenObject *)generator;
    return g->gi_frame_state < FRAME_EXECUTING ? (struct _PyInterpreterFrame *)g->gi_iframe : NULL;
}

static uint64_t
generator_hash(uint64_t hash, PyObject *generator, int levels)
{
    hash = fold(hash, (uint64_t)((PyGenObject *)generator)->gi_frame_state);
    struct _PyInterpreterFrame *frame = waiting_frame(generator);
    if (frame == NULL) {
        return hash;
    }
    hash = position_hash(hash, frame);
    for (int i = 0; levels > 0 && i < frame->stacktop && i < SLOTS_PER_GENERATOR; i++) {
        hash = fold(hash, value_hash(frame->localsplus[i], levels - 1));
    }
    return hash;
}

static uint64_t
decimal_hash(uint64_t hash, decimal_object *decimal)
{
    hash = fold(fold(hash, decimal->flags & 15), (uint64_t)decimal->exponent); /* sign and special values */
    for (Py_ssize_t i = 0; i < decimal->length && i < 8; i++) {
        hash = fold(hash, decimal->data[i]);
    }
    return hash;
}

static uint64_t
content_hash(PyObject *object, const type_facts *facts, int levels)
{
    uint64_t hash = facts->name_hash;
    switch ((value_kind)facts->kind) {
    case OPAQUE: case ABSENT:
        return hash;
    case INT:
        return int_hash(hash, object);
    case FLOAT: case COMPLEX:
        return retrace_name_bytes(hash, (const char *)object + sizeof(PyObject), facts->kind == FLOAT ? 8 : 16);
    case TEXT:
        return text_hash(hash, object);
    case BYTES:
        return bytes_hash(hash, PyBytes_AS_STRING(object), (size_t)Py_SIZE(object));
    case BYTE_ARRAY:
        return bytes_hash(hash, PyByteArray_AS_STRING(object), (size_t)Py_SIZE(object));
    case SIZED:
        return fold(hash, (uint64_t)Py_SIZE(object));
    case DICT:
        return fold(hash, (uint64_t)((PyDictObject *)object)->ma_used);
    case SET:
        return fold(hash, (uint64_t)((PySetObject *)object)->used);
    case CELL:
        return levels > 0 ? fold(hash, value_hash(PyCell_GET(object), levels - 1)) : hash;
    case GENERATOR:
        return generator_hash(hash, object, levels);
    case TYPE:
        return retrace_name_text(hash, ((PyTypeObject *)object)->tp_name);
    case FUNCTION:
        return code_hash(hash, (PyCodeObject *)((PyFunctionObject *)object)->func_code);
    case CODE:
        return code_hash(hash, (PyCodeObject *)object);
    case BUILTIN:
        return retrace_name_text(hash, ((PyCFunctionObject *)object)->m_ml->ml_name);
    case FIELDS:
        return fields_hash(hash, object, &rows[facts->row], levels);
    case ARRAY: {
        array_object *array = (array_object *)object;
        size_t size = (size_t)Py_SIZE(array) * (size_t)array->descr->item_size;
        return array->items == NULL ? fold(hash, size) : bytes_hash(hash, array->items, size);
    }
    case DECIMAL:
        return decimal_hash(hash, (decimal_object *)object);
    case MEMORY_VIEW:
        return fold(hash, (uint64_t)((PyMemoryViewObject *)object)->view.len);
    }
    return hash;
}

/* `object` may be NULL. `levels`: how far to look into cells and generators. An object without references is being
 * deallocated: its type is there, its members may not be. */
static uint64_t
value_hash(PyObject *object, int levels)
{
    if (object == NULL) {
        return NOTHING;
    }
    if (Py_REFCNT(object) == 0) {
        return DYING;
    }
    type_facts room;
    return content_hash(object, facts_of_type(Py_TYPE(object), &room), levels);
}

/* ---- globals ---- */

static int
same_text(PyObject *a, PyObject *b)
{
    return PyUnicode_IS_READY(a) && PyUnicode_IS_READY(b) && PyUnicode_GET_LENGTH(a) == PyUnicode_GET_LENGTH(b)
           && PyUnicode_KIND(a) == PyUnicode_KIND(b)
           && memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)PyUnicode_GET_LENGTH(a) * PyUnicode_KIND(a)) == 0;
}

/* The value of `name` in `dict`, borrowed, or NULL. Not by CPython's own lookup, which compares keys that are not plain
 * text by their __eq__. Objects/dictobject.c, unicodekeys_lookup_unicode. */
static PyObject *
named_value(PyDictObject *dict, PyObject *name)
{
    PyDictKeysObject *keys = dict->ma_keys;
    Py_hash_t hash = ((PyASCIIObject *)name)->hash;
    if (hash == -1) {
        return NULL;
    }
    size_t mask = (size_t)DK_SIZE(keys) - 1, perturb = (size_t)hash, at = (size_t)hash & mask;
    for (size_t tries = 0; tries <= mask + 16; tries++) {
        Py_ssize_t index = keys->dk_log2_size < 8 ? ((int8_t *)keys->dk_indices)[at]
            : keys->dk_log2_size < 16 ? ((int16_t *)keys->dk_indices)[at]
            : keys->dk_log2_size < 32 ? ((int32_t *)keys->dk_indices)[at] : ((int64_t *)keys->dk_indices)[at];
        if (index == DKIX_EMPTY) {
            return NULL;
        }
        if (index >= 0 && DK_IS_UNICODE(keys)) {
            PyDictUnicodeEntry *entry = &DK_UNICODE_ENTRIES(keys)[index];
            if (entry->me_key == name
                || (entry->me_key != NULL && ((PyASCIIObject *)entry->me_key)->hash == hash
                    && same_text(entry->me_key, name))) {
                return dict->ma_values != NULL ? dict->ma_values->values[index] : entry->me_value;
            }
        }
        else if (index >= 0) {
            PyDictKeyEntry *entry = &DK_ENTRIES(keys)[index];
            if (entry->me_key == name
                || (entry->me_hash == hash && entry->me_key != NULL && PyUnicode_CheckExact(entry->me_key)
                    && same_text(entry->me_key, name))) {
                return entry->me_value;
            }
        }
        perturb >>= 5;
        at = (at * 5 + perturb + 1) & mask;
    }
    return NULL;
}

/* ---- frames ---- */

/* `unwinding_possible`: a frame that called C may be anywhere in the middle of its instruction, also where an exception
 * takes values off the stack, one by one, running destructors. Then a frame object exists, and besides the frame the
 * traceback of that exception holds it, unless the program took the traceback away from an exception that is reraised.
 * What an exception handler keeps is left in any case. That a frame object exists is not reason enough to leave the
 * rest out: a debugger makes one by looking. */
static int
stack_depth(struct _PyInterpreterFrame *frame, int unwinding_possible)
{
    code_facts *facts = facts_of(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    if (facts == NULL || unit < 0 || unit >= facts->count) {
        return 0;
    }
    int depth = facts->units[unit].depth;
    if (frame->stacktop >= 0) {
        int real = frame->stacktop - frame->f_code->co_nlocalsplus;
        return depth < real ? depth : real < 0 ? 0 : real;
    }
    if (unwinding_possible && frame->frame_obj != NULL
        && (facts->units[unit].comes_back || Py_REFCNT(frame->frame_obj) > 1)
        && depth > facts->units[unit].handler_depth) {
        return facts->units[unit].handler_depth;
    }
    return depth;
}

int
retrace_fingerprint_static_depth(struct _PyInterpreterFrame *frame)
{
    code_facts *facts = facts_of(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    return facts == NULL || unit < 0 || unit >= facts->count ? -1 : facts->units[unit].depth;
}

static struct _PyInterpreterFrame *
python_frame(struct _PyInterpreterFrame *frame)
{
    while (frame != NULL && !retrace_is_python_frame(frame)) {
        frame = frame->previous;
    }
    return frame;
}

/* The frames that are looked at: `for (frames f = frames_of(tstate); f.frame; next_frame(&f))`. */
typedef struct {
    struct _PyInterpreterFrame *frame;
    int number, count;
} frames;

static frames
frames_of(PyThreadState *tstate)
{
    frames f = {python_frame(tstate->cframe != NULL ? tstate->cframe->current_frame : NULL), 0, 0};
    for (struct _PyInterpreterFrame *frame = f.frame; frame != NULL; frame = python_frame(frame->previous)) {
        f.count++;
    }
    return f;
}

static void
next_frame(frames *f)
{
    do {
        f->frame = python_frame(f->frame->previous);
        f->number++;
    } while (f->frame != NULL && f->number >= INNERMOST_FRAMES && f->number < f->count - OUTERMOST_FRAMES);
}

/* Calls `see(context, value)` with each value in the frame's hand; a value may be NULL. */
static inline __attribute__((always_inline)) void
each_value(frames *f, void (*see)(void *context, PyObject *value), void *context)
{
    struct _PyInterpreterFrame *frame = f->frame;
    PyCodeObject *code = frame->f_code;
    int slots = code->co_nlocalsplus + stack_depth(frame, f->number > 0);
    for (int i = 0; i < slots; i++) {
        see(context, frame->localsplus[i]);
    }
    if (f->number >= FRAMES_WITH_GLOBALS) {
        return;
    }
    PyObject *globals = frame->f_globals, *locals = code->co_flags & CO_OPTIMIZED ? NULL : frame->f_locals;
    if (locals == globals || (locals != NULL && !PyDict_CheckExact(locals))) {
        locals = NULL;
    }
    if (globals == NULL || !PyDict_Check(globals)) {
        return;
    }
    Py_ssize_t names = PyTuple_GET_SIZE(code->co_names);
    for (Py_ssize_t i = 0; i < names && i < NAMES_PER_FRAME; i++) {
        PyObject *name = PyTuple_GET_ITEM(code->co_names, i);
        PyObject *value = locals != NULL ? named_value((PyDictObject *)locals, name) : NULL;
        if (value == NULL) {
            value = named_value((PyDictObject *)globals, name);
        }
        if (value != NULL) {
            see(context, value);
        }
    }
}

/* ---- the hashes ---- */

uint64_t
retrace_fingerprint_place(PyThreadState *tstate)
{
    frames f = frames_of(tstate);
    uint64_t hash = fold(0, (uint64_t)f.count);
    for (; f.frame != NULL; next_frame(&f)) {
        hash = position_hash(hash, f.frame);
    }
    return hash;
}

static inline void
fold_value(void *hash, PyObject *value)
{
    *(uint64_t *)hash = fold(*(uint64_t *)hash, value_hash(value, 1));
}

uint64_t
retrace_fingerprint_shallow(PyThreadState *tstate)
{
    frames f = frames_of(tstate);
    uint64_t hash = fold(0, (uint64_t)f.count);
    for (; f.frame != NULL; next_frame(&f)) {
        hash = position_hash(hash, f.frame);
        each_value(&f, fold_value, &hash);
    }
    return hash;
}

/* Which objects this walk has met, and as the how-manieth. A slot of an earlier walk is free. */
enum { MET_BITS = 13, MET_SLOTS = 1 << MET_BITS };
static struct { PyObject *object; uint32_t walk, number; } met[MET_SLOTS];
static uint32_t walk_number;

typedef struct {
    uint64_t hash;
    int budget, children;       /* values that may still be looked at, and in the object at hand */
    int head, tail;
    PyObject *attributes;       /* the dict of the instance at hand: its values count as the instance's own */
    PyObject *queue[WALK_BUDGET];
} walk;

static int
visit(PyObject *object, void *context)
{
    walk *w = context;
    if (object == w->attributes && object != NULL) {
        w->attributes = NULL;
        return PyDict_Type.tp_traverse(object, visit, w);
    }
    if (w->budget == 0 || w->children == 0) {
        w->hash = fold(w->hash, CUT);
        return 1;
    }
    w->budget--;
    w->children--;
    if (object == NULL || Py_REFCNT(object) == 0) {
        w->hash = fold(w->hash, object == NULL ? NOTHING : DYING);
        return 0;
    }
    type_facts room;
    const type_facts *facts = facts_of_type(Py_TYPE(object), &room);
    if (facts->walk == LEAF) {
        if (facts->kind != ABSENT) {
            w->hash = fold(w->hash, content_hash(object, facts, 0));
        }
        return 0;
    }
    size_t slot = ((uintptr_t)object >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - MET_BITS);
    for (; met[slot].walk == walk_number; slot = (slot + 1) % MET_SLOTS) {
        if (met[slot].object == object) {
            w->hash = fold(fold(w->hash, KNOWN), met[slot].number);
            return 0;
        }
    }
    met[slot].object = object;
    met[slot].walk = walk_number;
    met[slot].number = (uint32_t)w->tail;
    w->queue[w->tail++] = object;
    w->hash = fold(w->hash, NEW);
    return 0;
}

static inline void
visit_root(void *context, PyObject *object)
{
    walk *w = context;
    w->children = CHILDREN_PER_OBJECT;
    visit(object, w);
}

static void
visit_members(walk *w, PyObject *object, const type_facts *facts)
{
    switch ((walk_kind)facts->walk) {
    case LEAF:
        return;
    case BY_FUNCTION: {
        PyFunctionObject *function = (PyFunctionObject *)object;
        PyObject *members[] = {function->func_closure, function->func_defaults, function->func_kwdefaults,
                               function->func_dict};
        for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++) {
            if (members[i] != NULL) {
                visit(members[i], w);
            }
        }
        return;
    }
    case BY_GENERATOR: {
        struct _PyInterpreterFrame *frame = waiting_frame(object);
        for (int i = 0; frame != NULL && i < frame->stacktop; i++) {
            visit(frame->localsplus[i], w);
        }
        return;
    }
    case BY_TRAVERSE:
        break;
    }
    PyTypeObject *type = Py_TYPE(object);
    /* What the collector does not track is being made or unmade, but for tuples and dicts of atoms. */
    if (type != &PyTuple_Type && type != &PyDict_Type
        && ((type->tp_is_gc != NULL && !type->tp_is_gc(object)) || !_PyObject_GC_IS_TRACKED(object))) {
        return;
    }
    if (facts->has_managed_dict) {
        PyDictValues *values;
        retrace_managed_attributes(object, &w->attributes, &values);
        if (w->attributes != NULL && !PyDict_CheckExact(w->attributes)) {
            w->attributes = NULL;
        }
    }
    type->tp_traverse(object, visit, w);
    w->attributes = NULL;
}

uint64_t
retrace_fingerprint_deep(PyThreadState *tstate)
{
    static walk w;
    if (++walk_number == 0) {
        memset(met, 0, sizeof met);
        walk_number = 1;
    }
    frames f = frames_of(tstate);
    w.hash = fold(0, (uint64_t)f.count);
    w.budget = WALK_BUDGET;
    w.head = w.tail = 0;
    w.attributes = NULL;
    for (; f.frame != NULL && w.budget > 0; next_frame(&f)) {
        w.hash = position_hash(w.hash, f.frame);
        each_value(&f, visit_root, &w);
    }
    while (w.head < w.tail) {
        PyObject *object = w.queue[w.head++];
        type_facts room;
        const type_facts facts = *facts_of_type(Py_TYPE(object), &room); /* a copy: the cache changes underneath */
        w.hash = fold(w.hash, content_hash(object, &facts, 0));
        if (w.budget > 0) {
            w.children = CHILDREN_PER_OBJECT;
            visit_members(&w, object, &facts);
        }
    }
    return w.hash;
}
