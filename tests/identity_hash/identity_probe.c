/* The shim's identity hashes and collector control as a Python module of their own, for the tests beside this file. */
#include "collector.h"
#include "identity_hash.h"
#include "version.h"

static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    if (retrace_identity_install() < 0) {
        PyErr_SetString(PyExc_RuntimeError, retrace_identity_error());
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    retrace_identity_stats s;
    retrace_identity_read_stats(&s);
    return Py_BuildValue("{sK sK sK sK sK sK sK sK sK sK sK sK sK sK sz}", "entries", s.entries, "capacity", s.capacity,
                         "named", s.named, "unnamed", s.unnamed, "program_numbers", s.program_numbers,
                         "external_numbers", s.external_numbers, "dropped", s.dropped, "watched_deallocs",
                         s.watched_deallocs, "unwatched_types", s.unwatched_types, "types_patched", s.types_patched,
                         "dicts_rehashed", s.dicts_rehashed, "sets_rehashed", s.sets_rehashed, "hashes_refreshed",
                         s.hashes_refreshed, "rehash_errors", s.rehash_errors, "unwatched_type", s.unwatched_type);
}

static PyObject *
of(PyObject *Py_UNUSED(module), PyObject *object)
{
    Py_hash_t number = retrace_identity_of(object);
    return number == -1 ? NULL : PyLong_FromSsize_t(number);
}

static PyObject *
external(PyObject *Py_UNUSED(module), PyObject *on)
{
    return PyBool_FromLong(retrace_identity_external(PyObject_IsTrue(on)));
}

static PyObject *
extension_loaded(PyObject *Py_UNUSED(module), PyObject *extension)
{
    retrace_identity_extension_loaded(extension);
    Py_RETURN_NONE;
}

/* hook(builtin): gives `builtin` (and only that object) a definition with another ml_meth, as the hooks do. */
static PyObject *
hook(PyObject *Py_UNUSED(module), PyObject *builtin)
{
    static PyMethodDef copies[8];
    static int used;
    PyCFunctionObject *function = (PyCFunctionObject *)builtin;
    PyMethodDef *copy = &copies[used++];
    *copy = *function->m_ml;
    copy->ml_meth = (PyCFunction)(void (*)(void))((char *)hook + used); /* never called */
    retrace_identity_alias(copy, function->m_ml);
    function->m_ml = copy;
    Py_RETURN_NONE;
}

static PyObject *
collector_install(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(retrace_collector_install(NULL));
}

static PyObject *
collector_uninstall(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    retrace_collector_uninstall();
    Py_RETURN_NONE;
}

static PyObject *
due(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(retrace_collector_due());
}

static PyObject *
collect(PyObject *Py_UNUSED(module), PyObject *generation)
{
    return PyLong_FromSsize_t(retrace_collect((int)PyLong_AsLong(generation)));
}

/* collect_while_raising(generation): whether an exception that is set survives the collection. */
static PyObject *
collect_while_raising(PyObject *Py_UNUSED(module), PyObject *generation)
{
    PyErr_SetString(PyExc_KeyError, "kept");
    retrace_collect((int)PyLong_AsLong(generation));
    int kept = PyErr_ExceptionMatches(PyExc_KeyError);
    PyErr_Clear();
    return PyBool_FromLong(kept);
}

/* raw_threshold(): CPython's own threshold of generation 0. */
static PyObject *
raw_threshold(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(retrace_gc_state()->generations[0].threshold);
}

static PyMethodDef methods[] = {
    {"install", install, METH_NOARGS, NULL},
    {"stats", stats, METH_NOARGS, NULL},
    {"of", of, METH_O, NULL},
    {"external", external, METH_O, NULL},
    {"extension_loaded", extension_loaded, METH_O, NULL},
    {"hook", hook, METH_O, NULL},
    {"collector_install", collector_install, METH_NOARGS, NULL},
    {"collector_uninstall", collector_uninstall, METH_NOARGS, NULL},
    {"due", due, METH_NOARGS, NULL},
    {"collect", collect, METH_O, NULL},
    {"collect_while_raising", collect_while_raising, METH_O, NULL},
    {"raw_threshold", raw_threshold, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "identity_probe", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_identity_probe(void)
{
    return PyModule_Create(&definition);
}

/* What collector.c refers to of the schedule, which is not here. */
void retrace_collection_due(void);
void retrace_collection_due(void) {}
