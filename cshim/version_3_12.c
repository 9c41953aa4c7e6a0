/* CPython 3.12: where its globals are, and what its instructions are called. */
#define _GNU_SOURCE
#include <Python.h>
#define NEED_OPCODE_TABLES
#include "pycore_opcode.h"
#include "opcode.h"
#include "pycore_runtime.h"
#include "version.h"
#include "gil.h"
#include "pycore_ceval.h"

#include "fingerprint.h"
#include "line_events.h"
#include "pycore_instruments.h"

/* Where the thread-local with the current thread state lies from the thread pointer, or 0: see abi/src/layout_3_12.rs. */
intptr_t retrace_tstate_offset;

#if defined(__linux__) && defined(__x86_64__)
#include <link.h>

/* Looks for the thread state in the calling thread's copy of the thread-locals of CPython's library. They lie at one
 * place in every thread if that library was loaded with the program: then close below the thread pointer. */
static int find_tstate_offset(struct dl_phdr_info *library, size_t size, void *unused)
{
    (void)size, (void)unused;
    uintptr_t function = (uintptr_t)&_PyThreadState_UncheckedGet;
    size_t length = 0;
    int is_cpython = 0;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &library->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD)
            is_cpython |= function - (library->dlpi_addr + segment->p_vaddr) < segment->p_memsz;
        else if (segment->p_type == PT_TLS)
            length = segment->p_memsz;
    }
    if (!is_cpython)
        return 0;
    uintptr_t thread_pointer;
    __asm__("mov %%fs:0, %0" : "=r"(thread_pointer));
    uintptr_t begin = (uintptr_t)library->dlpi_tls_data;
    if (begin == 0 || thread_pointer - begin > 4096 || begin % sizeof(void *) != 0)
        return 1;
    PyThreadState **place = (PyThreadState **)begin, *current = _PyThreadState_UncheckedGet();
    intptr_t found = 0;
    int matches = 0;
    for (size_t i = 0; i < length / sizeof *place; i++)
        if (place[i] == current) {
            found = (intptr_t)&place[i] - (intptr_t)thread_pointer;
            matches++;
        }
    retrace_tstate_offset = matches == 1 && current != NULL ? found : 0;
    return 1;
}
#else
static int find_tstate_offset(void *library, size_t size, void *unused) { return 0; }
#define dl_iterate_phdr(callback, data) (void)(callback)
#endif

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030c) {
        *error = "this build of Retrace is for CPython 3.12";
        return -1;
    }
    dl_iterate_phdr(find_tstate_offset, NULL);
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hooks.head; }

static int collection_due(void *Py_UNUSED(argument))
{
    retrace_collection_due();
    return 0;
}

/* Any thread of the interpreter makes its pending calls in 3.12. */
void retrace_ask_collection(void)
{
    _PyEval_AddPendingCall(PyInterpreterState_Main(), collection_due, NULL, 0);
}

/* Tracing is instrumentation here: each instruction is run once. */
void retrace_check_passed(void) {}

int retrace_check_repeats(PyThreadState *Py_UNUSED(tstate)) { return 0; }

int retrace_is_traced(PyThreadState *Py_UNUSED(tstate)) { return 0; }

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

/* ---- line events: a tool of sys.monitoring ---- */

uint64_t retrace_line_events_objects;
/* Importing makes code objects, of which an instrumented one has more parts. */
const uint64_t retrace_line_events_slack = 3000;

/* CPython makes an int of each line and offset for its callbacks; small ones exist already. */
static long number_of(PyObject *number)
{
    long value = PyLong_AsLong(number);
    retrace_line_events_objects += value > 256;
    return value;
}

static PyObject *line_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t Py_UNUSED(n))
{
    retrace_on_line(_PyThreadState_GET(), args[0], (int)number_of(args[1]));
    Py_RETURN_NONE;
}

static PyObject *instruction_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t Py_UNUSED(n))
{
    retrace_on_instruction(_PyThreadState_GET(), args[0], (int)number_of(args[1]));
    Py_RETURN_NONE;
}

static PyObject *start_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t Py_UNUSED(n))
{
    number_of(args[1]);
    retrace_on_start(_PyThreadState_GET(), args[0], 0);
    Py_RETURN_NONE;
}

static PyObject *resume_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t Py_UNUSED(n))
{
    number_of(args[1]);
    retrace_on_start(_PyThreadState_GET(), args[0], 1);
    Py_RETURN_NONE;
}

static PyObject *raise_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    number_of(args[1]);
    if (n > 2) {
        PyObject *traceback = ((PyBaseExceptionObject *)args[2])->traceback;
        retrace_on_raise(_PyThreadState_GET(), args[0], args[2], retrace_origin(traceback));
    }
    Py_RETURN_NONE;
}

static PyObject *unwind_callback(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
    number_of(args[1]);
    if (n > 2)
        retrace_on_unwind(_PyThreadState_GET(), args[0], args[2]);
    Py_RETURN_NONE;
}

static struct {
    int event;
    PyMethodDef definition;
} callbacks[] = {
    {PY_MONITORING_EVENT_LINE, {"line", (PyCFunction)(void (*)(void))line_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_INSTRUCTION, {"instruction", (PyCFunction)(void (*)(void))instruction_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_PY_START, {"start", (PyCFunction)(void (*)(void))start_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_PY_RESUME, {"resume", (PyCFunction)(void (*)(void))resume_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_PY_THROW, {"throw", (PyCFunction)(void (*)(void))resume_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_RAISE, {"raise", (PyCFunction)(void (*)(void))raise_callback, METH_FASTCALL, NULL}},
    {PY_MONITORING_EVENT_PY_UNWIND, {"unwind", (PyCFunction)(void (*)(void))unwind_callback, METH_FASTCALL, NULL}},
};

/* The last number that the program has not taken. */
static int tool = PY_MONITORING_OPTIMIZER_ID;

/* The function of sys.monitoring, which neither the program nor the interpreter's end takes away any more. */
static PyObject *set_events_function;

int retrace_line_events_prepare(void)
{
    PyObject *monitoring = PySys_GetObject("monitoring");
    if (monitoring == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "there is no sys.monitoring");
        return -1;
    }
    set_events_function = PyObject_GetAttrString(monitoring, "set_events");
    return set_events_function == NULL ? -1 : 0;
}

static int set_events(int events)
{
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    /* set_events() wants the tool to have a name, and nothing else does: sys.monitoring.get_tool() shows none. */
    interpreter->monitoring_tool_names[tool] = Py_None;
    PyObject *done = PyObject_CallFunction(set_events_function, "ii", tool, events);
    interpreter->monitoring_tool_names[tool] = NULL;
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int line_events(void)
{
    int events = 0;
    for (size_t i = 0; i < sizeof callbacks / sizeof *callbacks; i++)
        events |= 1 << callbacks[i].event;
    return events & ~(1 << PY_MONITORING_EVENT_INSTRUCTION);
}

int retrace_line_events_on(void)
{
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    while (tool > 0 && interpreter->monitoring_tool_names[tool] != NULL)
        tool--;
    for (size_t i = 0; i < sizeof callbacks / sizeof *callbacks; i++) {
        PyObject *function = PyCFunction_New(&callbacks[i].definition, NULL);
        if (function == NULL)
            return -1;
        /* Not for gc.get_objects() to find. */
        PyObject_GC_UnTrack(function);
        interpreter->monitoring_callables[tool][callbacks[i].event] = function;
    }
    return set_events(line_events());
}

int retrace_instruction_events(int on) { return set_events(line_events() | on << PY_MONITORING_EVENT_INSTRUCTION); }

/* The event that leaves a frame has the exception. */
void retrace_reraise_events(int Py_UNUSED(on)) {}

int retrace_is_called_by_c(_PyInterpreterFrame *frame)
{
    return frame->previous == NULL || frame->previous->owner == FRAME_OWNED_BY_CSTACK;
}

int retrace_line_events_check_again(PyThreadState *Py_UNUSED(tstate)) { return 0; }

void retrace_line_events_follow(PyThreadState *Py_UNUSED(tstate)) {}

/* The evaluator has done it, and the frame is gone. */
void retrace_clear_variables(struct _PyInterpreterFrame *Py_UNUSED(frame)) {}
