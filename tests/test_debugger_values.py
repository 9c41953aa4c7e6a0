"""What is evaluated and set in the debugger, and values that make trouble."""

import pytest
from debugger import Debugger, RequestFailed, assert_gone, descendants, line_of, stopped_at
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
    with stopped_at(trial, VALUES, "return limit") as debugger:
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


MANY_ENDLESS = """
import ctypes
import re


class Endless:
    def __repr__(self):
        while True:
            pass


class Ends:
    def __repr__(self):
        ctypes.string_at(0)


class Slow(Exception):
    def __repr__(self):
        re.match("(a+)+b", "a" * 200)


class Box:
    def __init__(self):
        self.inside, self.next_to_it = Endless(), 7


def work():
    first, endless, listed, ends, slow, box = 1, Endless(), [2, Endless()], Ends(), Slow(), Box()
    last = "seen"
    return first


work()
"""


def test_values_without_an_end_do_not_hide_the_others(trial):
    with stopped_at(trial, MANY_ENDLESS, "return first") as debugger:
        shown = debugger.variables(debugger.scope())
        values = {v["name"]: v["value"] for v in shown}
        assert (values["first"], values["last"]) == ("1", "'seen'")
        for name, kind in (("endless", "Endless"), ("listed", "list"), ("ends", "Ends"), ("slow", "Slow")):
            assert values[name] == f"<{kind} whose repr takes too long, or ends the process>", values
        assert values["box"] == "<__main__.Box object at 0x?>"
        box = next(v for v in shown if v["name"] == "box")["variablesReference"]
        values = {v["name"]: v["value"] for v in debugger.variables(box)}
        assert values["next_to_it"] == "7" and "takes too long" in values["inside"]
        # The list has items, of which one can be seen.
        listed = next(v for v in shown if v["name"] == "listed")["variablesReference"]
        assert [v["value"] for v in debugger.variables(listed)][0] == "2"
        assert debugger.go("stepBack")["reason"] == "step"


ENDLESS_ATTRIBUTES = """
def endless(*_):
    while True:
        pass


class Lists:
    __dir__ = endless

    def __init__(self):
        self.seen = 1


class Gets:
    __getattr__ = endless

    def __init__(self):
        self.seen = 2

    def __dir__(self):
        return ["missing", "seen"]


class Is:
    __getattribute__ = endless


def work():
    first, lists, gets, whole = 1, Lists(), Gets(), Is()
    return first


work()
"""


def test_attributes_without_an_end_do_not_hide_the_others(trial):
    with stopped_at(trial, ENDLESS_ATTRIBUTES, "return first") as debugger:
        shown = {v["name"]: v for v in debugger.variables(debugger.scope())}
        assert shown["first"]["value"] == "1" and list(shown) == ["first", "lists", "gets", "whole"], shown

        def values(name):
            return {v["name"]: v["value"] for v in debugger.variables(shown[name]["variablesReference"])}

        said = "<this takes too long, or ends the process>"
        assert (values("lists")["dir()"], values("lists")["seen"]) == (said, "1")
        assert (values("gets")["missing"], values("gets")["seen"]) == (said, "2")
        assert values("whole")["dir()"] == said
        assert debugger.go("stepBack")["reason"] == "step"


def test_what_is_evaluated_without_a_frame(stopped):
    """It has its meaning in the module that the program is in, and can be opened."""

    def evaluate(expression, context="watch"):
        return stopped.request("evaluate", expression=expression, context=context)

    found = evaluate("[Dict(a=1), work]")
    assert found["result"].startswith("[{'a': 1}, <function work at 0x") and found["indexedVariables"] == 2
    children = stopped.variables(found["variablesReference"])
    assert children[0]["value"] == "{'a': 1}" and children[0]["evaluateName"] == "([Dict(a=1), work])[0]"
    assert stopped.variables(children[0]["variablesReference"])[0]["value"] == "1"
    for local in ("step", "limit"):
        with pytest.raises(RequestFailed, match="NameError"):
            evaluate(local)
    labels = [target["label"] for target in stopped.request("completions", text="wor", column=4)["targets"]]
    assert labels == ["work"]
    evaluate("made = {'k': [1]}", "repl")
    made = evaluate("made", "repl")
    assert made["result"] == "{'k': [1]}"
    stopped.request("setVariable", variablesReference=made["variablesReference"], name="'k'", value="len('ab')")
    assert evaluate("made", "repl")["result"] == "{'k': 2}"


def test_what_is_evaluated_without_a_frame_is_of_that_module(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    (trial.work / "other.py").write_text("here = 'other'\n\ndef call():\n    return here\n")
    program.write_text("import other\n\nhere = 'main'\nother.call()\nprint(here)\n")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(trial.work / "other.py", [4])])
        debugger.go("continue")
        assert debugger.request("evaluate", expression="here")["result"] == "'other'"
        debugger.go("stepOut")
        assert debugger.request("evaluate", expression="here")["result"] == "'main'"


OBJECTS = """
class Plain:
    pass


def burn(rounds):
    for turn in range(rounds):
        turn * 2


shown = Plain()
print(shown)
hidden = kept = Plain()
burn(200_000)
hidden = Plain()
burn(100_000)
print(hidden is kept)
"""


def test_an_address_that_nobody_knows_is_not_made_up(trial):
    """The replay's own would be another one in each of its copies: neither the program's, nor the same twice."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(OBJECTS)
    recorded = trial.record([program])
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        unknown = "<__main__.Plain object at 0x?>"
        assert debugger.evaluate("str(shown)").strip("'").encode() == recorded.stdout.splitlines()[0]
        assert debugger.evaluate("hidden") == debugger.evaluate("kept") == unknown
        assert debugger.evaluate("hidden is kept") == "False"
        # Another object is a change, and the same one in another copy is none.
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="hidden")
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        assert debugger.go("reverseContinue")["text"] == f"{unknown} -> {unknown}"
        assert debugger.where()[1] == line_of(program, "burn(100_000)")
        stop = debugger.go("reverseContinue")
        assert stop["text"].endswith(f"-> {unknown}") and "NameError" in stop["text"], stop


# Each line takes longer than the replay goes on without a checkpoint: some lie within it, before the change and after it.
LONG_LINES = """
class Plain:
    pass


numbers = range(50_000)
start = Plain()
before = [Plain(), LONG][0]
before = [Plain(), LONG][0]
after = Plain(); LONG
after = Plain(); LONG
print(before is after)
end = 1
"""


@pytest.mark.parametrize("name", ["before", "after"])
def test_another_object_that_is_shown_alike_is_a_change_wherever_a_checkpoint_is(trial, name):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(LONG_LINES.replace("LONG", ", ".join(["sum(numbers)"] * 60)))
    with Debugger(trial.record([program]).trace) as debugger:
        unknown = "<__main__.Plain object at 0x?>"
        changes = [f"<NameError: name '{name}' is not defined> -> {unknown}", f"{unknown} -> {unknown}"]
        line = line_of(program, name) + 1
        debugger.launch("end")
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name=name)
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        met = [(debugger.go("reverseContinue")["text"], debugger.where()[1]) for _ in changes]
        assert met == [(changes[1], line + 1), (changes[0], line)]
        assert debugger.go("reverseContinue")["reason"] == "entry"
        met = [(debugger.go("continue")["text"], debugger.where()[1]) for _ in changes]
        assert met == [(changes[0], line), (changes[1], line + 1)]


def test_names_in_other_scripts(trial):
    """The compiler brings them into one form with a module that a program need not have: its own code is compiled already."""
    trial.prepare(inputs=False)
    module = trial.work / "größen.py"
    module.write_text("def fläche(länge, breite):\n    ergebnis = 0\n    größe = länge * breite\n    return größe\n")
    program = trial.work / "program.py"
    program.write_text("import importlib\nprint(vars(importlib.import_module('gr\\xf6\\xdfen'))['fl\\xe4che'](2, 3))\n")
    assert trial.plain([program]).stdout == b"6\n"
    assert list((trial.work / "__pycache__").iterdir())
    recorded = trial.record([program])
    assert recorded.stdout == b"6\n" and "unicodedata" not in trial.tool("events", recorded.trace).stdout.decode()
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(module, [{"line": 4, "condition": "größe == 6"}])])
        (known,) = debugger.set_breakpoints(module, [{"line": 4, "condition": "größe == 6"}])
        assert known["verified"]
        assert debugger.go("continue")["reason"] == "breakpoint", debugger.output("important")
        assert debugger.evaluate("größe + länge") == "8"
        debugger.evaluate("größe = 7", "repl")
        assert debugger.evaluate("größe") == "7"
        assert debugger.evaluate("'unicodedata' in __import__('sys').modules") == "False"
        debugger.request("setVariable", variablesReference=debugger.scope(), name="breite", value="größe * 2")
        assert debugger.evaluate("breite") == "14"


CONSOLE = """\
def work(items):
    a = 1
    try:
        raise ValueError("mine")
    except ValueError:
        items.append(a)
    return items


print(work([]))
"""


def test_the_console_is_as_the_programs_own_prompt(trial):
    """What is called there has its effect, what fails did what comes before, and the exception that is handled is the
    program's."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(CONSOLE)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "items.append")])])
        debugger.go("continue")
        assert debugger.evaluate("len(items)", "repl") == debugger.evaluate("str(a - 1)", "repl").strip("'") == "0"
        assert "diversion" not in debugger.output("console")
        debugger.evaluate("error = __import__('sys').exc_info()[1]", "repl")
        assert "diversion" in debugger.output("console")
        assert debugger.evaluate("error", "repl") == "ValueError('mine')"
        with pytest.raises(RequestFailed, match="ValueError: mine"):
            debugger.evaluate("raise", "repl")
        debugger.evaluate("items.append(98)", "repl")
        with pytest.raises(RequestFailed, match="ZeroDivisionError: division by zero"):
            debugger.evaluate("print('before'); a = 5; items.append(99); 1 / 0", "repl")
        assert "before\n" in debugger.output("console")
        assert (debugger.evaluate("a"), debugger.evaluate("items")) == ("5", "[98, 99]")
        # A question changes nothing.
        debugger.evaluate("items.append(100)", "hover")
        assert debugger.evaluate("items") == "[98, 99]"
        debugger.go("next")
        assert debugger.locals()["items"] == "[1]"


UNTIL_THE_END = """\
import sys


class Last:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        left = self.number
        self.number = left + 1


in_module = Last(1)
sys.in_sys = Last(2)
"""


def test_the_interpreters_end_is_a_place_like_any_other(trial):
    """Modules are gone there, and what `sys` had."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(UNTIL_THE_END)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "self.number = left")])])
        met = []
        for _ in range(2):
            debugger.go("continue")
            assert debugger.where() == ("Last.__del__", line_of(program, "self.number = left"))
            met.append((debugger.locals()["left"], debugger.evaluate("self.number * 10")))
        assert sorted(met) == [("1", "10"), ("2", "20")]


def test_a_module_that_is_being_imported_has_not_all_yet(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text("import sys\nsys.modules.pop('collections', None)\nimport collections\nprint(1)\n")
    with Debugger(trial.record([program]).trace, justMyCode=False) as debugger:
        debugger.launch("entry", [(program, [3])])
        debugger.go("continue")
        for _ in range(12):
            debugger.go("stepIn")
            assert debugger.stack() and isinstance(debugger.locals(), dict)


FAILING = """\
import threading

ev = [1]
z = 2
ev = 5
done = 1
"""


def test_what_is_watched_fails_without_a_trace(trial):
    """An error's traceback would keep the program's frames, and what dies with them would not."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(FAILING)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("end", [(program, [{"line": 4, "logMessage": "{nope}"}])])
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="ev")
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        met = [(debugger.go("reverseContinue")["text"], debugger.where()) for _ in range(2)]
        assert met == [
            ("[1] -> 5", ("<module>", 6)),
            ("<NameError: name 'ev' is not defined> -> [1]", ("<module>", 4)),
        ]
        assert debugger.go("reverseContinue")["reason"] == "entry"
        assert "is not defined" in debugger.output("important")


def test_what_libraries_make_of_strings_is_not_a_commands(trial):
    """`namedtuple` has code of the same file name as that of `python -c`."""
    trial.prepare(inputs=False)
    command = "import collections\nPoint = collections.namedtuple('Point', 'x y')\ndef of(x):\n    return Point(x, 1)\nprint(of(3))"
    recorded = trial.record(["-c", command])
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        met = []
        while len(met) < 20 and debugger.stop["text"] != "The end of the recording":
            met.append((*debugger.where(), len(debugger.stack())))
            debugger.go("stepIn")
        assert met == [("<module>", 1, 1), ("<module>", 2, 1), ("<module>", 3, 1), ("<module>", 5, 1), ("of", 4, 2)]


CLASSES = """\
class Own(list):
    def __init__(self, limit):
        super().__init__([1, 2])
        self.__limit = limit

    def __len__(self):
        raise ValueError("no length")

    @property
    def doubled(self):
        return self.__limit * 2

    @doubled.setter
    def doubled(self, value):
        self.__limit = value

    def work(self):
        here = [self.__limit + n for n in range(3)]
        return here


class Box:
    pass


own = Own(9)
own.work()
own.__limit = 1
print(own.doubled)
"""


def test_private_names_mean_what_they_mean_in_the_class(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(CLASSES)
    line = line_of(program, "return here")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry")
        debugger.set_breakpoints(program, [{"line": line, "condition": "self.__limit == 9 and here", "logMessage": ""}])
        wanted = {"line": line, "logMessage": "{self.__limit} {[self.__limit for _ in here]}"}
        debugger.set_breakpoints(program, [wanted, {"line": line, "condition": "self.__limit == 8"}])
        debugger.go("continue")
        assert "9 [9, 9, 9]\n" in debugger.output("console")
        debugger.set_breakpoints(program, [{"line": line, "condition": "self.__limit == 9"}])
        debugger.go("reverseContinue")
        assert debugger.where() == ("Own.work", line)
        assert debugger.evaluate("self.__limit") == "9" and debugger.evaluate("(lambda x: x.__limit)(self)") == "9"
        assert debugger.evaluate("dict(__limit=self.__class__.__name__)") == "{'__limit': 'Own'}"
        debugger.evaluate("self.__limit = 4", "repl")
        assert debugger.evaluate("self.__limit, self.doubled") == "(4, 8)"
        # A property makes of it what it will.
        own = next(v for v in debugger.variables(debugger.scope()) if v["name"] == "self")["variablesReference"]
        set_to = debugger.request("setVariable", variablesReference=own, name="doubled", value="50")
        assert (set_to["value"], debugger.evaluate("self.__limit")) == ("100", "50")


def test_a_container_without_a_length(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(CLASSES)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("end")
        own = next(v for v in debugger.variables(debugger.scope("Globals")) if v["name"] == "own")
        found = {v["name"]: v["value"] for v in debugger.variables(own["variablesReference"])}
        assert (found["0"], found["1"], found["len()"]) == ("1", "2", "<ValueError: no length>")
        # Outside of the class the name is another one.
        assert debugger.evaluate("own.__limit, own._Own__limit", frame=1) == "(1, 9)"


def test_a_text_that_was_cut_in_the_middle_of_a_character(stopped):
    """JSON may have half of a pair of surrogates, which no text has."""
    body = rb"""{"seq": 9000, "type": "request", "command": "evaluate", "arguments": {"expression": "len('\ud83d\ude00 \ud83d')"}}"""
    stopped.server.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    stopped.server.stdin.flush()
    answer = stopped.wait(lambda: stopped.answers.pop(9000, None))
    assert answer["success"] and answer["body"]["result"] == "3", answer


LAZY = """\
import os
import shutil


class Table:
    def __repr__(self):
        import lazily_made
        return f"{lazily_made.WORD} {shutil.get_terminal_size((7, 7)).columns} {os.getpid()}"


def work():
    table = Table()
    return table


print(os.getpid())
work()
"""


def test_a_repr_that_asks_for_the_terminal_and_imports(trial):
    """As pandas' tables do: of an installed package, which the program did not import; and the pid is the recorded one."""
    trial.prepare(inputs=False)
    packages = trial.work / "site-packages"
    packages.mkdir()
    (packages / "lazily_made.py").write_text("WORD = 'made'\n")
    path = trial.work / "program.py"
    path.write_text(LAZY)
    recorded = trial.record([path], env={"PYTHONPATH": str(packages)})
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [13])])
        debugger.go("continue")
        shown = f"made 7 {recorded.stdout.decode().strip()}"
        assert debugger.locals()["table"] == shown and debugger.evaluate("table") == shown
        with pytest.raises(RequestFailed, match="would leave the replay"):
            debugger.evaluate("os.get_terminal_size()")


SEARCHED = """
import gc
import types


def work():
    functions = [one for one in gc.get_objects() if type(one) is types.FunctionType]
    files = {one.__code__.co_filename for one in functions}
    names = [kind.__name__ for kind in object.__subclasses__()]
    hashes = [hash(kind) for kind in (list, dict, tuple, len, object(), work)]
    report = f"{len(functions)} {sorted(files)} {names} {hashes}"
    print(report)


work()
"""


def test_what_answers_questions_is_not_found_by_the_program(trial):
    """It is there before the program begins; what the program sees of the interpreter is as recorded."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(SEARCHED)
    recorded = trial.record([program])
    assert recorded.exit == 0, recorded
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "print(report)")])])
        debugger.go("continue")
        assert debugger.evaluate("report", "clipboard") == recorded.stdout.decode().rstrip()


IDENTITIES = """\
import threading


class Numbered:
    def __repr__(self):
        return f"<Numbered {id(self)} {id(self):#x} {id(self):016X}>"


class Endless:
    @property
    def whole(self):
        while True:
            pass

    @property
    def half(self):
        return 5


known, numbered, event, endless = Numbered(), Numbered(), threading.Event(), Endless()
print(known)
here = 1
"""


def test_an_address_in_a_repr_that_is_written_in_python(trial):
    """One that the program has asked for is the recording's; of another one nobody knows what it was."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(IDENTITIES)
    recorded = trial.record([program])
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        values = debugger.locals()
        assert values["known"].encode() == recorded.stdout.rstrip()
        assert values["numbered"] == "<Numbered ? 0x? 0x?>"
        assert values["event"] == "<threading.Event at 0x?: unset>"
        assert debugger.evaluate("[numbered, 1]") == "[<Numbered ? 0x? 0x?>, 1]"
        assert debugger.evaluate("numbered", "clipboard") == "<Numbered ? 0x? 0x?>"


def test_a_property_that_has_no_end_is_one_value_among_others(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(IDENTITIES)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("end")
        (endless,) = (v for v in debugger.variables(debugger.scope()) if v["name"] == "endless")
        lazy = {v["name"]: v["variablesReference"] for v in debugger.variables(endless["variablesReference"])}
        assert debugger.variables(lazy["whole"])[0]["value"] == "<this took too long>"
        assert debugger.variables(lazy["half"])[0]["value"] == "5"


def test_what_was_set_can_be_looked_into(stopped):
    """Its answer leads to what is in it, as a variable that is listed does, wherever it was put."""
    scope = stopped.scope()
    listed = {v["name"]: v["variablesReference"] for v in stopped.variables(scope)}
    places = [(scope, "step"), (listed["named"], "'a'"), (listed["named"], "more"), (listed["listed"], "1")]
    for (reference, name), written in zip(places, ["step", "named['a']", "named.more", "listed[1]"], strict=True):
        value = "[len('ab'), {'k': limit}]"
        answer = stopped.request("setVariable", variablesReference=reference, name=name, value=value)
        assert (answer["value"], answer["indexedVariables"]) == ("[2, {'k': 7}]", 2)
        first, second = stopped.variables(answer["variablesReference"], filter="indexed")
        assert first["value"] == stopped.evaluate(first["evaluateName"]) == stopped.evaluate(f"{written}[0]") == "2"
        inner = stopped.variables(second["variablesReference"])[0]
        assert inner["value"] == stopped.evaluate(inner["evaluateName"]) == stopped.evaluate(f"{written}[1]['k']") == "7"
    frame = stopped.stack()[0]["id"]
    answer = stopped.request("setExpression", expression="named['a']", value="(1, 2)", frameId=frame)
    inner = stopped.variables(answer["variablesReference"])
    assert [v["value"] for v in inner[:2]] == ["1", "2"] and stopped.evaluate(inner[1]["evaluateName"]) == "2"
    # What has nothing in it has no reference.
    answer = stopped.request("setVariable", variablesReference=scope, name="step", value="5")
    assert answer["variablesReference"] == 0


def test_what_is_within_is_named_as_one_would_write_it(stopped):
    """In brackets only where what is in front would mean something else without them."""

    def first_in(expression):
        answer = stopped.request("evaluate", expression=expression, frameId=stopped.stack()[0]["id"])
        first = stopped.variables(answer["variablesReference"])[0]
        assert stopped.evaluate(first["evaluateName"]) == first["value"]
        return first["evaluateName"]

    for expression in ("pair", "box.__class__.__mro__", "list(pair)", "[[pair]][0]"):
        assert first_in(expression) == f"{expression}[0]"
    for expression in ("limit and pair", "[*pair] + [1]", "pair if limit else 0", "(lambda: 0, pair)[1] or 1"):
        assert first_in(expression) == f"({expression})[0]"
    outer = "{'a': [pair]}"
    inner = first_in(outer)
    assert inner == f"({outer})['a']" and first_in(inner) == f"{inner}[0]"
