"""Runs a program under a trace of its lines and writes what each line's state was: what a debugger must show.

Arguments: the file to write, and the program with its arguments as Python takes them (`-m module` too). The file is a
JSON object: `logs` has lists of entries, by thread, and `raised` has [stack, class, text] of each exception where the
program's own code raised it, but for those by which iterations end. A forked child writes a file beside it, with its
parent's entries before the fork. An entry is

    [stack, frames]

`stack` has the frames, innermost first, each [function, line, file, variables]; the variables are null where the frame is a
library's, or outside of a function named `burn`. `frames` has numbers: another one for each call, and the same one where
a generator or coroutine goes on.

3.12 has two sources of line events that differ. The debugger has those of `sys.monitoring`, so the reference has too,
and `sys.settrace` on 3.11. `--settrace` before the file: that on 3.12 as well.
"""

import json
import os
import re
import runpy
import sys
import threading

OWN = (__file__, "<frozen runpy>")
SHOWN = (int, str, tuple, list, dict, bool, float, bytes, type(None))
FUNCTIONS = (
    "function",
    "builtin_function_or_method",
    "method",
    "method-wrapper",
    "wrapper_descriptor",
    "method_descriptor",
)

settrace = sys.argv[1] == "--settrace"
into, *arguments = sys.argv[1 + settrace :]
folder = os.getcwd()
logs, stacks, raised = {}, {}, []
numbers, made = {}, 0


def is_program(code):
    return code.co_filename.startswith(folder)


def variables(frame):
    """The text of each variable, or null where it need not be the same in another run. Not those that are put in groups."""
    texts = {}
    for name, value in frame.f_locals.items():
        if name[:2] == name[-2:] == "__" or name in frame.f_code.co_freevars:
            continue
        if type(value).__name__ in FUNCTIONS or isinstance(value, type):
            continue
        texts[name] = None
        if type(value) in SHOWN:
            text = repr(value)
            if not re.search("<|{[^}:]*}", text):
                texts[name] = text
    return texts


def enter(frame, resumed):
    """A generator's frame is the same object until it ends."""
    global made
    stack = stacks.setdefault(threading.get_ident(), [])
    if not (resumed and id(frame) in numbers):
        made += 1
        numbers[id(frame)] = made
    stack.append(numbers[id(frame)])


def leave():
    stack = stacks.get(threading.get_ident())
    if stack:
        stack.pop()


def stack_of(frame):
    entry = []
    is_burning = frame.f_code.co_name == "burn"
    while frame is not None:
        code = frame.f_code
        if code.co_filename not in OWN:
            wanted = is_program(code) and (not is_burning or not entry)
            name = os.path.basename(code.co_filename)
            entry.append([code.co_qualname, frame.f_lineno, name, variables(frame) if wanted else None])
        frame = frame.f_back
    return entry


def line(frame):
    if not is_program(frame.f_code):
        return
    ident = threading.get_ident()
    if ident not in logs:
        thread = threading._active.get(ident)
        logs[ident] = (thread.name if thread else "?", [])
    logs[ident][1].append([stack_of(frame), stacks[ident][:]])


def exception(frame, error, traceback):
    if is_program(frame.f_code) and (traceback is None or traceback.tb_next is None):
        kind = type(error).__name__
        if kind not in ("StopIteration", "StopAsyncIteration", "GeneratorExit"):
            raised.append([stack_of(frame), kind, str(error)])


def is_generator(frame):
    return frame.f_code.co_flags & 0x2A0


def trace(frame, event, argument):
    if event == "call":
        enter(frame, is_generator(frame) and frame.f_lasti > START[frame.f_code])
    elif event == "line":
        line(frame)
    elif event == "exception":
        exception(frame, argument[1], argument[2])
    elif event == "return":
        leave()
    return trace


class Starts(dict):
    """The offset of the instruction that a code's frames begin with."""

    def __missing__(self, code):
        import dis

        names = [(i.offset, i.opname) for i in dis.get_instructions(code)]
        self[code] = next(offset for offset, name in names if name == "RESUME")
        return self[code]


START = Starts()


def dump():
    with open(into, "w") as file:
        json.dump({"logs": {name: log for name, log in logs.values()}, "raised": raised}, file)


def begin():
    if settrace or sys.version_info < (3, 12):
        threading.settrace(trace)
        sys.settrace(trace)
        return
    monitoring = sys.monitoring
    events = monitoring.events
    monitoring.use_tool_id(4, "reference")
    for event in (events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND):
        monitoring.register_callback(4, event, lambda *_: leave())
    monitoring.register_callback(4, events.PY_START, lambda *_: enter(sys._getframe(1), False))
    for event in (events.PY_RESUME, events.PY_THROW):
        monitoring.register_callback(4, event, lambda *_: enter(sys._getframe(1), True))
    monitoring.register_callback(4, events.LINE, lambda *_: line(sys._getframe(1)))
    monitoring.register_callback(
        4, events.RAISE, lambda _, __, error: exception(sys._getframe(1), error, error.__traceback__)
    )
    all_of_them = ("PY_RETURN", "PY_YIELD", "PY_UNWIND", "PY_START", "PY_RESUME", "PY_THROW", "LINE", "RAISE")
    monitoring.set_events(4, sum(getattr(events, name) for name in all_of_them))


def end():
    if settrace or sys.version_info < (3, 12):
        sys.settrace(None)
    else:
        sys.monitoring.set_events(4, 0)


def leave_child(status, leave=os._exit):
    global into
    end()
    into += ".child"
    dump()
    leave(status)


os._exit = leave_child
sys.argv = arguments
try:
    if arguments[0] == "-m":
        module = arguments[1]
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        begin()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(arguments[0])
        begin()
        runpy.run_path(arguments[0], run_name="__main__")
finally:
    end()
    dump()
