/* Names a position between two instructions, so that another process running the same program recognises it.
 *
 * A thread is preempted, a collection or a signal handler runs, where the evaluation loop checks its eval breaker. Such
 * a position has no event near it, so it is named by what the program can see there. Three hashes, each finer and
 * dearer than the one before; a replay compares the next one only where the one before agreed.
 *
 * No address flows into a hash: two processes that run the same program and iterate over their sets alike (see
 * identity_hash.h) get the same numbers.
 *
 * Every function here needs the GIL, or its mutex while the GIL changes hands: nobody may change the heap meanwhile. No
 * thread state need be current. No Python code runs, nothing is raised, no reference count changes, and no Python
 * object is made; malloc is called only for code that was not met before. One caller at a time. All arguments are
 * borrowed. */
#ifndef RETRACE_FINGERPRINT_H
#define RETRACE_FINGERPRINT_H

#include "version.h"

typedef struct {
    uint64_t place;
    uint64_t shallow;
    uint64_t deep;
} retrace_fingerprint;

/* Where: the stack of frames. Of each its code (qualified name, base name of the file, first line; never an address)
 * and the instruction, innermost first, and how many frames there are. */
uint64_t retrace_fingerprint_place(PyThreadState *tstate);

/* With what in hand: the place, and of each frame its locals, cells and value stack, and of the innermost frames the
 * globals that their code names. One level deep: numbers, text, sizes, positions of iterators and generators. */
uint64_t retrace_fingerprint_shallow(PyThreadState *tstate);

/* With what in reach: what a walk by tp_traverse from the values of `shallow` meets first, breadth first from the
 * innermost frame, up to a budget. */
uint64_t retrace_fingerprint_deep(PyThreadState *tstate);

/* The innermost frame alone: its code and instruction (the upper half), and what it has in hand, of its globals those that
 * the code in front of the instruction names (the lower half). Cheap: a search looks at it at every check. */
uint64_t retrace_fingerprint_near(PyThreadState *tstate);
int retrace_fingerprint_is_near(PyThreadState *tstate, uint64_t near);

/* All frames of Python code of the thread that is asked about next, the outermost one first, where somebody knows them: in
 * a deep recursion most are only counted. NULL and 0: nobody does any more. */
void retrace_fingerprint_known_frames(struct _PyInterpreterFrame *const *frames, int count);

/* Who says whether a type's instances have stand-ins on replay. Before the first fingerprint. */
void retrace_fingerprint_ask_external(int (*ask)(PyTypeObject *type));

/* A replay that looks for the position of a signal's handler has CPython call one at each check, and CPython makes an
 * object of the innermost frame for it, which would stay. Whether a frame has an object decides how much of its value
 * stack is looked at, so the search takes those back that were made for it. First says which objects the thread's frames
 * have already: they stay. */
void retrace_keep_frame_objects(PyThreadState *tstate);

/* Takes `object` back: the handler's argument, to which nobody else has a reference. The GIL is held, and the current
 * thread state set. */
void retrace_forget_frame_object(PyObject *object);

/* Forgets what is known about code objects and gives its memory back. The next call starts anew. */
void retrace_fingerprint_forget(void);

/* How deep the value stack is below what the instruction at hand takes, from the bytecode alone; -1 before the first
 * instruction. `frame` runs Python code. For tests: the hashes also look at what the frame itself says. */
int retrace_fingerprint_static_depth(struct _PyInterpreterFrame *frame);

/* ---- what differs by version: version_3_11.c, version_3_12.c ---- */

/* One instruction, without specialisation and instrumentation. */
typedef struct {
    uint8_t opcode;
    uint8_t cache_units;    /* inline cache entries that follow it */
    int8_t jump;            /* 0: it doesn't, 1: forward, -1: backward; from the end of its caches, by its argument */
    uint8_t falls_through;  /* the next instruction may run after it */
    uint8_t rethrows;       /* it may raise without a new traceback entry for its frame */
} retrace_instruction;

retrace_instruction retrace_instruction_at(PyCodeObject *code, int unit);

/* How many values on top of the stack an instruction takes, or may have taken while other code runs in its middle.
 * -1: not known, because no other code can run in its middle. */
int retrace_instruction_inputs(int opcode, int argument);

/* Whether `opcode` and the instruction `next` after it count as one position: a specialised form of the first does the
 * work of both, so which of them a frame stands at depends on how warm the code is. */
int retrace_instruction_continues(int opcode, int next);

#endif
