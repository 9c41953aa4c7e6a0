/* See collector.h. */
#include "collector.h"
#include "identity_hash.h"
#include "version.h"
#include "gil.h"
#include <limits.h>
#include <string.h>
#include <unwind.h>

static const int nothing_counted;
retrace_collector_view retrace_collector = {&nothing_counted, INT_MAX};

static struct _gc_runtime_state *gc; /* NULL: not installed */
static int program_threshold;        /* what the program believes generation 0's threshold to be */

/* The gc module's own function table. It is patched rather than function objects, so that it does not matter whether
 * the program has imported gc: importing it for our sake would show in sys.modules. */
static PyMethodDef *collect_def, *get_threshold_def, *set_threshold_def;
static PyMethodDef collect_original, get_threshold_original, set_threshold_original;

/* How many thresholds' worth of objects may pile up between two hooked calls. A collection at a hooked call costs the
 * replay nothing; one between two calls has to be found again by its fingerprint, so these should be few; test_gc and its
 * like count on a collection within some ten thousand allocations. */
#define BACKSTOP 8
#define BACKSTOP_FLOOR 5600 /* of the default threshold, so that a small one does not make many */
/* Who asks for a threshold of at most this counts on a collection right after the next allocation. */
#define EAGER 16

void (*retrace_collected)(void);
static retrace_collector_observer observer;
static int explicit_collection;      /* depth of collections that somebody asked for */
static PyObject *program_callbacks;  /* the list that the program knows as gc.callbacks: owned */
static PyObject *our_callbacks;      /* what the collector has instead while we observe it: owned, untracked */

/* The threshold that CPython itself goes by. */
static int
native_threshold(void)
{
    if (observer == NULL || program_threshold > INT_MAX / BACKSTOP) {
        return INT_MAX;
    }
    if (program_threshold > 0 && program_threshold <= EAGER) {
        return program_threshold;
    }
    return program_threshold == 0 || program_threshold * BACKSTOP > BACKSTOP_FLOOR ? program_threshold * BACKSTOP : BACKSTOP_FLOOR;
}

static void
show_program_threshold(int threshold)
{
    program_threshold = threshold;
    gc->generations[0].threshold = native_threshold();
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
    if (result != NULL || gc->generations[0].threshold != native_threshold()) {
        show_program_threshold(gc->generations[0].threshold);
    }
    return result;
}

static PyObject *
collect(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    explicit_collection++;
    PyObject *result =
        ((_PyCFunctionFastWithKeywords)(void (*)(void))collect_original.ml_meth)(module, args, nargs, names);
    explicit_collection--;
    if (retrace_collected != NULL) {
        retrace_collected();
    }
    return result;
}

/* ---- a collection that CPython begins by itself is put off ----
 *
 * It begins inside some allocation (3.11) or wherever signals are looked for (3.12), which no replay can find again. The
 * collector cannot be told to wait, but it finds nothing to do where there are no objects: they are put aside before it
 * looks and put back after it has, with all that it counts. Where it looked at a check of the eval breaker (3.12, as a
 * rule) the collection follows at once; elsewhere the observer asks for one at the next check. Modules/gcmodule.c,
 * gc_collect_main, says what it counts. */
static struct {
    int active;
    PyGC_Head objects[NUM_GENERATIONS];
    int counts[NUM_GENERATIONS];
    Py_ssize_t long_lived_total, long_lived_pending;
    struct gc_generation_stats stats[NUM_GENERATIONS];
} aside;

static void
empty_list(PyGC_Head *list)
{
    list->_gc_next = list->_gc_prev = (uintptr_t)list;
}

/* Moves all of `from` to the front of `to`. */
static void
move_objects(PyGC_Head *from, PyGC_Head *to)
{
    if (from->_gc_next == (uintptr_t)from) {
        return;
    }
    PyGC_Head *first = (PyGC_Head *)from->_gc_next, *last = (PyGC_Head *)from->_gc_prev;
    PyGC_Head *follower = (PyGC_Head *)to->_gc_next;
    last->_gc_next = (uintptr_t)follower;
    if (follower == to) {
        to->_gc_prev = (uintptr_t)last;
    }
    else {
        _PyGCHead_SET_PREV(follower, last);
    }
    _PyGCHead_SET_PREV(first, to);
    to->_gc_next = (uintptr_t)first;
    empty_list(from);
}

static void
put_aside(void)
{
    aside.active = 1;
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        empty_list(&aside.objects[i]);
        move_objects(&gc->generations[i].head, &aside.objects[i]);
        aside.counts[i] = gc->generations[i].count;
        aside.stats[i] = gc->generation_stats[i];
    }
    aside.long_lived_total = gc->long_lived_total;
    aside.long_lived_pending = gc->long_lived_pending;
}

static void
put_back(void)
{
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        move_objects(&aside.objects[i], &gc->generations[i].head);
        gc->generations[i].count = aside.counts[i];
        gc->generation_stats[i] = aside.stats[i];
    }
    gc->long_lived_total = aside.long_lived_total;
    gc->long_lived_pending = aside.long_lived_pending;
    aside.active = 0;
    /* Until it is made up for. */
    gc->generations[0].threshold = INT_MAX;
}

/* The class is not among its bases' subclasses any more, where that can be done. */
static void
hide_class(PyTypeObject *class)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(class->tp_bases); i++) {
        PyObject *subclasses = retrace_type_subclasses((PyTypeObject *)PyTuple_GET_ITEM(class->tp_bases, i));
        PyObject *key = PyLong_FromVoidPtr(class);
        if (key == NULL || subclasses == NULL || PyDict_DelItem(subclasses, key) < 0) {
            PyErr_Clear();
        }
        Py_XDECREF(key);
    }
}

int
retrace_run_unseen(const char *source, const char *file, PyObject *globals)
{
    int threshold = gc->generations[0].threshold;
    PyObject_GC_UnTrack(globals);
    put_aside();
    gc->generations[0].threshold = INT_MAX;
    PyObject *code = Py_CompileString(source, file, Py_file_input);
    PyObject *done = code == NULL ? NULL : PyEval_EvalCode(code, globals, globals);
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        PyGC_Head *objects = &gc->generations[i].head;
        while (objects->_gc_next != (uintptr_t)objects) {
            PyObject_GC_UnTrack((PyGC_Head *)objects->_gc_next + 1);
        }
    }
    put_back();
    gc->generations[0].threshold = threshold;
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    PyObject *value;
    for (Py_ssize_t i = 0; PyDict_Next(globals, &i, NULL, &value);) {
        if (PyType_Check(value) && ((PyTypeObject *)value)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
            hide_class((PyTypeObject *)value);
        }
    }
    return 0;
}

/* ---- whether CPython has begun a collection at a check of the eval breaker ----
 *
 * Seen once, by provoking both kinds: the return addresses on the stack from `observe` on are the same until one lies in
 * what handles a check, or in what else looks for signals. */
#define CALLERS 16
struct callers {
    int n;
    uintptr_t addresses[CALLERS];
};

static struct {
    struct callers *into; /* while learning */
    int level;            /* how far up that return address lies */
    uintptr_t address;    /* 0: none was found */
} collecting_check;

static _Unwind_Reason_Code
step(struct _Unwind_Context *context, void *data)
{
    struct callers *callers = data;
    if (callers->n == CALLERS) {
        return _URC_END_OF_STACK;
    }
    callers->addresses[callers->n++] = (uintptr_t)_Unwind_GetIP(context);
    return _URC_NO_REASON;
}

static __attribute__((noinline)) int
begun_at_check(void)
{
    struct callers callers = {0};
    _Unwind_Backtrace(step, &callers);
    if (collecting_check.into != NULL) {
        *collecting_check.into = callers;
        return 0;
    }
    return collecting_check.address != 0 && callers.addresses[collecting_check.level] == collecting_check.address;
}

/* Has CPython begin a collection where signals are looked for next, whatever its counts and settings are. */
static int
provoke(struct callers *into, PyObject *code, PyObject *globals)
{
    int enabled = gc->enabled, count = gc->generations[0].count, threshold = gc->generations[0].threshold;
    *into = (struct callers){0};
    collecting_check.into = into;
    gc->enabled = 1;
    gc->generations[0].threshold = 1;
    gc->generations[0].count = 1000;
    int result = 0;
    if (retrace_schedule_collection()) {
        if (code == NULL) {
            result = PyErr_CheckSignals();
        }
        else {
            PyObject *value = PyEval_EvalCode(code, globals, globals);
            result = value != NULL ? 0 : -1;
            Py_XDECREF(value);
        }
    }
    retrace_forget_scheduled_collection();
    collecting_check.into = NULL;
    gc->enabled = enabled;
    gc->generations[0].threshold = threshold;
    gc->generations[0].count = count;
    return result;
}

int
retrace_collector_learn_checks(PyObject *code, PyObject *globals)
{
    struct callers elsewhere, at_check;
    if (gc == NULL || provoke(&elsewhere, NULL, NULL) < 0 || provoke(&at_check, code, globals) < 0) {
        return -1;
    }
    int level = 0;
    while (level < at_check.n && level < elsewhere.n && at_check.addresses[level] == elsewhere.addresses[level]) {
        level++;
    }
    if (level < at_check.n && level < elsewhere.n) {
        collecting_check.level = level;
        collecting_check.address = at_check.addresses[level];
    }
    return 0;
}

/* Whether CPython begins this collection because of what it counts. Py_FinalizeEx and PyGC_Collect collect in both
 * directions alike. Modules/gcmodule.c, gc_collect_generations. Generation 0 may not count enough any more: in 3.12 objects
 * go between the allocation that asks for a collection and the check that begins one. */
static int
is_automatic(PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *number = nargs == 2 && PyDict_Check(args[1]) ? PyDict_GetItemString(args[1], "generation") : NULL;
    long generation = number != NULL ? PyLong_AsLong(number) : -1;
    if (generation < 0 || generation >= NUM_GENERATIONS) {
        return 0;
    }
    if (generation == NUM_GENERATIONS - 1 && gc->long_lived_pending < gc->long_lived_total / 4) {
        return 0;
    }
    int threshold = gc->generations[generation].threshold;
    return (generation > 0 || threshold != 0) && gc->generations[generation].count > threshold;
}

/* The one entry of the collector's list of callbacks: puts off what CPython begins by itself, and does for the program's
 * own callbacks what Modules/gcmodule.c, invoke_gc_callback, does. */
static PyObject *
observe(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t nargs)
{
    if (aside.active) {
        put_back();
        if (begun_at_check()) {
            gc->collecting = 0; /* it has found nothing, and is over but for this */
            retrace_collection_due();
        }
        else if (observer != NULL) {
            observer();
        }
        Py_RETURN_NONE;
    }
    if (observer != NULL && explicit_collection == 0 && !_Py_IsFinalizing() && is_automatic(args, nargs)) {
        put_aside();
        Py_RETURN_NONE;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(program_callbacks); i++) {
        PyObject *callback = Py_NewRef(PyList_GET_ITEM(program_callbacks, i));
        PyObject *result = PyObject_Vectorcall(callback, args, nargs, NULL);
        if (result == NULL) {
            PyErr_WriteUnraisable(callback);
        }
        Py_XDECREF(result);
        Py_DECREF(callback);
    }
    Py_RETURN_NONE;
}

static PyMethodDef observe_def = {"observe", (PyCFunction)(void (*)(void))observe, METH_FASTCALL, NULL};

/* Puts our list of callbacks in the place of the program's. Returns 0, or -1 with nothing changed. */
static int
observe_collections(void)
{
    PyObject *function = PyCFunction_New(&observe_def, NULL);
    PyObject *list = PyList_New(0);
    if (gc->callbacks == NULL) {
        gc->callbacks = PyList_New(0);
    }
    if (function == NULL || list == NULL || gc->callbacks == NULL || PyList_Append(list, function) < 0) {
        PyErr_Clear();
        Py_XDECREF(function);
        Py_XDECREF(list);
        return -1;
    }
    /* Not for gc.get_objects() to find. */
    PyObject_GC_UnTrack(list);
    PyObject_GC_UnTrack(function);
    Py_DECREF(function);
    program_callbacks = Py_NewRef(gc->callbacks);
    our_callbacks = list;
    Py_SETREF(gc->callbacks, Py_NewRef(list));
    return 0;
}

void
retrace_collector_gc_module(PyObject *module)
{
    if (program_callbacks != NULL && PyObject_SetAttrString(module, "callbacks", program_callbacks) < 0) {
        PyErr_Clear();
    }
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
retrace_collector_install(retrace_collector_observer its_observer)
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
    if (its_observer != NULL && observe_collections() < 0) {
        gc = NULL;
        return -1;
    }
    observer = its_observer;
    replace_method(collect_def, &collect_original, (PyCFunction)(void (*)(void))collect);
    replace_method(get_threshold_def, &get_threshold_original, get_threshold);
    replace_method(set_threshold_def, &set_threshold_original, set_threshold);
    retrace_collector.count = &gc->generations[0].count;
    show_program_threshold(gc->generations[0].threshold);
    retrace_forget_scheduled_collection();
    return 0;
}

void
retrace_collector_uninstall(void)
{
    if (gc == NULL) {
        return;
    }
    if (our_callbacks != NULL && gc->callbacks == our_callbacks) {
        Py_SETREF(gc->callbacks, Py_NewRef(program_callbacks));
    }
    observer = NULL;
    collect_def->ml_meth = collect_original.ml_meth;
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

void retrace_count_object(int more) { PyInterpreterState_Main()->gc.generations[0].count += more; }

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
    PyObject *result = collect(NULL, &argument, 1, NULL);
    Py_DECREF(argument);
    /* What it has run may have ended the recording. */
    if (gc != NULL) {
        gc->generations[0].threshold = native_threshold();
    }
    Py_ssize_t found = result != NULL ? PyLong_AsSsize_t(result) : 0;
    Py_XDECREF(result);
    PyErr_Restore(type, value, traceback);
    return found;
}
