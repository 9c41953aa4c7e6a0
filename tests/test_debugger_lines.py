"""The debugger inside of lines: instructions, columns, and calls to step into."""

from debugger import Debugger, line_of, record_trace

PROGRAM = "debugged_inside.py"


def place(debugger):
    frame, position = debugger.stack()[0], debugger.stop["position"]
    return frame["name"], frame["line"], frame["column"], position["tick"], position["instruction"]


def test_instructions_forwards_and_back_again(trial):
    trace, path = record_trace(trial, PROGRAM)
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line_of(path, "first = double(n)")])])
        debugger.go("continue")
        for forth, back in (("stepIn", "reverseStepIn"), ("next", "stepBack")):
            way = [place(debugger)]
            for _ in range(30):
                debugger.go(forth, granularity="instruction")
                way.append(place(debugger))
            assert len(set(way)) == len(way)
            names = {name for name, *_ in way}
            assert ("double" in names) == (forth == "stepIn")
            # Several instructions of one line, and several lines.
            assert len({line for _, line, *_ in way}) < len(way) / 3
            for expected in reversed(way[:-1]):
                debugger.go(back, granularity="instruction")
                assert place(debugger) == expected
        debugger.go("stepIn", granularity="instruction")
        line = place(debugger)[1]
        debugger.go("stepBack")
        assert place(debugger)[1] == line and place(debugger)[4] == 0


def test_out_of_a_function_by_instructions(trial):
    trace, path = record_trace(trial, PROGRAM)
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line_of(path, "total = a + b")])])
        debugger.go("continue")
        called = debugger.stack()[1]
        debugger.go("reverseStepOut", granularity="instruction")
        assert place(debugger)[:3] == (called["name"], called["line"], called["column"])
        debugger.go("stepIn", granularity="instruction")
        while place(debugger)[0] == "run":
            debugger.go("stepIn", granularity="instruction")
        debugger.go("stepOut", granularity="instruction")
        # Behind the call, where its value is stored.
        name, line, column, *_ = place(debugger)
        assert (name, line) == ("run", called["line"])
        assert column == path.read_text().splitlines()[line - 1].index("nested") + 1
        assert "nested" not in debugger.locals()


def test_instructions_of_a_frame(trial):
    trace, path = record_trace(trial, PROGRAM)
    line = line_of(path, "return n * 2")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        where = debugger.stack()[0]["instructionPointerReference"]
        listed = debugger.request("disassemble", memoryReference=where, instructionOffset=-2, instructionCount=20)
        listed = listed["instructions"]
        assert len(listed) == 20 and len({entry["address"] for entry in listed}) == 20
        here = listed[2]
        assert here["address"] == where and here["instruction"].endswith("LOAD_FAST               n")
        assert (here["location"]["path"], here["line"], here["symbol"]) == (str(path), line, "double")
        assert any("BINARY_OP               *" in entry["instruction"] for entry in listed)
        assert listed[0]["presentationHint"] == listed[-1]["presentationHint"] == "invalid"


def test_a_chosen_call_of_a_line(trial):
    trace, path = record_trace(trial, PROGRAM)
    line = line_of(path, "nested = add(")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        debugger.go("continue")
        targets = debugger.request("stepInTargets", frameId=debugger.stack()[0]["id"])["targets"]
        labels = [target["label"] for target in targets]
        assert labels == ["double(first)", "double(second)", "add(double(first), double(second))"]
        arguments = [{"n": "2"}, {"n": "4"}, {"a": "4", "b": "8"}]
        for number, name in enumerate(("double", "double", "add")):
            target = debugger.request("stepInTargets", frameId=debugger.stack()[0]["id"])["targets"][number]
            debugger.go("stepIn", targetId=target["id"])
            assert debugger.stack()[0]["name"] == name and debugger.locals() == arguments[number]
            debugger.go("reverseStepOut")
            assert place(debugger)[:2] == ("run", line)


def test_breakpoints_in_columns(trial):
    trace, path = record_trace(trial, PROGRAM)
    line = line_of(path, "first = double(n)")
    text = path.read_text().splitlines()[line - 1]
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        places = debugger.request("breakpointLocations", source={"path": str(path)}, line=line)["breakpoints"]
        columns = [entry["column"] for entry in places]
        # Statements, whatever bytes their letters have.
        assert {5, text.index("first =") + 1, text.index("second =") + 1} <= set(columns)
        (second,) = debugger.set_breakpoints(path, [{"line": line, "column": text.index("second =") + 1}])
        assert second["verified"] and second["column"] == text.index("second =") + 1
        for turn in range(3):
            assert debugger.go("continue")["reason"] == "breakpoint"
            shown = debugger.locals()
            assert (shown["n"], shown["first"]) == (str(turn), str(2 * turn)) and "second" not in shown
        debugger.go("gotoPosition", position="end")
        for turn in reversed(range(3)):
            assert debugger.go("reverseContinue")["reason"] == "breakpoint"
            assert debugger.locals()["n"] == str(turn) and "second" not in debugger.locals()


def test_a_breakpoint_in_a_lambda(trial):
    trace, path = record_trace(trial, PROGRAM)
    line = line_of(path, "key=lambda")
    text = path.read_text().splitlines()[line - 1]
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        column = text.index("double(-v)") + 1
        (found,) = debugger.set_breakpoints(path, [{"line": line, "column": column}])
        assert (found["line"], found["column"]) == (line, column)
        seen = []
        while debugger.go("continue")["reason"] == "breakpoint":
            assert debugger.stack()[0]["name"].endswith("<lambda>")
            seen.append(debugger.locals()["v"])
        assert seen == ["0", "2", "4"] * 3
        while debugger.go("reverseContinue")["reason"] == "breakpoint":
            assert debugger.locals()["v"] == seen.pop()
        assert not seen
