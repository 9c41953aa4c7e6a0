/* See activations.h. */
#include "activations.h"
#include "line_events.h"
#include "version.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_interp.h"
#include "pycore_pystate.h"

/* The mark is the version of the frame's dictionary of locals: no two dictionaries ever have the same one, and a frame
 * begins without. It is made as locals() would make it, and stays empty until that comes: then the version changes. */
static uint64_t
mark_of(struct _PyInterpreterFrame *frame)
{
    int is_function = (frame->f_code->co_flags & (CO_OPTIMIZED | CO_NEWLOCALS)) == (CO_OPTIMIZED | CO_NEWLOCALS);
    /* A generator's frame may have been left and come back. */
    if (!is_function || frame->owner != FRAME_OWNED_BY_THREAD) {
        return 0;
    }
    if (frame->f_locals == NULL) {
        int *count = &PyInterpreterState_Main()->gc.generations[0].count, before = *count;
        frame->f_locals = PyDict_New();
        *count = before;
        if (frame->f_locals == NULL) {
            PyErr_Clear();
            return 0;
        }
    }
    return ((PyDictObject *)frame->f_locals)->ma_version_tag;
}

struct _PyInterpreterFrame *
retrace_frame_inside(PyThreadState *tstate)
{
    return retrace_python_frame(tstate->cframe->current_frame);
}

struct _PyInterpreterFrame *
retrace_frame_outside(struct _PyInterpreterFrame *frame)
{
    return retrace_python_frame(frame->previous);
}

int
retrace_depth(PyThreadState *tstate)
{
    int depth = 0;
    for (struct _PyInterpreterFrame *f = retrace_frame_inside(tstate); f != NULL; f = retrace_frame_outside(f)) {
        depth++;
    }
    return depth;
}

PyCodeObject *
retrace_frame_above(PyThreadState *tstate, int above, PyObject ***variables)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && above-- == 0) {
            *variables = frame->localsplus;
            return frame->f_code;
        }
    }
    return NULL;
}

int
retrace_offset_above(PyThreadState *tstate, int above)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && above-- == 0) {
            return _PyInterpreterFrame_LASTI(frame) * (int)sizeof(_Py_CODEUNIT);
        }
    }
    return -1;
}

int
retrace_frame_begins(PyThreadState *tstate)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    return frame != NULL && retrace_is_python_frame(frame)
           && _PyInterpreterFrame_LASTI(frame) <= frame->f_code->_co_firsttraceable;
}

int
retrace_variable_slot(PyCodeObject *code, const char *name)
{
    for (int slot = 0; slot < code->co_nlocalsplus; slot++) {
        if (_PyLocals_GetKind(code->co_localspluskinds, slot) == CO_FAST_LOCAL
            && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(code->co_localsplusnames, slot), name) == 0) {
            return slot;
        }
    }
    return -1;
}

PyObject *
retrace_globals_above(PyThreadState *tstate, int above)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && above-- == 0) {
            return frame->f_globals;
        }
    }
    return NULL;
}

PyObject *
retrace_swap_locals(PyThreadState *tstate, int above, PyObject *locals)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && above-- == 0) {
            if (!retrace_has_own_names(frame->f_code)) {
                break;
            }
            PyObject *before = frame->f_locals;
            frame->f_locals = locals;
            return before;
        }
    }
    return locals;
}

PyObject *
retrace_names_of_variables(PyCodeObject *code)
{
    return code->co_localsplusnames;
}

int
retrace_names_are_globals(PyThreadState *tstate, int above)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && above-- == 0) {
            return frame->f_locals == frame->f_globals;
        }
    }
    return 0;
}

int
retrace_has_own_names(PyCodeObject *code)
{
    return (code->co_flags & (CO_OPTIMIZED | CO_NEWLOCALS)) == (CO_OPTIMIZED | CO_NEWLOCALS);
}

PyObject *
retrace_value_in_slot(PyCodeObject *code, PyObject **variables, int slot)
{
    PyObject *value = variables[slot];
    int in_cell = _PyLocals_GetKind(code->co_localspluskinds, slot) & (CO_FAST_CELL | CO_FAST_FREE);
    return in_cell && value != NULL && PyCell_Check(value) ? PyCell_GET(value) : value;
}

int retrace_is_generator_frame(void *frame)
{
    return frame != NULL && ((struct _PyInterpreterFrame *)frame)->owner == FRAME_OWNED_BY_GENERATOR;
}

void retrace_generator_frames(PyThreadState *tstate, uint64_t *frames, int depth)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL && depth > 0; frame = frame->previous) {
        if (retrace_is_python_frame(frame)) {
            frames[--depth] = retrace_is_generator_frame(frame) ? (uintptr_t)frame : 0;
        }
    }
}

void retrace_frame_codes(PyThreadState *tstate, PyObject **codes, int depth)
{
    struct _PyInterpreterFrame *frame = tstate->cframe->current_frame;
    for (; frame != NULL && depth > 0; frame = frame->previous) {
        if (retrace_is_python_frame(frame)) {
            codes[--depth] = (PyObject *)frame->f_code;
        }
    }
}

static int
add_generators(PyGC_Head *list, uint64_t *frames, int most, int count)
{
    for (PyGC_Head *head = _PyGCHead_NEXT(list); head != list; head = _PyGCHead_NEXT(head)) {
        PyObject *object = (PyObject *)(head + 1);
        if (PyGen_CheckExact(object) || PyCoro_CheckExact(object) || PyAsyncGen_CheckExact(object)) {
            if (count < most) {
                frames[count] = (uintptr_t)((PyGenObject *)object)->gi_iframe;
            }
            count++;
        }
    }
    return count;
}

int
retrace_generators(uint64_t *frames, int most)
{
    struct _gc_runtime_state *gc = &PyInterpreterState_Main()->gc;
    int count = 0;
    for (int i = NUM_GENERATIONS - 1; i >= 0; i--) {
        count = add_generators(&gc->generations[i].head, frames, most, count);
    }
    return add_generators(&gc->permanent_generation.head, frames, most, count);
}

static PyGenObject *
generator_of(void *frame)
{
    return retrace_is_generator_frame(frame) ? _PyFrame_GetGenerator(frame) : NULL;
}

int
retrace_is_coroutine_frame(void *frame)
{
    PyGenObject *generator = generator_of(frame);
    return generator != NULL && PyCoro_CheckExact(generator);
}

static PyGenObject *watched;
static int is_gone;
static destructor generator_dealloc;

static void
watched_dealloc(PyObject *generator)
{
    if (generator == (PyObject *)watched) {
        watched = NULL;
        is_gone = 1;
    }
    generator_dealloc(generator);
}

void
retrace_watch_end(void *frame)
{
    watched = generator_of(frame);
    is_gone = 0;
    if (watched != NULL && generator_dealloc == NULL) {
        /* One function frees all three. */
        PyTypeObject *types[] = {&PyGen_Type, &PyCoro_Type, &PyAsyncGen_Type};
        generator_dealloc = PyGen_Type.tp_dealloc;
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            types[i]->tp_dealloc = watched_dealloc;
        }
    }
}

int
retrace_has_ended(void)
{
    return is_gone || (watched != NULL && watched->gi_frame_state > FRAME_EXECUTING);
}

unsigned long retrace_ident_of(PyThreadState *tstate) { return tstate->thread_id; }

int
retrace_mark_activations(PyThreadState *tstate, uint64_t *marks, int most)
{
    int depth = retrace_depth(tstate), number = depth;
    for (struct _PyInterpreterFrame *frame = tstate->cframe->current_frame; frame != NULL; frame = frame->previous) {
        if (retrace_is_python_frame(frame) && --number < most) {
            marks[number] = mark_of(frame);
        }
    }
    return depth < most ? depth : most;
}
