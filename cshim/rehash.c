/* See rehash.h. What stores hashes in CPython 3.11 and 3.12: general dict keys, OrderedDict's list, sets, frozensets
 * (their own), weakrefs (the referent's), elements of the C lru_cache, functools._HashedSeq, the trees of contextvars.
 * Tuples, code objects, generic aliases and the like compute theirs each time; dates, Decimals and str cache values,
 * not addresses. Hashes that other code stored (in extensions, in classes written in Python) stay as they are.
 */
#include "rehash.h"
#include "identity_number.h"
#include "pycore_hamt.h"
#include <stdlib.h>
#include <string.h>

/* ---- dicts ----
 * The order of entries is the order of insertion and stays; only the index is rebuilt, in place. */

/* Modules/_functoolsmodule.c. The dict entry's hash and the element's must agree, or the cache's own deletion of the
 * oldest element fails (3.11 crashed). */
typedef struct {
    PyObject_HEAD
    void *previous, *next;
    Py_hash_t hash;
    PyObject *key, *result;
} lru_element;

static int
is_lru_element(PyObject *value)
{
    static PyTypeObject *element_type;
    PyTypeObject *type = Py_TYPE(value);
    if (type != element_type && type->tp_basicsize == sizeof(lru_element) &&
        strcmp(type->tp_name, "functools._lru_list_elem") == 0) {
        element_type = type;
    }
    return type == element_type;
}

static void
set_index(PyDictKeysObject *keys, size_t position, Py_ssize_t entry)
{
    if (DK_LOG_SIZE(keys) < 8) {
        ((int8_t *)keys->dk_indices)[position] = (int8_t)entry;
    }
    else if (DK_LOG_SIZE(keys) < 16) {
        ((int16_t *)keys->dk_indices)[position] = (int16_t)entry;
    }
    else if (DK_LOG_SIZE(keys) < 32) {
        ((int32_t *)keys->dk_indices)[position] = (int32_t)entry;
    }
    else {
        ((int64_t *)keys->dk_indices)[position] = entry;
    }
}

static Py_ssize_t
get_index(PyDictKeysObject *keys, size_t position)
{
    if (DK_LOG_SIZE(keys) < 8) {
        return ((int8_t *)keys->dk_indices)[position];
    }
    if (DK_LOG_SIZE(keys) < 16) {
        return ((int16_t *)keys->dk_indices)[position];
    }
    if (DK_LOG_SIZE(keys) < 32) {
        return ((int32_t *)keys->dk_indices)[position];
    }
    return ((int64_t *)keys->dk_indices)[position];
}

/* Objects/dictobject.c, build_indices_generic: as there, but deleted entries leave gaps. */
static void
rebuild_index(PyDictKeysObject *keys)
{
    PyDictKeyEntry *entries = DK_ENTRIES(keys);
    size_t mask = (size_t)DK_SIZE(keys) - 1;
    memset(keys->dk_indices, 0xff, (size_t)1 << keys->dk_log2_index_bytes);
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        if (entries[i].me_value == NULL) {
            continue;
        }
        size_t perturb = (size_t)entries[i].me_hash, position = perturb & mask;
        while (get_index(keys, position) != DKIX_EMPTY) {
            perturb >>= 5;
            position = mask & (position * 5 + perturb + 1);
        }
        set_index(keys, position, i);
    }
}

/* Objects/odictobject.c: an OrderedDict keeps a list of its keys beside the dict, with their hashes. */
typedef struct ordered_node {
    PyObject *key;
    Py_hash_t hash;
    struct ordered_node *next, *previous;
} ordered_node;

typedef struct {
    PyDictObject dict;
    ordered_node *first, *last;
    ordered_node **fast_nodes; /* by the index of the dict's entry, which stays */
    Py_ssize_t fast_nodes_size;
    void *resize_sentinel;
    size_t state;
    PyObject *attributes, *weakrefs;
} ordered_dict;

static void
refresh_ordered(ordered_dict *ordered, retrace_identity_stats *stats)
{
    if (PyODict_Type.tp_basicsize != sizeof(ordered_dict)) {
        stats->rehash_errors++;
        return;
    }
    uint64_t version = ordered->dict.ma_version_tag;
    for (ordered_node *node = ordered->first; node != NULL; node = node->next) {
        PyObject *key = Py_NewRef(node->key);
        Py_hash_t hash = PyObject_Hash(key);
        Py_DECREF(key);
        if (hash == -1 || ordered->dict.ma_version_tag != version) {
            PyErr_Clear();
            stats->rehash_errors++;
            return;
        }
        node->hash = hash;
    }
}

/* Whether a hash changed. */
static int
rehash_dict(PyDictObject *dict, retrace_identity_stats *stats)
{
    PyDictKeysObject *keys = dict->ma_keys;
    if (keys->dk_kind != DICT_KEYS_GENERAL) {
        return 0;
    }
    uint64_t version = dict->ma_version_tag;
    PyDictKeyEntry *entries = DK_ENTRIES(keys);
    int changed = 0;
    for (Py_ssize_t i = 0; i < keys->dk_nentries; i++) {
        if (entries[i].me_value == NULL || PyUnicode_CheckExact(entries[i].me_key)) {
            continue;
        }
        PyObject *key = Py_NewRef(entries[i].me_key);
        Py_hash_t hash = PyObject_Hash(key);
        Py_DECREF(key);
        if (dict->ma_version_tag != version || dict->ma_keys != keys) {
            PyErr_Clear();
            stats->rehash_errors++; /* a __hash__ that changes the dict it is in */
            break;
        }
        if (hash == -1) {
            PyErr_Clear();
            stats->rehash_errors++;
        }
        else if (hash != entries[i].me_hash) {
            entries[i].me_hash = hash;
            changed = 1;
            if (is_lru_element(entries[i].me_value)) {
                ((lru_element *)entries[i].me_value)->hash = hash;
                stats->hashes_refreshed++;
            }
        }
    }
    if (changed && dict->ma_keys == keys) {
        rebuild_index(keys);
        stats->dicts_rehashed++;
        if (PyODict_Check(dict)) {
            refresh_ordered((ordered_dict *)dict, stats);
        }
    }
    return changed;
}

/* ---- sets ----
 * Their order is that of the table. The entries are inserted again in the order of their hashes, so that nothing of
 * the order of addresses survives. */

static int
compare_hashes(const void *left, const void *right)
{
    Py_hash_t a = ((const setentry *)left)->hash, b = ((const setentry *)right)->hash;
    return (a > b) - (a < b);
}

/* Objects/setobject.c, set_insert_clean. */
static void
insert_clean(setentry *table, size_t mask, setentry entry)
{
    enum { LINEAR_PROBES = 9, PERTURB_SHIFT = 5 };
    size_t perturb = (size_t)entry.hash, position = perturb & mask;
    for (;;) {
        size_t probes = position + LINEAR_PROBES <= mask ? LINEAR_PROBES : 0;
        for (size_t i = 0; i <= probes; i++) {
            if (table[position + i].key == NULL) {
                table[position + i] = entry;
                return;
            }
        }
        perturb >>= PERTURB_SHIFT;
        position = (position * 5 + 1 + perturb) & mask;
    }
}

static int
is_active(const setentry *entry)
{
    return entry->key != NULL && entry->hash != -1;
}

/* Whether a hash changed. */
static int
rehash_set(PySetObject *set, retrace_identity_stats *stats)
{
    setentry *table = set->table;
    Py_ssize_t mask = set->mask, fill = set->fill, used = 0;
    setentry *active = malloc(((size_t)set->used + 1) * sizeof *active);
    if (active == NULL) {
        stats->rehash_errors++;
        return 0;
    }
    int changed = 0;
    for (Py_ssize_t i = 0; i <= mask; i++) {
        if (!is_active(&table[i])) {
            continue;
        }
        setentry entry = table[i];
        if (!PyUnicode_CheckExact(entry.key)) {
            Py_INCREF(entry.key);
            entry.hash = PyObject_Hash(entry.key);
            Py_DECREF(entry.key);
            if (set->table != table || set->mask != mask || set->fill != fill) {
                PyErr_Clear();
                stats->rehash_errors++; /* a __hash__ that changes the set it is in */
                free(active);
                return 0;
            }
            if (entry.hash == -1) {
                PyErr_Clear();
                stats->rehash_errors++;
                entry.hash = table[i].hash;
            }
        }
        changed |= entry.hash != table[i].hash;
        active[used++] = entry;
    }
    if (changed) {
        qsort(active, (size_t)used, sizeof *active, compare_hashes);
        memset(table, 0, ((size_t)mask + 1) * sizeof *table);
        for (Py_ssize_t i = 0; i < used; i++) {
            insert_clean(table, (size_t)mask, active[i]);
        }
        set->fill = used;
        set->finger = 0;
        if (PyFrozenSet_Check((PyObject *)set) && set->hash != -1) {
            set->hash = -1; /* made of the entries' hashes when it is next asked for */
            stats->hashes_refreshed++;
        }
        stats->sets_rehashed++;
    }
    free(active);
    return changed;
}

/* ---- cached hashes ---- */

/* Whether the hash changed. */
static int
refresh_weakref(PyWeakReference *reference, retrace_identity_stats *stats)
{
    PyObject *referent = PyWeakref_GET_OBJECT((PyObject *)reference);
    if (referent == Py_None) {
        return 0; /* dead: it keeps the hash by which it will be removed from where it is */
    }
    Py_INCREF(referent);
    Py_hash_t hash = PyObject_Hash(referent);
    Py_DECREF(referent);
    if (hash == -1) {
        PyErr_Clear();
        stats->rehash_errors++;
        return 0;
    }
    int changed = hash != reference->hash;
    if (changed) {
        reference->hash = hash;
        stats->hashes_refreshed++;
    }
    return changed;
}

static void
refresh_hashed_sequence(PyObject *sequence, retrace_identity_stats *stats)
{
    PyObject *tuple = PyList_AsTuple(sequence);
    Py_hash_t hash = tuple != NULL ? PyObject_Hash(tuple) : -1;
    PyObject *value = hash != -1 ? PyLong_FromSsize_t(hash) : NULL;
    if (value == NULL || PyObject_SetAttrString(sequence, "hashvalue", value) < 0) {
        PyErr_Clear();
        stats->rehash_errors++;
    }
    Py_XDECREF(value);
    Py_XDECREF(tuple);
}

/* ---- contexts ----
 * The tree (HAMT) of a context is keyed by ContextVars and has no exported function: a new one is grown in another
 * context and put in its place. */

static int
refill_context(PyContext *context)
{
    PyObject *items = PyObject_CallMethod((PyObject *)context, "items", NULL);
    PyObject *pairs = items != NULL ? PySequence_List(items) : NULL;
    Py_XDECREF(items);
    PyObject *fresh = pairs != NULL ? PyContext_New() : NULL;
    if (fresh == NULL || PyContext_Enter(fresh) < 0) {
        Py_XDECREF(fresh);
        Py_XDECREF(pairs);
        return -1;
    }
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pairs) && !failed; i++) {
        PyObject *pair = PyList_GET_ITEM(pairs, i);
        PyObject *token = PyContextVar_Set(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
        failed = token == NULL;
        Py_XDECREF(token);
    }
    failed |= PyContext_Exit(fresh) < 0;
    if (!failed) {
        PyHamtObject *stale = context->ctx_vars;
        context->ctx_vars = ((PyContext *)fresh)->ctx_vars;
        ((PyContext *)fresh)->ctx_vars = stale;
    }
    Py_DECREF(fresh);
    Py_DECREF(pairs);
    return failed ? -1 : 0;
}

/* ---- */

void
retrace_rehash(retrace_heap *heap, retrace_identity_stats *stats)
{
    retrace_objects *sets = &heap->lists[RETRACE_SETS], *dicts = &heap->lists[RETRACE_DICTS];
    retrace_objects *weakrefs = &heap->lists[RETRACE_WEAKREFS];
    retrace_objects *sequences = &heap->lists[RETRACE_HASHED_SEQUENCES];
    /* A frozenset's hash follows from its table, so one inside another takes a further pass. And a __hash__ written in
     * Python may look something up in a container that is not done yet, and come out wrong or raise. So again until
     * nothing changes, which is nearly always the second time. */
    enum { PASSES = 100, ROUNDS = 4 };
    for (int round = 0, changed = 1; changed && round < ROUNDS; round++) {
        changed = 0;
        for (size_t i = 0; i < weakrefs->count; i++) {
            changed |= refresh_weakref((PyWeakReference *)weakrefs->items[i], stats);
        }
        for (int pass = 0, sets_changed = 1; sets_changed && pass < PASSES; pass++) {
            sets_changed = 0;
            for (size_t i = 0; i < sets->count; i++) {
                sets_changed |= rehash_set((PySetObject *)sets->items[i], stats);
            }
            changed |= sets_changed;
        }
        for (size_t i = 0; i < sequences->count; i++) {
            refresh_hashed_sequence(sequences->items[i], stats);
        }
        for (size_t i = 0; i < dicts->count; i++) {
            changed |= rehash_dict((PyDictObject *)dicts->items[i], stats);
        }
    }
    for (size_t i = 0; i < heap->lists[RETRACE_CONTEXTS].count; i++) {
        if (refill_context((PyContext *)heap->lists[RETRACE_CONTEXTS].items[i]) < 0) {
            PyErr_Clear();
            stats->rehash_errors++;
        }
    }
}
