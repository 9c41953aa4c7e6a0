"""The debugger: what it shows where it stands, in both directions."""

import os

import pytest
from debugger import Debugger, RequestFailed, assert_gone, descendants, line_of, record

CRASH = "debugged_crash.py"
LATE_CRASH = "debugged_late_crash.py"
WALK = "debugged.py"


def test_stop_at_the_crash_and_step_back_into_the_caller(trial):
    recorded, path = record(trial, CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        stop = debugger.launch()
        assert stop["reason"] == "exception"
        assert [frame["name"] for frame in debugger.stack()] == ["divide", "middle", "main", "<module>"]
        assert debugger.stack()[0]["source"]["path"] == str(path)
        assert debugger.locals() == {"p": "2450", "q": "0", "text": "'dividing'"}
        info = debugger.request("exceptionInfo", threadId=1)
        assert (info["exceptionId"], info["description"]) == ("ZeroDivisionError", "division by zero")
        assert info["breakMode"] == "unhandled"
        debugger.go("stepBack")
        assert debugger.locals() == {"p": "2450", "q": "0"}
        debugger.go("stepBack")
        assert debugger.stack()[0]["name"] == "middle"
        assert debugger.locals() == {"x": "50", "a": "2450", "b": "2550"}
        assert debugger.output().encode() == recorded.stdout


def test_the_crash_is_where_it_was_raised_however_long_ago(trial):
    recorded, _ = record(trial, LATE_CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        assert debugger.launch()["reason"] == "exception"
        assert [frame["name"] for frame in debugger.stack()] == ["fail", "main", "<module>"]
        assert debugger.locals() == {"attempt": "3", "zero": "0"}
        assert debugger.request("exceptionInfo", threadId=1)["breakMode"] == "unhandled"
        timeline = debugger.request("timeline")
        crash = next(e for e in timeline["exceptions"] if e["uncaught"])
        assert sum(e["uncaught"] for e in timeline["exceptions"]) == 1
        assert crash["type"] == "ZeroDivisionError"
        debugger.go("gotoPosition", position="end")
        debugger.go("gotoPosition", position=crash["position"])
        assert debugger.stack()[0]["name"] == "fail"
        assert debugger.locals()["attempt"] == "3"


def test_running_on_stops_at_the_uncaught_exception(trial):
    recorded, _ = record(trial, LATE_CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["uncaught"])
        for command in ("continue", "reverseContinue"):
            assert debugger.go(command)["reason"] == "exception", debugger.output("important") + str(debugger.stop)
            assert debugger.locals() == {"attempt": "3", "zero": "0"}
            if command == "continue":
                assert debugger.go(command)["reason"] == "step"


def test_nothing_is_behind_a_crash_that_no_line_follows(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text("def fail(zero):\n    return 1 / zero\n\nkept = 1\nfail(0)\n")
    recorded = trial.record([program])
    assert recorded.exit == 1
    with Debugger(recorded.trace) as debugger:
        crash = debugger.launch("crash")["position"]
        for command in ("next", "stepOut", "continue"):
            debugger.go(command)
            assert (debugger.stop["description"], debugger.stop["position"]) == ("The end of the recording", crash)
            assert debugger.stop["reason"] == "step"
        assert debugger.request("exceptionInfo", threadId=1)["exceptionId"] == "ZeroDivisionError"
        debugger.go("gotoPosition", position="start")
        debugger.go("gotoPosition", position="end")
        assert debugger.stop["position"] == crash
        debugger.request("setExceptionBreakpoints", filters=["uncaught"])
        debugger.go("reverseStepOut")
        assert [frame["line"] for frame in debugger.stack()] == [5]
        assert debugger.go("continue")["reason"] == "exception"
        assert debugger.stop["position"] == crash


def test_a_breakpoint_in_a_loop_shows_the_state_of_each_hit(trial):
    recorded, path = record(trial, CRASH, exit=1)
    line = line_of(path, "total += i * 2")
    hits = [i for count in (1000, 1000, 1000, 50, 51) for i in range(count)]
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        for i in hits[:40]:
            assert debugger.go("continue")["reason"] == "breakpoint"
            assert debugger.locals() | {"i": str(i), "total": str(i * (i - 1))} == debugger.locals()
        debugger.go("gotoPosition", position="crash")
        for i in reversed(hits[-121:]):
            assert debugger.go("reverseContinue")["reason"] == "breakpoint"
            assert debugger.locals() | {"i": str(i), "total": str(i * (i - 1))} == debugger.locals()


def test_a_condition_a_log_point_and_hit_counts(trial):
    recorded, path = record(trial, CRASH, exit=1)
    line = line_of(path, "total += i * 2")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [{"line": line, "condition": "i == 700"}])])
        for _ in range(2):
            debugger.go("continue")
            assert debugger.locals()["i"] == "700"
        debugger.set_breakpoints(path, [{"line": line, "condition": "i == 3 and n == 50"}])
        debugger.go("gotoPosition", position="end")
        debugger.go("reverseContinue")
        assert (debugger.locals()["i"], debugger.locals()["total"]) == ("3", "6")
        debugger.set_breakpoints(path, [{"line": line, "hitCondition": "5"}])
        debugger.go("gotoPosition", position="start")
        debugger.go("continue")
        assert debugger.locals()["i"] == "4"
        debugger.set_breakpoints(path, [{"line": line, "logMessage": "at {i} of {n}", "condition": "n == 51"}])
        debugger.go("continue")
        assert "at 50 of 51\n" in debugger.output("console")
        debugger.set_breakpoints(path, [{"line": line, "condition": "missing > 1"}])
        debugger.go("gotoPosition", position="start")
        assert debugger.go("continue")["reason"] == "breakpoint"
        assert "NameError: name 'missing' is not defined" in debugger.output("important")


def test_breakpoints_without_code_are_moved_or_refused(trial):
    recorded, path = record(trial, CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        debugger.launch()
        moved, none = debugger.set_breakpoints(path, [2, 10_000])
        assert moved["verified"] and moved["line"] > 2 and "line 2 has no code" in moved["message"]
        assert not none["verified"] and "no code" in none["message"]


def test_what_is_changed_is_changed_in_a_diversion(trial):
    recorded, _ = record(trial, CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        debugger.launch()
        before = debugger.locals()
        assert debugger.evaluate("text.upper()") == "'DIVIDING'"
        debugger.evaluate("p = 99", context="repl")
        assert debugger.evaluate("p + 1") == "100"
        assert "diversion" in debugger.output("console")
        with pytest.raises(RequestFailed, match="nothing is recorded"):
            debugger.evaluate("__import__('posix').times()")
        with pytest.raises(RequestFailed, match="not in the recording"):
            debugger.evaluate("__import__('posix').getppid()")
        debugger.go("stepBack")
        debugger.go("next")
        assert debugger.locals() == before
        debugger.request("setVariable", variablesReference=debugger.scope(), name="q", value="[1, 2]")
        assert debugger.locals()["q"] == "[1, 2]"


def test_an_address_in_a_diversion_is_the_recorded_one(trial):
    recorded, path = record(trial, "addresses.py")
    line = line_of(path, 'print("found:"')
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        assert debugger.evaluate("registry[id(nodes[3])].name") == "'d'"
        assert debugger.evaluate("id(registry) == id(registry) not in registry") == "True"


def test_c_code_reaches_nothing_in_a_diversion(trial):
    recorded, path = record(trial, "foreign_functions.py")
    line = line_of(path, "os.pipe()")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        for library in ("libc", "own"):
            made = trial.folder / f"made by {library}"
            call = f"{library}.open({os.fsencode(made)!r}, os.O_CREAT | os.O_WRONLY, 0o600)"
            assert debugger.evaluate(call, context="repl") == "-1"
            assert not made.exists()
        with pytest.raises(RequestFailed, match="nothing is recorded"):
            debugger.evaluate("os.mkdir('made')", context="repl")


def test_where_a_value_was_last_changed(trial):
    recorded, _ = record(trial, CRASH, exit=1)
    with Debugger(recorded.trace) as debugger:
        debugger.launch()
        debugger.go("reverseStepOut")
        frame = debugger.stack()[0]["id"]
        debugger.request("lastChange", expression="b", frameId=frame)
        stop = debugger.stopped()
        assert stop["reason"] == "data breakpoint" and "2550" in stop["text"]
        assert debugger.stack()[0]["name"] == "middle"


def test_exceptions_are_stopped_at_where_they_are_raised(trial):
    recorded, _ = record(trial, WALK)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        debugger.request(
            "setExceptionBreakpoints", filters=[], filterOptions=[{"filterId": "raised", "condition": "ValueError"}]
        )
        for command in ("continue", "continue", "reverseContinue"):
            assert debugger.go(command)["reason"] == "exception"
            assert debugger.where()[0] == "fail" and debugger.locals() == {"depth": "0"}
            assert debugger.request("exceptionInfo", threadId=1)["description"] == "deep"


def test_a_client_that_vanishes_leaves_nothing(trial):
    recorded, _ = record(trial, WALK)
    debugger = Debugger(recorded.trace)
    debugger.flush()
    debugger.launch("end")
    processes = descendants(debugger.server.pid)
    assert processes
    debugger.send("reverseContinue", threadId=1)
    debugger.server.kill()
    debugger.server.wait()
    assert_gone(processes)


def test_malformed_messages_and_unreadable_recordings_are_said(trial):
    bad = trial.folder / "bad.retrace"
    bad.write_bytes(b"no recording")
    with Debugger(bad) as debugger:
        debugger.server.stdin.write(b"Content-Length: 4\r\n\r\n{{{{Content-Length: 2\r\n\r\n{}")
        debugger.server.stdin.flush()
        with pytest.raises(RequestFailed, match="bad.retrace"):
            debugger.launch()
        with pytest.raises(RequestFailed, match="not supported"):
            debugger.request("readMemory", memoryReference="0", count=1)
        with pytest.raises(RequestFailed, match="no recording"):
            debugger.request("next", threadId=1)
        assert "not JSON" in debugger.output("important")


def test_only_what_the_user_asked_for_is_a_message_where_it_fails(trial):
    """A client may ask for what it shows when the debugger has moved on."""
    recorded, _ = record(trial, "debugged_fork.py")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        frame, before = debugger.stack()[0]["id"], debugger.scope("Locals")
        debugger.go("stepBack")
        for command, asked in (("scopes", {"frameId": frame}), ("variables", {"variablesReference": before})):
            with pytest.raises(RequestFailed, match="not there any more") as failed:
                debugger.request(command, **asked)
            assert not failed.value.shown
        with pytest.raises(RequestFailed, match="not there any more") as failed:
            debugger.request("setVariable", variablesReference=before, name="answer", value="1")
        assert failed.value.shown


def test_a_forked_child(trial):
    recorded, path = record(trial, "debugged_fork.py")
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "answer = part * 2" in text)
    with Debugger(recorded.trace, process=1) as debugger:
        debugger.launch("end", [(path, [line])])
        debugger.go("reverseContinue")
        assert debugger.locals()["part"] == "21"
        assert [frame["name"] for frame in debugger.stack()] == ["child", "main", "<module>"]
        listed = debugger.request("processes")["processes"]
        assert [process["forked"] for process in listed] == [False, True]


def test_walking_through_threads_that_preempt_each_other(trial):
    recorded, path = record(trial, "debugged_threads.py")
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "total += number" in text)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end", [(path, [line])])
        debugger.go("reverseContinue")
        thread = debugger.stop["threadId"]
        assert thread > 1
        names = {t["id"]: t["name"] for t in debugger.request("threads")["threads"]}
        assert names[thread].startswith("worker")
        here = debugger.locals()
        number = int(here["number"])
        for back in range(1, 30):
            debugger.go("stepBack")
            if back % 2 == 0:
                assert debugger.locals()["number"] == str(number - back // 2)
                assert debugger.locals()["name"] == here["name"]
        for forth in range(1, 30):
            debugger.go("next")
        assert debugger.locals() == here
        debugger.go("gotoPosition", position="start")
        debugger.go("continue")
        assert debugger.locals()["number"] == "0"
