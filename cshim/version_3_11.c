/* CPython 3.11: where its globals are, and what its instructions are called. */
#include <Python.h>
#define NEED_OPCODE_TABLES
#include "pycore_opcode.h"
#include "opcode.h"
#include "pycore_runtime.h"
#include "version.h"
#include "gil.h"

#include "fingerprint.h"
#include "line_events.h"

_Atomic(uintptr_t) *retrace_current_tstate;
uint8_t retrace_is_precall[256];

int retrace_version_init(const char **error)
{
    if (Py_Version >> 16 != 0x030b) {
        *error = "this build of Retrace is for CPython 3.11";
        return -1;
    }
    retrace_current_tstate = (void *)&_PyRuntime.gilstate.tstate_current._value;
    if ((PyThreadState *)*retrace_current_tstate != _PyThreadState_UncheckedGet()) {
        *error = "this build of CPython 3.11 keeps its thread state elsewhere";
        return -1;
    }
    for (int op = 0; op < 256; op++)
        retrace_is_precall[op] = _PyOpcode_Deopt[op] == PRECALL;
    return 0;
}

_Py_AuditHookEntry **retrace_audit_hooks(void) { return &_PyRuntime.audit_hook_head; }

/* Only the main thread makes pending calls in 3.11: see retrace_hook_mutex_unlock. */
void retrace_ask_collection(void)
{
    retrace_gil.collection_asked = 1;
    retrace_request_check();
}

/* ---- checks of a traced function's beginning ----
 *
 * Where a frame is traced, the check at its RESUME does not go on with what follows, but with that RESUME again, check
 * included (Python/ceval.c, DO_TRACING). Whoever asks for the next check there gets the same one for ever. What follows
 * is the trace function: it asks in its stead. Behind it RESUME itself looks, once more, and from there goes on: behind a
 * `yield` the next check may come before the next call of the trace function. */

static Py_tracefunc traced_by;
/* The frame whose RESUME the trace function was called for last, until that has looked or another event comes. */
static _PyInterpreterFrame *begun;

void retrace_check_passed(void) { begun = NULL; }

static int ask_in_trace(PyObject *object, PyFrameObject *frame, int what, PyObject *argument)
{
    PyThreadState *tstate = _PyThreadState_GET();
    Py_tracefunc *function = tstate->c_tracefunc == ask_in_trace ? &tstate->c_tracefunc : &tstate->c_profilefunc;
    *function = traced_by;
    begun = what == PyTrace_CALL ? frame->f_frame : NULL;
    retrace_begun_after_check();
    return traced_by(object, frame, what, argument);
}

int retrace_is_traced(PyThreadState *tstate) { return tstate->cframe->use_tracing != 0; }

int retrace_check_repeats(PyThreadState *tstate)
{
    _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    if (!tstate->cframe->use_tracing || frame == NULL || _PyOpcode_Deopt[_Py_OPCODE(*frame->prev_instr)] != RESUME)
        return 0;
    if (frame == begun)
        return 0;
    Py_tracefunc *function = tstate->c_tracefunc != NULL ? &tstate->c_tracefunc : &tstate->c_profilefunc;
    if (*function == NULL)
        return 0;
    if (*function != ask_in_trace) {
        traced_by = *function;
        *function = ask_in_trace;
    }
    return 1;
}

/* ---- for fingerprint.c ---- */

static int8_t
jump_of(int opcode)
{
    switch (opcode) {
    case FOR_ITER: case SEND: case JUMP_FORWARD: case JUMP_IF_FALSE_OR_POP: case JUMP_IF_TRUE_OR_POP:
    case POP_JUMP_FORWARD_IF_FALSE: case POP_JUMP_FORWARD_IF_TRUE: case POP_JUMP_FORWARD_IF_NONE:
    case POP_JUMP_FORWARD_IF_NOT_NONE:
        return 1;
    case JUMP_BACKWARD: case JUMP_BACKWARD_NO_INTERRUPT: case POP_JUMP_BACKWARD_IF_FALSE:
    case POP_JUMP_BACKWARD_IF_TRUE: case POP_JUMP_BACKWARD_IF_NONE: case POP_JUMP_BACKWARD_IF_NOT_NONE:
        return -1;
    default:
        return 0;
    }
}

retrace_instruction retrace_instruction_at(PyCodeObject *code, int unit)
{
    uint8_t opcode = _PyOpcode_Deopt[_Py_OPCODE(_PyCode_CODE(code)[unit])];
    return (retrace_instruction){
        .opcode = opcode,
        .cache_units = _PyOpcode_Caches[opcode],
        .jump = jump_of(opcode),
        .falls_through = opcode != JUMP_FORWARD && opcode != JUMP_BACKWARD && opcode != JUMP_BACKWARD_NO_INTERRUPT
                         && opcode != RETURN_VALUE && opcode != RAISE_VARARGS && opcode != RERAISE,
        .rethrows = opcode == RAISE_VARARGS || opcode == RERAISE || opcode == END_ASYNC_FOR,
    };
}

/* From https://github.com/python/cpython/blob/v3.11.7/Python/ceval.c. PRECALL leaves the callable and its arguments for
 * CALL in fact, although it counts as taking the arguments; PRECALL's own specialised forms do CALL's work as well. */
int retrace_instruction_inputs(int opcode, int argument)
{
    switch (opcode) {
    case NOP: case PUSH_NULL: case RESUME: case JUMP_FORWARD: case JUMP_BACKWARD: case JUMP_BACKWARD_NO_INTERRUPT:
    case FOR_ITER: case GET_LEN: case MATCH_MAPPING: case MATCH_SEQUENCE: case MATCH_KEYS: case WITH_EXCEPT_START:
    case GET_ANEXT: case DELETE_NAME: case DELETE_GLOBAL: case DELETE_FAST: case DELETE_DEREF: case LOAD_NAME:
    case LOAD_GLOBAL: case LOAD_DEREF: case LOAD_BUILD_CLASS: case IMPORT_FROM: case MAKE_CELL: case COPY_FREE_VARS:
    case SETUP_ANNOTATIONS: case RETURN_GENERATOR:
    case LOAD_CLASSDEREF: case KW_NAMES:
        return 0;
    case POP_TOP: case UNARY_NEGATIVE: case UNARY_NOT: case UNARY_INVERT: case CHECK_EXC_MATCH: case PUSH_EXC_INFO:
    case GET_AITER: case BEFORE_ASYNC_WITH: case BEFORE_WITH: case STORE_NAME: case UNPACK_SEQUENCE: case UNPACK_EX:
    case DELETE_ATTR: case STORE_GLOBAL: case LOAD_ATTR: case STORE_FAST: case STORE_DEREF: case GET_AWAITABLE:
    case GET_ITER: case GET_YIELD_FROM_ITER: case LIST_APPEND: case LIST_EXTEND: case SET_ADD: case SET_UPDATE:
    case DICT_MERGE: case DICT_UPDATE: case RERAISE: case SEND: case YIELD_VALUE: case RETURN_VALUE: case POP_EXCEPT:
    case UNARY_POSITIVE: case PRINT_EXPR: case IMPORT_STAR: case LIST_TO_TUPLE: case ASYNC_GEN_WRAP: case LOAD_METHOD:
    case JUMP_IF_FALSE_OR_POP: case JUMP_IF_TRUE_OR_POP: case POP_JUMP_FORWARD_IF_FALSE: case POP_JUMP_FORWARD_IF_TRUE:
    case POP_JUMP_FORWARD_IF_NONE: case POP_JUMP_FORWARD_IF_NOT_NONE: case POP_JUMP_BACKWARD_IF_FALSE:
    case POP_JUMP_BACKWARD_IF_TRUE: case POP_JUMP_BACKWARD_IF_NONE: case POP_JUMP_BACKWARD_IF_NOT_NONE:
        return 1;
    case BINARY_OP: case BINARY_SUBSCR: case DELETE_SUBSCR: case CHECK_EG_MATCH: case END_ASYNC_FOR: case STORE_ATTR:
    case COMPARE_OP: case IMPORT_NAME: case IS_OP: case CONTAINS_OP: case MAP_ADD:
    case PREP_RERAISE_STAR:
        return 2;
    case STORE_SUBSCR: case MATCH_CLASS:
        return 3;
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
    case PRECALL:
        return argument + 2;
    case CALL:
        return 2;
    default:
        return -1;
    }
}

/* A frame stands at PRECALL or at CALL (see retrace_is_precall); COMPARE_OP has forms that jump, STORE_FAST one that
 * stores twice. */
int retrace_instruction_continues(int opcode, int next)
{
    switch (opcode) {
    case PRECALL:
        return next == CALL;
    case COMPARE_OP:
        return next == POP_JUMP_FORWARD_IF_FALSE || next == POP_JUMP_FORWARD_IF_TRUE
               || next == POP_JUMP_BACKWARD_IF_FALSE || next == POP_JUMP_BACKWARD_IF_TRUE;
    case STORE_FAST:
        return next == STORE_FAST;
    default:
        return 0;
    }
}

/* ---- line events: a trace function ---- */

uint64_t retrace_line_events_objects;
/* Specialised instructions allocate less than those that a traced frame runs. */
const uint64_t retrace_line_events_slack = 20000;
static int line_events, instruction_events, reraise_events;
/* The trace function that the program has set: sys.settrace()'s, or an extension's. Ours calls it. */
static Py_tracefunc of_program;

/* ---- exceptions that are raised again ----
 *
 * Where a frame is left, CPython has put the exception away before it tells. What was raised in the frame was told; what
 * is raised again (at the end of a `finally`, by a bare `raise`) is seen at the instruction that does it. So the frames in
 * which that may come have events for instructions. */

/* Set in f_trace_opcodes, of which CPython asks only whether it is 0. */
enum { FOR_RERAISES = 2 };

static int is_exception(PyObject *value) { return value != NULL && value != Py_None; }

/* As _PyErr_GetTopmostException, which is not exported. NULL where none is handled. */
static PyObject *handled_exception(PyThreadState *tstate)
{
    _PyErr_StackItem *item = tstate->exc_info;
    while (!is_exception(item->exc_value) && item->previous_item != NULL)
        item = item->previous_item;
    return is_exception(item->exc_value) ? item->exc_value : NULL;
}

static int opcode_of(_PyInterpreterFrame *frame) { return _PyOpcode_Deopt[_Py_OPCODE(*frame->prev_instr)]; }

static void look_for_reraise(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    PyObject *exception = NULL;
    switch (opcode_of(frame)) {
    case RERAISE: case END_ASYNC_FOR:
        exception = frame->localsplus[frame->stacktop - 1];
        break;
    case RAISE_VARARGS:
        exception = _Py_OPARG(*frame->prev_instr) == 0 ? handled_exception(tstate) : NULL;
        break;
    }
    if (exception != NULL)
        retrace_on_reraise(tstate, exception);
}

/* At an event of the frame's other than that of an instruction. */
static void follow_reraises(PyThreadState *tstate, PyFrameObject *frame, int what)
{
    int begins = what == PyTrace_EXCEPTION || (what == PyTrace_CALL && handled_exception(tstate) != NULL);
    if (reraise_events && begins)
        frame->f_trace_opcodes |= FOR_RERAISES;
    else if (what == PyTrace_LINE && (frame->f_trace_opcodes & FOR_RERAISES) && handled_exception(tstate) == NULL
             && opcode_of(frame->f_frame) != PUSH_EXC_INFO)
        /* There is none any more. */
        frame->f_trace_opcodes &= ~FOR_RERAISES;
}

/* A frame that handles an exception has an object, for that one's traceback. One that waits is looked at when it goes on. */
void retrace_reraise_events(int on)
{
    reraise_events = on;
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interpreter); on && tstate != NULL; tstate = tstate->next) {
        _PyInterpreterFrame *frame = handled_exception(tstate) != NULL ? tstate->cframe->current_frame : NULL;
        for (; frame != NULL; frame = frame->previous)
            if (frame->frame_obj != NULL)
                frame->frame_obj->f_trace_opcodes |= FOR_RERAISES;
    }
}

int retrace_is_called_by_c(_PyInterpreterFrame *frame) { return frame->is_entry; }

static int trace(PyObject *object, PyFrameObject *frame, int what, PyObject *argument)
{
    PyThreadState *tstate = _PyThreadState_GET();
    PyObject *code = (PyObject *)frame->f_frame->f_code;
    if (instruction_events)
        frame->f_trace_opcodes |= 1;
    follow_reraises(tstate, frame, what);
    begun = what == PyTrace_CALL ? frame->f_frame : NULL;
    if (what == PyTrace_CALL) {
        /* The frame object was made for us. */
        int resumed = frame->f_frame->owner == FRAME_OWNED_BY_GENERATOR;
        retrace_line_events_objects += !resumed;
        retrace_on_start(tstate, code, resumed && _PyInterpreterFrame_LASTI(frame->f_frame) > frame->f_frame->f_code->_co_firsttraceable);
    }
    else if (what == PyTrace_LINE)
        retrace_on_line(tstate, code, PyFrame_GetLineNumber(frame));
    else if (what == PyTrace_EXCEPTION) {
        retrace_on_raise(tstate, code, PyTuple_GET_ITEM(argument, 1), retrace_origin(PyTuple_GET_ITEM(argument, 2)));
    }
    else if (what == PyTrace_RETURN && argument == NULL)
        retrace_on_unwind(tstate, code, NULL);
    else if (what == PyTrace_OPCODE) {
        if (frame->f_trace_opcodes & FOR_RERAISES)
            look_for_reraise(tstate, frame->f_frame);
        if (instruction_events)
            retrace_on_instruction(tstate, code, PyFrame_GetLasti(frame));
        if (instruction_events || !(frame->f_trace_opcodes & 1))
            return 0;
    }
    if (object != NULL && of_program != NULL)
        return of_program(object, frame, what, argument);
    return 0;
}

/* Each frame says whether it wants the events. Those that begin or go on later are told then. */
int retrace_instruction_events(int on)
{
    instruction_events = on;
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interpreter); tstate != NULL; tstate = tstate->next) {
        PyFrameObject *frame = PyThreadState_GetFrame(tstate);
        while (frame != NULL) {
            frame->f_trace_opcodes = (char)((frame->f_trace_opcodes & FOR_RERAISES) | on);
            PyFrameObject *back = PyFrame_GetBack(frame);
            Py_DECREF(frame);
            frame = back;
        }
    }
    return 0;
}

int retrace_line_events_check_again(PyThreadState *tstate)
{
    _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    return line_events && frame != NULL && _PyOpcode_Deopt[_Py_OPCODE(*frame->prev_instr)] == RESUME;
}

void retrace_line_events_follow(PyThreadState *tstate)
{
    if (!line_events || tstate->c_tracefunc == trace || tstate->c_tracefunc == ask_in_trace)
        return;
    if (tstate->c_tracefunc != NULL)
        of_program = tstate->c_tracefunc;
    tstate->c_tracefunc = trace;
    tstate->cframe->use_tracing = 255;
}

int retrace_line_events_prepare(void) { return 0; }

int retrace_line_events_on(void)
{
    line_events = 1;
    PyInterpreterState *interpreter = PyInterpreterState_Main();
    for (PyThreadState *tstate = PyInterpreterState_ThreadHead(interpreter); tstate != NULL; tstate = tstate->next)
        retrace_line_events_follow(tstate);
    return 0;
}

/* As _PyFrame_Clear does after the evaluator; what a frame object that others have shows is kept. */
void
retrace_clear_variables(struct _PyInterpreterFrame *frame)
{
    if (frame->owner != FRAME_OWNED_BY_THREAD || (frame->frame_obj != NULL && Py_REFCNT(frame->frame_obj) > 1)) {
        return;
    }
    for (int i = 0; i < frame->stacktop; i++) {
        Py_CLEAR(frame->localsplus[i]);
    }
}
