"""What the debugger stops at: hits that are counted, exceptions by where they go, values that change."""

import pytest
from debugger import Debugger, RequestFailed, line_of, longer, record_trace


def hits(debugger, command, name="number"):
    """The values of a variable at each stop on the way."""
    seen = []
    while debugger.go(command)["reason"] == "breakpoint":
        seen.append(int(debugger.locals()[name]))
    return seen


@pytest.mark.parametrize(
    "breakpoint, numbers",
    [
        ({"hitCondition": "90000"}, [89_999]),
        ({"hitCondition": "% 40000"}, [39_999, 79_999, 119_999]),
        ({"hitCondition": ">= 119999"}, [119_998, 119_999]),
        ({"hitCondition": "2000", "condition": "number % 50 == 0"}, [99_950]),
    ],
)
def test_hits_count_from_the_beginning(trial, breakpoint, numbers):
    trace, path = record_trace(trial, "debugged_hits.py")
    with Debugger(trace) as debugger:
        # The other breakpoint's hits are its own.
        line = line_of(path, "return number % 7")
        debugger.launch(
            "entry",
            [
                (
                    path,
                    [
                        {"line": line, **breakpoint},
                        {"line": line, "logMessage": "{number}", "condition": "number == 3"},
                    ],
                )
            ],
        )
        assert hits(debugger, "continue") == numbers
        assert hits(debugger, "reverseContinue") == numbers[::-1]
        # From the middle of it.
        debugger.set_breakpoints(path, [{"line": line, "condition": f"number == {numbers[0] - 1}"}])
        debugger.go("continue")
        debugger.set_breakpoints(path, [{"line": line, **breakpoint}])
        debugger.go("continue")
        assert debugger.locals()["number"] == str(numbers[0])


def test_hits_of_a_function(trial):
    trace, _ = record_trace(trial, "debugged_hits.py")
    with Debugger(trace) as debugger:
        debugger.launch("end")
        wanted = [
            {"name": "step", "condition": "number < 0"},
            {"name": "step", "hitCondition": "70000"},
            {"name": "step", "hitCondition": "many"},
        ]
        _, good, bad = debugger.request("setFunctionBreakpoints", breakpoints=wanted)["breakpoints"]
        assert good["verified"] and not bad["verified"] and "hit condition" in bad["message"]
        stop = debugger.go("reverseContinue")
        assert stop["hitBreakpointIds"] == [good["id"]], stop
        assert debugger.stack()[0]["name"] == "step" and debugger.locals()["number"] == "69999"


def test_a_function_that_is_nowhere_is_said(trial):
    trace, path = record_trace(trial, "debugged_state.py")

    def answers(debugger, *names):
        wanted = [{"name": name} for name in names]
        return debugger.request("setFunctionBreakpoints", breakpoints=wanted)["breakpoints"]

    there = ("bump", "Box.__init__", "twice", "debugged_state.fill", "debugged_state.Box.twice")
    nowhere = ("bumped", "box.bump", "other.fill", "state.fill", "Box.bump", "bump.", "")
    with Debugger(trace) as debugger:
        # Before there is a recording nobody knows.
        (answer,) = answers(debugger, "fill")
        assert not answer["verified"] and "not open" in answer["message"]
        debugger.request("launch", **debugger.arguments, stopOn="entry")
        changed = debugger.wait(lambda: debugger.take("breakpoint"))
        assert changed["reason"] == "changed" and changed["breakpoint"] == {"id": answer["id"], "verified": True}
        debugger.request("configurationDone")
        debugger.stopped()
        assert debugger.go("continue")["reason"] == "function breakpoint" and debugger.stack()[0]["name"] == "fill"
        assert [answer["verified"] for answer in answers(debugger, *there)] == [True] * len(there)
        for name, answer in zip(nowhere, answers(debugger, *nowhere)):
            assert not answer["verified"] and f"no source in the recording has a function {name}" in answer["message"]
        # By its module.
        for name, function in (("debugged_state.bump", "bump"), ("debugged_state.Box.__init__", "Box.__init__")):
            answers(debugger, name)
            assert debugger.go("continue")["reason"] == "function breakpoint" and debugger.stack()[0]["name"] == function
            assert debugger.go("reverseContinue")["reason"] in ("function breakpoint", "entry")


FROZEN = """\
import importlib.util
import os

def here():
    return os.path.join("a", "b")

print(here(), importlib.util.find_spec("json.tool").name)
"""


def test_functions_that_the_interpreter_has_in_itself(trial):
    """They have no source in the recording, and are stopped at."""
    trial.prepare(inputs=False)
    path = trial.work / "frozen.py"
    path.write_text(FROZEN)
    trace = trial.record([path]).trace
    there = {
        "join": "join",
        "posixpath.join": "join",
        "importlib._bootstrap._find_spec": "_find_spec",
        "_bootstrap_external.PathFinder.find_spec": "PathFinder.find_spec",
        "importlib.util.find_spec": "find_spec",
    }
    nowhere = ("posixpath.joined", "path.join", "bootstrap._find_spec", "os.join", "_find_specs")
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        for name in nowhere:
            (answer,) = debugger.request("setFunctionBreakpoints", breakpoints=[{"name": name}])["breakpoints"]
            assert not answer["verified"], name
            assert debugger.go("continue")["reason"] != "function breakpoint", name
            debugger.go("gotoPosition", position="start")
        for name, function in there.items():
            (answer,) = debugger.request("setFunctionBreakpoints", breakpoints=[{"name": name}])["breakpoints"]
            assert answer["verified"], name
            assert debugger.go("continue")["reason"] == "function breakpoint", name
            assert debugger.stack()[0]["name"] == function
            debugger.go("gotoPosition", position="start")


def test_the_timeline_has_the_hits(trial):
    trace, path = record_trace(trial, "debugged_hits.py")
    line = line_of(path, "return number % 7")
    with Debugger(trace) as debugger:
        debugger.launch("end", [(path, [{"line": line, "hitCondition": "% 40000"}])])
        found = debugger.request("timeline")["hits"]
        assert len(found) == 3 and {hit["thread"] for hit in found} == {1}
        for hit, number in zip(found, (39_999, 79_999, 119_999)):
            debugger.go("gotoPosition", position=hit["position"])
            assert debugger.locals()["number"] == str(number)
        (one,) = debugger.set_breakpoints(path, [line])
        found = debugger.request("timeline")["hits"]
        assert 100 < len(found) < 120_000 and {hit["id"] for hit in found} == {one["id"]}
        order = [(hit["position"]["window"], hit["position"]["tick"]) for hit in found]
        assert order == sorted(set(order))
        debugger.set_breakpoints(path, [])
        assert debugger.request("timeline")["hits"] == []


def test_a_crash_of_a_thread(trial):
    trace, _ = record_trace(trial, "debugged_callbacks.py")
    with Debugger(trace) as debugger:
        assert debugger.launch("crash")["reason"] == "exception"
        assert "thread" in debugger.stop["text"]
        assert debugger.stack()[0]["name"] == "work" and debugger.locals() == {"number": "0"}
        names = {thread["id"]: thread["name"] for thread in debugger.request("threads")["threads"]}
        assert names[debugger.stop["threadId"]] == "worker-0"
        info = debugger.request("exceptionInfo", threadId=debugger.stop["threadId"])
        assert (info["exceptionId"], info["breakMode"]) == ("ZeroDivisionError", "unhandled")
        (crash,) = [e for e in debugger.request("timeline")["exceptions"] if e["uncaught"]]
        assert crash["type"] == "ZeroDivisionError" and crash["thread"] == debugger.stop["threadId"]


TWO_THREADS = """\
import sys
import threading


def fail(number):
    return 1 // number


def run(name):
    thread = threading.Thread(target=fail, args=(0,), name=name)
    thread.start()
    thread.join()


run("first")
if sys.argv[1:]:
    {}["missing"]
run("last")
"""


@pytest.mark.parametrize("is_main", [False, True])
def test_the_crash_of_several_threads(trial, is_main):
    """The main thread's, else the last one; the others are in the timeline."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(TWO_THREADS)
    arguments = ["main"] if is_main else []
    with Debugger(trial.record([program, *arguments]).trace) as debugger:
        assert debugger.launch("crash")["reason"] == "exception"
        assert debugger.where() == (("<module>", 17) if is_main else ("fail", 6))
        threads = debugger.request("threads")["threads"]
        names = {thread["id"]: thread["name"] for thread in threads}
        assert names[debugger.stop["threadId"]] == ("MainThread" if is_main else "last")
        crash = debugger.stop["position"]
        found = debugger.request("timeline")["exceptions"]
        assert [raised["position"] for raised in found if raised["uncaught"]] == [crash]
        first = next(raised for raised in found if raised["type"] == "ZeroDivisionError")
        assert not first["uncaught"]
        debugger.go("gotoPosition", position=first["position"])
        assert debugger.where() == ("fail", 6)
        debugger.go("gotoPosition", position="crash")
        assert debugger.stop["position"] == crash


MANY_THREADS = """\
import threading


def fail(number):
    raise ValueError(number)


def fail_at_last(number):
    raise ValueError(number)


threading.excepthook = lambda _: None
for number in range(COUNT):
    thread = threading.Thread(target=fail_at_last if number == COUNT - 1 else fail, args=(number,))
    thread.start()
    thread.join()
"""


def test_the_crash_is_the_last_of_very_many(trial):
    assert any(many_in_its_window(trial, count) for count in longer(500))


def many_in_its_window(trial, count):
    """Whether hundreds of them are where it is."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(MANY_THREADS.replace("COUNT", str(count)))
    with Debugger(trial.record([program]).trace) as debugger:
        assert debugger.launch("crash")["reason"] == "exception"
        assert debugger.where()[0] == "fail_at_last" and debugger.locals() == {"number": str(count - 1)}
        window = debugger.stop["position"]["window"]
        raised = [raised["position"] for raised in debugger.request("timeline")["exceptions"]]
        return sum(position["window"] == window for position in raised) > 200


def test_exceptions_that_leave_the_programs_own_code(trial):
    trace, _ = record_trace(trial, "debugged_callbacks.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"])
        for command, functions in (("continue", ["hook", "work"]), ("reverseContinue", ["work", "hook"])):
            for function in functions:
                assert debugger.go(command)["reason"] == "exception"
                assert debugger.stack()[0]["name"] == function
                mode = debugger.request("exceptionInfo", threadId=debugger.stop["threadId"])["breakMode"]
                assert mode == ("unhandled" if function == "work" else "userUnhandled")
            assert debugger.go(command)["reason"] != "exception"
        broken = [{"filterId": "userUnhandled", "condition": "Broken"}]
        debugger.request("setExceptionBreakpoints", filters=[], filterOptions=broken)
        debugger.go("continue")
        assert debugger.stack()[0]["name"] == "hook"
        info = debugger.request("exceptionInfo", threadId=1)
        assert (info["exceptionId"], info["description"]) == ("__main__.Broken", "bad pair")
        assert debugger.go("continue")["reason"] != "exception"


def variable(debugger, scope, name, *path):
    """The reference that holds a variable, and its name there."""
    reference = debugger.scope(scope)
    for step in (name, *path)[:-1]:
        reference = next(v["variablesReference"] for v in debugger.variables(reference) if v["name"] == step)
    return {"variablesReference": reference, "name": (name, *path)[-1]}


@pytest.mark.parametrize(
    "path, changes",
    [
        (["counter"], ["0 -> 1", "1 -> 3", "3 -> 6"]),
        (["box", "value"], ["0 -> 1", "1 -> 2", "2 -> 3"]),
        (["box", "items", "1"], ["1 -> 9"]),
    ],
)
def test_data_breakpoints_on_globals_attributes_and_items(trial, path, changes):
    trace, program = record_trace(trial, "debugged_state.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return len(wide)")])])
        assert debugger.go("continue")["reason"] == "breakpoint", debugger.output("important") + debugger.output(
            "console"
        )
        known = debugger.request("dataBreakpointInfo", **variable(debugger, "Globals", *path))
        assert known["dataId"] and known["accessTypes"] == ["write"]
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"], "accessType": "write"}])
        debugger.set_breakpoints(program, [])
        seen = []
        while debugger.go("reverseContinue")["reason"] == "data breakpoint" and "<" not in debugger.stop["text"]:
            seen.append(debugger.stop["text"])
        assert seen[::-1] == changes
        debugger.go("gotoPosition", position="start")
        seen = []
        while debugger.go("continue")["reason"] == "data breakpoint":
            seen.append(debugger.stop["text"])
        assert [text for text in seen if "<" not in text] == changes


@pytest.mark.parametrize("command", ["stepIn", "gotoPosition"])
def test_a_data_breakpoint_right_behind_a_change_stops_there(trial, command):
    """However one has come there. It stops there once."""
    trace, program = record_trace(trial, "debugged_changes.py")
    with Debugger(trace) as debugger:
        line = line_of(program, "total += 1")
        debugger.launch("entry", [(program, [{"line": line, "condition": "total == 2000"}])])
        debugger.go("continue")
        debugger.go("next")
        there = debugger.stop["position"]
        if command == "gotoPosition":
            debugger.go("gotoPosition", position="end")
            debugger.go("gotoPosition", position=there)
        debugger.set_breakpoints(program, [])
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="total")
        for wanted, texts in (
            ({}, ["2000 -> 2001", "1999 -> 2000"]),
            ({"condition": "total % 2"}, ["2000 -> 2001", "1998 -> 1999"]),
            ({"condition": "total % 2 == 0"}, ["1999 -> 2000"]),
        ):
            debugger.go("gotoPosition", position=there)
            debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"], **wanted}])
            for text in texts:
                stop = debugger.go("reverseContinue")
                assert stop["reason"] == "data breakpoint" and stop["text"] == text
                assert (stop["position"] == there) == (text == "2000 -> 2001")


def test_log_points_backwards_say_what_was_passed(trial):
    """The last one first, and nothing from before the stop."""
    trace, program = record_trace(trial, "debugged_changes.py")
    line = line_of(program, "total += 1")
    with Debugger(trace) as debugger:
        stop = {"line": line + 4, "condition": "number == 1234"}
        debugger.launch("end", [(program, [{"line": line, "logMessage": "at {total}"}, stop])])
        debugger.go("reverseContinue")
        said = [text for text in debugger.output("console").splitlines() if text.startswith("at ")]
        assert said == [f"at {total}" for total in range(2999, 1233, -1)]


def changes(debugger, command):
    """What changed at each stop on the way."""
    seen = []
    while debugger.go(command)["reason"] == "data breakpoint":
        seen.append(debugger.stop["text"])
    return seen


@pytest.mark.parametrize(
    "wanted, numbers",
    [
        # The first change is that it becomes 0.
        ({"hitCondition": "2000"}, [1999]),
        ({"hitCondition": "% 1000"}, [999, 1999, 2999]),
        ({"hitCondition": ">= 2999"}, [2998, 2999, 3000]),
        ({"condition": "total and total % 1000 == 0"}, [1000, 2000, 3000]),
        ({"condition": "total > 500 and total % 25 == 0", "hitCondition": "% 30"}, [1250, 2000, 2750]),
    ],
)
def test_data_breakpoints_with_conditions(trial, wanted, numbers):
    trace, program = record_trace(trial, "debugged_changes.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "total += 1")])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="total")
        one = {"dataId": known["dataId"], "accessType": "write"}
        bad, good = debugger.request(
            "setDataBreakpoints", breakpoints=[{**one, "hitCondition": "many"}, {**one, **wanted}]
        )["breakpoints"]
        assert not bad["verified"] and "hit condition" in bad["message"] and good["verified"]
        texts = [f"{number - 1} -> {number}" for number in numbers]
        assert changes(debugger, "continue") == texts
        assert changes(debugger, "reverseContinue") == texts[::-1]
        # From the middle of it.
        debugger.go("continue")
        for command in ("stepBack", "stepIn"):
            debugger.request("setDataBreakpoints", breakpoints=[])
            debugger.go(command)
            debugger.request("setDataBreakpoints", breakpoints=[{**one, **wanted}])
        assert changes(debugger, "continue") == texts


def test_a_data_breakpoint_whose_condition_fails(trial):
    trace, program = record_trace(trial, "debugged_state.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return len(wide)")])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        known = debugger.request("dataBreakpointInfo", variablesReference=debugger.scope("Globals"), name="counter")
        wanted = {"dataId": known["dataId"], "accessType": "write", "condition": "counter / 0"}
        debugger.request("setDataBreakpoints", breakpoints=[wanted])
        assert debugger.go("reverseContinue")["reason"] == "data breakpoint" and debugger.stop["text"] == "3 -> 6"
        assert "ZeroDivisionError" in debugger.output("console") + debugger.output("important")


def test_the_last_change_of_a_parameter_is_its_call(trial):
    trace, _ = record_trace(trial, "debugged_crash.py", exit=1)
    with Debugger(trace) as debugger:
        debugger.launch()
        debugger.request("lastChange", variablesReference=debugger.scope(), name="q")
        stop = debugger.stopped()
        assert stop["reason"] == "data breakpoint" and stop["text"] == "q: 0, given by the call"
        assert debugger.stack()[0]["name"] == "divide" and debugger.locals() == {"p": "2450", "q": "0"}
        debugger.go("stepBack")
        # An earlier call of the same function has nothing to do with it.
        debugger.request("lastChange", expression="b", frameId=debugger.stack()[0]["id"])
        assert "2550" in debugger.stopped()["text"]


CHANGES = """
def change(n):
    total = 0
    for k in range(n):
        total += k
    x = total
    x = x + 1
    return x

change(5)
"""


def test_the_last_change_may_have_just_happened(trial):
    """A line's change is seen at the next line: there it is the last one, and asked again the one before is."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(CHANGES)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return x")])])
        debugger.go("continue")

        def last_change(name):
            debugger.request("lastChange", expression=name, frameId=debugger.stack()[0]["id"])
            return debugger.stopped()["text"], debugger.where()[1]

        behind = {text: line_of(program, text) + 1 for text in ("total += k", "x = total", "x = x + 1")}
        assert last_change("x") == ("x: 10 -> 11", behind["x = x + 1"])
        # Asked again after a way there and back, it is the same one.
        debugger.go("stepBack")
        debugger.go("next")
        assert last_change("x") == ("x: 10 -> 11", behind["x = x + 1"])
        text, line = last_change("x")
        assert text.startswith("x: <NameError") and text.endswith("-> 10") and line == behind["x = total"]
        # The loop's line is behind its body.
        assert last_change("total") == ("total: 6 -> 10", line_of(program, "for k"))
        assert last_change("total") == ("total: 3 -> 6", line_of(program, "for k"))


NAMES = """
import json


class Box:
    def dumps(self, value):
        return json.dumps(value)


def loads(text):
    return json.loads(text)


print(loads(Box().dumps([1])))
"""


def test_a_function_of_the_user_comes_before_a_library_s(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(NAMES)
    trace = trial.record([program]).trace

    def stops(debugger, name):
        (answer,) = debugger.request("setFunctionBreakpoints", breakpoints=[{"name": name}])["breakpoints"]
        assert answer["verified"]
        debugger.go("gotoPosition", position="start")
        seen = []
        while debugger.go("continue")["reason"] == "function breakpoint":
            seen.append((debugger.stack()[0]["name"], debugger.stack()[0]["source"]["name"]))
        return seen

    own, library = [("Box.dumps", "program.py")], [("dumps", "__init__.py")]
    for mine_only in (True, False):
        with Debugger(trace, justMyCode=mine_only) as debugger:
            debugger.launch("entry")
            assert stops(debugger, "dumps") == own + ([] if mine_only else library)
            assert stops(debugger, "json.dumps") == library
            assert stops(debugger, "program.loads") == [("loads", "program.py")]
            # Only the library has it.
            assert stops(debugger, "raw_decode") == [("JSONDecoder.raw_decode", "decoder.py")]


RAISES = """
def check(number):
    return 10 // number


total = 0
for number in (5, 2, 0):
    try:
        total += check(number)
    except ZeroDivisionError:
        total += 1
check(0)
"""


def test_back_from_a_raise_to_the_breakpoint_on_its_line(trial):
    """The line has begun before it raised; what it raises is stopped at behind the breakpoint, in both directions."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(RAISES)
    recorded = trial.record([program])
    assert recorded.exit == 1
    inner, outer, last = (line_of(program, text) for text in ("10 // number", "total += check", "check(0)"))
    with Debugger(recorded.trace) as debugger:
        debugger.launch("crash", [(program, [inner])])
        assert debugger.stop["position"]["raise"] == 1
        seen = []
        for filters in (["raised"], []):
            debugger.request("setExceptionBreakpoints", filters=filters)
            debugger.go("gotoPosition", position="crash")
            while (stop := debugger.go("reverseContinue"))["reason"] in ("breakpoint", "exception"):
                seen.append((stop["reason"], debugger.where()[1], debugger.stack()[1]["line"]))
            back = [("breakpoint", inner, last), ("exception", inner, outer), *[("breakpoint", inner, outer)] * 3]
            assert seen == [stop for stop in back if filters or stop[0] == "breakpoint"]
            seen.clear()
        debugger.request("setExceptionBreakpoints", filters=["raised"])
        while (stop := debugger.go("continue"))["reason"] in ("breakpoint", "exception"):
            seen.append((stop["reason"], debugger.where()[1], debugger.stack()[1]["line"]))
        assert seen == [*reversed(back), ("exception", inner, last)]


@pytest.mark.parametrize("name, changes", [("counter", ["0 -> 1", "1 -> 3", "3 -> 6"]), ("box.value", None)])
def test_a_data_breakpoint_by_a_name_alone_is_a_global_s(trial, name, changes):
    """Without a frame it has its meaning in the module that one stands in, and no checkpoint is missed for it."""
    trace, program = record_trace(trial, "debugged_state.py")
    with Debugger(trace) as debugger:
        debugger.launch("end")
        known = debugger.request("dataBreakpointInfo", name=name)
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        changes = changes or ["0 -> 1", "1 -> 2", "2 -> 3"]
        backwards, forwards = [], []
        while debugger.go("reverseContinue")["reason"] == "data breakpoint":
            backwards.append(debugger.stop["text"])
        while debugger.go("continue")["reason"] == "data breakpoint":
            forwards.append(debugger.stop["text"])
        assert [text for text in forwards if "<" not in text] == changes
        assert [text for text in backwards[::-1] if "<" not in text] == changes
        assert "not met" not in debugger.output("console")


LONG_VALUES = """
def work():
    items, text, table, data = list(range(500)), "a" * 9000, {n: n for n in range(500)}, b"b" * 9000
    texts = ["c" * 1000] * 50
    for number in range(3):
        items.append(number)
        text = text[:4500] + str(number) + text[4501:]
        table[1000 + number] = 1
        data = data[:4500] + bytes([number]) + data[4501:]
        texts[40] = texts[40][:500] + str(number)
    return number


work()
"""


@pytest.mark.parametrize("name", ["items", "text", "table", "data", "texts"])
def test_changes_that_the_text_of_a_long_value_does_not_show(trial, name):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(LONG_VALUES)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return number")])])
        debugger.go("continue")
        debugger.set_breakpoints(program, [])
        known = debugger.request("dataBreakpointInfo", **variable(debugger, "Locals", name))
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        for number in ("2", "1", "0"):
            stop = debugger.go("reverseContinue")
            assert (stop["reason"], debugger.locals()["number"]) == ("data breakpoint", number)
            assert "\1" not in stop["text"]


FLOOD = """
for number in range(200_000):
    pass
end = True
"""


def test_a_search_that_says_something_all_the_time_can_be_given_up(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(FLOOD)
    with Debugger(trial.record([program]).trace, shows_progress=True) as debugger:
        debugger.launch("end")
        # Long enough that it has not ended when it is given up.
        debugger.set_breakpoints(program, [{"line": 3, "logMessage": "at {number} {sum(range(20_000))}"}])
        debugger.request("reverseContinue", threadId=1)
        debugger.wait(lambda: debugger.take("progressStart"))
        debugger.request("pause", threadId=1)
        assert debugger.stopped()["reason"] == "pause"


@pytest.mark.parametrize("command", ["continue", "reverseContinue"])
def test_what_log_points_say_is_bounded(trial, command):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(FLOOD)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry" if command == "continue" else "end")
        debugger.set_breakpoints(program, [{"line": 3, "logMessage": "at {number} " + "{'x' * number}"}])
        debugger.go(command)
        said = debugger.output("console").splitlines()
        numbers = [int(line.split()[1]) for line in said if line.startswith("at ")]
        ends = [0, 199_999]
        assert [numbers[0], numbers[-1]] == (ends if command == "continue" else ends[::-1])
        assert numbers == sorted(numbers, reverse=command != "continue") and 2000 < len(numbers) <= 10_000
        assert len(said) <= len(numbers) + 20 and max(map(len, said)) < 5000
        assert any("left out" in line for line in said)


HANDLED = """\
def work(limit):
    total = 0
    for n in range(limit):
        total += n
        try:
            if n % 40_000 == 3:
                raise ValueError(n)
        except ValueError:
            total += 1
    return total


print(work(400_000))
"""


def test_the_timeline_finds_exceptions_where_nobody_has_been(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(HANDLED)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry")
        found = []
        for _ in range(30):
            found = [e["position"] for e in debugger.request("timeline")["exceptions"] if e["type"] == "ValueError"]
            if len(found) == 10:
                break
        met = []
        for _ in range(10):
            debugger.request("setExceptionBreakpoints", filters=["raised"])
            met.append(debugger.go("continue")["position"])
        places = [[(at["event"], at["window"], at["tick"], at["raise"]) for at in positions] for positions in (found, met)]
        assert places[0] == places[1] == sorted(set(places[0]))


CLOSURE = """\
def counter():
    count = 0

    def increase(by):
        nonlocal count
        count += by
        return count

    increase(1)
    increase(2)
    return increase


def main():
    increase = counter()
    increase(3)


main()
"""


def test_a_closures_variable_is_that_of_the_call_that_made_it(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(CLOSURE)
    line = line_of(program, "return count")
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line])])
        debugger.go("continue")
        inside = {"variablesReference": debugger.scope("Closure"), "name": "count"}
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": debugger.request("dataBreakpointInfo", **inside)["dataId"]}])
        debugger.set_breakpoints(program, [])
        assert (debugger.go("continue")["text"], debugger.where()) == ("1 -> 3", ("counter.<locals>.increase", line))
        assert debugger.go("reverseContinue")["text"] == "0 -> 1"
        # The call has ended; its variable lives on.
        debugger.request("setDataBreakpoints", breakpoints=[])
        debugger.set_breakpoints(program, [{"line": line, "condition": "by == 3"}])
        assert debugger.go("continue")["reason"] == "breakpoint"
        inside = {"variablesReference": debugger.scope("Closure"), "name": "count"}
        with pytest.raises(RequestFailed, match="count: a variable of a call that has ended"):
            debugger.request("dataBreakpointInfo", **inside)


@pytest.mark.parametrize("how", ["file", "module", "command"])
def test_functions_of_the_main_module(trial, how):
    """Of `__main__`, and not those of a module that have the same name."""
    trial.prepare(inputs=False)
    (trial.work / "other.py").write_text("def work():\n    return 1\n")
    text = "import other\ndef work():\n    return other.work() + 1\nclass Box:\n    def work(self):\n        return work()\nBox().work()\n"
    (trial.work / "program.py").write_text(text)
    # Another module's file, imported before, has a path that ends as the main one's does.
    for folder, init in (("tools", "import box.tools.program\n"), ("box/tools", "")):
        (trial.work / folder).mkdir(parents=True)
        (trial.work / folder / "__init__.py").write_text(init)
        (trial.work / folder / "program.py").write_text("def work():\n    pass\n" if folder == "box/tools" else text)
    recorded = trial.record({"file": ["program.py"], "module": ["-m", "tools.program"], "command": ["-c", text]}[how])
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        for name, lines in (("__main__.work", [3]), ("__main__.Box.work", [6]), ("work", [6, 3, 2])):
            (answer,) = debugger.request("setFunctionBreakpoints", breakpoints=[{"name": name}])["breakpoints"]
            assert answer["verified"], name
            debugger.go("gotoPosition", position="start")
            seen = []
            while debugger.go("continue")["reason"] == "function breakpoint":
                seen.append(debugger.where()[1])
            assert seen == lines, name
        (answer,) = debugger.request("setFunctionBreakpoints", breakpoints=[{"name": "__main__.other"}])["breakpoints"]
        assert not answer["verified"]


HUNTED = {
    # What passes at one stop, and is gone at the next ones: what is shown there must not come from it.
    "stale.py": """\
class Alarm(Exception):
    pass
def f():
    raise Alarm("late")
try:
    f()
except Alarm as e:
    text = str(e)
hits = [(10, 8), (10, 8), "late"]
x = 1
""",
    # What ends a task passes to its C code.
    "task.py": """\
import asyncio, copy
async def bad(n):
    raise ValueError(n)
async def careful():
    try:
        await bad(1)
    except ValueError:
        return 5
async def main():
    return await asyncio.gather(bad(2), careful(), bad(3), return_exceptions=True)
class Lazy:
    def __getattr__(self, name):
        raise AttributeError(name)
print(asyncio.run(main()), copy.copy(Lazy()).__class__.__name__)
""",
    "arguments.py": """\
def g(a, b):
    return a + b
def f(n):
    return n
x = g(f(1),
      f(2))
y = 1
""",
    "driven.py": """\
import contextlib
@contextlib.contextmanager
def context(n):
    yield n
    last = n
def use():
    with contextlib.ExitStack() as stack:
        for i in range(2):
            stack.enter_context(context(i))
        body = 1
    after = 2
use()
end = 1
""",
    "deepest.py": """\
import sys
sys.setrecursionlimit(200000)
def deep(n):
    return deep(n - 1) if n else bottom()
def bottom():
    here = 1
    there = 2
    return here
deep(70000)
end = 1
""",
    "deep.py": """\
import sys
sys.setrecursionlimit(100000)
def deep(n):
    return deep(n - 1) if n else bottom()
def bottom():
    here = 1
    return here
deep(12000)
""",
}


@pytest.fixture
def hunted(trial, request):
    trial.prepare(inputs=False)

    def make(name):
        path = trial.work / name
        path.write_text(HUNTED[name])
        return trial.record([path]).trace, path

    return make


def test_an_exception_passes_where_it_passes_only(hunted):
    trace, path = hunted("stale.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["raised"])
        assert debugger.go("continue")["reason"] == "exception" and debugger.where() == ("f", 4)
        assert debugger.request("exceptionInfo", threadId=1)["exceptionId"] == "__main__.Alarm"
        for line in (7, 8, 9, 10):
            debugger.go("next")
            assert debugger.where() == ("<module>", line)
            with pytest.raises(RequestFailed, match="no exception passes here"):
                debugger.request("exceptionInfo", threadId=1)
            scopes = debugger.request("scopes", frameId=debugger.stack()[0]["id"])["scopes"]
            assert [scope["name"] for scope in scopes] == ["Locals", "Globals"]
        assert debugger.locals()["hits"] == "[(10, 8), (10, 8), 'late']"


def test_what_ends_a_task_is_not_handled_by_the_user(hunted):
    """Not what another frame of the user's catches, nor what tells C code that there is no such attribute."""
    trace, path = hunted("task.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"])
        for command, numbers in (("continue", ["2", "3"]), ("reverseContinue", ["2"])):
            for number in numbers:
                assert debugger.go(command)["reason"] == "exception"
                assert debugger.where() == ("bad", 3) and debugger.locals()["n"] == number
                assert debugger.request("exceptionInfo", threadId=1)["breakMode"] == "userUnhandled"
            assert debugger.go(command)["reason"] != "exception"


def test_a_call_whose_arguments_are_on_other_lines_is_stepped_into(hunted):
    trace, path = hunted("arguments.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [5])])
        debugger.go("continue")
        debugger.set_breakpoints(path, [])
        targets = debugger.request("stepInTargets", frameId=debugger.stack()[0]["id"])["targets"]
        debugger.go("stepIn", targetId=next(target["id"] for target in targets if target["label"].startswith("g(")))
        assert debugger.where() == ("g", 2) and debugger.locals() == {"a": "1", "b": "2"}


def test_a_step_off_a_generators_end_goes_to_what_is_below(hunted):
    trace, path = hunted("driven.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [5])])
        debugger.go("continue")
        assert debugger.where() == ("context", 5) and debugger.locals()["n"] == "1"
        there = debugger.stop["position"]
        for command in ("next", "stepOut"):
            debugger.set_breakpoints(path, [])
            debugger.go("gotoPosition", position=there)
            debugger.go(command)
            assert debugger.where() == ("use", 11), command


def test_nothing_is_below_the_outermost_frame(hunted):
    trace, path = hunted("driven.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [13])])
        assert debugger.go("stepOut")["reason"] == "breakpoint" and debugger.where() == ("<module>", 13)
        debugger.set_breakpoints(path, [])
        debugger.go("gotoPosition", position="start")
        assert debugger.go("stepOut")["text"] == "The end of the recording"
        assert debugger.go("reverseStepOut")["reason"] == "entry"


def test_the_stack_of_a_deep_recursion(hunted):
    trace, path = hunted("deep.py")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [6])])
        debugger.go("continue")
        found = debugger.request("stackTrace", threadId=1, startFrame=0, levels=3)
        assert [frame["name"] for frame in found["stackFrames"]] == ["bottom", "deep", "deep"]
        assert found["totalFrames"] == 12003
        debugger.go("next")
        assert debugger.locals() == {"here": "1"}


def test_a_stack_of_more_frames_than_two_bytes_count(hunted):
    trace, path = hunted("deepest.py")
    with Debugger(trace) as debugger:

        def innermost(levels=1):
            return debugger.request("stackTrace", threadId=1, startFrame=0, levels=levels)

        def at():
            (frame,) = innermost()["stackFrames"]
            return frame["name"], frame["line"]

        debugger.launch("entry", [(path, [6])])
        debugger.go("continue")
        found = innermost(3)
        assert [frame["name"] for frame in found["stackFrames"]] == ["bottom", "deep", "deep"]
        assert found["totalFrames"] == 70003
        there = debugger.stop["position"]
        debugger.set_breakpoints(path, [])
        debugger.go("next")
        assert at() == ("bottom", 7)
        scopes = debugger.request("scopes", frameId=innermost()["stackFrames"][0]["id"])["scopes"]
        about = {"variablesReference": scopes[0]["variablesReference"], "name": "here"}
        known = debugger.request("dataBreakpointInfo", **about)
        debugger.go("stepBack")
        assert at() == ("bottom", 6) and debugger.stop["position"] == there
        debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"]}])
        assert debugger.go("continue")["reason"] == "data breakpoint" and at() == ("bottom", 7)
        debugger.request("setDataBreakpoints", breakpoints=[])
        debugger.go("gotoPosition", position=there)
        debugger.go("stepBack")
        assert at() == ("deep", 4)
        debugger.go("stepOut")
        # What called it has no line behind the call.
        assert at() == ("<module>", 10)
        debugger.go("stepBack")
        assert at() == ("<module>", 9)


GENERATORS = """\
import asyncio


def counter(total):
    while True:
        step = yield total
        total += step


def deep(counts, below, step):
    if below:
        return deep(counts, below - 1, step)
    return counts.send(step)


async def add(name, by):
    total = 0
    for number in range(4):
        await asyncio.sleep(0)
        sum(range(BETWEEN))
        total += number * by
    return total


async def both():
    return await asyncio.gather(add("a", 1), add("b", 100))


def main():
    one, other = counter(1), counter(100)
    next(one), next(other)
    for below in (0, 3, 1):
        deep(one, below, 1)
        deep(other, below, 10)
        sum(range(BETWEEN))
        deep(other, 2, 10)
    del one
    third = counter(-5)
    next(third)
    third.send(5)
    return asyncio.run(both())


print(main())
"""
# The second: with checkpoints between the changes.
GENERATOR_PAUSES = [2, 1_500_000]


def record_generators(trial, pause):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(GENERATORS.replace("BETWEEN", str(pause)))
    return trial.record([program]).trace, program


@pytest.mark.parametrize("pause", GENERATOR_PAUSES)
@pytest.mark.parametrize(
    "line, condition, changes",
    [
        ("total += step", "total == 2", ["1 -> 2", "2 -> 3", "3 -> 4"]),
        ("total += step", "total == -5", ["-5 -> 0"]),
        ("total += number", "name == 'a' and number == 2", ["0 -> 1", "1 -> 3", "3 -> 6"]),
    ],
)
def test_a_generators_variable_is_its_own(trial, pause, line, condition, changes):
    """Wherever the generator goes on, and whichever others of its function there are."""
    has_checkpoints = (watches_generator(trial, rounds, line, condition, changes) for rounds in longer(pause))
    if pause > 2 and len(changes) > 1:
        assert any(has_checkpoints)
    else:
        next(has_checkpoints)


def watches_generator(trial, pause, line, condition, changes):
    """Whether there were checkpoints between the changes."""
    trace, program = record_generators(trial, pause)
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(program, [{"line": line_of(program, line), "condition": condition}])])
        assert debugger.go("continue")["reason"] == "breakpoint"
        known = debugger.request("dataBreakpointInfo", **variable(debugger, "Locals", "total"))
        debugger.set_breakpoints(program, [])

        def seen(command):
            found, windows = [], []
            while debugger.go(command)["reason"] == "data breakpoint":
                # The name may get its first value.
                if "<" not in debugger.stop["text"]:
                    found.append(debugger.stop["text"])
                    windows.append(debugger.stop["position"]["window"])
            return found, windows

        has_checkpoints = False
        late = [change for change in changes if int(change.split()[-1]) > 3]
        for wanted, expected in ({}, changes), ({"condition": "total > 3"}, late):
            debugger.request("setDataBreakpoints", breakpoints=[{"dataId": known["dataId"], **wanted}])
            debugger.go("gotoPosition", position="start")
            found, windows = seen("continue")
            assert found == expected
            has_checkpoints |= len(set(windows)) > 1
            assert seen("reverseContinue")[0] == expected[::-1]
        return has_checkpoints


@pytest.mark.parametrize("pause", GENERATOR_PAUSES)
def test_the_last_change_of_a_generators_variable(trial, pause):
    trace, program = record_generators(trial, pause)
    with Debugger(trace) as debugger:
        line = line_of(program, "total += step")
        debugger.launch("entry", [(program, [{"line": line, "condition": "total == 3"}])])
        debugger.go("continue")
        for text in ("2 -> 3", "1 -> 2", "1, given by the call"):
            debugger.request("lastChange", expression="total", frameId=debugger.stack()[0]["id"])
            assert debugger.stopped()["text"] == f"total: {text}"
        with pytest.raises(RequestFailed, match="total has not changed before"):
            debugger.request("lastChange", expression="total", frameId=debugger.stack()[0]["id"])
