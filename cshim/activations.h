/* Telling whether a frame is still the one that was there before: a later call may lie at the same address.
 *
 * Why C: frames are internal to CPython. */
#ifndef RETRACE_ACTIVATIONS_H
#define RETRACE_ACTIVATIONS_H

#include <Python.h>
#include <stdint.h>

/* Marks a thread's frames and gives their marks, the outermost first; 0 for one that cannot be marked. A frame with the
 * same mark as before has not been left meanwhile. Returns how many there are of the `most` outermost. The GIL is held,
 * a thread state set. */
int retrace_mark_activations(PyThreadState *tstate, uint64_t *marks, int most);

/* The code of the frame that lies so many above the thread's innermost one, and where its variables are; borrowed. NULL
 * where there is none. */
PyCodeObject *retrace_frame_above(PyThreadState *tstate, int above, PyObject ***variables);

/* The instruction that the frame is at that lies so many above the thread's innermost one, in bytes, or -1. Behind a call
 * it may be one of the instruction's cache entries. */
int retrace_offset_above(PyThreadState *tstate, int above);

/* Whether a thread's innermost frame has begun, and run nothing yet. */
int retrace_frame_begins(PyThreadState *tstate);

/* The place of a variable that is the function's alone, or -1. */
int retrace_variable_slot(PyCodeObject *code, const char *name);

/* The globals of that frame; borrowed, or NULL where there is none. */
PyObject *retrace_globals_above(PyThreadState *tstate, int above);

/* Gives that frame, where it is a function's, another dictionary for locals(), or none, and returns the one that it had: both
 * are stolen and new references. What is not a function's keeps its own, and `locals` is returned. */
PyObject *retrace_swap_locals(PyThreadState *tstate, int above, PyObject *locals);

/* The names of a code's variables, by their places; borrowed. */
PyObject *retrace_names_of_variables(PyCodeObject *code);

/* Whether all of that frame's names are its globals: so it is with a module's. */
int retrace_names_are_globals(PyThreadState *tstate, int above);

/* Whether a code's variables are in its frames, and nowhere else: so it is with a function's. */
int retrace_has_own_names(PyCodeObject *code);

/* What a variable of a frame has, by its place in `co_localsplusnames`: borrowed, or NULL. The code's first line has begun. */
PyObject *retrace_value_in_slot(PyCodeObject *code, PyObject **variables, int slot);

/* Whether a frame is a generator's or a coroutine's. */
int retrace_is_generator_frame(void *frame);

/* Of a thread's frames, the outermost first, the address of each that is a generator's, and 0 of others. */
void retrace_generator_frames(PyThreadState *tstate, uint64_t *frames, int depth);

/* Of a thread's frames, the outermost first, their codes: borrowed. */
void retrace_frame_codes(PyThreadState *tstate, PyObject **codes, int depth);

/* The frames of all generators, in the order of the collector's lists; at most so many. Returns how many there are. */
int retrace_generators(uint64_t *frames, int most);

/* Whether a generator's frame is a coroutine's. */
int retrace_is_coroutine_frame(void *frame);

/* Watches the generator or coroutine whose frame this is, the only one then; NULL for none. */
void retrace_watch_end(void *frame);

/* Whether the watched one has ended, or is gone. */
int retrace_has_ended(void);

/* The thread's ident, as the program knows it. */
unsigned long retrace_ident_of(PyThreadState *tstate);

#endif
