/* CPython 3.12: included by version.h only. */

#define RETRACE_FRAME_FUNCTION f_funcobj

/* What makes a code object without an audit event. */
#define RETRACE_NEW_CODE PyUnstable_Code_NewWithPosOnlyArgs

#include "pycore_frame.h"
#include "pycore_typeobject.h"

/* The type's dictionary: borrowed, or NULL before PyType_Ready. Builtin static types keep it in the interpreter. */
static inline PyObject *
retrace_type_dict(PyTypeObject *type)
{
    return _PyType_GetDict(type);
}

/* The type's dictionary of direct subclasses, {address: weakref}: borrowed, or NULL.
 * A builtin static type's tp_subclasses is its index (from 1) into the interpreter's array: Objects/typeobject.c,
 * static_builtin_index_get and lookup_tp_subclasses, which libpython does not export. */
static inline PyObject *
retrace_type_subclasses(PyTypeObject *type)
{
    if (type->tp_flags & _Py_TPFLAGS_STATIC_BUILTIN) {
        size_t index = (size_t)type->tp_subclasses;
        if (index == 0 || index > _Py_MAX_STATIC_BUILTIN_TYPES) {
            return NULL;
        }
        static_builtin_state *state = &PyInterpreterState_Main()->types.builtins[index - 1];
        return state->type == type ? state->tp_subclasses : NULL; /* else: another patch version's layout */
    }
    return type->tp_subclasses;
}

/* The attributes of an instance whose class manages its dictionary, without making it real.
 * Sets `*dict` (borrowed, or NULL), or `*values` where they lie inline, in the order of the class's shared keys. */
static inline void
retrace_managed_attributes(PyObject *instance, PyObject **dict, PyDictValues **values)
{
    PyDictOrValues attributes = *_PyObject_DictOrValuesPointer(instance);
    if (_PyDictOrValues_IsValues(attributes)) {
        *dict = NULL;
        *values = _PyDictOrValues_GetValues(attributes);
    }
    else {
        *dict = _PyDictOrValues_GetDict(attributes);
        *values = NULL;
    }
}

/* Forgets a collection that an allocation asked for: the eval breaker would run it without looking at `enabled`. */
static inline void
retrace_forget_scheduled_collection(void)
{
    _Py_atomic_store_relaxed(&PyInterpreterState_Main()->ceval.gc_scheduled, 0);
}

/* As an allocation does: a collection runs where signals are looked for next. Returns 0 where this version has no such
 * thing. */
static inline int
retrace_schedule_collection(void)
{
    _Py_atomic_store_relaxed(&PyInterpreterState_Main()->ceval.gc_scheduled, 1);
    _Py_atomic_store_relaxed(&PyInterpreterState_Main()->ceval.eval_breaker, 1);
    return 1;
}

/* The GIL of an interpreter: 3.12 may give each its own. */
static inline struct _gil_runtime_state *
retrace_version_gil(PyInterpreterState *interpreter)
{
    return interpreter->ceval.gil;
}

/* An int's digits of PyLong_SHIFT bits, the lowest first; `*negative` is its sign. Returns how many there are.
 * Include/internal/pycore_long.h: the low bits of lv_tag are 0 for positive, 1 for zero, 2 for negative. */
static inline size_t
retrace_int_digits(PyObject *number, const digit **digits, int *negative)
{
    uintptr_t tag = ((PyLongObject *)number)->long_value.lv_tag;
    *digits = ((PyLongObject *)number)->long_value.ob_digit;
    *negative = (tag & 3) == 2;
    return tag >> 3;
}

/* Whether `frame` runs Python code: the evaluation loop keeps one of its own below each of its entries. */
static inline int
retrace_is_python_frame(struct _PyInterpreterFrame *frame)
{
    return frame->owner != FRAME_OWNED_BY_CSTACK;
}

/* Include/internal/pycore_range.h, _PyRangeIterObject, and Objects/rangeobject.c, longrangeiterobject. */
typedef struct {
    PyObject_HEAD
    long start, step, len;
} retrace_range_iterator;
typedef struct {
    PyObject_HEAD
    PyObject *numbers[3]; /* start, step, len */
} retrace_long_range_iterator;

/* Modules/itertoolsmodule.c, teeobject. */
typedef struct {
    PyObject_HEAD
    PyObject *data;
    int index;
    PyObject *weakrefs;
    void *state;
} retrace_tee;
