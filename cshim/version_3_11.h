/* CPython 3.11: included by version.h only. */
/* What makes a code object without an audit event. */
#define RETRACE_NEW_CODE PyCode_NewWithPosOnlyArgs

#include "pycore_frame.h"

#define RETRACE_FRAME_FUNCTION f_func

/* Where this thread state is kept, and which opcodes are PRECALL: version_3_11.c. */
extern _Atomic(uintptr_t) *retrace_current_tstate;
extern uint8_t retrace_is_precall[256];

/* The type's dictionary: borrowed, or NULL before PyType_Ready. */
static inline PyObject *
retrace_type_dict(PyTypeObject *type)
{
    return type->tp_dict;
}

/* The type's dictionary of direct subclasses, {address: weakref}: borrowed, or NULL. */
static inline PyObject *
retrace_type_subclasses(PyTypeObject *type)
{
    return type->tp_subclasses;
}

/* The attributes of an instance whose class manages its dictionary, without making it real.
 * Sets `*dict` (borrowed, or NULL), or `*values` where they lie inline, in the order of the class's shared keys. */
static inline void
retrace_managed_attributes(PyObject *instance, PyObject **dict, PyDictValues **values)
{
    *dict = *_PyObject_ManagedDictPointer(instance);
    *values = *_PyObject_ValuesPointer(instance);
}

/* Forgets a collection that an allocation asked for: 3.11 collects inside the allocation, none can be pending. */
static inline void
retrace_forget_scheduled_collection(void)
{
}

/* As an allocation does in 3.12. */
static inline int
retrace_schedule_collection(void)
{
    return 0;
}

/* The GIL of an interpreter: 3.11 has one for all. */
static inline struct _gil_runtime_state *
retrace_version_gil(PyInterpreterState *Py_UNUSED(interpreter))
{
    return &_PyRuntime.ceval.gil;
}

/* An int's digits of PyLong_SHIFT bits, the lowest first; `*negative` is its sign. Returns how many there are. */
static inline size_t
retrace_int_digits(PyObject *number, const digit **digits, int *negative)
{
    Py_ssize_t size = Py_SIZE(number);
    *digits = ((PyLongObject *)number)->ob_digit;
    *negative = size < 0;
    return (size_t)(size < 0 ? -size : size);
}

/* Whether `frame` runs Python code. */
static inline int
retrace_is_python_frame(struct _PyInterpreterFrame *Py_UNUSED(frame))
{
    return 1;
}

/* Objects/rangeobject.c, rangeiterobject and longrangeiterobject. */
typedef struct {
    PyObject_HEAD
    long index, start, step, len;
} retrace_range_iterator;
typedef struct {
    PyObject_HEAD
    PyObject *numbers[4]; /* index, start, step, len */
} retrace_long_range_iterator;

/* Modules/itertoolsmodule.c, teeobject. */
typedef struct {
    PyObject_HEAD
    PyObject *data;
    int index;
    PyObject *weakrefs;
} retrace_tee;
