/* What the hooks need of CPython's internal headers, and nothing else. Why each is in C:
 *   retrace_shim_init          finds addresses inside _PyRuntime, whose layout depends on the platform's pthread types
 *   retrace_evaluator          PyInterpreterState.eval_frame, likewise
 *   retrace_frame_callable     reads frames and generators through the internal structures
 *   retrace_dict_version       reads PyDictObject
 *   retrace_dict_slot          managed dictionaries lie before the object, differently in each version
 *   retrace_hash_secret        _Py_HashSecret is not in any binding
 *   retrace_remove_audit_hook  unlinks an entry of the runtime's list
 *   retrace_str_data / _new    PyASCIIObject's bit fields
 *   retrace_long_*             PyLongObject differs in each version, and its byte form is private
 *   retrace_code_new           what makes a code object has another name in each version
 *   retrace_code_names         reads PyCodeObject, at every line of a debugged stretch: too often for attributes
 *   retrace_hide_frames        writes a field of PyCodeObject
 *   retrace_collector_*        give Rust what collector.h gives C inline
 * All are called with the GIL held. References are borrowed unless said otherwise. */
#include <Python.h>
#include <dlfcn.h>
#include <string.h>
#include "pycore_code.h"
#include "pycore_dict.h"
#include "pycore_frame.h"
#include "pycore_interp.h"
#include "pycore_object.h"
#include "pycore_runtime.h"
#include "structmember.h"
#include "version.h"
#include "collector.h"
#include "shim.h"

static const char *error;
static PyInterpreterState *interpreter;

const char *retrace_shim_error(void) { return error; }

int retrace_shim_init(void)
{
    if (retrace_version_init(&error) < 0)
        return -1;
    interpreter = PyInterpreterState_Main();
    if (interpreter == NULL) {
        error = "the interpreter is not initialised";
        return -1;
    }
    return 0;
}

/* ---- the frame evaluator, armed only while external code runs (PEP 523) ---- */

_PyFrameEvalFunction *retrace_evaluator(void) { return &interpreter->eval_frame; }

PyObject *retrace_eval_default(PyThreadState *tstate, struct _PyInterpreterFrame *frame, int throwing)
{
    return _PyEval_EvalFrameDefault(tstate, frame, throwing);
}

void retrace_frame_callable(struct _PyInterpreterFrame *frame, struct retrace_frame_callable *into)
{
    PyCodeObject *code = frame->f_code;
    memset(into, 0, sizeof *into);
    into->code = (PyObject *)code;
    into->locals = frame->localsplus;
    into->positional = code->co_argcount;
    into->keyword_only = code->co_kwonlyargcount;
    int next = code->co_argcount + code->co_kwonlyargcount;
    into->varargs = code->co_flags & CO_VARARGS ? next++ : -1;
    into->varkeywords = code->co_flags & CO_VARKEYWORDS ? next : -1;
    if (frame->owner == FRAME_OWNED_BY_GENERATOR) {
        into->is_generator = 1;
        into->callable = (PyObject *)((char *)frame - offsetof(PyGenObject, gi_iframe));
        if (frame->stacktop > 0)
            into->sent = frame->localsplus[frame->stacktop - 1];
    }
    else
        into->callable = (PyObject *)frame->RETRACE_FRAME_FUNCTION;
}

/* ---- objects ---- */

PyObject *retrace_dict_of_type(PyTypeObject *type) { return retrace_type_dict(type); }

uint64_t retrace_dict_version(PyObject *dict) { return ((PyDictObject *)dict)->ma_version_tag; }

PyObject **retrace_dict_slot(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_dictoffset == 0 && !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT))
        return NULL;
    return _PyObject_GetDictPtr(object); /* makes a managed dictionary real */
}

uint8_t *retrace_hash_secret(size_t *size)
{
    *size = sizeof _Py_HashSecret;
    return (uint8_t *)&_Py_HashSecret;
}

void retrace_remove_audit_hook(void *hook)
{
    for (_Py_AuditHookEntry **link = retrace_audit_hooks(); *link != NULL; link = &(*link)->next)
        if ((void *)(*link)->hookCFunction == hook) {
            /* Not freed: we may be called from the very loop that will read its `next`. */
            *link = (*link)->next;
            return;
        }
}

Py_ssize_t retrace_structseq_fields(PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_TUPLE_SUBCLASS))
        return -1;
    static PyObject *fields, *visible;
    if (fields == NULL)
        fields = PyUnicode_InternFromString("n_fields");
    if (visible == NULL)
        visible = PyUnicode_InternFromString("n_sequence_fields");
    if (fields == NULL || visible == NULL) {
        PyErr_Clear();
        return -1;
    }
    PyObject *n = PyDict_GetItem(retrace_type_dict(type), fields);
    if (n == NULL || !PyLong_CheckExact(n) || PyDict_GetItem(retrace_type_dict(type), visible) == NULL)
        return -1;
    return PyLong_AsSsize_t(n);
}

const uint8_t *retrace_str_data(PyObject *s, Py_ssize_t *length, int *kind)
{
    if (PyUnicode_READY(s) < 0) {
        PyErr_Clear();
        return NULL;
    }
    *length = PyUnicode_GET_LENGTH(s);
    *kind = PyUnicode_IS_ASCII(s) ? 0 : PyUnicode_KIND(s);
    return PyUnicode_DATA(s);
}

/* Returns a new reference, or NULL with an exception set. */
PyObject *retrace_str_new(int kind, const uint8_t *data, Py_ssize_t length)
{
    static const Py_UCS4 widest[] = {0x7f, 0xff, 0xffff, 0, 0x10ffff};
    PyObject *s = PyUnicode_New(length, widest[kind]);
    if (s != NULL && length > 0)
        memcpy(PyUnicode_DATA(s), data, (size_t)length * (kind ? kind : 1));
    return s;
}

int retrace_long_to_bytes(PyObject *l, uint8_t *bytes, size_t size)
{
    return _PyLong_AsByteArray((PyLongObject *)l, bytes, size, 1, 1);
}

/* Returns a new reference, or NULL with an exception set. */
PyObject *retrace_long_from_bytes(const uint8_t *bytes, size_t size)
{
    return _PyLong_FromByteArray(bytes, size, 1, 1);
}

const int *retrace_collector_count(void) { return retrace_collector.count; }
const int *retrace_collector_limit(void) { return &retrace_collector.limit; }
int retrace_collector_due_now(void) { return retrace_collector_choose(); }

/* A code object of what its attributes say, in the order of its type's arguments: a new reference, or NULL with an
 * exception. The type itself would raise an audit event. */
PyObject *retrace_code_new(PyObject *fields)
{
    enum { CODE = 6, CONSTANTS, NAMES, VARIABLES, FILE_NAME, NAME, QUALIFIED_NAME, LINE, LINES, EXCEPTIONS, FREE, CELLS, COUNT };
    PyObject *f[COUNT];
    int numbers[CODE], line;
    if (PyTuple_GET_SIZE(fields) != COUNT) {
        PyErr_SetString(PyExc_TypeError, "a code object has other fields here");
        return NULL;
    }
    for (int i = 0; i < COUNT; i++) {
        f[i] = PyTuple_GET_ITEM(fields, i);
        int fits = i < CODE || i == LINE ? PyLong_CheckExact(f[i])
            : i == CODE || i == LINES || i == EXCEPTIONS ? PyBytes_CheckExact(f[i])
            : i == FILE_NAME || i == NAME || i == QUALIFIED_NAME ? PyUnicode_CheckExact(f[i]) : PyTuple_CheckExact(f[i]);
        if (!fits) {
            PyErr_SetString(PyExc_TypeError, "a field of a code object has another type here");
            return NULL;
        }
        if (i < CODE)
            numbers[i] = _PyLong_AsInt(f[i]);
    }
    line = _PyLong_AsInt(f[LINE]);
    if (PyErr_Occurred())
        return NULL;
    return (PyObject *)RETRACE_NEW_CODE(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], f[CODE],
                                        f[CONSTANTS], f[NAMES], f[VARIABLES], f[FREE], f[CELLS], f[FILE_NAME], f[NAME],
                                        f[QUALIFIED_NAME], line, f[LINES], f[EXCEPTIONS]);
}

void retrace_code_names(PyObject *code, PyObject *names[3])
{
    PyCodeObject *of = (PyCodeObject *)code;
    names[0] = of->co_filename;
    names[1] = of->co_name;
    names[2] = of->co_qualname;
}

/* A frame that has not come to its code's first traceable instruction counts as not begun (_PyFrame_IsIncomplete,
 * Include/internal/pycore_frame.h), and nobody is shown it. */
void retrace_hide_frames(PyObject *code) { ((PyCodeObject *)code)->_co_firsttraceable = (int)Py_SIZE(code); }

int retrace_long_as_i64(PyObject *l, int64_t *value)
{
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(l, &overflow);
    *value = v;
    return overflow == 0;
}
