"""The hard places, each by itself: where the debugger comes to by a step back, what it shows there, and that it comes to
the same state again forwards."""

import json
import random

import pytest
from debugger import Debugger, line_of, longer, record
from test_debugger_walk import walk
from walker import Walker, reference


class Source:
    """A program's lines by function and text."""

    def __init__(self, path):
        self.lines = path.read_text().splitlines()

    def line(self, function, text):
        begin = next(n for n, line in enumerate(self.lines) if f"def {function}(" in line)
        return next(n for n, line in enumerate(self.lines[begin:], begin + 1) if line.strip().startswith(text))

    def where(self, debugger):
        function, line = debugger.where()
        return function, self.lines[line - 1].strip()


def state(debugger):
    return debugger.stop["position"], [(f["name"], f["line"]) for f in debugger.stack()], debugger.locals()


# By name: where to begin (the last time that this line is come to), and steps: the command, the function, the line.
PLACES = {
    "over a call": (
        ("main", "results.append(drive())"),
        [("stepBack", "main", "results.append(use_generator())")],
    ),
    "out of a first line": (
        ("decorated", "half = value // 2"),
        [("stepBack", "scaled.<locals>.decorate.<locals>.<lambda>", "return lambda value: function(value) * by")],
    ),
    "into a call that has ended": (
        ("unwind", "try:"),
        [
            ("stepBack", "main", "results.append(unwind())"),
            ("reverseStepIn", "use_with", "return entered, double, other.count"),
        ],
    ),
    "a generator": (
        ("use_generator", "return total"),
        [
            ("reverseStepIn", "squares", "for number in range(limit):"),
            ("stepBack", "use_generator", "for square in squares(4):"),
            ("stepBack", "use_generator", "total += square"),
            ("reverseStepIn", "squares", "yield number * number"),
        ],
    ),
    "a generator that is sent and thrown values": (
        ("averages", "yield str(error)"),
        [
            ("stepBack", "averages", "except KeyError as error:"),
            ("stepBack", "drive", 'thrown = sent.throw(KeyError("thrown"))'),
            ("reverseStepIn", "averages", "value = yield average"),
            ("stepBack", "averages", "while True:"),
            ("stepBack", "averages", "average = total / count"),
        ],
    ),
    "an await": (
        ("ask", "burned = burn(400)"),
        [
            ("stepBack", "ask", "first = await answer(1)"),
            ("reverseStepIn", "main", "results.append(asyncio.run(ask()))"),
        ],
    ),
    "an await that waits": (
        ("answer", "return value + 1"),
        [
            ("stepBack", "answer", "await asyncio.sleep(0)"),
            ("stepBack", "ask", "second = await answer(first)"),
            ("stepBack", "ask", "burned = burn(400)"),
        ],
    ),
    "out of a coroutine that has waited": (
        ("answer", "return value + 1"),
        [("reverseStepOut", "ask", "second = await answer(first)")],
    ),
    "a task among others": (
        ("worker", "return name, got"),
        [
            ("stepBack", "worker", "break"),
            ("stepBack", "worker", "if item is None:"),
            ("stepBack", "worker", "item = await queue.get()"),
        ],
    ),
    "an exception's unwinding": (
        ("unwind", "text = str(error)"),
        [
            ("stepBack", "unwind", "except ValueError as error:"),
            ("reverseStepIn", "fail", 'raise ValueError("deep")'),
            ("stepBack", "fail", "if depth == 0:"),
            ("stepBack", "fail", "fail(depth - 1)"),
        ],
    ),
    "over an exception's unwinding": (
        ("unwind", "text = str(error)"),
        [("stepBack", "unwind", "except ValueError as error:"), ("stepBack", "unwind", "fail(3)")],
    ),
    "a finally": (
        ("main", "results.append(group())"),
        [
            ("stepBack", "main", "results.append([clean_up(how)"),
            ("reverseStepIn", "unwind", "return text"),
        ],
    ),
    "loops and a finally that continue": (
        ("clean_up", 'steps.append("loop\'s else")'),
        [
            ("stepBack", "clean_up", "for turn in range(3):"),
            ("stepBack", "clean_up", 'steps.append("finally")'),
            ("stepBack", "clean_up", "continue"),
        ],
    ),
    "a comprehension": (
        ("comprehend", "raised.append(len(unique))"),
        [
            ("stepBack", "comprehend", "except ZeroDivisionError:"),
            ("stepBack", "comprehend", "raised = [1 // number for number in (1, 0)]"),
        ],
    ),
    "over comprehensions": (
        ("comprehend", "try:"),
        [("stepBack", "comprehend", "raised = [1 // number for number in (2, 1)]")],
    ),
    "a with": (
        ("use_with", "return entered, double, other.count"),
        [
            ("stepBack", "use_with", "with contextlib.suppress(OSError):"),
            ("reverseStepIn", "managed", "assert left"),
            ("stepBack", "managed", "left = entered"),
            ("stepBack", "use_with", 'with managed("n"):'),
            ("stepBack", "use_with", "raise OSError(5)"),
        ],
    ),
    "a with that swallows": (
        ("use_with", 'with managed("n"):'),
        [
            ("stepBack", "use_with", "raise OSError(5)"),
            ("stepBack", "use_with", 'with managed("n"):'),
            ("stepBack", "use_with", "with contextlib.suppress(OSError):"),
            ("reverseStepIn", "Counter.__exit__", "return error[0] is LookupError"),
            ("reverseStepOut", "use_with", "with Counter() as other:"),
            ("stepBack", "use_with", "raise LookupError"),
        ],
    ),
    "a decorated function": (
        ("main", "results.append(make_class(turn))"),
        [
            ("reverseStepIn", "decorated", "return half + 1"),
            (
                "reverseStepOut",
                "scaled.<locals>.decorate.<locals>.<lambda>",
                "return lambda value: function(value) * by",
            ),
            ("reverseStepOut", "twice.<locals>.call", "return first + function(*args, **kwargs)"),
        ],
    ),
    "a destructor": (
        ("make_class", "return least.named"),
        [("reverseStepIn", "make_class.<locals>.Made.__del__", "gone.append(self.value)")],
    ),
}
# On 3.11 a list is made in a frame of its own, of which the last line comes first.
OWN_FRAME = {
    "a finally": [("reverseStepIn", "main.<locals>.<listcomp>", "results.append([clean_up(how)")],
    "a generator that is sent and thrown values": [
        ("stepBack", "averages", "except KeyError as error:"),
        ("stepBack", "drive", 'thrown = sent.throw(KeyError("thrown"))'),
        ("reverseStepIn", "drive.<locals>.<listcomp>", "seen = [sent.send(value)"),
        ("reverseStepIn", "averages", "value = yield average"),
        ("stepBack", "averages", "while True:"),
    ],
}


@pytest.mark.parametrize("place", PLACES)
def test_back_and_forth(trial, place):
    trial.prepare("walked.py", "walked_module.py", inputs=False)
    path = trial.work / "walked.py"
    recorded = trial.record([path])
    source = Source(path)
    (function, text), steps = PLACES[place]
    if trial.interpreter.minor < (3, 12):
        steps = OWN_FRAME.get(place, steps)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end", [(path, [source.line(function, text)])])
        assert debugger.go("reverseContinue")["reason"] == "breakpoint"
        assert source.where(debugger)[1].startswith(text)
        debugger.set_breakpoints(path, [])
        states = [state(debugger)]
        for command, function, text in steps:
            debugger.go(command)
            here = source.where(debugger)
            assert here[0] == function and here[1].startswith(text), (command, here)
            states.append(state(debugger))
        # The very next line, until the first state is there again.
        for _ in range(400):
            if state(debugger) == states[0]:
                break
            debugger.go("stepOut" if debugger.where()[0] == "burn" else "stepIn")
        assert state(debugger) == states[0]
        for (command, _, _), before, after in zip(steps, states, states[1:], strict=False):
            debugger.go(command)
            assert state(debugger) == after
            if command == "stepBack" and after[1][1:] == before[1][1:]:
                debugger.go("next")
                assert state(debugger) == before
                debugger.go(command)


def test_each_of_ten_thousand_hits(trial):
    trial.prepare(inputs=False)
    path = trial.work / "loop.py"
    path.write_text(
        "def loop(rounds):\n    total = 0\n    for i in range(rounds):\n        total += i * 2\n    return total\n\n\nloop(10_000)\n"
    )
    recorded = trial.record([path])
    choose = random.Random(1)
    with Debugger(recorded.trace) as debugger:

        def check(i):
            assert debugger.stop["reason"] == "breakpoint"
            assert debugger.locals() == {"rounds": "10000", "i": str(i), "total": str(i * (i - 1))}

        debugger.launch("entry", [(path, [{"line": 4, "logMessage": "{i} {total}"}])])
        debugger.go("continue")
        logged = [line for line in debugger.output("console").splitlines() if line[:1].isdigit()]
        assert logged == [f"{i} {i * (i - 1)}" for i in range(10_000)]
        debugger.go("gotoPosition", position="start")
        debugger.set_breakpoints(path, [4])
        for i in range(100):
            debugger.go("continue")
            check(i)
        debugger.go("gotoPosition", position="end")
        for i in reversed(range(9_900, 10_000)):
            debugger.go("reverseContinue")
            check(i)
        for _ in range(10):
            debugger.set_breakpoints(
                path, [{"line": 4, "hitCondition": str((hit := choose.randrange(100, 9_900)) + 1)}]
            )
            debugger.go("gotoPosition", position="start")
            debugger.go("continue")
            check(hit)
            debugger.set_breakpoints(path, [4])
            for i in (hit - 1, hit - 2):
                debugger.go("reverseContinue")
                check(i)
            for i in (hit - 1, hit, hit + 1):
                debugger.go("continue")
                check(i)


def test_at_the_end_of_the_recording(trial):
    trial.prepare("walked.py", "walked_module.py", inputs=False)
    path = trial.work / "walked.py"
    recorded = trial.record([path])
    source = Source(path)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        end = state(debugger)
        assert source.where(debugger) == ("<module>", "print(gone)")
        for command in ("next", "stepIn", "stepOut", "continue"):
            debugger.go(command)
            assert state(debugger) == end
        debugger.go("reverseStepIn")
        assert source.where(debugger) == ("main", "return results")
        debugger.go("reverseStepOut")
        assert source.where(debugger) == ("<module>", "print(main())")
        debugger.go("next")
        assert state(debugger) == end
        debugger.go("gotoPosition", position="start")
        start = state(debugger)
        for command in ("stepBack", "reverseStepIn", "reverseStepOut", "reverseContinue"):
            debugger.go(command)
            assert state(debugger) == start
        debugger.go("gotoPosition", position="end")
        assert state(debugger) == end


def test_after_the_crash(trial):
    recorded, path = record(trial, "debugged_after.py", exit=1)
    source = Source(path)
    with Debugger(recorded.trace) as debugger:
        assert debugger.launch()["reason"] == "exception"
        crash = state(debugger)
        assert source.where(debugger) == ("divide", "return number / zero")
        after = [
            ("next", "main", "divide(7)"),
            ("stepIn", "Context.__exit__", "self.error = error[0]"),
            ("next", "Context.__exit__", "return False"),
            ("next", "main", "cleaned += 1"),
            ("next", "main", 'print("cleaned", cleaned)'),
            ("stepIn", "at_exit", 'last = "handler"'),
            ("next", "at_exit", "print(last)"),
        ]
        debugger.go("gotoPosition", position="end")
        assert source.where(debugger) == ("at_exit", "print(last)")
        assert debugger.locals() == {"last": "'handler'"}
        for _, function, line in reversed(after[1:-1]):
            debugger.go("reverseStepIn")
            while source.where(debugger) in [("main", "with Context():"), ("main", "divide(7)")]:
                debugger.go("reverseStepIn")
            assert source.where(debugger) == (function, line)
        debugger.go("gotoPosition", position="crash")
        assert state(debugger) == crash
        debugger.go("gotoPosition", position="end")
        debugger.request("setExceptionBreakpoints", filters=["uncaught"])
        assert debugger.go("reverseContinue")["reason"] == "exception"
        assert state(debugger) == crash


@pytest.mark.parametrize("seed", range(2))
def test_a_random_walk_in_a_forked_child(trial, seed):
    trial.prepare("walked_fork.py", inputs=False)
    path = trial.work / "walked_fork.py"
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    log = reference(trial, [path], child=True)["MainThread"]
    with Debugger(recorded.trace, process=1) as debugger:
        debugger.launch("entry" if seed else "end")
        walker = Walker(debugger, log, path)
        walker.begin(0 if seed else -1)
        walk(walker, random.Random(seed), 60)


@pytest.mark.parametrize("seed", range(2))
def test_a_random_walk_in_pytest(trial, venv, seed):
    trial.prepare("walked_pytest", inputs=False)
    trial.use(venv("pytest"))
    path = trial.work / "walked_pytest" / "test_walked.py"
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    recorded = trial.record(arguments)
    assert recorded.exit == 1, recorded
    log = reference(trial, arguments, exit=1)["MainThread"]
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry" if seed else "end")
        walker = Walker(debugger, log, path)
        walker.begin(0 if seed else -1)
        walk(walker, random.Random(seed), 60)


INTERRUPTED = """
import signal


class Enough(Exception):
    pass


def enough(number, frame):
    raise Enough


def seldom(number):
    return number + 1


def busy():
    number = 0
    while True:
        number += 1
        if number % 50_000 == 0:
            seldom(number)


signal.signal(signal.SIGVTALRM, enough)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
try:
    busy()
except Enough as error:
    print(error.__traceback__.tb_next.tb_frame.f_locals["number"])
    raise
"""


def test_an_interrupt_of_what_computes(trial):
    """The signal is what comes next, at a place that has to be searched for, wherever the debugger stands before it."""
    trial.prepare(inputs=False)
    path = trial.work / "interrupted.py"
    path.write_text(INTERRUPTED)
    recorded = trial.record([path])
    number = int(recorded.stdout)
    with Debugger(recorded.trace) as debugger:
        stop = debugger.launch()
        assert stop["reason"] == "exception" and debugger.stack()[-2]["name"] == "busy"
        busy = len(debugger.stack()) - 2
        assert debugger.locals(busy)["number"] == str(number)
        assert debugger.request("exceptionInfo", threadId=1)["exceptionId"].endswith("Enough")
        while debugger.where()[0] != "busy":
            debugger.go("stepBack")
        for _ in range(10):
            debugger.go("stepBack")
        assert number - 5 <= int(debugger.locals()["number"]) <= number
        assert debugger.evaluate("[number + 0 for _ in range(3)][0]", "repl") == debugger.locals()["number"]
        debugger.set_breakpoints(path, [{"line": line_of(path, "return number + 1"), "condition": "number == 50_000"}])
        assert debugger.go("reverseContinue")["reason"] == "breakpoint"
        assert debugger.locals() == {"number": "50000"} and debugger.output("important") == ""
        debugger.set_breakpoints(path, [])
        debugger.request("setExceptionBreakpoints", filters=["uncaught"])
        assert debugger.go("continue")["position"] == stop["position"]


LONG_AWAIT = """
import asyncio


def burn(rounds):
    total = 0
    for number in range(rounds):
        total += number
    return total


def kept():
    total = yield 1
    while True:
        total = yield total


async def heavy():
    return burn(ROUNDS)


async def main(other):
    others = [kept() for _ in range(5)]
    for each in others:
        next(each)
    before = 1
    result = await asyncio.create_task(heavy())
    after = result + before
    return after


async def both():
    other = asyncio.create_task(heavy())
    result = await main(other)
    await other
    return result


asyncio.run(both())
"""


def test_an_await_that_waits_for_much(trial):
    """The generators of one window are others in the next."""
    trial.prepare(inputs=False)
    path = trial.work / "long_await.py"
    assert any(awaits_for_long(trial, path, rounds) for rounds in longer(2_000_000))


def awaits_for_long(trial, path, rounds):
    """Whether there was more than one checkpoint in it."""
    path.write_text(LONG_AWAIT.replace("ROUNDS", str(rounds)))
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    source = Source(path)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end", [(path, [source.line("main", "after =")])])
        debugger.go("reverseContinue")
        after = state(debugger)
        debugger.set_breakpoints(path, [])
        debugger.go("stepBack")
        assert source.where(debugger) == ("main", "result = await asyncio.create_task(heavy())")
        awaits = state(debugger)
        debugger.go("next")
        assert state(debugger) == after
        debugger.go("reverseStepOut")
        assert source.where(debugger) == ("both", "result = await main(other)")
        debugger.go("next")
        assert source.where(debugger) == ("both", "await other")
        debugger.go("gotoPosition", position=awaits[0])
        debugger.go("stepOut")
        assert source.where(debugger) == ("both", "await other")
        return awaits[0]["window"] + 1 < after[0]["window"]


def test_an_event_that_is_not_there(trial):
    recorded, path = record(trial, "debugged_state.py")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        there = debugger.stop["position"]
        for event in (10**6, 2**63, 2**64 - 1):
            stop = debugger.go("gotoPosition", position={"event": event})
            assert stop["position"] == there
            assert f"there is no event {event}: the last one is " in debugger.output("important")


SERVES = """
import os
import threading

asked = threading.Semaphore(0)


def answer(number):
    half = number / 2
    return half


def serve():
    for number in range(3):
        asked.acquire()
        answer(number)
    os._exit(3)


def ask():
    asked.release(3)
    threading.Event().wait()


threading.Thread(target=serve).start()
ask()
"""


def test_the_end_is_the_last_line_of_whatever_thread(trial):
    """The main one of a server only waits, for as long as all the others work."""
    trial.prepare(inputs=False)
    path = trial.work / "serves.py"
    path.write_text(SERVES)
    recorded = trial.record([path])
    assert recorded.exit == 3, recorded
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end", [(path, [line_of(path, "return half")])])
        end = state(debugger)
        assert (debugger.stop["threadId"], debugger.where()) == (2, ("serve", line_of(path, "os._exit(3)")))
        for number in (2, 1, 0):
            assert debugger.go("reverseContinue")["reason"] == "breakpoint"
            assert debugger.locals() == {"number": str(number), "half": str(number / 2)}
        for _ in range(3):
            debugger.go("continue")
        assert state(debugger) == end


CALLS = """
import os
import time


def called(number):
    pid = os.getpid()
    now = time.time()
    return number * 2


def main():
    for number in range(20):
        called(number)
        late = time.monotonic(); also = time.perf_counter()


main()
"""


def test_each_event_is_where_its_call_is(trial):
    """Whichever comes first: an event far ahead, or one that has passed."""
    trial.prepare(inputs=False)
    path = trial.work / "calls.py"
    path.write_text(CALLS)
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    listed = trial.tool("events", "--json", recorded.trace).stdout.decode().splitlines()
    events = [json.loads(line) for line in listed]
    lines = {
        "posix.getpid": "os.getpid()",
        "time.time": "now = time.time()",
        "time.monotonic": "time.monotonic()",
        "time.perf_counter": "time.perf_counter()",
    }
    in_call = [line_of(path, text) for text in ("os.getpid()", "now =")]
    wanted = []
    for call, text in lines.items():
        found = [event["index"] for event in events if event["text"].startswith(f"{call}(")][-20:]
        assert len(found) == 20, (call, found)
        wanted += [(index, line_of(path, text), number) for number, index in enumerate(found)]
    random.Random(5).shuffle(wanted)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        for index, line, number in wanted:
            stop = debugger.go("gotoPosition", position={"event": index})
            assert stop["reason"] == "goto" and debugger.where()[1] == line, (index, debugger.where())
            assert debugger.evaluate("number") == str(number)
            # The position that it says is that of the line.
            assert debugger.go("gotoPosition", position=stop["position"])["position"] == stop["position"]
            # And the line after the one that comes to the event.
            debugger.go("gotoPosition", position={"event": index, "ticks": 1})
            assert debugger.where()[1] == (line + 1 if line in in_call else line_of(path, "for number"))


def test_lines_after_an_event_are_counted_beyond_checkpoints(trial):
    trial.prepare(inputs=False)
    path = trial.work / "counted.py"
    assert any(counts_lines(trial, path, rounds) for rounds in longer(2_000_000))


def counts_lines(trial, path, rounds):
    """Whether there were checkpoints between the lines."""
    text = f"import time\n\nbegin = time.time()\ntotal = 0\nfor number in range({rounds}):\n    total += number\n"
    path.write_text(text)
    recorded = trial.record([path])
    listed = trial.tool("events", "--json", recorded.trace).stdout.decode().splitlines()
    events = [json.loads(line) for line in listed]
    event = [event["index"] for event in events if event["text"].startswith("time.time(")][-1]
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        windows = set()
        for number in (0, 7, rounds // 4, rounds - 1, rounds // 2 + 1):
            # The line of the call, and that of the total, come before the first of the loop.
            stop = debugger.go("gotoPosition", position={"event": event, "ticks": 2 + 2 * number + 1})
            assert (debugger.where()[1], debugger.evaluate("number")) == (6, str(number))
            windows.add(stop["position"]["window"])
        return len(windows) > 1


FRAMEWORK = """
import asyncio, threading

def serve(view, log, count):
    for number in range(count):
        thread = threading.Thread(target=handle, args=(view, log, number))
        thread.start()
        thread.join()

def handle(view, log, number):
    answer = view(number)
    log(answer)

def run(*functions):
    for function in functions:
        function()

def run_with(fixture, function):
    made = fixture()
    function(next(made))
    next(made, None)

async def work():
    total = 0
    for number in range(2_000_000):
        total += number
    return total

async def respond(view, number):
    answer = await view(number)
    return answer

async def respond_to_all(view, count):
    for _ in range(count):
        await asyncio.gather(*(respond(view, number) for number in range(3)))
"""


def record_under_framework(trial, text, runner=None):
    """Records a program that a library calls, by itself or by the library's own main program. The trace, and its path."""
    trial.prepare(inputs=False)
    folder = trial.work / "site-packages"
    folder.mkdir()
    (folder / "framework.py").write_text(FRAMEWORK)
    program = trial.work / "program.py"
    program.write_text("import sys\nsys.path[:0] = ['site-packages']\nimport framework\n" + text)
    main = program
    if runner is not None:
        main = folder / "runner.py"
        main.write_text(runner)
    recorded = trial.record([main])
    assert recorded.exit == 0, recorded
    return recorded.trace, program


def test_a_step_out_of_what_a_framework_calls_ends_in_the_threads_next_code(trial):
    text = """
def view(number):
    total = number + 1
    return total * 2

def log(answer):
    print(answer)

framework.serve(view, log, 3)
"""
    trace, program = record_under_framework(trial, text)
    total, returned, logged = (line_of(program, part) for part in ("total = ", "return total", "print(answer)"))
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [returned])])
        debugger.go("continue")
        debugger.go("continue")
        thread = debugger.stop["threadId"]
        debugger.set_breakpoints(program, [])

        def go(command):
            debugger.go(command)
            assert debugger.stop["threadId"] == thread
            return debugger.stack()[0]["line"]

        for command, line in (("next", logged), ("stepBack", returned), ("stepOut", logged), ("reverseStepOut", returned)):
            assert go(command) == line, command
        assert debugger.locals() == {"number": "1", "total": "2"}
        assert go("stepBack") == total
        for command in ("stepBack", "reverseStepIn", "reverseStepOut"):
            assert go(command) == total and debugger.stop["description"] == "The thread begins here"
        assert go("next") == returned
    with Debugger(trace, justMyCode=False) as debugger:
        debugger.launch("entry", [(program, [returned])])
        debugger.go("continue")
        debugger.go("next")
        assert debugger.where() == ("handle", line_of(program.parent / "site-packages" / "framework.py", "log(answer)"))


def test_a_step_out_of_a_test_ends_in_the_next_one(trial):
    text = """
def test_first():
    value = 1
    assert value == 1

def test_second():
    value = 2
    assert value == 2
"""
    runner = "import sys; sys.path[:0] = ['.']; import program, framework; framework.run(program.test_first, program.test_second)"
    trace, program = record_under_framework(trial, text, runner)
    lines = [line_of(program, part) for part in ("def test_second", "value = 1", "value == 1", "value = 2", "value == 2")]
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, lines[1:2])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        for command, places in (("next", [2, 3, 4]), ("stepBack", [3, 2, 1, 0]), ("next", [1, 2]), ("stepOut", [3])):
            for place in places:
                debugger.go(command)
                assert debugger.stack()[0]["line"] == lines[place], (command, place)
        debugger.go("reverseStepOut")
        assert debugger.stack()[0]["line"] == lines[2]


def test_a_step_out_of_a_fixture_ends_in_what_uses_it(trial):
    text = """
def fixture():
    value = 1
    yield value
    value = 2

def test_first(value):
    assert value == 1

def test_second(value):
    assert value
"""
    runner = """
import sys; sys.path[:0] = ['.']
import program, framework
framework.run_with(program.fixture, program.test_first)
framework.run_with(program.fixture, program.test_second)
"""
    trace, program = record_under_framework(trial, text, runner)
    parts = ("def test_second", "value = 1", "yield value", "value == 1", "value = 2")
    names = {line_of(program, part): part for part in parts}
    second = len(program.read_text().splitlines())
    names[second] = "second"
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [second])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])

        def go(command, times):
            for _ in range(times):
                debugger.go(command)
                yield names[debugger.stack()[0]["line"]]

        assert list(go("stepBack", 4)) == ["yield value", "value = 1", "value = 2", "yield value"]
        assert list(go("stepBack", 2)) == ["value = 1", "def test_second"]
        assert list(go("next", 2)) == ["value = 1", "yield value"]


def test_a_step_out_of_an_async_view_ends_in_the_next_code(trial):
    text = """
import asyncio

async def view(number):
    await asyncio.sleep(0.001 * number)
    total = number * 2
    return total
"""
    runner = """
import asyncio, sys; sys.path[:0] = ['.']
import program, framework
asyncio.run(framework.respond_to_all(program.view, 2))
"""
    trace, program = record_under_framework(trial, text, runner)
    first, total, returned = (line_of(program, part) for part in ("await asyncio.sleep", "total = ", "return total"))
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [returned])])
        for _ in range(3):
            debugger.go("continue")
        debugger.set_breakpoints(program, [])

        def go(command):
            debugger.go(command)
            return debugger.stack()[0]["line"], debugger.locals()["number"]

        # The three of the first round come back in their order; each awaits on its own.
        assert debugger.locals()["number"] == "2"
        assert go("stepBack") == (total, "2") and go("stepBack") == (first, "2")
        assert go("next") == (total, "2") and go("next") == (returned, "2")
        # The next code is the first line of the next round.
        assert go("next") == (first, "0")
        # It is awaited, whatever other views do meanwhile.
        assert go("next") == (total, "0") and go("next") == (returned, "0")
        assert go("stepBack") == (total, "0") and go("stepBack") == (first, "0")
        assert go("stepBack") == (returned, "2")


def test_a_step_over_the_end_of_a_task_ends_in_the_next_code(trial):
    """Nobody awaits it who goes on then: it is the loop's."""
    text = """
import asyncio

async def job(number):
    await asyncio.sleep(0.001 * number)
    return number * 2

async def main():
    jobs = [asyncio.create_task(job(number)) for number in range(3)]
    await asyncio.sleep(0.05)
    return [await job for job in jobs]

asyncio.run(main())
last = 1
"""
    trace, program = record_under_framework(trial, text)
    sleeps, returned, awaits, all, last = (
        line_of(program, part) for part in ("sleep(0.001", "return number", "sleep(0.05)", "return [", "last = 1")
    )
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [returned])])
        for number in range(3):
            debugger.go("continue")
            assert debugger.locals()["number"] == str(number)
        debugger.set_breakpoints(program, [])
        debugger.go("stepBack")
        assert (debugger.stack()[0]["line"], debugger.locals()["number"]) == (sleeps, "2")
        for expected in (returned, all, last):
            debugger.go("next")
            assert debugger.stack()[0]["line"] == expected
        debugger.go("reverseContinue")
        debugger.set_breakpoints(program, [awaits])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        debugger.go("stepOut")
        assert debugger.stack()[0]["line"] == last


def test_a_step_out_of_an_async_view_that_waits_for_much(trial):
    """Who awaits it is another object in the next window."""
    text = """
import asyncio

async def view(number):
    waits = await asyncio.create_task(framework.work())
    total = number * 2
    return total
"""
    runner = """
import asyncio, sys; sys.path[:0] = ['.']
import program, framework
asyncio.run(framework.respond_to_all(program.view, 2))
"""
    trace, program = record_under_framework(trial, text, runner)
    first, total, returned = (line_of(program, part) for part in ("waits = await", "total = ", "return total"))
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [first])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])

        def go(command):
            debugger.go(command)
            return debugger.stack()[0]["line"], debugger.locals()["number"]

        # It has come back and ended when the next one comes back.
        assert go("stepOut") == (total, "1")
        assert go("stepBack") == (first, "1") and go("next") == (total, "1")
        # All of the first round have ended.
        assert go("next") == (returned, "1") and go("next") == (total, "2") and go("stepOut") == (first, "0")


UNDER_MANY = """\
import sys

sys.setrecursionlimit(200_000)


class Box:
    count = 0


box = Box()
box.box = Box()


def deep(frames):
    return deep(frames - 1) if frames else loop()


def loop():
    while goes_on():
        pass
    return box.box.count


def goes_on():
    box.box.count += 1
    return box.box.count < 500_000


deep(DEPTH)
end = 1
"""


def innermost(debugger):
    (frame,) = debugger.request("stackTrace", threadId=1, startFrame=0, levels=1)["stackFrames"]
    return frame["name"], frame["line"]


def count(debugger):
    return debugger.request("evaluate", expression="box.box.count")["result"]


def test_a_loop_under_many_frames_costs_what_it_costs_under_few(trial):
    """Its own variables stay the same: nothing but what is further away tells one round from another. A recursion that is not
    in the user's way may be thirty thousand calls deep."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(UNDER_MANY.replace("DEPTH", "30_000"))
    first, last = line_of(program, "pass"), line_of(program, "return box")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [first])])
        debugger.go("continue")
        assert (innermost(debugger), count(debugger)) == (("loop", first), "1")
        debugger.set_breakpoints(program, [last])
        debugger.go("continue")
        assert (innermost(debugger), count(debugger)) == (("loop", last), "500000")
        debugger.set_breakpoints(program, [])
        debugger.go("stepOut")
        assert debugger.where() == ("<module>", line_of(program, "end = 1"))
        debugger.set_breakpoints(program, [first])
        debugger.go("reverseContinue")
        assert (innermost(debugger), count(debugger)) == (("loop", first), "499999")
