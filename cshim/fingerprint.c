/* See fingerprint.h.
 *
 * The hashes themselves, over the frames and what is in reach of them. fingerprint_code.c knows about code objects,
 * fingerprint_types.c about types, and fingerprint_values.c hashes one object.
 *
 * What is left out on purpose, because a replay (or a debugger in it) may differ there: frame objects and tracebacks,
 * the members of types that have stand-ins on replay, and whether an instance's attributes lie in a dict of their own.
 */
#include "fingerprint_parts.h"
#include "opcode.h"
#include "pycore_gc.h"
#include <string.h>

enum {
    INNERMOST_FRAMES = 224,  /* frames of a deep stack that are looked at … */
    OUTERMOST_FRAMES = 32,   /* … at each end: a loop there is told apart by its own variables only */
    FRAMES_WITH_GLOBALS = 8,
    NAMES_PER_FRAME = 64,
    WALK_BUDGET = 2000,      /* values that `deep` looks at … */
    CHILDREN_PER_OBJECT = 500, /* … of them in one object: a long list may not hide what comes after it */
};

/* ---- globals ---- */

static int
same_text(PyObject *a, PyObject *b)
{
    return PyUnicode_IS_READY(a) && PyUnicode_IS_READY(b) && PyUnicode_GET_LENGTH(a) == PyUnicode_GET_LENGTH(b)
           && PyUnicode_KIND(a) == PyUnicode_KIND(b)
           && memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b), (size_t)PyUnicode_GET_LENGTH(a) * PyUnicode_KIND(a)) == 0;
}

/* The value of `name` in `dict`, borrowed, or NULL. Not by CPython's own lookup, which compares keys that are not plain
 * text by their __eq__. Objects/dictobject.c, unicodekeys_lookup_unicode. */
static PyObject *
named_value(PyDictObject *dict, PyObject *name)
{
    PyDictKeysObject *keys = dict->ma_keys;
    Py_hash_t hash = ((PyASCIIObject *)name)->hash;
    if (hash == -1) {
        return NULL;
    }
    size_t mask = (size_t)DK_SIZE(keys) - 1, perturb = (size_t)hash, at = (size_t)hash & mask;
    for (size_t tries = 0; tries <= mask + 16; tries++) {
        Py_ssize_t index = keys->dk_log2_size < 8 ? ((int8_t *)keys->dk_indices)[at]
            : keys->dk_log2_size < 16 ? ((int16_t *)keys->dk_indices)[at]
            : keys->dk_log2_size < 32 ? ((int32_t *)keys->dk_indices)[at] : ((int64_t *)keys->dk_indices)[at];
        if (index == DKIX_EMPTY) {
            return NULL;
        }
        if (index >= 0 && DK_IS_UNICODE(keys)) {
            PyDictUnicodeEntry *entry = &DK_UNICODE_ENTRIES(keys)[index];
            if (entry->me_key == name
                || (entry->me_key != NULL && ((PyASCIIObject *)entry->me_key)->hash == hash
                    && same_text(entry->me_key, name))) {
                return dict->ma_values != NULL ? dict->ma_values->values[index] : entry->me_value;
            }
        }
        else if (index >= 0) {
            PyDictKeyEntry *entry = &DK_ENTRIES(keys)[index];
            if (entry->me_key == name
                || (entry->me_hash == hash && entry->me_key != NULL && PyUnicode_CheckExact(entry->me_key)
                    && same_text(entry->me_key, name))) {
                return entry->me_value;
            }
        }
        perturb >>= 5;
        at = (at * 5 + perturb + 1) & mask;
    }
    return NULL;
}

/* ---- frames ---- */

/* `unwinding_possible`: a frame that called C may be anywhere in the middle of its instruction, also where an exception
 * takes values off the stack, one by one, running destructors. Then a frame object exists, and besides the frame the
 * traceback of that exception holds it, unless the program took the traceback away from an exception that is reraised.
 * What an exception handler keeps is left in any case. That a frame object exists is not reason enough to leave the
 * rest out: a debugger makes one by looking. */
static int
stack_depth(struct _PyInterpreterFrame *frame, int unwinding_possible)
{
    code_facts *facts = retrace_code_facts(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    if (facts == NULL || unit < 0 || unit >= facts->count) {
        return 0;
    }
    int depth = facts->units[unit].depth;
    if (frame->stacktop >= 0) {
        int real = frame->stacktop - frame->f_code->co_nlocalsplus;
        return depth < real ? depth : real < 0 ? 0 : real;
    }
    if (unwinding_possible && frame->frame_obj != NULL
        && (facts->units[unit].comes_back || Py_REFCNT(frame->frame_obj) > 1)
        && depth > facts->units[unit].handler_depth) {
        return facts->units[unit].handler_depth;
    }
    return depth;
}

int
retrace_fingerprint_static_depth(struct _PyInterpreterFrame *frame)
{
    code_facts *facts = retrace_code_facts(frame->f_code);
    ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(frame->f_code);
    return facts == NULL || unit < 0 || unit >= facts->count ? -1 : facts->units[unit].depth;
}

/* See retrace_fingerprint_known_frames. */
static struct _PyInterpreterFrame *const *known_frames;
static int known_count;

void
retrace_fingerprint_known_frames(struct _PyInterpreterFrame *const *frames, int count)
{
    known_frames = frames;
    known_count = count;
}

/* The frames that are looked at: `for (frames f = frames_of(tstate); f.frame; next_frame(&f))`. */
typedef struct {
    struct _PyInterpreterFrame *frame;
    int number, count;
} frames;

static frames
frames_of(PyThreadState *tstate)
{
    frames f = {retrace_python_frame(tstate->cframe != NULL ? tstate->cframe->current_frame : NULL), 0, known_count};
    if (known_frames != NULL) {
        return f;
    }
    for (struct _PyInterpreterFrame *frame = f.frame; frame != NULL; frame = retrace_python_frame(frame->previous)) {
        f.count++;
    }
    return f;
}

static void
next_frame(frames *f)
{
    if (known_frames != NULL && f->number == INNERMOST_FRAMES - 1 && f->count > INNERMOST_FRAMES + OUTERMOST_FRAMES) {
        f->frame = known_frames[OUTERMOST_FRAMES - 1];
        f->number = f->count - OUTERMOST_FRAMES;
        return;
    }
    do {
        f->frame = retrace_python_frame(f->frame->previous);
        f->number++;
    } while (f->frame != NULL && f->number >= INNERMOST_FRAMES && f->number < f->count - OUTERMOST_FRAMES);
}

/* Set in f_trace_lines, of which CPython asks only whether it is 0. */
enum { KEPT = 2 };

void
retrace_keep_frame_objects(PyThreadState *tstate)
{
    frames f = frames_of(tstate);
    for (; f.frame != NULL; f.frame = retrace_python_frame(f.frame->previous)) {
        if (f.frame->frame_obj != NULL && f.frame->frame_obj->f_trace_lines == 1) {
            f.frame->frame_obj->f_trace_lines |= KEPT;
        }
    }
}

void
retrace_forget_frame_object(PyObject *object)
{
    if (!PyFrame_Check(object)) {
        return;
    }
    PyFrameObject *f = (PyFrameObject *)object;
    struct _PyInterpreterFrame *frame = f->f_frame;
    /* The frame's reference, and that of the handler's arguments. */
    if (frame->frame_obj != f || Py_REFCNT(f) != 2 || f->f_trace_lines != 1 || f->f_trace != NULL) {
        return;
    }
    frame->frame_obj = NULL;
    f->f_frame = (struct _PyInterpreterFrame *)f->_f_frame_data;
    f->f_frame->owner = FRAME_OWNED_BY_THREAD; /* else what is freed with the object would be the frame's */
    Py_DECREF(f);
}

/* Calls `see(context, value)` with each value in the frame's hand; a value may be NULL. */
static inline __attribute__((always_inline)) void
each_value(frames *f, void (*see)(void *context, PyObject *value), void *context)
{
    struct _PyInterpreterFrame *frame = f->frame;
    PyCodeObject *code = frame->f_code;
    int slots = code->co_nlocalsplus + stack_depth(frame, f->number > 0);
    for (int i = 0; i < slots; i++) {
        see(context, frame->localsplus[i]);
    }
    if (f->number >= FRAMES_WITH_GLOBALS) {
        return;
    }
    PyObject *globals = frame->f_globals, *locals = code->co_flags & CO_OPTIMIZED ? NULL : frame->f_locals;
    if (locals == globals || (locals != NULL && !PyDict_CheckExact(locals))) {
        locals = NULL;
    }
    if (globals == NULL || !PyDict_Check(globals)) {
        return;
    }
    Py_ssize_t names = PyTuple_GET_SIZE(code->co_names);
    for (Py_ssize_t i = 0; i < names && i < NAMES_PER_FRAME; i++) {
        PyObject *name = PyTuple_GET_ITEM(code->co_names, i);
        PyObject *value = locals != NULL ? named_value((PyDictObject *)locals, name) : NULL;
        if (value == NULL) {
            value = named_value((PyDictObject *)globals, name);
        }
        if (value != NULL) {
            see(context, value);
        }
    }
}

/* ---- the hashes ---- */

uint64_t
retrace_fingerprint_place(PyThreadState *tstate)
{
    frames f = frames_of(tstate);
    uint64_t hash = fold(0, (uint64_t)f.count);
    for (; f.frame != NULL; next_frame(&f)) {
        hash = retrace_position_hash(hash, f.frame);
    }
    return hash;
}

static inline void
fold_value(void *hash, PyObject *value)
{
    *(uint64_t *)hash = fold(*(uint64_t *)hash, retrace_value_hash(value, 1));
}

/* ---- near ---- */

/* Which of its code's names the instructions before the one at hand use, in a frame whose variables are in a dict: the
 * end of a loop is behind its body. Kept for the position that was asked about last. */
enum { NAMES_NEAR = 6, UNITS_NEAR = 48 };

static const int16_t *
names_near(PyCodeObject *code, int unit)
{
    static int16_t names[NAMES_NEAR + 1];
    static uint64_t identity;
    static int of_unit = -1;
    code_facts *facts = retrace_code_facts(code);
    if (facts == NULL || unit < 0 || unit >= facts->count) {
        names[0] = -1;
        of_unit = -1;
        return names;
    }
    if (facts->identity == identity && unit == of_unit) {
        return names;
    }
    int count = 0, argument = 0;
    int at = unit > UNITS_NEAR ? (int)facts->units[unit - UNITS_NEAR].position : 0;
    while (at < unit && count < NAMES_NEAR) {
        retrace_instruction i = retrace_instruction_at(code, at);
        argument = argument << 8 | _Py_OPARG(_PyCode_CODE(code)[at]);
        int name = argument;
        int seen = (i.opcode != LOAD_NAME && i.opcode != STORE_NAME) || name >= PyTuple_GET_SIZE(code->co_names);
        for (int k = 0; k < count; k++) {
            seen |= names[k] == name;
        }
        if (!seen) {
            names[count++] = (int16_t)name;
        }
        if (i.opcode != EXTENDED_ARG) {
            argument = 0;
        }
        at += 1 + i.cache_units;
    }
    names[count] = -1;
    identity = facts->identity;
    of_unit = unit;
    return names;
}

static uint32_t
near_values(struct _PyInterpreterFrame *frame)
{
    frames f = {frame, 0, 1};
    PyCodeObject *code = frame->f_code;
    uint64_t hash = 0;
    int slots = code->co_nlocalsplus + stack_depth(frame, 0);
    for (int i = 0; i < slots; i++) {
        fold_value(&hash, f.frame->localsplus[i]);
    }
    PyObject *globals = frame->f_globals, *locals = frame->f_locals;
    if (!(code->co_flags & CO_OPTIMIZED) && globals != NULL && PyDict_CheckExact(globals) && locals != NULL
        && PyDict_CheckExact(locals)) {
        ptrdiff_t unit = frame->prev_instr - _PyCode_CODE(code);
        for (const int16_t *name = names_near(code, (int)unit); *name >= 0; name++) {
            PyObject *key = PyTuple_GET_ITEM(code->co_names, *name);
            PyObject *value = named_value((PyDictObject *)locals, key);
            if (value == NULL) {
                value = named_value((PyDictObject *)globals, key);
            }
            fold_value(&hash, value);
        }
    }
    return (uint32_t)(hash >> 32);
}

static uint32_t
near_position(struct _PyInterpreterFrame *frame)
{
    return (uint32_t)(retrace_position_hash(0, frame) >> 32);
}

static struct _PyInterpreterFrame *
innermost(PyThreadState *tstate)
{
    return retrace_python_frame(tstate->cframe != NULL ? tstate->cframe->current_frame : NULL);
}

uint64_t
retrace_fingerprint_near(PyThreadState *tstate)
{
    struct _PyInterpreterFrame *frame = innermost(tstate);
    return frame == NULL ? 0 : (uint64_t)near_position(frame) << 32 | near_values(frame);
}

int
retrace_fingerprint_is_near(PyThreadState *tstate, uint64_t near)
{
    struct _PyInterpreterFrame *frame = innermost(tstate);
    return frame == NULL ? near == 0 : near_position(frame) == near >> 32 && near_values(frame) == (uint32_t)near;
}

uint64_t
retrace_fingerprint_shallow(PyThreadState *tstate)
{
    frames f = frames_of(tstate);
    uint64_t hash = fold(0, (uint64_t)f.count);
    for (; f.frame != NULL; next_frame(&f)) {
        hash = retrace_position_hash(hash, f.frame);
        each_value(&f, fold_value, &hash);
    }
    return hash;
}

/* Which objects this walk has met, and as the how-manieth. A slot of an earlier walk is free. */
enum { MET_BITS = 13, MET_SLOTS = 1 << MET_BITS };
static struct { PyObject *object; uint32_t walk, number; } met[MET_SLOTS];
static uint32_t walk_number;

typedef struct {
    uint64_t hash;
    int budget, children;       /* values that may still be looked at, and in the object at hand */
    int head, tail;
    PyObject *attributes;       /* the dict of the instance at hand: its values count as the instance's own */
    PyObject *queue[WALK_BUDGET];
} walk;

/* That of an object that was met, else the free one for it. */
static size_t
slot_of(PyObject *object)
{
    size_t slot = ((uintptr_t)object >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - MET_BITS);
    while (met[slot].walk == walk_number && met[slot].object != object) {
        slot = (slot + 1) % MET_SLOTS;
    }
    return slot;
}

static int
visit(PyObject *object, void *context)
{
    walk *w = context;
    if (object == w->attributes && object != NULL) {
        w->attributes = NULL;
        return PyDict_Type.tp_traverse(object, visit, w);
    }
    if (w->budget == 0 || w->children == 0) {
        w->hash = fold(w->hash, CUT);
        return 1;
    }
    w->budget--;
    w->children--;
    if (object == NULL || Py_REFCNT(object) == 0) {
        w->hash = fold(w->hash, object == NULL ? NOTHING : DYING);
        return 0;
    }
    type_facts room;
    const type_facts *facts = retrace_type_facts(Py_TYPE(object), &room);
    if (facts->walk == LEAF) {
        if (facts->kind != ABSENT) {
            w->hash = fold(w->hash, retrace_content_hash(object, facts, 0));
        }
        return 0;
    }
    size_t slot = slot_of(object);
    if (met[slot].walk == walk_number) {
        w->hash = fold(fold(w->hash, KNOWN), met[slot].number);
        return 0;
    }
    met[slot].object = object;
    met[slot].walk = walk_number;
    met[slot].number = (uint32_t)w->tail;
    w->queue[w->tail++] = object;
    w->hash = fold(w->hash, NEW);
    return 0;
}

static inline void
visit_root(void *context, PyObject *object)
{
    walk *w = context;
    w->children = CHILDREN_PER_OBJECT;
    visit(object, w);
}

/* What the collector does not track is being made or unmade, but for tuples and dicts of atoms. */
static int
has_members(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == &PyTuple_Type || type == &PyDict_Type
        || ((type->tp_is_gc == NULL || type->tp_is_gc(object)) && _PyObject_GC_IS_TRACKED(object));
}

/* ---- members in the order of what they hold ---- */

/* A C type may keep what it refers to in a hash table of addresses, and then its tp_traverse shows them in an order that no
 * other process has (jaxlib's registry of types). So the members of a type that nothing is known of are sorted. */
enum { MEMBERS_OF_MEMBER = 16 };
static struct { uint64_t key; PyObject *object; } members[CHILDREN_PER_OBJECT];

typedef struct {
    walk *walk;
    int count, too_many;
} gathering;

static int
gather(PyObject *object, void *context)
{
    gathering *g = context;
    if (object == g->walk->attributes && object != NULL) {
        g->walk->attributes = NULL;
        return PyDict_Type.tp_traverse(object, gather, g);
    }
    if (g->count == CHILDREN_PER_OBJECT) {
        g->too_many = 1;
        return 1;
    }
    members[g->count++].object = object;
    return 0;
}

typedef struct {
    uint64_t sum;
    int left;
} member_sum;

static int
add_member(PyObject *object, void *context)
{
    member_sum *s = context;
    s->sum += retrace_value_hash(object, 0);
    return --s->left == 0;
}

/* What can be told of a member without regard to where it is met. */
static uint64_t
member_key(PyObject *object)
{
    if (object == NULL || Py_REFCNT(object) == 0) {
        return object == NULL ? NOTHING : DYING;
    }
    type_facts room;
    const type_facts facts = *retrace_type_facts(Py_TYPE(object), &room);
    if (facts.kind == ABSENT) {
        return 0;
    }
    if (facts.walk != LEAF) {
        size_t slot = slot_of(object);
        if (met[slot].walk == walk_number) {
            return fold(fold(0, KNOWN), met[slot].number);
        }
    }
    uint64_t hash = retrace_content_hash(object, &facts, 0);
    /* Not of what has attributes: whether these are in a dict of their own is not the same in each process. */
    if ((facts.walk == BY_TRAVERSE || facts.walk == BY_CONTENT) && !facts.has_managed_dict && has_members(object)) {
        member_sum s = {0, MEMBERS_OF_MEMBER};
        Py_TYPE(object)->tp_traverse(object, add_member, &s);
        hash = s.left == 0 ? hash : fold(hash, s.sum);
    }
    return hash;
}

static void
visit_by_content(walk *w, PyObject *object)
{
    gathering g = {w, 0, 0};
    Py_TYPE(object)->tp_traverse(object, gather, &g);
    if (g.too_many) {
        w->hash = fold(w->hash, CUT);
        return;
    }
    for (int i = 0; i < g.count; i++) {
        PyObject *member = members[i].object;
        uint64_t key = member_key(member);
        int at = i;
        for (; at > 0 && members[at - 1].key > key; at--) {
            members[at] = members[at - 1];
        }
        members[at].key = key;
        members[at].object = member;
    }
    for (int i = 0, end; i < g.count; i = end) {
        int same = 1;
        for (end = i + 1; end < g.count && members[end].key == members[i].key; end++) {
            same &= members[end].object == members[i].object;
        }
        w->hash = fold(fold(w->hash, members[i].key), (uint64_t)(end - i));
        /* Which of several that look alike comes first is not known, so none of them is looked into. */
        if (same) {
            visit(members[i].object, w);
        }
    }
}

static void
visit_members(walk *w, PyObject *object, const type_facts *facts)
{
    switch ((walk_kind)facts->walk) {
    case LEAF:
        return;
    case BY_FUNCTION: {
        PyFunctionObject *function = (PyFunctionObject *)object;
        PyObject *members[] = {function->func_closure, function->func_defaults, function->func_kwdefaults,
                               function->func_dict};
        for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++) {
            if (members[i] != NULL) {
                visit(members[i], w);
            }
        }
        return;
    }
    case BY_GENERATOR: {
        struct _PyInterpreterFrame *frame = retrace_waiting_frame(object);
        for (int i = 0; frame != NULL && i < frame->stacktop; i++) {
            visit(frame->localsplus[i], w);
        }
        return;
    }
    case BY_TRAVERSE: case BY_CONTENT:
        break;
    }
    if (!has_members(object)) {
        return;
    }
    if (facts->has_managed_dict) {
        PyDictValues *values;
        retrace_managed_attributes(object, &w->attributes, &values);
        if (w->attributes != NULL && !PyDict_CheckExact(w->attributes)) {
            w->attributes = NULL;
        }
    }
    if (facts->walk == BY_CONTENT) {
        visit_by_content(w, object);
    } else {
        Py_TYPE(object)->tp_traverse(object, visit, w);
    }
    w->attributes = NULL;
}

uint64_t
retrace_fingerprint_deep(PyThreadState *tstate)
{
    static walk w;
    if (++walk_number == 0) {
        memset(met, 0, sizeof met);
        walk_number = 1;
    }
    frames f = frames_of(tstate);
    w.hash = fold(0, (uint64_t)f.count);
    w.budget = WALK_BUDGET;
    w.head = w.tail = 0;
    w.attributes = NULL;
    for (; f.frame != NULL && w.budget > 0; next_frame(&f)) {
        w.hash = retrace_position_hash(w.hash, f.frame);
        each_value(&f, visit_root, &w);
    }
    while (w.head < w.tail) {
        PyObject *object = w.queue[w.head++];
        type_facts room;
        const type_facts facts = *retrace_type_facts(Py_TYPE(object), &room); /* a copy: the cache changes underneath */
        w.hash = fold(w.hash, retrace_content_hash(object, &facts, 0));
        if (w.budget > 0) {
            w.children = CHILDREN_PER_OBJECT;
            visit_members(&w, object, &facts);
        }
    }
    return w.hash;
}
