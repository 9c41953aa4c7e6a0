/* CPython 3.12: where its globals are, and what its instructions are called. */
#include <Python.h>
#define NEED_OPCODE_TABLES
#include "pycore_opcode.h"
#include "opcode.h"
#include "pycore_runtime.h"
#include "version.h"
#include "fingerprint.h"

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030c) {
        *error = "this build of Retrace is for CPython 3.12";
        return -1;
    }
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hooks.head; }

/* ---- for fingerprint.c ---- */

static uint8_t
without_instrumentation(int opcode)
{
    switch (opcode) {
    case INSTRUMENTED_LOAD_SUPER_ATTR: return LOAD_SUPER_ATTR;
    case INSTRUMENTED_POP_JUMP_IF_NONE: return POP_JUMP_IF_NONE;
    case INSTRUMENTED_POP_JUMP_IF_NOT_NONE: return POP_JUMP_IF_NOT_NONE;
    case INSTRUMENTED_POP_JUMP_IF_FALSE: return POP_JUMP_IF_FALSE;
    case INSTRUMENTED_POP_JUMP_IF_TRUE: return POP_JUMP_IF_TRUE;
    case INSTRUMENTED_RESUME: return RESUME;
    case INSTRUMENTED_CALL: return CALL;
    case INSTRUMENTED_CALL_FUNCTION_EX: return CALL_FUNCTION_EX;
    case INSTRUMENTED_RETURN_VALUE: return RETURN_VALUE;
    case INSTRUMENTED_RETURN_CONST: return RETURN_CONST;
    case INSTRUMENTED_YIELD_VALUE: return YIELD_VALUE;
    case INSTRUMENTED_JUMP_FORWARD: return JUMP_FORWARD;
    case INSTRUMENTED_JUMP_BACKWARD: return JUMP_BACKWARD;
    case INSTRUMENTED_FOR_ITER: return FOR_ITER;
    case INSTRUMENTED_END_FOR: return END_FOR;
    case INSTRUMENTED_END_SEND: return END_SEND;
    default: return (uint8_t)opcode;
    }
}

static int8_t
jump_of(int opcode)
{
    switch (opcode) {
    case FOR_ITER: case SEND: case JUMP_FORWARD: case POP_JUMP_IF_FALSE: case POP_JUMP_IF_TRUE: case POP_JUMP_IF_NONE:
    case POP_JUMP_IF_NOT_NONE:
        return 1;
    case JUMP_BACKWARD: case JUMP_BACKWARD_NO_INTERRUPT:
        return -1;
    default:
        return 0;
    }
}

/* Compare https://github.com/python/cpython/blob/v3.12.1/Python/instrumentation.c, _Py_GetBaseOpcode, which libpython
 * does not export. */
retrace_instruction retrace_instruction_at(PyCodeObject *code, int unit)
{
    uint8_t opcode = _PyCode_CODE(code)[unit].op.code;
    if (opcode == INSTRUMENTED_LINE) {
        opcode = code->_co_monitoring->lines[unit].original_opcode;
    }
    if (opcode == INSTRUMENTED_INSTRUCTION) {
        opcode = code->_co_monitoring->per_instruction_opcodes[unit];
    }
    opcode = _PyOpcode_Deopt[without_instrumentation(opcode)];
    return (retrace_instruction){
        .opcode = opcode,
        .cache_units = _PyOpcode_Caches[opcode],
        .jump = jump_of(opcode),
        .falls_through = opcode != JUMP_FORWARD && opcode != JUMP_BACKWARD && opcode != JUMP_BACKWARD_NO_INTERRUPT
                         && opcode != RETURN_VALUE && opcode != RETURN_CONST && opcode != RAISE_VARARGS
                         && opcode != RERAISE,
        .rethrows = opcode == RAISE_VARARGS || opcode == RERAISE || opcode == END_ASYNC_FOR || opcode == CLEANUP_THROW,
    };
}

/* From https://github.com/python/cpython/blob/v3.12.1/Python/bytecodes.c. */
int retrace_instruction_inputs(int opcode, int argument)
{
    switch (opcode) {
    case NOP: case PUSH_NULL: case RESUME: case JUMP_FORWARD: case JUMP_BACKWARD: case JUMP_BACKWARD_NO_INTERRUPT:
    case FOR_ITER: case GET_LEN: case MATCH_MAPPING: case MATCH_SEQUENCE: case MATCH_KEYS: case WITH_EXCEPT_START:
    case GET_ANEXT: case DELETE_NAME: case DELETE_GLOBAL: case DELETE_FAST: case DELETE_DEREF: case LOAD_NAME:
    case LOAD_GLOBAL: case LOAD_DEREF: case LOAD_BUILD_CLASS: case IMPORT_FROM: case MAKE_CELL: case COPY_FREE_VARS:
    case SETUP_ANNOTATIONS: case RETURN_GENERATOR:
    case RETURN_CONST: case LOAD_LOCALS: case LOAD_FAST_CHECK: case LOAD_FAST_AND_CLEAR: case KW_NAMES:
        return 0;
    case POP_TOP: case UNARY_NEGATIVE: case UNARY_NOT: case UNARY_INVERT: case CHECK_EXC_MATCH: case PUSH_EXC_INFO:
    case GET_AITER: case BEFORE_ASYNC_WITH: case BEFORE_WITH: case STORE_NAME: case UNPACK_SEQUENCE: case UNPACK_EX:
    case DELETE_ATTR: case STORE_GLOBAL: case LOAD_ATTR: case STORE_FAST: case STORE_DEREF: case GET_AWAITABLE:
    case GET_ITER: case GET_YIELD_FROM_ITER: case LIST_APPEND: case LIST_EXTEND: case SET_ADD: case SET_UPDATE:
    case DICT_MERGE: case DICT_UPDATE: case RERAISE: case SEND: case YIELD_VALUE: case RETURN_VALUE: case POP_EXCEPT:
    case POP_JUMP_IF_FALSE: case POP_JUMP_IF_TRUE: case POP_JUMP_IF_NONE: case POP_JUMP_IF_NOT_NONE:
    case CALL_INTRINSIC_1: case LOAD_FROM_DICT_OR_GLOBALS: case LOAD_FROM_DICT_OR_DEREF:
        return 1;
    case BINARY_OP: case BINARY_SUBSCR: case DELETE_SUBSCR: case CHECK_EG_MATCH: case END_ASYNC_FOR: case STORE_ATTR:
    case COMPARE_OP: case IMPORT_NAME: case IS_OP: case CONTAINS_OP: case MAP_ADD:
    case END_FOR: case END_SEND: case CALL_INTRINSIC_2:
        return 2;
    case STORE_SUBSCR: case MATCH_CLASS: case BINARY_SLICE: case LOAD_SUPER_ATTR: case CLEANUP_THROW:
        return 3;
    case STORE_SLICE:
        return 4;
    case RAISE_VARARGS: case BUILD_TUPLE: case BUILD_LIST: case BUILD_SET: case BUILD_STRING: case BUILD_SLICE:
        return argument;
    case BUILD_CONST_KEY_MAP:
        return argument + 1;
    case BUILD_MAP:
        return 2 * argument;
    case FORMAT_VALUE:
        return 1 + ((argument & 4) != 0); /* a format besides the value */
    case MAKE_FUNCTION:
        return 1 + __builtin_popcount((unsigned)argument & 15); /* defaults, annotations, closure */
    case CALL_FUNCTION_EX:
        return 3 + (argument & 1); /* NULL, the callable, its arguments, its keyword arguments */
    case CALL:
        return argument + 2; /* NULL and the callable, or the method and self */
    default:
        return -1;
    }
}

/* STORE_FAST has a form that stores twice. */
int retrace_instruction_continues(int opcode, int next)
{
    return opcode == STORE_FAST && next == STORE_FAST;
}
