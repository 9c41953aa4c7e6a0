"""What is evaluated while a recording is debugged reaches nothing outside, in whatever way it tries."""

import os
import socket

import pytest
from debugger import Debugger, RequestFailed, line_of, record
from test_debugger import CRASH, WALK

# What each tries, in a statement's own words; {made} is a path that must not come to be, {kept} a file that must stay.
HOOKED = {
    "a file": "open({made!r}, 'w')",
    "a folder": "__import__('os').mkdir({made!r})",
    "a removed file": "__import__('os').remove({kept!r})",
    "a shell": "__import__('os').system('touch ' + {made!r})",
    "a signal": "__import__('os').kill({pid}, 15)",
    "a connection": "__import__('socket').create_connection(('127.0.0.1', {port}), 1)",
    "a socket": "__import__('_socket').socket().connect(('127.0.0.1', {port}))",
    "a process": "__import__('subprocess').run(['touch', {made!r}])",
    "a fork": "__import__('os').fork()",
}
# Nothing of Retrace's stands between these and the system, but the system itself.
RAW = {
    "unlink": ("C.unlink({kept!r}.encode())", -1),
    "open": ("C.open({made!r}.encode(), 0o102, 0o600)", -1),
    "rename": ("C.rename({kept!r}.encode(), {made!r}.encode())", -1),
    "mkdir": ("C.syscall({mkdir}, {made!r}.encode(), 0o700)", -1),
    "kill": ("C.syscall({kill}, {pid}, 15)", -1),
    "system": ("C.system(b'touch ' + {made!r}.encode())", None),
    "truncate": ("C.truncate({kept!r}.encode(), 0)", -1),
    "socket": ("C.syscall({socket}, 2, 1, 0)", -1),
    "exec": ("C.execl(b'/usr/bin/touch', b'touch', {made!r}.encode(), None)", -1),
    "write": ("C.syscall({write}, 1, b'x', 1)", -1),
}
NUMBERS = {
    "x86_64": {"mkdir": 83, "kill": 62, "socket": 41, "write": 1},
    "aarch64": {"mkdir": 34, "kill": 129, "socket": 198, "write": 64},
}


@pytest.fixture
def outside(trial):
    """Names for what must not be touched, and a look at whether it was."""
    kept = trial.folder / "kept"
    kept.write_text("kept")
    made = trial.folder / "made"
    victim = os.fork()
    if victim == 0:
        while True:
            os.read(os.pipe()[0], 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def check():
            assert kept.read_text() == "kept"
            assert not made.exists()
            assert os.waitpid(victim, os.WNOHANG) == (0, 0)
            with pytest.raises(BlockingIOError):
                server.accept()

        numbers = NUMBERS.get(os.uname().machine, {})
        yield {"made": str(made), "kept": str(kept), "pid": victim, "port": server.getsockname()[1], **numbers}, check
    os.kill(victim, 9)
    os.waitpid(victim, 0)


def test_a_call_that_reaches_outside_is_said_not_to_be_possible(trial, outside):
    names, check = outside
    recorded, _ = record(trial, CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        debugger.launch()
        before = debugger.locals()
        for what, expression in HOOKED.items():
            for context in ("watch", "repl"):
                with pytest.raises(RequestFailed, match="not possible in a diversion|No module named") as refused:
                    debugger.evaluate(expression.format(**names), context=context)
                assert "diversion" in str(refused.value), what
                check()
        assert debugger.locals() == before
        debugger.go("stepBack")
        debugger.go("next")
        assert debugger.locals() == before


def test_c_code_that_reaches_outside_is_refused_by_the_system(trial, outside):
    names, check = outside
    recorded, path = record(trial, "foreign_functions.py")
    line = line_of(path, "os.pipe()")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        for what, (expression, result) in RAW.items():
            debugger.events.clear()
            shown = debugger.evaluate(expression.format(**names).replace("C.", "ctypes.CDLL(None)."), context="repl")
            if result is not None:
                assert shown == str(result), what
            assert "not possible in a diversion" in debugger.output("console"), what
            check()
        assert debugger.evaluate("1 + 1", context="repl") == "2"
        debugger.go("stepBack")


def test_conditions_and_watched_values_reach_nothing_either(trial, outside):
    names, check = outside
    recorded, path = record(trial, "foreign_functions.py")
    line = line_of(path, "os.pipe()")
    raw = "ctypes.CDLL(None).syscall({mkdir}, {made!r}.encode(), 0o700) == -1".format(**names)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [{"line": line, "condition": raw}])])
        assert debugger.go("continue")["reason"] == "breakpoint"
        check()
        debugger.set_breakpoints(path, [{"line": line, "condition": "open({made!r}, 'w')".format(**names)}])
        debugger.go("gotoPosition", position="start")
        assert debugger.go("continue")["reason"] == "breakpoint"
        assert "not possible in a diversion" in debugger.output("important")
        check()


def test_what_only_computes_is_possible(trial):
    recorded, _ = record(trial, WALK)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        assert debugger.evaluate("compile('1 + 1', 'x', 'eval').co_name", context="repl") == "'<module>'"
        assert debugger.evaluate("sum(x * x for x in range(1000))", context="repl") == "332833500"
        assert debugger.evaluate("recurse(5)", context="repl") == "8"
        assert debugger.evaluate("[0] * 5_000_000 and 3", context="repl") == "3"
        debugger.evaluate("def twice(x): return 2 * x", context="repl")
        assert debugger.evaluate("twice(21)", context="repl") == "42"
        debugger.evaluate("class Made:\n    value = [n for n in range(3)]", context="repl")
        assert debugger.evaluate("Made.value", context="repl") == "[0, 1, 2]"
        assert debugger.evaluate("print('seen') or 5", context="repl") == "5"
        assert "seen" in debugger.output("console")
        assert debugger.evaluate("use_generator()", context="repl") == "14"


# A package, one with an extension module of its own, and a module; the program imports nothing.
UNKNOWN = ("xml.etree.ElementTree", "wave", "_lsprof", "pprint")


def test_what_the_program_did_not_import_of_the_standard_library_can_be_imported(trial):
    trial.prepare(inputs=False)
    path = trial.work / "imports_nothing.py"
    path.write_text(f"import sys\nloaded = [name for name in {UNKNOWN} if name in sys.modules]\nprint(loaded)\n")
    recorded = trial.record([path])
    assert recorded.stdout == b"[]\n"
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        for name in UNKNOWN:
            debugger.evaluate(f"import {name}", context="repl")
            assert debugger.evaluate(f"{name}.__name__", context="repl") == repr(name)
        found = debugger.evaluate("xml.etree.ElementTree.fromstring('<a b=\"1\"/>').attrib", context="repl")
        assert found == "{'b': '1'}"
        debugger.evaluate("from pprint import pformat\nprint(pformat(loaded))", context="repl")
        assert "[]" in debugger.output("console")
        assert debugger.evaluate("__import__('pprint').__file__.endswith('/pprint.py')") == "True"
        with pytest.raises(RequestFailed, match="ModuleNotFoundError"):
            debugger.evaluate("import nowhere_to_be_found", context="repl")
        # The diversion is over, and what was imported in it is not there.
        debugger.go("stepBack")
        assert debugger.evaluate(f"[name for name in {UNKNOWN} if name in sys.modules]") == "[]"


# A thread that has what another one waits for, as the main thread does too: (file name, function, its first line).
WAITED_FOR = """\
import concurrent.futures
import queue
import threading

lock, condition, again = threading.Lock(), threading.Condition(), threading.RLock()
event, full, simple = threading.Event(), queue.Queue(), queue.SimpleQueue()
future = concurrent.futures.Future()
go_on = threading.Event()

def hold():
    with lock, again:
        event.set()
        go_on.wait()

thread = threading.Thread(target=hold)
thread.start()
event.wait()
event.clear()

def stand():
    here = 1
    return here

stand()
other = threading.Thread(target=stand)
other.start()
other.join()
go_on.set()
thread.join()
"""
# What is evaluated, and what comes of it.
WAITS = {
    "lock.acquire()": RuntimeError,
    "again.acquire()": RuntimeError,
    "event.wait()": RuntimeError,
    "full.get()": RuntimeError,
    "simple.get()": RuntimeError,
    "future.result()": RuntimeError,
    "thread.join()": RuntimeError,
    "lock.acquire(timeout=5)": "False",
    "event.wait(5)": "False",
    "thread.join(5)": "None",
    "lock.acquire(False)": "False",
    "condition.acquire()": "True",
}


def test_what_waits_for_another_thread_ends_at_once(trial):
    """In the main thread and in another, in the console and as a breakpoint's condition; the session goes on."""
    trial.prepare(inputs=False)
    path = trial.work / "waited_for.py"
    path.write_text(WAITED_FOR)
    trace = trial.record([path]).trace
    line = line_of(path, "return here")
    with Debugger(trace) as debugger:
        debugger.launch("entry", breakpoints=[(path, [line])])
        for _ in range(2):
            debugger.go("continue")
            assert debugger.where() == ("stand", line)
            for expression, result in WAITS.items():
                if result is RuntimeError:
                    with pytest.raises(RequestFailed, match="waits for another thread"):
                        debugger.evaluate(expression, "repl")
                else:
                    assert debugger.evaluate(expression, "repl") == result, expression
            assert debugger.evaluate("here") == "1"
        debugger.set_breakpoints(path, [{"line": line, "condition": "lock.acquire()"}])
        debugger.go("reverseContinue")
        assert debugger.where() == ("stand", line)
        assert "waits for another thread" in debugger.output("important")
        debugger.set_breakpoints(path, [{"line": line, "condition": "lock.acquire(timeout=1)"}])
        assert debugger.go("continue")["text"] == "The end of the recording"


def test_a_functions_variable_that_is_deleted_in_the_console(trial):
    """It can't be, and that is said; what else the statement does is done, and a global is gone."""
    recorded, path = record(trial, "debugged_state.py")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line_of(path, "return len(wide)")])])
        debugger.go("continue")
        with pytest.raises(RequestFailed, match="wide: a function's variable cannot be deleted from here, and is kept"):
            debugger.evaluate("added = 1; del wide", context="repl")
        assert debugger.evaluate("added, len(wide) > 0", context="repl") == "(1, True)"
        debugger.evaluate("global counter; del counter", context="repl")
        with pytest.raises(RequestFailed, match="counter"):
            debugger.evaluate("counter", context="repl")
