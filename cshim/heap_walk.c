/* See heap_walk.h.
 *
 * The recording and the replay initialise differently: other site-packages, other modules, other addresses. So an
 * object of before the start gets its number from a name, and gets it now even if nobody hashed it yet: were it
 * numbered at its first hash, a process that hashed it earlier than the other would count one further from there on.
 *
 * - types: module and qualified name;  functions: module, qualified name and first line;  modules: their name
 * - descriptors of C: class and name, computed when they are first hashed (identity_hash.c)
 * - all else: the shortest path from a module, found breadth first: the modules in a fixed order (the standard
 *   library first, so that a further package seldom renames anything), then attributes by name, items by index.
 *   A module-level instance of a class of the same module is named there, not where another module imported it.
 * - what no module reaches, or only through a set, is counted instead ("unnamed").
 */
#include "heap_walk.h"
#include "identity_number.h"
#include <stdlib.h>
#include <string.h>

/* One object that was found and not looked into yet, and the hash of its path (0: it has none). */
typedef struct {
    PyObject *object;
    uint64_t path;
} step;

typedef struct {
    retrace_heap *heap;
    retrace_number_table seen;   /* objects found; and, at address + 1, types in numbered_types */
    retrace_number_table names;  /* hash of a name -> how often it was given */
    step *queue;
    size_t head, tail, capacity;
    PyObject *module_key;        /* "__module__" */
    PyObject *locals_mark;       /* "<locals>" */
    int sets_wait;               /* sets are not looked into yet */
    int failed;                  /* out of memory: nothing further is found */
    uint64_t parent;             /* for visit_member: the path of what is being traversed … */
    uint64_t index;              /* … and how many members it has shown */
} walk;

/* What a path's next element is. */
enum { MODULE = 1, TYPE, FUNCTION, ATTRIBUTE, ITEM, MEMBER, DUPLICATE };

static void
append(walk *w, int which, PyObject *object)
{
    retrace_objects *list = &w->heap->lists[which];
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 256;
        PyObject **items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL) {
            w->failed = 1;
            return;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = object;
}

/* Whether `key` was not seen yet; it now is. */
static int
first_sight(walk *w, void *key)
{
    retrace_number_slot *slot = retrace_table_slot(&w->seen, key);
    if (slot == NULL) {
        w->failed = 1;
        return 0;
    }
    return slot->number++ == 0;
}

static void
push(walk *w, PyObject *object, uint64_t path)
{
    if (w->tail == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 16384;
        step *queue = realloc(w->queue, capacity * sizeof *queue);
        if (queue == NULL) {
            w->failed = 1;
            return;
        }
        w->queue = queue;
        w->capacity = capacity;
    }
    w->queue[w->tail++] = (step){object, path};
}

/* ---- numbers ---- */

/* `name`, or what the n-th object of that name is called. Collisions would do no harm but to speed: closures come in
 * hundreds under one name. */
static uint64_t
unique_name(walk *w, uint64_t name)
{
    if (name == 0) {
        name = 1;
    }
    retrace_number_slot *slot = retrace_table_slot(&w->names, (void *)(uintptr_t)name);
    if (slot == NULL) {
        w->failed = 1;
        return name;
    }
    uint64_t earlier = slot->number++;
    return earlier == 0 ? name : retrace_name_mix(retrace_name_mix(name, DUPLICATE), earlier);
}

static uint64_t
type_name(walk *w, PyTypeObject *type)
{
    uint64_t name;
    if (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        PyObject *dict = retrace_type_dict(type);
        PyObject *module = dict != NULL ? PyDict_GetItemWithError(dict, w->module_key) : NULL;
        name = retrace_name_str(TYPE, module);
        name = retrace_name_str(name, ((PyHeapTypeObject *)type)->ht_qualname);
    }
    else {
        name = retrace_name_text(TYPE, type->tp_name);
    }
    if (retrace_table_find(&w->names, (void *)(uintptr_t)name) != NULL && type->tp_base != NULL) {
        name = retrace_name_mix(name, retrace_identity_peek(type->tp_base));
    }
    return unique_name(w, name);
}

/* Functions made by functions share their names, so those take their path in. */
static uint64_t
function_name(walk *w, PyFunctionObject *function, uint64_t path)
{
    PyCodeObject *code = (PyCodeObject *)function->func_code;
    PyObject *qualname = function->func_qualname;
    uint64_t name = retrace_name_str(FUNCTION, function->func_module);
    name = retrace_name_mix(retrace_name_str(name, qualname), (uint64_t)code->co_firstlineno);
    if (code->co_flags & CO_NESTED && PyUnicode_Find(qualname, w->locals_mark, 0, PY_SSIZE_T_MAX, 1) >= 0) {
        name = retrace_name_mix(name, path);
    }
    return name;
}

static void
note_type(walk *w, PyTypeObject *type)
{
    if (first_sight(w, (char *)type + 1)) {
        append(w, RETRACE_NUMBERED_TYPES, (PyObject *)type);
    }
}

static void
give(walk *w, PyObject *object, uint64_t number)
{
    retrace_number_slot *slot = retrace_table_slot(&retrace_numbers, object);
    if (slot == NULL) {
        w->failed = 1;
        return;
    }
    slot->number = number;
    note_type(w, Py_TYPE(object));
    if (number & RETRACE_NAMED_NUMBER) {
        w->heap->named++;
    }
    else {
        w->heap->unnamed++;
    }
}

/* Numbers `object`, unless it has a number. Returns the path by which to name what it refers to. */
static uint64_t
number(walk *w, PyObject *object, PyTypeObject *type, uint64_t path)
{
    uint64_t known = retrace_identity_peek(object);
    if (known == 0) {
        if (type == &PyFunction_Type) {
            path = unique_name(w, function_name(w, (PyFunctionObject *)object, path));
        }
        else if (PyModule_Check(object)) {
            /* In no place of sys.modules. */
            path = unique_name(w, retrace_name_str(MODULE, ((PyModuleObject *)object)->md_name));
        }
        known = path != 0 ? retrace_named_number(path) : RETRACE_UNNAMED_NUMBER | w->heap->unnamed;
        give(w, object, known);
    }
    return known & RETRACE_NAMED_NUMBER ? known : 0;
}

/* ---- finding ---- */

/* Puts a container into the list of what has to be rehashed. */
static void
collect(walk *w, PyObject *object, PyTypeObject *type)
{
    if (PyDict_Check(object)) {
        PyDictKeysObject *keys = ((PyDictObject *)object)->ma_keys;
        if (keys->dk_kind == DICT_KEYS_GENERAL && keys->dk_nentries > 0) {
            append(w, RETRACE_DICTS, object);
        }
    }
    else if (PyAnySet_Check(object)) {
        append(w, RETRACE_SETS, object);
    }
    else if (PyWeakref_CheckRef(object)) {
        if (((PyWeakReference *)object)->hash != -1) {
            append(w, RETRACE_WEAKREFS, object);
        }
    }
    else if (type == &PyContext_Type) {
        PyContext *context = (PyContext *)object;
        if (context->ctx_vars != NULL && context->ctx_vars->h_count > 0) {
            append(w, RETRACE_CONTEXTS, object);
        }
    }
    else if (PyList_Check(object) && type != &PyList_Type && strcmp(type->tp_name, "_HashedSeq") == 0) {
        append(w, RETRACE_HASHED_SEQUENCES, object);
    }
}

/* Meets `object`, by a path whose hash is `path` (0: no path). */
static void
reach(walk *w, PyObject *object, uint64_t path)
{
    PyTypeObject *type = Py_TYPE(object);
    int is_gc = PyObject_IS_GC(object);
    if (!is_gc && !retrace_has_own_numbers(type)) {
        return; /* str, int, code and the like: refer to nothing of interest */
    }
    if (retrace_is_descriptor(type) || !first_sight(w, object)) {
        return;
    }
    if (retrace_has_own_numbers(type)) {
        path = number(w, object, type, path);
    }
    if (is_gc) {
        collect(w, object, type);
    }
    if ((is_gc || PyType_Check(object)) && !(w->sets_wait && PyAnySet_Check(object))) {
        push(w, object, path);
    }
}

/* A path's child; 0 stays 0. */
static inline uint64_t
child(uint64_t parent, int kind, uint64_t index)
{
    return parent != 0 ? retrace_name_mix(retrace_name_mix(parent, (uint64_t)kind), index) : 0;
}

static inline uint64_t
attribute(uint64_t parent, PyObject *name)
{
    return parent != 0 ? retrace_name_str(retrace_name_mix(parent, ATTRIBUTE), name) : 0;
}

static void
look_into_dict(walk *w, PyObject *dict, uint64_t path)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    uint64_t index = 0;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (PyUnicode_CheckExact(key)) {
            reach(w, value, attribute(path, key));
        }
        else {
            reach(w, key, child(path, MEMBER, index));
            reach(w, value, child(path, ITEM, index));
        }
        index++;
    }
}

/* A dictionary that holds the attributes of an object: they are named after that object. */
static void
look_into_attributes(walk *w, PyObject *dict, uint64_t path)
{
    if (dict != NULL && PyDict_Check(dict) && first_sight(w, dict)) {
        collect(w, dict, Py_TYPE(dict));
        look_into_dict(w, dict, path);
    }
}

static void
look_into_instance(walk *w, PyObject *object, PyTypeObject *type, uint64_t path)
{
    PyObject *dict = NULL;
    if (type->tp_flags & Py_TPFLAGS_MANAGED_DICT) {
        PyDictValues *values;
        retrace_managed_attributes(object, &dict, &values);
        if (values != NULL) {
            PyDictKeysObject *keys = ((PyHeapTypeObject *)type)->ht_cached_keys;
            for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
                if (values->values[i] != NULL) {
                    reach(w, values->values[i], attribute(path, DK_UNICODE_ENTRIES(keys)[i].me_key));
                }
            }
        }
    }
    else if (type->tp_dictoffset != 0) {
        dict = *_PyObject_GetDictPtr(object);
    }
    look_into_attributes(w, dict, path);
}

static int
visit_member(PyObject *member, void *context)
{
    walk *w = context;
    reach(w, member, child(w->parent, MEMBER, w->index++));
    return w->failed;
}

static void
traverse(walk *w, PyObject *object, uint64_t path)
{
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse != NULL && PyObject_IS_GC(object)) {
        w->parent = path;
        w->index = 0;
        traverse(object, visit_member, w);
    }
}

static void
look_into(walk *w, PyObject *object, uint64_t path)
{
    PyTypeObject *type = Py_TYPE(object);
    if (PyDict_CheckExact(object)) {
        look_into_dict(w, object, path);
        return;
    }
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); i++) {
            PyObject *item = PySequence_Fast_GET_ITEM(object, i);
            if (item != NULL) {
                reach(w, item, child(path, ITEM, (uint64_t)i));
            }
        }
        return;
    }
    if (PyType_Check(object)) {
        look_into_attributes(w, retrace_type_dict((PyTypeObject *)object), path);
    }
    else if (PyModule_Check(object)) {
        look_into_attributes(w, ((PyModuleObject *)object)->md_dict, path);
    }
    else if (PyAnySet_Check(object)) {
        path = 0; /* its order is that of hashes that are about to change: no name */
    }
    else {
        look_into_instance(w, object, type, path);
    }
    traverse(w, object, path);
}

static void
drain(walk *w)
{
    while (w->head < w->tail && !w->failed) {
        step next = w->queue[w->head++];
        look_into(w, next.object, next.path);
    }
    w->head = w->tail = 0;
}

/* ---- where the walk starts ---- */

/* Names every type, in the order of creation below each base. */
static void
find_types(walk *w)
{
    retrace_objects *types = &w->heap->lists[RETRACE_TYPES];
    append(w, RETRACE_TYPES, (PyObject *)&PyBaseObject_Type);
    give(w, (PyObject *)&PyBaseObject_Type, retrace_named_number(type_name(w, &PyBaseObject_Type)));
    for (size_t i = 0; i < types->count && !w->failed; i++) {
        PyObject *subclasses = retrace_type_subclasses((PyTypeObject *)types->items[i]);
        PyObject *key, *reference;
        Py_ssize_t position = 0;
        while (subclasses != NULL && PyDict_Next(subclasses, &position, &key, &reference)) {
            PyObject *type = PyWeakref_GET_OBJECT(reference);
            if (type != Py_None && retrace_identity_peek(type) == 0) {
                append(w, RETRACE_TYPES, type);
                give(w, type, retrace_named_number(type_name(w, (PyTypeObject *)type)));
            }
        }
    }
}

typedef struct {
    PyObject *name;
    PyObject *module;
    int is_foreign; /* not of the standard library */
} module_entry;

static int
compare_modules(const void *left, const void *right)
{
    const module_entry *a = left, *b = right;
    return a->is_foreign != b->is_foreign ? a->is_foreign - b->is_foreign : PyUnicode_Compare(a->name, b->name);
}

static int
is_foreign(PyObject *name, PyObject *stdlib)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, length, 1);
    PyObject *top = dot < 0 ? Py_NewRef(name) : PyUnicode_Substring(name, 0, dot);
    int known = top != NULL && stdlib != NULL && PyAnySet_Check(stdlib) ? PySet_Contains(stdlib, top) : 0;
    Py_XDECREF(top);
    PyErr_Clear();
    return known != 1;
}

/* Names the instances in `module` whose class is of the same module. They are looked into later, in their turn. */
static void
name_own_instances(walk *w, const module_entry *entry, uint64_t path)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    PyObject *dict = ((PyModuleObject *)entry->module)->md_dict;
    while (dict != NULL && PyDict_Next(dict, &position, &key, &value)) {
        PyTypeObject *type = Py_TYPE(value);
        if (!PyUnicode_CheckExact(key) || !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || PyType_Check(value) ||
            PyModule_Check(value) || !retrace_has_own_numbers(type) || retrace_is_descriptor(type)) {
            continue;
        }
        PyObject *type_dict = retrace_type_dict(type);
        PyObject *owner = type_dict != NULL ? PyDict_GetItemWithError(type_dict, w->module_key) : NULL;
        if (owner != NULL && PyUnicode_Check(owner) && PyUnicode_Compare(owner, entry->name) == 0) {
            number(w, value, type, attribute(path, key));
        }
    }
}

static void
find_modules(walk *w)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *stdlib = PySys_GetObject("stdlib_module_names");
    if (modules == NULL || !PyDict_Check(modules)) {
        return; /* the program replaced sys.modules: everything is found, without names */
    }
    module_entry *entries = malloc(((size_t)PyDict_Size(modules) + 1) * sizeof *entries);
    if (entries == NULL) {
        w->failed = 1;
        return;
    }
    size_t count = 0;
    PyObject *name, *module;
    Py_ssize_t position = 0;
    while (PyDict_Next(modules, &position, &name, &module)) {
        if (PyUnicode_Check(name) && module != Py_None) {
            entries[count++] = (module_entry){name, module, is_foreign(name, stdlib)};
        }
    }
    qsort(entries, count, sizeof *entries, compare_modules);
    for (size_t i = 0; i < count; i++) {
        if (retrace_has_own_numbers(Py_TYPE(entries[i].module)) && retrace_identity_peek(entries[i].module) == 0) {
            uint64_t path = unique_name(w, retrace_name_str(MODULE, entries[i].name));
            give(w, entries[i].module, retrace_named_number(path));
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (PyModule_Check(entries[i].module)) {
            name_own_instances(w, &entries[i], retrace_identity_peek(entries[i].module));
        }
    }
    for (size_t i = 0; i < count; i++) {
        reach(w, entries[i].module, 0);
    }
    free(entries);
}

static PyGC_Head *
collector_list(int i)
{
    struct _gc_runtime_state *gc = retrace_gc_state();
    /* Oldest first: that is the order of creation, more or less. */
    return i == 0 ? &gc->permanent_generation.head : &gc->generations[NUM_GENERATIONS - i].head;
}

/* What only a set of the modules leads to; what the collector knows and the modules do not reach; and what that leads
 * to, such as untracked dicts. */
static void
find_the_rest(walk *w)
{
    w->sets_wait = 0;
    retrace_objects *sets = &w->heap->lists[RETRACE_SETS];
    for (size_t i = 0, count = sets->count; i < count; i++) {
        push(w, sets->items[i], 0);
    }
    drain(w);
    for (int i = 0; i <= NUM_GENERATIONS; i++) {
        PyGC_Head *list = collector_list(i);
        for (PyGC_Head *gc = _PyGCHead_NEXT(list); gc != list && !w->failed; gc = _PyGCHead_NEXT(gc)) {
            reach(w, (PyObject *)(gc + 1), 0);
            drain(w);
        }
    }
}

static uint64_t
count_tracked(void)
{
    uint64_t count = 0;
    for (int i = 0; i <= NUM_GENERATIONS; i++) {
        PyGC_Head *list = collector_list(i);
        for (PyGC_Head *gc = _PyGCHead_NEXT(list); gc != list; gc = _PyGCHead_NEXT(gc)) {
            count++;
        }
    }
    return count;
}

int
retrace_heap_walk(retrace_heap *heap)
{
    memset(heap, 0, sizeof *heap);
    walk w = {.heap = heap, .seen = RETRACE_EMPTY_TABLE, .names = RETRACE_EMPTY_TABLE};
    uint64_t tracked = count_tracked();
    w.module_key = PyUnicode_InternFromString("__module__");
    w.locals_mark = PyUnicode_InternFromString("<locals>");
    w.sets_wait = 1;
    w.failed = w.module_key == NULL || w.locals_mark == NULL || retrace_table_reserve(&w.seen, tracked) < 0 ||
               retrace_table_reserve(&w.names, tracked / 4) < 0 ||
               retrace_table_reserve(&retrace_numbers, tracked / 2) < 0;
    PyObject *singletons[] = {Py_None, Py_NotImplemented, Py_Ellipsis};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(singletons) && !w.failed; i++) {
        give(&w, singletons[i], retrace_named_number(type_name(&w, Py_TYPE(singletons[i]))));
    }
    if (!w.failed) {
        find_types(&w);
        find_modules(&w);
        drain(&w);
        find_the_rest(&w);
    }
    retrace_table_clear(&w.seen);
    retrace_table_clear(&w.names);
    free(w.queue);
    Py_XDECREF(w.module_key);
    Py_XDECREF(w.locals_mark);
    PyErr_Clear();
    return w.failed ? -1 : 0;
}

/* ---- */

void
retrace_heap_hold(retrace_heap *heap)
{
    for (int which = 0; which < RETRACE_LIST_COUNT; which++) {
        retrace_objects *list = &heap->lists[which];
        for (size_t i = 0; i < list->count; i++) {
            Py_INCREF(list->items[i]);
        }
    }
}

void
retrace_heap_release(retrace_heap *heap, int held)
{
    for (int which = 0; which < RETRACE_LIST_COUNT; which++) {
        retrace_objects *list = &heap->lists[which];
        for (size_t i = 0; held && i < list->count; i++) {
            Py_DECREF(list->items[i]);
        }
        free(list->items);
    }
    memset(heap, 0, sizeof *heap);
}
