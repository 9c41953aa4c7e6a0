"""What is evaluated and set in the debugger, and values that make trouble."""

import pytest
from debugger import Debugger, RequestFailed, assert_gone, descendants, line_of
from harness import HANG

VALUES = """
import collections


class Dict(dict):
    pass


class List(list):
    pass


class Box:
    @property
    def bad(self):
        raise ValueError("none today")


def work(limit):
    wide = [number * 2 for number in range(100_000)]
    named, listed = Dict(a=1), List([1, 2])
    named.more = listed.more = 5
    queue, pair, box = collections.deque([1, 2]), (1, 2), Box()
    step = 3
    print(step)
    return limit


work(7)
"""


@pytest.fixture
def stopped(trial):
    """A debugger in `work`, where it returns."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(VALUES)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return limit")])])
        debugger.go("continue")
        yield debugger


@pytest.mark.parametrize("context", ["hover", "watch", "repl", "clipboard"])
@pytest.mark.parametrize(
    "expression, value",
    [
        ("[step + number for number in (1, 2)]", "[4, 5]"),
        ("sum(step + number for number in wide[:2])", "8"),
        ("(lambda: (step, limit))()", "(3, 7)"),
        ("any(number == limit for number in wide)", "False"),
    ],
)
def test_a_function_in_an_expression_knows_the_variables(stopped, context, expression, value):
    assert stopped.evaluate(expression, context) == value


def test_a_function_in_a_statement_knows_the_variables(stopped):
    for statement in (
        "double = lambda: step * 2",
        "def more():\n    return double() + limit",
        "global made; made = more()",
    ):
        stopped.evaluate(statement, "repl")
    assert stopped.evaluate("more()", "repl") == "13"
    assert stopped.evaluate("work.__globals__['made']", "repl") == "13"
    assert stopped.evaluate("'step' in work.__globals__", "repl") == "False"


def test_conditions_and_log_points_with_functions_in_them(stopped):
    program = stopped.stack()[0]["source"]["path"]
    line = stopped.stack()[0]["line"]
    condition = "all(number < limit * 10**6 for number in wide) and step == 3"
    log = {"line": line - 1, "logMessage": "{[step + number for number in pair]}"}
    stopped.set_breakpoints(program, [log, {"line": line, "condition": condition}])
    stopped.go("gotoPosition", position="start")
    assert stopped.go("continue")["reason"] == "breakpoint"
    assert stopped.output("important") == "" and "[4, 5]\n" in stopped.output("console")


@pytest.mark.parametrize(
    "variable, name, expression",
    [
        ("named", "'a'", "named['a']"),
        ("named", "more", "named.more"),
        ("listed", "0", "listed[0]"),
        ("listed", "more", "listed.more"),
        ("queue", "1", "queue[1]"),
    ],
)
def test_what_is_set_is_what_is_named(stopped, variable, name, expression):
    reference = next(v for v in stopped.variables(stopped.scope()) if v["name"] == variable)["variablesReference"]
    stopped.request("setVariable", variablesReference=reference, name=name, value="(lambda: step)()")
    assert stopped.evaluate(expression) == "3"
    for wrong in ("len()", "'nothing'", "77"):
        with pytest.raises(RequestFailed):
            stopped.request("setVariable", variablesReference=reference, name=wrong, value="1")


def test_what_can_not_be_set(stopped):
    reference = next(v for v in stopped.variables(stopped.scope()) if v["name"] == "pair")["variablesReference"]
    with pytest.raises(RequestFailed, match="TypeError"):
        stopped.request("setVariable", variablesReference=reference, name="0", value="1")


def test_a_property_that_raises(stopped):
    box = next(v for v in stopped.variables(stopped.scope()) if v["name"] == "box")["variablesReference"]
    bad = next(v for v in stopped.variables(box) if v["name"] == "bad")
    assert stopped.variables(bad["variablesReference"])[0]["value"] == "<ValueError: none today>"


ENDLESS = """
class Endless:
    def __repr__(self):
        while True:
            pass


def work():
    first, endless = 1, Endless()
    return first


work()
"""


@pytest.mark.parametrize("end", ["pause", "cancel", "disconnect", "close"])
def test_a_value_that_is_never_shown_does_not_keep_the_session(trial, end):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(ENDLESS)
    with Debugger(trial.record([program]).trace, shows_progress=True) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return first")])])
        debugger.go("continue")
        scope = debugger.scope()
        before = descendants(debugger.server.pid)
        asked = debugger.send("variables", variablesReference=scope)
        # It is at it: a copy has been made for it, or asked.
        if end in ("pause", "cancel"):
            debugger.send(end, **({"threadId": 1} if end == "pause" else {"requestId": asked}))
            answer = debugger.wait(lambda: debugger.answers.pop(asked, None))
            assert not answer["success"] and "cancelled" in answer["message"]
            assert debugger.evaluate("first") == "1" and debugger.go("stepBack")["reason"] == "step"
            return
        if end == "disconnect":
            debugger.send("disconnect")
        debugger.server.stdin.close()
        debugger.server.wait(HANG)
        assert_gone(before)
