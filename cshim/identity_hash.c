/* See identity_hash.h. The hash functions, the install, and the API; beside it:
 * number_table.c (address -> number), heap_walk.c (numbers from names for what exists already), rehash.c (what was
 * hashed by then), free_watch.c (entries of the dead). */
#include "identity_hash.h"
#include "free_watch.h"
#include "heap_walk.h"
#include "identity_number.h"
#include "rehash.h"
#include <math.h>
#include <string.h>

retrace_number_table retrace_numbers = RETRACE_EMPTY_TABLE;

static struct {
    uint64_t program, unnamed, external; /* the next number of each kind */
    uint64_t *current;                   /* the one that a first hash takes from */
} counters = {1, RETRACE_UNNAMED_NUMBER, RETRACE_EXTERNAL_NUMBER, &counters.program};

static int (*is_external)(void);

static retrace_identity_stats stats;
static const char *install_error = "";
static int installed;

/* The hash functions that ours replace. */
static hashfunc pointer_hash, float_hash_original, complex_hash_original, decimal_hash_original;

/* ---- numbers ---- */

int
retrace_hashes_by_identity(PyTypeObject *type)
{
    /* A ContextVar caches a hash of its address and its name, but contexts ask tp_hash. */
    return type->tp_hash == retrace_identity_hash || type->tp_hash == pointer_hash || type == &PyContextVar_Type;
}

int
retrace_has_own_numbers(PyTypeObject *type)
{
    return retrace_hashes_by_identity(type) || retrace_is_subtype_dealloc(type) ||
           (type->tp_flags & Py_TPFLAGS_TYPE_SUBCLASS) != 0;
}

int
retrace_is_descriptor(PyTypeObject *type)
{
    return type == &PyMethodDescr_Type || type == &PyWrapperDescr_Type || type == &PyGetSetDescr_Type ||
           type == &PyMemberDescr_Type || type == &PyClassMethodDescr_Type;
}

static uint64_t
descriptor_number(PyDescrObject *descriptor)
{
    uint64_t owner = (uint64_t)retrace_identity_hash((PyObject *)descriptor->d_type);
    return retrace_named_number(retrace_name_str(owner, descriptor->d_name));
}

/* How many types of a name have a number. */
static retrace_number_table type_names = RETRACE_EMPTY_TABLE;

/* A type's number follows from its name, as in heap_walk.c: external code hashes types before the program does, at other
 * times than in a replay (pickle looks for each in copyreg's table). Those of one name are numbered. 0 without memory. */
static uint64_t
type_number(PyTypeObject *type)
{
    uint64_t name;
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        PyObject *dict = retrace_type_dict(type);
        PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
        name = retrace_name_str(retrace_name_str(1, module), ((PyHeapTypeObject *)type)->ht_qualname);
    }
    else {
        name = retrace_name_text(1, type->tp_name);
    }
    retrace_number_slot *slot = retrace_table_slot(&type_names, (void *)(uintptr_t)(name | 1));
    return slot != NULL ? retrace_named_number(retrace_name_mix(name, slot->number++)) : 0;
}

/* The first hash of `object`. */
static Py_hash_t
first_hash(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (!retrace_has_own_numbers(type)) {
        return retrace_identity_hash((PyObject *)type);
    }
    uint64_t number = retrace_is_descriptor(type) ? descriptor_number((PyDescrObject *)object)
                      : PyType_Check(object)      ? type_number((PyTypeObject *)object)
                                                  : 0;
    retrace_number_slot *slot = retrace_table_slot(&retrace_numbers, object);
    if (slot == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    uint64_t *counter = is_external != NULL && is_external() ? &counters.external : counters.current;
    slot->number = number != 0 ? number : (*counter)++;
    retrace_free_watch_type(type);
    return (Py_hash_t)slot->number;
}

Py_hash_t
retrace_identity_hash(PyObject *object)
{
    if (!retrace_is_main_interpreter()) {
        return pointer_hash(object);
    }
    retrace_number_slot *slot = retrace_table_find(&retrace_numbers, object);
    if (__builtin_expect(slot != NULL, 1)) {
        return (Py_hash_t)slot->number;
    }
    return first_hash(object);
}

/* ---- the other hash functions that look at an address ---- */

static inline Py_hash_t
combine(Py_hash_t function, Py_hash_t self)
{
    Py_hash_t hash = (Py_hash_t)((uint64_t)function ^ (uint64_t)self * 1000003);
    return hash == -1 ? -2 : hash;
}

/* A method's `self` counts by identity (two equal lists have different appends), whatever its own hash says. */
static Py_hash_t
self_hash(PyObject *self)
{
    if (self == NULL) {
        return 0;
    }
    if (PyUnicode_CheckExact(self) || PyLong_CheckExact(self) || PyBytes_CheckExact(self)) {
        return PyObject_Hash(self); /* these have no number, and this can't fail */
    }
    return retrace_identity_hash(self);
}

/* Objects/classobject.c, method_hash */
static Py_hash_t
method_hash(PyObject *method)
{
    Py_hash_t self = self_hash(PyMethod_GET_SELF(method));
    Py_hash_t function = PyObject_Hash(PyMethod_GET_FUNCTION(method));
    return function == -1 ? -1 : combine(function, self);
}

/* Builtins are equal when `ml_meth` and `self` are, so it is `ml_meth` that has the number, from the name and the
 * docstring of the first definition seen with it. Code is not freed: the entry stays. */
static uint64_t
definition_number(PyMethodDef *definition)
{
    if (!retrace_is_main_interpreter()) {
        return (uint64_t)(uintptr_t)definition->ml_meth;
    }
    retrace_number_slot *slot = retrace_table_slot(&retrace_numbers, (void *)definition->ml_meth);
    if (slot == NULL) {
        return RETRACE_NAMED_NUMBER;
    }
    if (slot->number == 0) {
        uint64_t name = retrace_name_text(0, definition->ml_name);
        slot->number = retrace_named_number(retrace_name_text(name, definition->ml_doc ? definition->ml_doc : ""));
    }
    return slot->number;
}

/* Objects/methodobject.c, meth_hash */
static Py_hash_t
builtin_hash(PyObject *builtin)
{
    PyCFunctionObject *function = (PyCFunctionObject *)builtin;
    return combine((Py_hash_t)definition_number(function->m_ml), self_hash(function->m_self));
}

/* Objects/descrobject.c, wrapperobject and wrapper_hash */
typedef struct {
    PyObject_HEAD
    PyWrapperDescrObject *descr;
    PyObject *self;
} method_wrapper;

static Py_hash_t
method_wrapper_hash(PyObject *object)
{
    method_wrapper *wrapper = (method_wrapper *)object;
    return combine(retrace_identity_hash((PyObject *)wrapper->descr), self_hash(wrapper->self));
}

/* Since 3.10 a NaN hashes by its address (Python/pyhash.c, _Py_HashDouble). Exact floats and complexes have no
 * numbers of their own, so all their NaNs hash alike, as before 3.10. */
static Py_hash_t
float_hash(PyObject *object)
{
    return isnan(PyFloat_AS_DOUBLE(object)) ? retrace_identity_hash(object) : float_hash_original(object);
}

static Py_hash_t
complex_hash(PyObject *object)
{
    Py_complex value = ((PyComplexObject *)object)->cval;
    return isnan(value.real) || isnan(value.imag) ? retrace_identity_hash(object) : complex_hash_original(object);
}

/* Modules/_decimal/_decimal.c, PyDecObject; libmpdec's mpd_t begins with its flags. */
typedef struct {
    PyObject_HEAD
    Py_hash_t hash;
    uint8_t flags;
    struct {
        Py_ssize_t exponent, digits, length, allocated;
        void *data;
        uint64_t inline_data[4];
    } number;
} decimal_object;

enum { DECIMAL_QUIET_NAN = 4 };

static Py_hash_t
decimal_hash(PyObject *object)
{
    if (((decimal_object *)object)->flags & DECIMAL_QUIET_NAN) {
        return retrace_identity_hash(object);
    }
    return decimal_hash_original(object);
}

/* ---- patching types ---- */

static hashfunc
replacement(hashfunc original)
{
    static hashfunc method_original, builtin_original, wrapper_original, context_var_original;
    if (method_original == NULL) {
        method_original = PyMethod_Type.tp_hash;
        builtin_original = PyCFunction_Type.tp_hash;
        wrapper_original = _PyMethodWrapper_Type.tp_hash;
        context_var_original = PyContextVar_Type.tp_hash;
        float_hash_original = PyFloat_Type.tp_hash;
        complex_hash_original = PyComplex_Type.tp_hash;
    }
    return original == pointer_hash            ? retrace_identity_hash
           : original == method_original       ? method_hash
           : original == builtin_original      ? builtin_hash
           : original == wrapper_original      ? method_wrapper_hash
           : original == context_var_original  ? retrace_identity_hash
           : original == float_hash_original   ? float_hash
           : original == complex_hash_original ? complex_hash
           : original == decimal_hash_original ? decimal_hash
                                               : NULL;
}

/* Replaces the type's hash function, and the one that its own `__hash__` calls. A `__hash__` in a class body that is
 * this very object gives its class the function that is in the descriptor, so classes to come are covered. */
static void
patch_type(PyTypeObject *type)
{
    hashfunc ours = type->tp_hash != NULL ? replacement(type->tp_hash) : NULL;
    if (ours != NULL) {
        type->tp_hash = ours;
        stats.types_patched++;
    }
    PyObject *dict = retrace_type_dict(type);
    PyObject *descriptor = dict != NULL ? PyDict_GetItemString(dict, "__hash__") : NULL;
    if (descriptor != NULL && Py_IS_TYPE(descriptor, &PyWrapperDescr_Type)) {
        PyWrapperDescrObject *wrapper = (PyWrapperDescrObject *)descriptor;
        ours = replacement((hashfunc)wrapper->d_wrapped);
        if (ours != NULL) {
            wrapper->d_wrapped = (void *)ours;
        }
    }
}

static void
patch_subclasses(PyTypeObject *type)
{
    PyObject *subclasses = retrace_type_subclasses(type), *key, *reference;
    Py_ssize_t position = 0;
    while (subclasses != NULL && PyDict_Next(subclasses, &position, &key, &reference)) {
        PyObject *subclass = PyWeakref_GET_OBJECT(reference);
        if (subclass != Py_None) {
            patch_type((PyTypeObject *)subclass);
            patch_subclasses((PyTypeObject *)subclass);
        }
    }
}

/* `type` is _decimal.Decimal. Left alone where it is not laid out as known: its NaNs then hash by address. */
static void
patch_decimal(PyTypeObject *type)
{
    if (decimal_hash_original != NULL || type->tp_basicsize != sizeof(decimal_object)) {
        return;
    }
    decimal_hash_original = type->tp_hash;
    patch_type(type);
    patch_subclasses(type);
}

static void
patch_extension(PyObject *module)
{
    PyObject *dict = ((PyModuleObject *)module)->md_dict, *key, *value;
    Py_ssize_t position = 0;
    while (dict != NULL && PyDict_Next(dict, &position, &key, &value)) {
        if (!PyType_Check(value)) {
            continue;
        }
        PyTypeObject *type = (PyTypeObject *)value;
        if (strcmp(type->tp_name, "decimal.Decimal") == 0 && !(type->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
            patch_decimal(type);
        }
        else {
            patch_type(type); /* one that named _Py_HashPointer itself */
        }
    }
}

/* ---- the API ---- */

static int
fail(const char *reason)
{
    install_error = reason;
    return -1;
}

static int
check_interpreter(void)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        return fail("identity hashes need the main interpreter");
    }
    struct _gc_runtime_state *gc = retrace_gc_state();
    if (_PyRuntime.interpreters.main != PyInterpreterState_Main() ||
        gc->generation0 != &gc->generations[0].head || retrace_type_subclasses(&PyBaseObject_Type) == NULL) {
        return fail("this build of CPython lays out its interpreter state otherwise");
    }
    if (_PyMethodWrapper_Type.tp_basicsize != sizeof(method_wrapper)) {
        return fail("this build of CPython lays out its method-wrappers otherwise");
    }
    if (gc->collecting) {
        return fail("a garbage collection is running");
    }
    return 0;
}

static int
install(void)
{
    if (check_interpreter() < 0) {
        return -1;
    }
    if (retrace_free_watch_init() < 0) {
        return fail("could not make a type");
    }
    pointer_hash = PyBaseObject_Type.tp_hash;

    retrace_heap heap;
    if (retrace_heap_walk(&heap) < 0) {
        retrace_heap_release(&heap, 0);
        retrace_table_clear(&retrace_numbers);
        return fail("out of memory");
    }
    counters.unnamed = RETRACE_UNNAMED_NUMBER + heap.unnamed;

    /* From here on nothing fails. Until the rehash is done no Python code may run. */
    PyObject *decimal = PyImport_GetModuleDict();
    decimal = decimal != NULL && PyDict_Check(decimal) ? PyDict_GetItemString(decimal, "_decimal") : NULL;
    if (decimal != NULL && PyModule_Check(decimal)) {
        patch_extension(decimal);
    }
    retrace_objects *types = &heap.lists[RETRACE_TYPES];
    for (size_t i = 0; i < types->count; i++) {
        patch_type((PyTypeObject *)types->items[i]);
    }
    types = &heap.lists[RETRACE_NUMBERED_TYPES];
    for (size_t i = 0; i < types->count; i++) {
        retrace_free_watch_type((PyTypeObject *)types->items[i]);
    }
    retrace_free_watch_guard_assignments();

    counters.current = &counters.unnamed;
    retrace_heap_hold(&heap);
    retrace_rehash(&heap, &stats);
    stats.named = heap.named;
    retrace_heap_release(&heap, 1);
    counters.current = &counters.program;
    installed = 1;
    return 0;
}

int
retrace_identity_install(void)
{
    if (installed) {
        return 0;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    struct _gc_runtime_state *gc = retrace_gc_state();
    int enabled = gc->enabled;
    gc->enabled = 0; /* a collection would move objects between the lists that are walked, and run finalizers */
    int result = install();
    gc->enabled = enabled;
    PyErr_Restore(type, value, traceback);
    return result;
}

const char *
retrace_identity_error(void)
{
    return install_error;
}

int
retrace_identity_external(int on)
{
    int before = counters.current == &counters.external;
    counters.current = on ? &counters.external : &counters.program;
    return before;
}

void
retrace_identity_ask_external(int (*ask)(void))
{
    is_external = ask;
}

Py_hash_t
retrace_identity_of(PyObject *object)
{
    return retrace_identity_hash(object);
}

void
retrace_identity_forget(void *address)
{
    if (!retrace_is_main_interpreter()) {
        return;
    }
    retrace_number_slot *slot = retrace_table_find_seldom(&retrace_numbers, address);
    if (slot != NULL) {
        retrace_table_remove(&retrace_numbers, slot);
        stats.dropped++;
    }
}

void
retrace_identity_forget_number(void *address, uint64_t number)
{
    retrace_number_slot *slot = retrace_table_find(&retrace_numbers, address);
    if (slot != NULL && slot->number == number) {
        retrace_table_remove(&retrace_numbers, slot);
        stats.dropped++;
    }
}

void
retrace_identity_alias(PyMethodDef *hooked, PyMethodDef *original)
{
    uint64_t number = definition_number(original);
    retrace_number_slot *slot = retrace_table_slot(&retrace_numbers, (void *)hooked->ml_meth);
    if (slot != NULL) {
        slot->number = number;
    }
}

void
retrace_identity_extension_loaded(PyObject *module)
{
    if (installed && module != NULL && PyModule_Check(module)) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        patch_extension(module);
        PyErr_Restore(type, value, traceback);
    }
}

void
retrace_identity_read_stats(retrace_identity_stats *into)
{
    *into = stats;
    into->entries = retrace_numbers.used;
    into->capacity = retrace_numbers.mask + 1;
    into->unnamed = counters.unnamed - RETRACE_UNNAMED_NUMBER;
    into->program_numbers = counters.program - 1;
    into->external_numbers = counters.external - RETRACE_EXTERNAL_NUMBER;
    into->watched_deallocs = retrace_watched_deallocs;
    into->unwatched_types = retrace_unwatched_types;
    into->unwatched_type = retrace_unwatched_type;
}
