/* See fingerprint.h: what is known about a code object, where its instructions stand and how deep its value stack is there.
 *
 * The value stack of a running frame has no recorded top, and the slots above its top hold pointers to freed objects.
 * So the depth is computed from the bytecode, as Objects/frameobject.c does for a jump
 * (https://github.com/python/cpython/blob/v3.12.1/Objects/frameobject.c, mark_stacks); unlike there only depths
 * matter, and the result must hold in the middle of an instruction: what the instruction takes from the stack is left
 * out, whether it was taken already or not.
 */
#include "fingerprint_parts.h"
#include "name_hash.h"
#include "opcode.h"
#include <stdlib.h>

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

code_facts *
retrace_code_facts(PyCodeObject *code)
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
