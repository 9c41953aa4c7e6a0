"""Conditions of breakpoints, which are asked at each hit: they mean the same as in the frame itself."""

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
        assert debugger.go("continue")["reason"] == "breakpoint"
        assert debugger.locals() == {"number": "40"} and debugger.evaluate("own") == "4"
        assert debugger.go("continue")["reason"] != "breakpoint"


@pytest.mark.parametrize(
    "condition, error", [("number / 0", "ZeroDivisionError"), ("nothing", "NameError"), ("1 +", "SyntaxError")]
)
def test_one_that_fails_is_said_and_stopped_at(recorded, condition, error):
    trace, program = recorded
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [{"line": line_of(program, "# plain"), "condition": condition}])])
        assert debugger.go("continue")["reason"] == "breakpoint" and debugger.locals()["number"] == "0"
        assert error in debugger.output("important")


@pytest.mark.parametrize("end", ["pause", "cancel"])
def test_a_search_is_ended_while_a_condition_is_asked(recorded, end):
    trace, program = recorded
    with Debugger(trace, shows_progress=True) as debugger:
        condition = "number == 1000 and [0 for turn in iter(int, 1)]"
        debugger.launch("entry", [(program, [{"line": line_of(program, "# plain"), "condition": condition}])])
        there = debugger.stop["position"]
        asked = debugger.send("continue", threadId=1)
        progress = debugger.wait(lambda: debugger.take("progressStart"))
        about = {"threadId": 1} if end == "pause" else {"progressId": progress["progressId"]}
        debugger.send(end, **about)
        assert debugger.stopped()["reason"] == "pause" and debugger.stop["position"] == there
        assert debugger.answers.pop(asked)["success"] and debugger.evaluate("1 + 1") == "2"
