/* See free_watch.h. A type is watched from the first number of one of its instances on, in one of two ways:
 *
 * - tp_free, where the type's dealloc is known to end in Py_TYPE(self)->tp_free(self): classes freed by
 *   subtype_dealloc, metatypes (type_dealloc), exceptions, and types with a finalizer. Resurrection never gets there.
 *   subtype_dealloc itself may not be wrapped: it finds the base that really deallocates by comparing with itself.
 * - tp_dealloc through a pool of trampolines, one for each distinct dealloc, for all other types. What has a finalizer
 *   and is not subclassable (generators, ScandirIterator) may come back from it, but its weak references are cleared
 *   by then, so nobody holds its old hash.
 *
 * Tried and rejected: running tp_finalize before the dealloc, to see the resurrection first. FileIO's dealloc sets
 * `finalizing` before it calls its finalizer, so files left open no longer warned.
 */
#include "free_watch.h"
#include "identity_hash.h"
#include "identity_number.h"
#include <string.h>

uint64_t retrace_watched_deallocs;
uint64_t retrace_unwatched_types;
const char *retrace_unwatched_type;

static destructor subtype_dealloc;

/* ---- tp_free ---- */

static void
gc_free(void *object)
{
    retrace_identity_forget(object);
    PyObject_GC_Del(object);
}

static void
plain_free(void *object)
{
    retrace_identity_forget(object);
    PyObject_Free(object);
}

static int
is_free_watched(PyTypeObject *type)
{
    return type->tp_free == gc_free || type->tp_free == plain_free;
}

static int
watch_free(PyTypeObject *type)
{
    /* A C type with the GC flag, made from a spec on a watched class without it, would inherit no tp_free at all:
     * inherit_slots compares with PyObject_Free. Nobody derives a C type from a Python class with empty __slots__. */
    if (type->tp_free == PyObject_GC_Del) {
        type->tp_free = gc_free;
    }
    else if (type->tp_free == PyObject_Free) {
        type->tp_free = plain_free;
    }
    return is_free_watched(type);
}

static void
unwatch_free(PyTypeObject *type)
{
    type->tp_free = type->tp_free == gc_free ? PyObject_GC_Del : PyObject_Free;
}

static int
ends_in_tp_free(PyTypeObject *type)
{
    if (type->tp_dealloc == subtype_dealloc || type->tp_flags & Py_TPFLAGS_TYPE_SUBCLASS) {
        return 1;
    }
    if (type->tp_flags & Py_TPFLAGS_BASE_EXC_SUBCLASS) {
        return type != (PyTypeObject *)PyExc_MemoryError; /* has a free list */
    }
    if (!(type->tp_flags & Py_TPFLAGS_BASETYPE)) {
        return 0;
    }
    /* Element's dealloc relies on the trashcan, which looks whether tp_dealloc is its own. */
    return type->tp_finalize != NULL || strcmp(type->tp_name, "xml.etree.ElementTree.Element") == 0;
}

/* ---- tp_dealloc ---- */

enum { TRAMPOLINES = 256 };

static struct {
    destructor original;
    int has_trashcan;
} pool[TRAMPOLINES];

/* A dealloc, original or trampoline -> its slot in the pool + 1. */
static retrace_number_table pool_slots = RETRACE_EMPTY_TABLE;

static inline void
run_dealloc(int slot, PyObject *object)
{
    uint64_t number = retrace_is_main_interpreter() ? retrace_identity_peek(object) : 0;
    PyThreadState *trashcan = NULL;
    if (pool[slot].has_trashcan) {
        /* The original goes through the trashcan only where it is the type's own tp_dealloc, which it no longer is.
         * Include/cpython/object.h, Py_TRASHCAN_BEGIN_CONDITION; the original's own tolerates an untracked object. */
        PyObject_GC_UnTrack(object);
        trashcan = PyThreadState_Get();
        if (_PyTrash_begin(trashcan, object)) {
            return;
        }
    }
    pool[slot].original(object);
    if (number != 0) {
        /* By number: deallocating can run Python code, which may have put another object here. */
        retrace_identity_forget_number(object, number);
    }
    if (trashcan != NULL) {
        _PyTrash_end(trashcan);
    }
}

#define EACH_OF_16(X, high) \
    X(high##0) X(high##1) X(high##2) X(high##3) X(high##4) X(high##5) X(high##6) X(high##7) \
    X(high##8) X(high##9) X(high##A) X(high##B) X(high##C) X(high##D) X(high##E) X(high##F)
#define EACH_OF_256(X) \
    EACH_OF_16(X, 0) EACH_OF_16(X, 1) EACH_OF_16(X, 2) EACH_OF_16(X, 3) \
    EACH_OF_16(X, 4) EACH_OF_16(X, 5) EACH_OF_16(X, 6) EACH_OF_16(X, 7) \
    EACH_OF_16(X, 8) EACH_OF_16(X, 9) EACH_OF_16(X, A) EACH_OF_16(X, B) \
    EACH_OF_16(X, C) EACH_OF_16(X, D) EACH_OF_16(X, E) EACH_OF_16(X, F)

#define DEFINE_TRAMPOLINE(hex) \
    static void dealloc_##hex(PyObject *object) { run_dealloc(0x##hex, object); }
EACH_OF_256(DEFINE_TRAMPOLINE)

#define NAME_TRAMPOLINE(hex) dealloc_##hex,
static const destructor trampolines[TRAMPOLINES] = {EACH_OF_256(NAME_TRAMPOLINE)};

/* Types that share a dealloc share its trampoline, which is what makes the pool suffice: pybind11 and its kind give
 * thousands of types one dealloc. Slots are never given back; the code of a dealloc isn't either. */
static int
watch_dealloc(PyTypeObject *type)
{
    retrace_number_slot *known = retrace_table_find(&pool_slots, (void *)type->tp_dealloc);
    if (known != NULL) {
        type->tp_dealloc = trampolines[known->number - 1];
        return 1;
    }
    if (retrace_watched_deallocs == TRAMPOLINES || retrace_table_reserve(&pool_slots, pool_slots.used + 2) < 0) {
        return 0;
    }
    int slot = (int)retrace_watched_deallocs++;
    pool[slot].original = type->tp_dealloc;
    pool[slot].has_trashcan = type == &PyTraceBack_Type || type == &PyFrame_Type;
    retrace_table_slot(&pool_slots, (void *)type->tp_dealloc)->number = (uint64_t)slot + 1;
    retrace_table_slot(&pool_slots, (void *)trampolines[slot])->number = (uint64_t)slot + 1;
    type->tp_dealloc = trampolines[slot];
    return 1;
}

/* ---- */

/* Types whose frees can't be seen, so that each is counted once. */
static retrace_number_table unwatched = RETRACE_EMPTY_TABLE;

void
retrace_free_watch_type(PyTypeObject *type)
{
    if (is_free_watched(type)) {
        return;
    }
    if (ends_in_tp_free(type)) {
        if (watch_free(type)) {
            return;
        }
        if (type->tp_dealloc != subtype_dealloc && watch_dealloc(type)) {
            return;
        }
    }
    else if (watch_dealloc(type)) {
        return;
    }
    /* The entries of its instances stay: an object at the address of a dead one then has that one's number. That is
     * consistent within the process, but may differ in the replay, which will say so. A hash shared by all
     * instances would be the same everywhere, but makes large sets of them quadratic: it could hang the program. */
    retrace_number_slot *slot = retrace_table_slot(&unwatched, type);
    if (slot != NULL && slot->number++ == 0) {
        retrace_unwatched_types++;
        if (retrace_unwatched_type == NULL) {
            retrace_unwatched_type = strdup(type->tp_name);
        }
    }
}

int
retrace_is_subtype_dealloc(PyTypeObject *type)
{
    return type->tp_dealloc == subtype_dealloc;
}

int
retrace_free_watch_init(void)
{
    if (subtype_dealloc != NULL) {
        return 0;
    }
    /* A type made from an empty spec gets subtype_dealloc, which has no symbol. */
    static PyType_Slot slots[] = {{0, NULL}};
    static PyType_Spec spec = {.name = "retrace.probe", .flags = Py_TPFLAGS_DEFAULT, .slots = slots};
    PyObject *probe = PyType_FromSpec(&spec);
    if (probe == NULL) {
        PyErr_Clear();
        return -1;
    }
    subtype_dealloc = ((PyTypeObject *)probe)->tp_dealloc;
    Py_DECREF(probe);
    return 0;
}

/* ---- __class__ and __bases__ ----
 * Both compare the two classes' tp_free and refuse where they differ ("deallocator differs from"):
 * Objects/typeobject.c, compatible_for_assignment. */

static setter set_class_original, set_bases_original;

static int
set_class(PyObject *self, PyObject *value, void *closure)
{
    if (value != NULL && PyType_Check(value)) {
        PyTypeObject *from = Py_TYPE(self), *to = (PyTypeObject *)value;
        int mutable = from->tp_flags & to->tp_flags & Py_TPFLAGS_HEAPTYPE;
        if ((mutable || (PyModule_Check(self) && PyType_IsSubtype(to, &PyModule_Type))) &&
            is_free_watched(from) != is_free_watched(to)) {
            watch_free(is_free_watched(from) ? to : from);
        }
    }
    return set_class_original(self, value, closure);
}

/* Here one side may be `object`, whose tp_free must stay as it is (see watch_free), so the watched side goes back to
 * what it was for as long as the assignment takes. It runs a metaclass's mro() at most: an instance that is freed
 * there is missed, and a later object at its address gets its number. */
static int
set_bases(PyObject *type, PyObject *value, void *closure)
{
    if (value == NULL || !PyTuple_Check(value) || ((PyTypeObject *)type)->tp_base == NULL) {
        return set_bases_original(type, value, closure);
    }
    PyObject *old_base = Py_NewRef((PyObject *)((PyTypeObject *)type)->tp_base);
    Py_ssize_t count = PyTuple_GET_SIZE(value);
    PyTypeObject *involved[33];
    int watched = 0;
    for (Py_ssize_t i = -1; i < count && watched < 33; i++) {
        PyObject *base = i < 0 ? old_base : PyTuple_GET_ITEM(value, i);
        if (PyType_Check(base) && is_free_watched((PyTypeObject *)base)) {
            involved[watched++] = (PyTypeObject *)base;
            unwatch_free((PyTypeObject *)base);
        }
    }
    Py_INCREF(value);
    int result = set_bases_original(type, value, closure);
    while (watched > 0) {
        watch_free(involved[--watched]);
    }
    Py_DECREF(value);
    Py_DECREF(old_base);
    return result;
}

static void
replace_setter(PyTypeObject *type, const char *name, PyGetSetDef *copy, setter ours, setter *original)
{
    PyObject *descriptor = PyDict_GetItemString(retrace_type_dict(type), name);
    if (*original != NULL || descriptor == NULL || !Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
        return;
    }
    PyGetSetDescrObject *getset = (PyGetSetDescrObject *)descriptor;
    *original = getset->d_getset->set;
    *copy = *getset->d_getset;
    copy->set = ours;
    getset->d_getset = copy;
}

void
retrace_free_watch_guard_assignments(void)
{
    static PyGetSetDef class_def, bases_def;
    replace_setter(&PyBaseObject_Type, "__class__", &class_def, set_class, &set_class_original);
    replace_setter(&PyType_Type, "__bases__", &bases_def, set_bases, &set_bases_original);
}
