/* Line events of the replayed program, for the timeline: see src/timeline. In C because each version has its own source
 * of them: 3.11 a trace function beside the program's own, 3.12 a tool of sys.monitoring that no name shows. Only ever
 * on in forked copies of a replay that are thrown away.
 *
 * The events are named by the thread state they happen in; `code` is borrowed. */
#ifndef RETRACE_LINE_EVENTS_H
#define RETRACE_LINE_EVENTS_H
#include <Python.h>
#include <frameobject.h>
#include <stdint.h>

/* src/timeline. A line is about to run; a frame is about to begin, or to go on (a generator's); an exception is raised by
 * the instruction `origin`, or passes (-1). Where these are on: an instruction is about to run, at that offset in bytes. */
void retrace_on_line(PyThreadState *tstate, PyObject *code, int line);
void retrace_on_instruction(PyThreadState *tstate, PyObject *code, int offset);
void retrace_on_start(PyThreadState *tstate, PyObject *code, int resumed);
void retrace_on_raise(PyThreadState *tstate, PyObject *code, PyObject *exception, int origin);

/* An exception is raised again in the thread's innermost frame, which is no raise: see retrace_reraise_events. That frame is
 * left by an exception; NULL: by the one that was raised there last, or raised again. */
void retrace_on_reraise(PyThreadState *tstate, PyObject *exception);
void retrace_on_unwind(PyThreadState *tstate, PyObject *code, PyObject *exception);

/* The instruction that raised an exception, or -1 where its traceback has other frames already. */
static inline int retrace_origin(PyObject *traceback)
{
    if (traceback == NULL || !PyTraceBack_Check(traceback))
        return 0;
    PyTracebackObject *entry = (PyTracebackObject *)traceback;
    return entry->tb_next == NULL ? entry->tb_lasti : -1;
}

/* Before the program begins: finds what turns them on. 0, or -1 with an exception. */
int retrace_line_events_prepare(void);

/* Turns them on, for all threads there are. 0, or -1 with an exception. The GIL is held, the thread state set. */
int retrace_line_events_on(void);

/* Has each instruction be an event, or not any more; line events are on. 0, or -1 with an exception. The GIL is held. The
 * instruction that begins a line is one after its line event, or none if they were turned on there. */
int retrace_instruction_events(int on);

/* Has exceptions that are raised again be events, or not any more, where the version does not say with which one a frame is
 * left; line events are on. The GIL is held. */
void retrace_reraise_events(int on);

/* Whether C code has called what the frame runs, not the evaluator another frame's call. */
int retrace_is_called_by_c(struct _PyInterpreterFrame *frame);

/* A thread has got the GIL, and line events are on. */
void retrace_line_events_follow(PyThreadState *tstate);

/* Whether a thread stands at a check of the eval breaker that it comes to twice or more because of line events: CPython 3.11
 * looks at the beginning of a traced frame, and goes back to before it looked. */
int retrace_line_events_check_again(PyThreadState *tstate);

/* A thread's innermost frame of Python code, and the next one outside of a frame; NULL where there is none. */
struct _PyInterpreterFrame *retrace_frame_inside(PyThreadState *tstate);
struct _PyInterpreterFrame *retrace_frame_outside(struct _PyInterpreterFrame *frame);

/* How many frames of Python code a thread has. */
int retrace_depth(PyThreadState *tstate);

/* Objects that the events' own machinery has made since they were turned on: the program's count of allocations less
 * this is what it would be without them. */
extern uint64_t retrace_line_events_objects;
/* How far off that may be. */
extern const uint64_t retrace_line_events_slack;

#endif
