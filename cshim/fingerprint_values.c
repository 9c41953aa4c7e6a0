/* See fingerprint.h: the hash of what one object holds. */
#include "fingerprint_parts.h"
#include "name_hash.h"
#include <string.h>

enum {
    SLOTS_PER_GENERATOR = 64,
    TEXT_END = 128,          /* of longer text, so many bytes at each end */
};

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
        hash = fold(hash, retrace_value_hash(*(PyObject *const *)(base + row->objects[i]), levels));
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

uint64_t
retrace_position_hash(uint64_t hash, struct _PyInterpreterFrame *frame)
{
    code_facts *facts = retrace_code_facts(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    if (facts == NULL || unit < 0 || unit >= facts->count) {
        return fold(hash, NO_POSITION);
    }
    return fold(fold(hash, facts->identity), facts->units[unit].position);
}

struct _PyInterpreterFrame *
retrace_waiting_frame(PyObject *generator)
{
    PyGenObject *g = (PyGenObject *)generator;
    return g->gi_frame_state < FRAME_EXECUTING ? (struct _PyInterpreterFrame *)g->gi_iframe : NULL;
}

static uint64_t
generator_hash(uint64_t hash, PyObject *generator, int levels)
{
    hash = fold(hash, (uint64_t)((PyGenObject *)generator)->gi_frame_state);
    struct _PyInterpreterFrame *frame = retrace_waiting_frame(generator);
    if (frame == NULL) {
        return hash;
    }
    hash = retrace_position_hash(hash, frame);
    for (int i = 0; levels > 0 && i < frame->stacktop && i < SLOTS_PER_GENERATOR; i++) {
        hash = fold(hash, retrace_value_hash(frame->localsplus[i], levels - 1));
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

uint64_t
retrace_content_hash(PyObject *object, const type_facts *facts, int levels)
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
        return levels > 0 ? fold(hash, retrace_value_hash(PyCell_GET(object), levels - 1)) : hash;
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
        return fields_hash(hash, object, &retrace_type_rows[facts->row], levels);
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

uint64_t
retrace_value_hash(PyObject *object, int levels)
{
    if (object == NULL) {
        return NOTHING;
    }
    if (Py_REFCNT(object) == 0) {
        return DYING;
    }
    type_facts room;
    return retrace_content_hash(object, retrace_type_facts(Py_TYPE(object), &room), levels);
}
