"""Runs a program under a trace of its lines and writes what each line's state was: what a debugger must show.

Arguments: the program, the file to write. Each entry is [function, line, locals, frame, frames below]: a frame is a
number, another one each time that it is entered or goes on. 3.12 has two sources of line events that differ, so the
same one is used here as in the debugger: `sys.monitoring`.
"""

import json
import runpy
import sys

PROGRAM, INTO = sys.argv[1:]
log, stack = [], []
made = 0


def shown(values):
    """Of the variables, those whose text is the same in every run, and that are not put into a group."""
    return {name: repr(value) for name, value in values.items() if name[:2] != "__" and type(value) in (int, str, tuple, list, dict)}


def enter():
    global made
    made += 1
    stack.append(made)


def leave():
    if stack:
        stack.pop()


def line(frame, number):
    code = frame.f_code
    if code.co_filename == PROGRAM:
        values = {} if code.co_name == "<module>" else shown(frame.f_locals)
        log.append([code.co_qualname, number, values, stack[-1], stack[:-1]])


def trace(frame, event, _argument):
    if event == "call":
        enter()
    elif event == "line":
        line(frame, frame.f_lineno)
    elif event == "return":
        leave()
    return trace


def run_traced():
    if sys.version_info < (3, 12):
        sys.settrace(trace)
        runpy.run_path(PROGRAM, run_name="__main__")
        sys.settrace(None)
        return
    monitoring = sys.monitoring
    events = monitoring.events
    monitoring.use_tool_id(4, "reference")
    entering = (events.PY_START, events.PY_RESUME, events.PY_THROW)
    leaving = (events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND)
    for event in entering:
        monitoring.register_callback(4, event, lambda *_: enter())
    for event in leaving:
        monitoring.register_callback(4, event, lambda *_: leave())
    monitoring.register_callback(4, events.LINE, lambda _, number: line(sys._getframe(1), number))
    monitoring.set_events(4, sum((*entering, *leaving, events.LINE)))
    runpy.run_path(PROGRAM, run_name="__main__")
    monitoring.set_events(4, 0)


run_traced()
with open(INTO, "w") as file:
    json.dump(log, file)
