/* See collector.h. */
#include "collector.h"
#include "identity_hash.h"
#include "version.h"
#include <limits.h>
#include <string.h>

static const int nothing_counted;
retrace_collector_view retrace_collector = {&nothing_counted, INT_MAX};

static struct _gc_runtime_state *gc; /* NULL: not installed */
static int program_threshold;        /* what the program believes generation 0's threshold to be */

/* The gc module's own function table. It is patched rather than function objects, so that it does not matter whether
 * the program has imported gc: importing it for our sake would show in sys.modules. */
static PyMethodDef *collect_def, *get_threshold_def, *set_threshold_def;
static PyMethodDef get_threshold_original, set_threshold_original;

static void
show_program_threshold(int threshold)
{
    program_threshold = threshold;
    gc->generations[0].threshold = INT_MAX;
    retrace_collector.limit = threshold != 0 ? threshold : INT_MAX; /* 0 turns automatic collection off */
}

/* Modules/gcmodule.c, gc_get_threshold_impl */
static PyObject *
get_threshold(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(iii)", program_threshold, gc->generations[1].threshold, gc->generations[2].threshold);
}

static PyObject *
set_threshold(PyObject *module, PyObject *args)
{
    PyObject *result = set_threshold_original.ml_meth(module, args);
    /* It writes argument by argument: where a later one is bad, the earlier ones are in force. */
    if (result != NULL || gc->generations[0].threshold != INT_MAX) {
        show_program_threshold(gc->generations[0].threshold);
    }
    return result;
}

/* The function table of the builtin module gc: borrowed, static; NULL if this interpreter keeps it elsewhere. */
static PyMethodDef *
gc_methods(void)
{
    for (struct _inittab *entry = PyImport_Inittab; entry != NULL && entry->name != NULL; entry++) {
        if (strcmp(entry->name, "gc") == 0) {
            /* A module of multi-phase initialisation: this only answers its definition (PEP 489). */
            PyObject *def = entry->initfunc();
            return def != NULL && Py_IS_TYPE(def, &PyModuleDef_Type) ? ((PyModuleDef *)def)->m_methods : NULL;
        }
    }
    return NULL;
}

static PyMethodDef *
find_method(PyMethodDef *methods, const char *name, int flags)
{
    for (PyMethodDef *method = methods; method != NULL && method->ml_name != NULL; method++) {
        if (strcmp(method->ml_name, name) == 0) {
            return method->ml_flags == flags ? method : NULL;
        }
    }
    return NULL;
}

static void
replace_method(PyMethodDef *def, PyMethodDef *original, PyCFunction ours)
{
    PyMethodDef hooked = *def;
    hooked.ml_meth = ours;
    *original = *def;
    retrace_identity_alias(&hooked, original); /* takes the pointers out of it */
    def->ml_meth = ours;
}

int
retrace_collector_install(void)
{
    if (gc != NULL) {
        return 0;
    }
    PyMethodDef *methods = gc_methods();
    collect_def = find_method(methods, "collect", METH_FASTCALL | METH_KEYWORDS);
    get_threshold_def = find_method(methods, "get_threshold", METH_NOARGS);
    set_threshold_def = find_method(methods, "set_threshold", METH_VARARGS);
    struct _gc_runtime_state *state = retrace_gc_state();
    if (collect_def == NULL || get_threshold_def == NULL || set_threshold_def == NULL ||
        state->generation0 != &state->generations[0].head) {
        return -1;
    }
    gc = state;
    replace_method(get_threshold_def, &get_threshold_original, get_threshold);
    replace_method(set_threshold_def, &set_threshold_original, set_threshold);
    retrace_collector.count = &gc->generations[0].count;
    show_program_threshold(gc->generations[0].threshold);
    retrace_forget_scheduled_collection();
    return 0;
    /* Missing on purpose: a bound for programs that make garbage and never cross the boundary (13 MB became 196 MB).
     * It belongs to the asynchronous points: a helper thread polls `count` and asks for one, and what it finds is
     * logged with a fingerprint like a preemption. Nothing here may collect on its own. */
}

void
retrace_collector_uninstall(void)
{
    if (gc == NULL) {
        return;
    }
    get_threshold_def->ml_meth = get_threshold_original.ml_meth;
    set_threshold_def->ml_meth = set_threshold_original.ml_meth;
    gc->generations[0].threshold = program_threshold;
    retrace_collector = (retrace_collector_view){&nothing_counted, INT_MAX};
    gc = NULL;
}

/* Modules/gcmodule.c, gc_collect_generations, and the conditions of its callers: _PyObject_GC_Link in 3.11,
 * _PyObject_GC_Link and _Py_RunGC in 3.12. */
int
retrace_collector_choose(void)
{
    if (!gc->enabled || gc->collecting || PyErr_Occurred()) {
        return -1;
    }
    for (int i = NUM_GENERATIONS - 1; i >= 0; i--) {
        int threshold = i > 0 ? gc->generations[i].threshold : retrace_collector.limit;
        if (gc->generations[i].count <= threshold) {
            continue;
        }
        /* A full collection only when there is enough that it has not seen (quadratic otherwise: bpo-4074). */
        if (i == NUM_GENERATIONS - 1 && gc->long_lived_pending < gc->long_lived_total / 4) {
            continue;
        }
        return i;
    }
    return -1;
}

Py_ssize_t
retrace_collect(int generation)
{
    if (gc == NULL || generation < 0 || generation >= NUM_GENERATIONS) {
        return 0;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    /* gc.collect(generation): what an automatic collection does too, gc_collect_with_callback. A number this small is
     * not allocated. */
    PyObject *argument = PyLong_FromLong(generation);
    _PyCFunctionFastWithKeywords collect = (_PyCFunctionFastWithKeywords)(void (*)(void))collect_def->ml_meth;
    PyObject *result = collect(NULL, &argument, 1, NULL);
    Py_DECREF(argument);
    Py_ssize_t found = result != NULL ? PyLong_AsSsize_t(result) : 0;
    Py_XDECREF(result);
    PyErr_Restore(type, value, traceback);
    return found;
}
