"""What is asked at each hit: conditions, what log points say, watched values. It means the same as in the frame itself."""

import pytest
from debugger import Debugger, line_of

PROGRAM = '''
import sys

place = "global"
hidden = 5


class Number:
    def __init__(self, value):
        self.value = value

    def __bool__(self):
        return self.value % 1000 == 999


def plain(number):
    doubled = number * 2
    return doubled  # plain


def late(turn):
    if turn == 7:
        place = "local"
    turn += 1  # late
    return turn


def outer(start):
    shared = start

    def inner(step):
        nonlocal shared
        shared += step
        return shared  # inner

    for turn in range(10):
        inner(turn)
    return shared  # outer


def squares(limit):
    for number in range(limit):
        yield number * number  # squares


SOURCE = """
def made(number):
    number += 1
    return number + own
"""

for number in range(3000):
    plain(number)
for turn in range(10):
    late(turn)
outer(100)
print(sum(squares(50)))
for own in (1, 2):
    names = {"own": own}
    exec(compile(SOURCE, __file__ + ".made", "exec"), names)
code = names["made"].__code__
for own in (3, 4):
    type(plain)(code, {"own": own})(own * 10)


class Body:
    hidden = 6
    for count in range(4):
        hidden += 1  # body


for number in range(2000):
    total = number + hidden  # module
print(total)
'''


@pytest.fixture(scope="module")
def recordings():
    return {}


@pytest.fixture
def recorded(trial, recordings):
    """Recorded once an interpreter."""
    name = trial.interpreter.name
    if name not in recordings:
        trial.prepare(inputs=False)
        program = trial.work / "program.py"
        program.write_text(PROGRAM)
        recordings[name] = trial.record([program]).trace, program
    return recordings[name]


@pytest.mark.parametrize(
    "line, condition, shows, values",
    [
        ("# plain", "number % 1000 == 999", "number", [999, 1999, 2999]),
        ("# plain", "doubled // 2 == 1500 and place == 'global'", "number", [1500]),
        ("# plain", "Number(number)", "number", [999, 1999, 2999]),
        (
            "# plain",
            "number > 2990 and all(doubled - other > number for other in (1, 2, 2991))",
            "number",
            [2992, 2993, 2994, 2995, 2996, 2997, 2998, 2999],
        ),
        ("# plain", "(twice := number * 2) == 20 and twice", "number", [10]),
        ("# plain", "locals()['number'] == 12", "number", [12]),
        ("# plain", "sorted(locals()) == ['doubled', 'number'] and number == 3", "number", [3]),
        ("# plain", "(lambda: number)() == 4", "number", [4]),
        # What has no value yet is looked for among the globals, as in the frame.
        ("# late", "place == 'local'", "turn", [7]),
        ("# late", "place == 'global' and turn > 5", "turn", [6, 8, 9]),
        ("# inner", "shared == 110 or step == 9", "step", [4, 9]),
        ("# outer", "shared == 145 and start == 100 and inner(0) == 145", "shared", [145]),
        ("# squares", "number == 3 or number * number == 2401", "number", [3, 49]),
        ("# body", "hidden == 8", "count", [2]),
        ("# module", "number and total == 1000 and hidden == 5", "number", [996]),
    ],
)
def test_a_condition_is_true_where_it_is(recorded, line, condition, shows, values):
    trace, program = recorded
    with Debugger(trace) as debugger:
        number = line_of(program, line)
        debugger.launch("entry", [(program, [{"line": number, "condition": condition}])])
        for command, wanted in (("continue", values), ("reverseContinue", values[::-1])):
            for value in wanted:
                stop = debugger.go(command)
                assert stop["reason"] == "breakpoint", (stop, debugger.output("important"))
                assert debugger.locals()[shows] == str(value)
            if command == "continue":
                assert debugger.go("continue")["reason"] != "breakpoint"
        assert debugger.go("reverseContinue")["reason"] == "entry"
        assert debugger.output("important") == ""


def test_the_same_code_with_other_globals(recorded):
    trace, program = recorded
    made = {"name": "made", "condition": "own == 4 and number == 40"}
    with Debugger(trace, justMyCode=False) as debugger:
        debugger.launch("entry")
        debugger.request("setFunctionBreakpoints", breakpoints=[made])
        assert debugger.go("continue")["reason"] == "function breakpoint"
        assert debugger.locals() == {"number": "40"} and debugger.evaluate("own") == "4"
        assert debugger.go("continue")["reason"] != "function breakpoint"


@pytest.mark.parametrize(
    "line, message, wanted",
    [
        ("# plain", "{number} twice is {doubled}", [f"{n} twice is {2 * n}" for n in range(3000)]),
        (
            "# plain",
            "{place}{[number, doubled] if number < 2 else ''}",
            ["global[0, 0]", "global[1, 2]"] + ["global"] * 2998,
        ),
        ("# plain", "{sum(doubled for _ in (1, 2))}", [str(4 * n) for n in range(3000)]),
        ("# plain", "{ number }{(number, 'a')}", [f"{n}{(n, 'a')}" for n in range(3000)]),
        ("# plain", "{sorted(locals())}", ["['doubled', 'number']"] * 3000),
        ("# plain", "no expression }", ["no expression }"] * 3000),
        ("# late", "{turn} {place}", [f"{n} {'local' if n == 7 else 'global'}" for n in range(10)]),
        ("# inner", "{shared} by {step}", [f"{100 + sum(range(n + 1))} by {n}" for n in range(10)]),
        ("# squares", "{number * number}", [str(n * n) for n in range(50)]),
        ("# body", "{hidden} {count}", [f"{6 + n} {n}" for n in range(4)]),
        ("# module", "{number}", [str(n) for n in range(2000)]),
    ],
)
def test_what_a_log_point_says(recorded, line, message, wanted):
    trace, program = recorded
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [{"line": line_of(program, line), "logMessage": message}])])
        for command, order in (("continue", 1), ("reverseContinue", -1)):
            seen = len(debugger.output("console"))
            debugger.go(command)
            assert debugger.output("console")[seen:].splitlines() == wanted[::order]
        assert debugger.output("important") == ""


@pytest.mark.parametrize(
    "message, error",
    [
        ("{number / 0}", "ZeroDivisionError"),
        ("{nothing}", "NameError"),
        ("{1 +}", "SyntaxError"),
        ("a{}", "SyntaxError"),
    ],
)
def test_a_log_point_that_fails_is_said_and_passed(recorded, message, error):
    trace, program = recorded
    with Debugger(trace) as debugger:
        stop = {"line": line_of(program, "# plain") - 1, "condition": "number == 3"}
        log = {"line": line_of(program, "# plain"), "logMessage": message}
        debugger.launch("entry", [(program, [log, stop])])
        assert debugger.go("continue")["reason"] == "breakpoint" and debugger.locals()["number"] == "3"
        said = debugger.output("important").splitlines()
        assert len(said) == 3 and all(error in line for line in said), said


WATCHED = """
place = 0


class Box:
    filled = 0


def fill(box, number):
    box.filled = number  # fill


def work(rounds):
    box, text, factor, nothing = Box(), "", 2, None

    def scaled(number):
        return number * factor  # scaled

    for number in range(rounds):
        fill(box, number)
        half = number // 2
        scaled(number)
        text += "x" if number % 300 else "y" * len(text)
        if number % 500 == 0:
            text = ""
    return box  # end


work(3000)
for place in range(2000):
    abs(place)
print(place)
"""


def lengths():
    """Those of `text`, one after the other."""
    length = 0
    for number in range(3000):
        length = length + 1 if number % 300 else length * 2
        yield length
        length = 0 if number % 500 == 0 else length


LENGTHS = list(lengths())


@pytest.fixture
def watched(trial, recordings):
    name = f"watched {trial.interpreter.name}"
    if name not in recordings:
        trial.prepare(inputs=False)
        program = trial.work / "watched.py"
        program.write_text(WATCHED)
        recordings[name] = trial.record([program]).trace, program
    return recordings[name]


@pytest.mark.parametrize(
    "expression, condition, values",
    [
        ("number", "number % 1000 == 999", [999, 1999, 2999]),
        ("number", "number == factor * 700 and scaled(1) == 2", [1400]),
        ("half", "number > 2990 and all(half - other > 0 for other in (1, 2, 1495))", [1496, 1497, 1498, 1499]),
        ("half", "number > 2899 and locals()['half'] == 1450", [1450]),
        # Where the function that changes it is called.
        ("box.filled", "box.filled % 1000 == 1", [1, 1001, 2001]),
        ("len(text)", "len(text) == 299 and nothing is None", [299] * LENGTHS.count(299)),
        ("text", "text == 'x'", ["'x'"] * 6),
    ],
)
def test_conditions_of_what_a_frame_has(watched, expression, condition, values):
    trace, program = watched
    with Debugger(trace) as debugger:
        debugger.launch("end", [(program, [line_of(program, "# end")])])
        debugger.go("reverseContinue")
        debugger.set_breakpoints(program, [])
        frame = debugger.stack()[0]["id"]
        known = debugger.request("dataBreakpointInfo", name=expression, frameId=frame)
        wanted = [{"dataId": known["dataId"], "condition": condition}]
        debugger.request("setDataBreakpoints", breakpoints=wanted)
        texts = []
        while debugger.go("reverseContinue")["reason"] == "data breakpoint":
            texts.append(debugger.stop["text"])
        assert [text.rpartition(" -> ")[2] for text in texts] == [str(value) for value in reversed(values)]
        debugger.go("gotoPosition", position="start")
        for text in reversed(texts):
            assert debugger.go("continue")["text"] == text
        assert debugger.go("continue")["reason"] != "data breakpoint"
        said = debugger.output("console") + debugger.output("important")
        assert said == "", said


@pytest.mark.parametrize("condition, values", [("place % 900 == 899", [899, 1799]), ("place == 77 and Box", [77])])
def test_conditions_of_what_a_module_has(watched, condition, values):
    trace, program = watched
    with Debugger(trace) as debugger:
        debugger.launch("end")
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="place")
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"], "condition": condition}])
        for value in reversed(values):
            assert debugger.go("reverseContinue")["text"] == f"{value - 1} -> {value}"
        assert debugger.go("reverseContinue")["reason"] != "data breakpoint"
        assert debugger.output("console") + debugger.output("important") == ""


GROWS = """
def grow(rounds):
    text = ""
    for number in range(rounds):
        text += "x"
        if number % 900 == 0:
            text = ""
    return text


grow(300_000)
"""


def test_a_watched_string_grows_in_place_as_it_did(trial):
    """What holds it has it copied, and the run would not meet the checkpoints it is cut by."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(GROWS)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("end")
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope(), name="text")
        wanted = {"dataId": known["dataId"], "condition": "len(text) > 5000"}
        debugger.request("setDataBreakpoints", breakpoints=[wanted])
        assert debugger.go("reverseContinue")["reason"] == "entry"
        said = debugger.output("console") + debugger.output("important")
        assert said == "", said


@pytest.mark.parametrize(
    "condition, error", [("number / 0", "ZeroDivisionError"), ("nothing", "NameError"), ("1 +", "SyntaxError")]
)
def test_one_that_fails_is_said_and_stopped_at(recorded, condition, error):
    trace, program = recorded
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [{"line": line_of(program, "# plain"), "condition": condition}])])
        assert debugger.go("continue")["reason"] == "breakpoint" and debugger.locals()["number"] == "0"
        assert error in debugger.output("important")


ENDLESS = "number == 1000 and [0 for turn in iter(int, 1)]"


@pytest.mark.parametrize("end", ["pause", "cancel"])
@pytest.mark.parametrize("asked", ["condition", "log", "watch"])
def test_a_search_is_ended_while_something_is_asked(recorded, asked, end):
    trace, program = recorded
    with Debugger(trace, shows_progress=True) as debugger:
        wanted = {"condition": {"condition": ENDLESS}, "log": {"logMessage": f"{{{ENDLESS}}}"}}.get(asked)
        debugger.launch("entry", [(program, [{"line": line_of(program, "# plain"), **wanted}] if wanted else [])])
        if asked == "watch":
            known = debugger.request("dataBreakpointInfo", name="number", variablesReference=0)
            wanted = [{"dataId": known["dataId"], "condition": ENDLESS}]
            debugger.request("setDataBreakpoints", breakpoints=wanted)
        there = debugger.stop["position"]
        asked = debugger.send("continue", threadId=1)
        progress = debugger.wait(lambda: debugger.take("progressStart"))
        about = {"threadId": 1} if end == "pause" else {"progressId": progress["progressId"]}
        debugger.send(end, **about)
        assert debugger.stopped()["reason"] == "pause" and debugger.stop["position"] == there
        assert debugger.answers.pop(asked)["success"] and debugger.evaluate("1 + 1") == "2"


ENDS = """
import threading


class Closes:
    def __del__(self):
        print("closed", flush=True)


def work(rounds):
    closes = Closes()
    for number in range(rounds):
        twice = number * 2
        other = twice  # asked
    del closes
    print("worked", flush=True)


thread = threading.Thread(target=work, args=(2000,))
thread.start()
thread.join()
work(2000)
"""


@pytest.mark.parametrize("condition", ["number < 0", "not locals()", "[other] == [0] or missing"])
@pytest.mark.parametrize("asked", ["condition", "log", "watch"])
def test_what_is_asked_keeps_nothing_of_the_program(trial, asked, condition):
    """The program ends as it did: what it gives up, and its modules, are gone then."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(ENDS)
    line = line_of(program, "# asked")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        if asked == "watch":
            known = debugger.request("dataBreakpointInfo", name="twice", variablesReference=debugger.scope())
            wanted = {"dataId": known["dataId"], "condition": f"twice < 0 and ({condition})"}
            debugger.request("setDataBreakpoints", breakpoints=[wanted])
        else:
            said = {"logMessage": "{not locals()}"}
            wanted = {"condition": f"number < 0 and ({condition})"} if asked == "condition" else said
            debugger.set_breakpoints(program, [{"line": line, **wanted}])
        assert debugger.go("continue")["reason"] == "step"
        said = debugger.output("console").replace("False\n", "")
        assert "not met" not in said and "gone" not in debugger.output("important"), said
        assert debugger.output() == "closed\nworked\nclosed\n"


PRINTING = """\
class Loud:
    def __repr__(self):
        print("repr", flush=True)
        return "Loud()"


def noisy(n):
    print("noisy", n, flush=True)
    return n == 3


def work(loud):
    for n in range(5):
        here = n
    return loud


work(Loud())
print("end", flush=True)
done = True
"""


def test_what_prints_can_be_asked(trial):
    """It is not the program that prints then."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(PRINTING)
    line = line_of(program, "here = n")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry")
        debugger.set_breakpoints(program, [{"line": line, "condition": "noisy(n)"}, {"line": line, "logMessage": "{loud} {n}"}])
        assert debugger.go("continue")["reason"] == "breakpoint"
        assert debugger.locals() == {"loud": "Loud()", "n": "3", "here": "2"}
        assert debugger.output("console").count("Loud() ") == 4 and "noisy" not in debugger.output("console")
        assert debugger.evaluate("noisy(4)", "repl") == "False" and "noisy 4\n" in debugger.output("console")
        debugger.set_breakpoints(program, [])
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope(), name="loud")
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"], "condition": "noisy(n)"}])
        assert debugger.go("continue")["text"] == "The end of the recording"
        assert debugger.output() == "end\n" and not debugger.output("important")


@pytest.mark.parametrize("condition", ["ctypes.string_at(0)", "os.kill(os.getpid(), 9) or True", "os._exit(3)", "sys.exit(3)"])
def test_a_condition_that_ends_its_process_is_said_and_the_session_goes_on(trial, condition):
    trial.prepare(inputs=False)
    path = trial.work / "program.py"
    path.write_text("import ctypes, os, sys\nfor number in range(9):\n    twice = 2 * number\nprint(twice)\n")
    trace = trial.record([path]).trace
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [{"line": 3, "condition": f"number == 4 and ({condition})"}])])
        debugger.go("continue")
        said = debugger.output("important")
        if condition.startswith("ctypes"):
            # It has crashed: nobody knows where.
            assert "a process of the replay has gone: it ended" in said and debugger.where()[1] == 1
        else:
            assert "breakpoint 1: " in said and debugger.where()[1] == 3 and debugger.locals()["number"] == "4"
        debugger.set_breakpoints(path, [{"line": 3, "condition": "number == 5"}])
        assert debugger.go("continue")["reason"] == "breakpoint" and debugger.evaluate("number") == "5"
