"""Sessions of the debugger: how they begin and end, what may be asked, and what a client may do wrong."""

import json
import os
import signal
import subprocess
import textwrap

import pytest
from debugger import Debugger, RequestFailed, assert_gone, descendants, line_of, record, record_trace
from harness import RETRACE
from trace_file import TraceBytes


@pytest.fixture
def endless(trial):
    """A recording whose replay has no end: the program was killed."""
    program = "debugged_endless.py"
    trial.prepare(program, inputs=False)
    command, more = trial.record_command([trial.work / program], "cli", trial.trace)
    with subprocess.Popen(command, cwd=trial.work, env=trial.environment() | more, stdout=subprocess.PIPE) as recorded:
        assert recorded.stdout.readline() == b"begun\n"
        # It computes when that call is in the trace.
        while b"FileIO.write" not in trial.tool("events", trial.trace).stdout:
            assert recorded.poll() is None
        recorded.kill()
    return trial.trace, trial.work / program


def test_the_beginning_is_there_while_the_replay_runs(endless):
    trace, path = endless
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [4])])
        assert debugger.stack()[0]["name"] == "<module>"
        assert debugger.evaluate("1 + 1") == "2"


def test_what_takes_long_is_shown_and_can_be_given_up(endless):
    trace, _ = endless
    with Debugger(trace, shows_progress=True) as debugger:
        debugger.launch("entry")
        for how in ("pause", "cancel"):
            debugger.request("next", threadId=1)
            progress = debugger.wait(lambda: debugger.take("progressStart"))
            assert progress["cancellable"]
            if how == "pause":
                debugger.request("pause", threadId=1)
            else:
                # One that is over is none of this.
                debugger.send("cancel", progressId="request-1")
                debugger.send("cancel", progressId=progress["progressId"])
            assert debugger.stopped()["reason"] == "pause"
            assert debugger.wait(lambda: debugger.take("progressEnd"))["progressId"] == progress["progressId"]


def test_a_launch_can_be_cancelled(endless):
    trace, _ = endless
    with Debugger(trace) as debugger:
        launch = debugger.send("launch", **debugger.arguments, stopOn="crash")
        debugger.request("cancel", requestId=launch)
        answer = debugger.wait(lambda: debugger.answers.pop(launch, None))
        assert not answer["success"] and "cancelled" in answer["message"]


def test_a_request_that_waits_can_be_cancelled(endless):
    trace, _ = endless
    with Debugger(trace) as debugger:
        debugger.launch("entry")
        debugger.send("next", threadId=1)
        waits = debugger.send("evaluate", expression="1 + 1", context="watch")
        debugger.send("cancel", requestId=waits)
        debugger.send("pause", threadId=1)
        answer = debugger.wait(lambda: debugger.answers.pop(waits, None))
        assert not answer["success"] and "cancelled" in answer["message"]
        assert debugger.stopped()["reason"] == "pause"


def test_a_debugger_that_is_killed_leaves_no_folder(endless):
    trace, _ = endless
    scratch = trace.parent / "scratch"
    scratch.mkdir()
    debugger = Debugger(trace, environment={"TMPDIR": str(scratch)})
    debugger.flush()
    debugger.launch("entry")
    assert list(scratch.iterdir())
    processes = descendants(debugger.server.pid)
    debugger.server.kill()
    debugger.server.wait()
    assert_gone(processes)
    assert not list(scratch.iterdir())


def test_attach_to_any_process(trial):
    trace, _ = record_trace(trial, "debugged_fork.py")
    with Debugger(trace) as debugger:
        debugger.request("launch", recording=str(trace), stopOn="end")
        debugger.request("configurationDone")
        debugger.stopped()
        child = debugger.request("processes")["processes"][1]
        for chosen in ({"process": 1}, {"processId": child["pid"]}):
            debugger.request("attach", recording=str(trace), stopOn="end", **chosen)
            debugger.stopped()
            assert debugger.stack()[0]["name"] == "child" or debugger.locals().get("pid") == "0"
        with pytest.raises(RequestFailed, match="no process of .* had the pid 1"):
            debugger.request("attach", recording=str(trace), processId=1)
        with pytest.raises(RequestFailed, match="process"):
            debugger.request("attach", recording=str(trace), process=17)


def test_an_interpreter_that_is_missing_or_another_one(trial):
    trace, _ = record_trace(trial, "debugged_fork.py")
    for python, why in (("/nowhere/python", "/nowhere/python"), ("/bin/true", "/bin/true"), (7, "must be a path")):
        with Debugger(trace, python=python) as debugger, pytest.raises(RequestFailed, match=why):
            debugger.launch()


def test_what_a_launch_can_not_mean(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    (trial.folder / "empty.retrace").touch()
    (trial.folder / "folder.retrace").mkdir()
    mapping = {"localRoot": "/a", "remoteRoot": "/b"}
    wrong = [
        ({}, "recording"),
        ({"recording": str(trial.folder / "nowhere.retrace")}, "nowhere.retrace.*No such file"),
        ({"recording": str(trial.folder / "empty.retrace")}, "empty.retrace"),
        ({"recording": str(trial.folder / "folder.retrace")}, "folder.retrace"),
        ({"process": 1}, "process 1"),
        ({"process": -1}, "must be the number of a process"),
        ({"process": "0"}, "must be the number of a process"),
        ({"process": 1 << 40}, "must be the number of a process"),
        ({"processId": 1}, "no process of .* had the pid 1"),
        ({"processId": "1"}, "must be the pid"),
        ({"stopOn": "start of it all"}, "stopOn"),
        ({"justMyCode": "no"}, "justMyCode"),
        ({"pathMappings": mapping}, "pathMappings.*localRoot.*remoteRoot"),
        ({"pathMappings": ["/a:/b"]}, "pathMappings"),
        ({"pathMappings": [mapping, {"localRoot": "/a"}]}, "pathMappings"),
        ({"pathMappings": [{**mapping, "remoteRoot": 7}]}, "pathMappings"),
        ({"pathMappings": [{**mapping, "localRoot": ""}]}, "pathMappings"),
    ]
    with Debugger(trace) as debugger:
        for arguments, why in wrong:
            recording = {} if arguments == {} else {"recording": str(trace)}
            with pytest.raises(RequestFailed, match=why):
                debugger.request("launch", **recording | arguments)
        # The session goes on.
        debugger.launch("end")


def test_folders_that_are_elsewhere_here(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    folder, here = path.parent, trial.folder / "here"
    here.mkdir()
    (here / path.name).write_bytes(path.read_bytes())
    # A folder whose name only begins like the recorded one's is another.
    other = {"localRoot": "/nowhere", "remoteRoot": str(folder)[:-1]}
    mapping = {"localRoot": f"{here}/", "remoteRoot": str(folder)}
    with Debugger(trace, pathMappings=[other, mapping]) as debugger:
        debugger.launch("entry", [(here / path.name, [line_of(path, "return len(wide)")])])
        assert debugger.go("continue")["reason"] == "breakpoint"
        source = debugger.stack()[0]["source"]
        assert source["path"] == str(here / path.name) and "sourceReference" not in source


def test_a_library_for_the_interpreter_that_is_missing(trial):
    trace, _ = record_trace(trial, "debugged_fork.py")
    alone = trial.folder / "alone"
    alone.mkdir()
    (alone / "retrace").write_bytes(RETRACE.read_bytes())
    (alone / "retrace").chmod(0o755)
    with Debugger(trace, command=alone / "retrace") as debugger, pytest.raises(RequestFailed, match="libretrace"):
        debugger.launch()


def test_a_recording_that_was_cut(trial):
    """What there is of it is debugged, and the user is told."""
    recorded, _ = record(trial, "counting.py", "3000")
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    last = max((extent for extent in trace.extents() if extent.stream == 0), key=lambda extent: extent.sequence)
    trace.u64(last.offset + 16, last.committed * 9 // 10)
    with Debugger(trace.write(trial.folder / "cut.retrace")) as debugger:
        debugger.launch("crash")
        said = debugger.output("console") + debugger.output("important")
        assert "the recording ends" in said and "Traceback" not in said
        written = debugger.output().encode()
        assert written and recorded.stdout.startswith(written) and written != recorded.stdout
        debugger.go("stepBack")
        assert debugger.stop["reason"] == "step"
    trace.data = trace.data[:2000]
    cut = trace.write(trial.folder / "header.retrace")
    with Debugger(cut) as debugger, pytest.raises(RequestFailed, match="header.retrace"):
        debugger.launch()


DIVERGES = """\
import time

for number in range(20):
    print(time.time())
    sum(range(300_000))
    for again in range(200):
        pass
"""

DIVERGES_AT_THE_END = """\
import time

for number in range(3):
    print(time.time())
"""


AT_THE_END = "the recording's end was not met"


@pytest.mark.parametrize(
    "program, what",
    [(DIVERGES, "a checkpoint was not met again"), (DIVERGES_AT_THE_END, AT_THE_END)],
    ids=["between", "at-the-end"],
)
# A run that evaluates may reach nothing outside, and says it all the same.
@pytest.mark.parametrize("condition", ["", "number >= 0"])
def test_a_copy_that_leaves_the_recording(trial, program, what, condition):
    """The replay has passed; then an event is changed under the copies that run there again."""
    trial.prepare(inputs=False)
    path = trial.work / "diverges.py"
    path.write_text(program)
    recorded = trial.record([path])
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    event = trace.float_event(float(recorded.stdout.split()[2]))
    changed = trace.write(trial.folder / "changed.retrace")
    with Debugger(changed) as debugger:
        debugger.launch("end")
        assert "not met" not in debugger.output("console")
        trace.call_site(event, 2)
        with changed.open("r+b") as file:
            file.seek(event)
            file.write(trace.data[event : event + 8])
        debugger.set_breakpoints(path, [{"line": line_of(path, "print("), "condition": condition}])
        while debugger.go("reverseContinue")["reason"] == "breakpoint" and debugger.evaluate("number") != "1":
            pass
        said = debugger.output("console") + debugger.output("important")
        # On a busy machine a checkpoint may stand where the other program has none.
        assert what in said or "a checkpoint was not met again" in said
        assert "event" in said and "time.time" in said and "diverges.py" in said


def test_values_as_the_client_wants_them(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    line = line_of(path, "return len(wide)")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        frame = debugger.stack()[0]["id"]
        ask = {"expression": "[255, {'a': 16}, True, 'x']", "frameId": frame, "context": "watch"}
        assert debugger.request("evaluate", **ask)["result"] == "[255, {'a': 16}, True, 'x']"
        assert debugger.request("evaluate", **ask, format={"hex": True})["result"] == "[0xff, {'a': 0x10}, True, 'x']"
        many = next(v for v in debugger.variables(debugger.scope()) if v["name"] == "many")
        shown = debugger.variables(many["variablesReference"], format={"hex": True})
        assert shown[16]["name"] == "0x10" and shown[16]["value"] == "0xff"
        form = {"module": True, "line": True, "parameters": True, "parameterNames": True, "parameterTypes": True}
        named = debugger.request("stackTrace", threadId=1, format=form)["stackFrames"][0]["name"]
        assert named == f"__main__.show(wide: list, many: dict) : {line}"


def test_parts_of_what_is_large(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    line = line_of(path, "return len(wide)")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        shown = {v["name"]: v for v in debugger.variables(debugger.scope())}
        wide, many = shown["wide"], shown["many"]
        assert wide["indexedVariables"] == 5000
        names = lambda variables: [v["name"] for v in variables]  # noqa: E731
        part = debugger.variables(wide["variablesReference"], filter="indexed", start=4998, count=10)
        assert names(part) == ["4998", "4999"] and part[0]["evaluateName"] == "wide[4998]"
        named = names(debugger.variables(wide["variablesReference"], filter="named"))
        assert "len()" in named and "0" not in named
        assert names(debugger.variables(wide["variablesReference"], filter="named", start=1, count=9)) == named[1:10]
        both = names(debugger.variables(wide["variablesReference"], start=4999, count=3))
        assert both == ["4999", *named[:2]]
        first = debugger.variables(many["variablesReference"])
        assert first[999]["name"] == "999" and first[1000]["name"] == "[2000 more]"
        rest = debugger.variables(first[1000]["variablesReference"])
        assert rest[0]["name"] == "1000" and rest[1000]["name"] == "[1000 more]"
        assert debugger.variables(debugger.scope(), filter="indexed") == []


def test_what_a_text_is_completed_to(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(
        textwrap.dedent(
            """\
            import os

            class Order:
                count = 1

                def __init__(self):
                    self.lines = {"a": ["text"]}
                    self._hidden = True

                @property
                def total(self):
                    raise SystemExit("asked for")

                def pay(self):
                    print("paid")
                    return self

                @classmethod
                def pending(cls):
                    return []

            def use(order):
                return order

            use(Order())
            """
        )
    )
    recorded = trial.record([program])
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "return order")])])
        debugger.go("continue")
        frame = debugger.stack()[0]["id"]

        def complete(text, rest=""):
            asked = {"text": text + rest, "column": len(text) + 1, "frameId": frame}
            targets = debugger.request("completions", **asked)["targets"]
            assert all(text[t["start"] :] == text[len(text) - t["length"] :] for t in targets)
            return {target["label"]: target["type"] for target in targets}

        order = {"count": "field", "lines": "field", "pay": "method", "pending": "method", "total": "property"}
        assert complete("order.") == order
        assert complete("order.p", "ay()") == complete("x = [1, order . p") == complete("if not order.p")
        assert complete("order.p") == {"pay": "method", "pending": "method"}
        assert complete("order._h") == {"_hidden": "field"}
        assert "upper" in complete("print(order.lines['a'][0].up") and "sort" in complete("order.lines['a'].")
        assert complete("'text'.upp") == {"upper": "method"}
        assert complete("os.pat") == {"path": "module", "pathconf": "function", "pathconf_names": "field", "pathsep": "field"}
        assert complete("ord") == {"ord": "function", "order": "variable"}
        assert complete("Ord") == {"Order": "class"} and complete("whi") == {"while": "keyword"}
        # Nothing is called, and what does not mean anything is completed to nothing.
        assert complete("order.pay().") == complete("nothing.") == complete("order.total.") == complete("1 +.") == {}
        assert "paid" not in debugger.output()


def test_what_a_client_may_ask_for(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    line = line_of(path, "box.items[number % 2]")
    with Debugger(trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        debugger.go("continue")
        frame = debugger.stack()[0]["id"]
        targets = debugger.request("completions", text="box.va", column=7, frameId=frame)["targets"]
        assert [target["label"] for target in targets] == ["value"]
        box = next(v for v in debugger.variables(debugger.scope()) if v["name"] == "box")
        twice = next(v for v in debugger.variables(box["variablesReference"]) if v["name"] == "twice")
        assert twice["presentationHint"]["lazy"]
        assert debugger.variables(twice["variablesReference"])[0]["value"] == "2"
        changed = debugger.request(
            "setVariable", variablesReference=box["variablesReference"], name="value", value="21"
        )
        assert changed["value"] == "21" and debugger.evaluate("box.twice") == "42"
        with pytest.raises(RequestFailed, match="NameError"):
            debugger.request("setVariable", variablesReference=box["variablesReference"], name="value", value="nothing")
        sources = [source["path"] for source in debugger.request("loadedSources")["sources"]]
        assert str(path) in sources
        modules = {module["name"] for module in debugger.request("modules")["modules"]}
        assert {"__main__", "sys"} <= modules
        for command, arguments in (
            ("variables", {"variablesReference": 99_999}),
            ("scopes", {"frameId": 99_999}),
            ("stepInTargets", {"frameId": 99_999}),
            ("disassemble", {"memoryReference": "nonsense", "instructionCount": 1}),
            ("disassemble", {"memoryReference": "0x10", "instructionCount": 1}),
            ("evaluate", {"expression": "1 +", "context": "repl"}),
            ("setBreakpoints", {"breakpoints": [{"line": 1}]}),
            ("source", {"sourceReference": 99_999}),
            ("nonsense", {}),
        ):
            with pytest.raises(RequestFailed):
                debugger.request(command, **arguments)
        debugger.go("next")
        assert debugger.evaluate("box.value") == "1"
        where = debugger.stop["position"]
        assert debugger.go("gotoPosition", position="soon")["position"] == where
        assert "soon is no place" in debugger.output("important")


def test_arguments_of_a_wrong_kind(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    with Debugger(trace) as debugger:
        requests = (
            "setBreakpoints",
            "setFunctionBreakpoints",
            "setExceptionBreakpoints",
            "launch",
            "variables",
            "next",
        )
        for is_open in (False, True):
            if is_open:
                debugger.launch("entry")
            for command in requests:
                for wrong in ([1, 2], "text", 5):
                    request = {"seq": 9000, "type": "request", "command": command, "arguments": wrong}
                    body = json.dumps(request).encode()
                    debugger.server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
                    debugger.server.stdin.flush()
                    answer = debugger.wait(lambda: debugger.answers.pop(9000, None))
                    assert not answer["success"] and "must be an object" in answer["message"]
            source = {"path": str(path)}
            answers = debugger.request("setBreakpoints", source=source, breakpoints=[5, "line", [1], {"line": "x"}])
            assert len(answers["breakpoints"]) == 4
            for command in ("setFunctionBreakpoints", "setDataBreakpoints"):
                answers = debugger.request(command, breakpoints=[5, "name", [1], {"name": 5, "dataId": 5}])
                assert not any(answer["verified"] for answer in answers["breakpoints"])
            options = [5, {"path": 5}, {"path": [5, {"names": 5}, {"names": [5]}], "breakMode": 5}]
            debugger.request("setExceptionBreakpoints", filters=[5], filterOptions=[5], exceptionOptions=options)
        for command in ("scopes", "stackTrace", "evaluate", "source", "completions", "disassemble", "timeline"):
            wrong = dict.fromkeys(("frameId", "threadId", "expression", "source", "text", "column", "start"), [{}])
            try:
                debugger.request(command, **wrong)
            except RequestFailed:
                pass
        assert debugger.evaluate("1 + 1") == "2"


def test_an_interrupt_ends_a_server_and_its_processes(endless):
    trace, _ = endless
    debugger = Debugger(trace)
    debugger.flush()
    debugger.launch("entry")
    processes = descendants(debugger.server.pid)
    os.kill(debugger.server.pid, signal.SIGTERM)
    debugger.server.wait()
    assert_gone(processes)


def test_the_text_of_a_source_that_is_gone(trial):
    trace, path = record_trace(trial, "debugged_state.py")
    text = path.read_text()
    with Debugger(trace) as debugger:
        for change in (path.unlink, lambda: path.write_text("another = 1\n")):
            change()
            debugger.launch("end")
            source = debugger.stack()[0]["source"]
            assert source["path"] == str(path) and source["sourceReference"] > 0
            assert debugger.request("source", sourceReference=source["sourceReference"])["content"] == text


TYPED = """\
import collections
Point = collections.namedtuple('Point', 'x y')
def of(x):
    return Point(x, 1)
three = of(3)
print(three)
"""


@pytest.mark.parametrize("argument, stdin, path", [(TYPED, b"", "<string>"), ("-", TYPED.encode(), "<stdin>")])
def test_the_text_of_a_program_that_has_no_file(trial, argument, stdin, path):
    """Breakpoints are in the program, and not in what a library makes of a string, which has the file name of a command."""
    trial.prepare(inputs=False)
    recorded = trial.record([*(["-c"] if path == "<string>" else []), argument], stdin=stdin)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        source = debugger.stack()[0]["source"]
        assert source["name"] == path and source["sourceReference"] > 0
        assert debugger.request("source", sourceReference=source["sourceReference"])["content"].rstrip() == TYPED.rstrip()
        assert source in debugger.request("loadedSources")["sources"]
        breakpoints = debugger.request("setBreakpoints", source=source, breakpoints=[{"line": line} for line in (1, 4, 99)])
        assert [known["verified"] for known in breakpoints["breakpoints"]] == [True, True, False]
        debugger.go("continue")
        assert debugger.where() == ("of", 4) and debugger.stack()[1]["line"] == 5
        assert debugger.go("continue")["text"] == "The end of the recording"
        debugger.go("reverseContinue")
        assert debugger.where() == ("of", 4)
