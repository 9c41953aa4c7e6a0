"""Exceptions that leave the program's own code: where the debugger stops at them, and where debugpy does."""

import pytest
from debugger import Debugger, line_of, longer, record
from harness import interpreters, shared_venv
from test_debugger_debugpy import Debugpy

PAUSED = "execution is paused at: "


class Leaving(Debugpy):
    """A session with debugpy's adapter that stops where exceptions leave the user's code."""

    def begin(self):
        self.wait(lambda: self.answers or None)
        self.send("launch", program=str(self.program), console="internalConsole", python=[str(self.python)])
        self.wait(lambda: self.take("initialized"))
        self.request("setExceptionBreakpoints", filters=["userUnhandled"])
        self.request("configurationDone")

    def __exit__(self, *exception):
        # The adapter may end with the program, or not.
        self.server.kill()
        self.server.wait()
        super().__exit__(*exception)

    def stops(self):
        """The function, the class and the text of each exception."""

        def next_stop():
            has_ended = any(event["event"] in ("exited", "terminated") for event in self.events)
            return self.take("stopped") or ({} if has_ended else None)

        while stop := self.wait(next_stop):
            info = self.request("exceptionInfo", threadId=stop["threadId"])
            # An exception's stack is shown down to where it was raised.
            where = info["exceptionId"].partition(PAUSED)[2].rstrip(")")
            text = info["description"].replace("exception: no description", "")
            yield where, info["exceptionId"].split()[0], text
            self.send("continue", threadId=stop["threadId"])


def stops(debugger, command):
    """The same of ours, with what stands for the position."""
    while debugger.go(command)["reason"] == "exception":
        info = debugger.request("exceptionInfo", threadId=debugger.stop["threadId"])
        assert info["breakMode"] == "userUnhandled"
        where, _ = debugger.where()
        yield where.rpartition(".")[2], info["exceptionId"].rpartition(".")[2], info["description"]


def test_they_are_those_at_which_debugpy_stops(trial):
    """As of 3.12, where it is told which exception leaves a frame: on 3.11 it takes the last that was raised there."""
    recorded, program = record(trial, "leaving.py")
    newest = max(interpreters(), key=lambda interpreter: interpreter.minor)
    with Leaving(shared_venv(newest, ("debugpy==1.8.22",)), program) as debugpy:
        debugpy.begin()
        theirs = list(debugpy.stops())
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"])
        assert list(stops(debugger, "continue")) == theirs
        assert list(stops(debugger, "reverseContinue")) == theirs[::-1]


HEAD = """\
import asyncio
import json
import threading


def fail():
    raise ValueError("bad")


def compute():
    total = 0
    for number in range(ROUNDS):
        total += number
    return total


"""
LONG_WAYS = {
    "finally": """\
def hook(pairs):
    try:
        fail()
    finally:
        note = "begun"
        compute()
        note = "ended"


try:
    json.loads("{}", object_hook=hook)
except ValueError:
    print("caught")
""",
    "except": """\
def hook(pairs):
    note = None
    try:
        fail()
    except ValueError:
        compute()
        try:
            fail()
        except ValueError: note = "ended"
        raise


try:
    json.loads("{}", object_hook=hook)
except ValueError:
    print("caught")
""",
    "exit": """\
class Long:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        compute()
        self.note = "ended"


def hook(pairs):
    note = None
    with Long() as long:
        fail()


try:
    json.loads("{}", object_hook=hook)
except ValueError:
    print("caught")
""",
    "task": """\
async def hook():
    try:
        fail()
    finally:
        note = "begun"
        await asyncio.sleep(0)
        compute()
        await asyncio.sleep(0)
        note = "ended"


async def main():
    async def other():
        for _ in range(3):
            compute()
            await asyncio.sleep(0)

    print(await asyncio.gather(hook(), other(), return_exceptions=True))


asyncio.run(main())
""",
    "thread": """\
def hook():
    try:
        fail()
    finally:
        note = "begun"
        started.set()
        ends.wait()
        note = "ended"


threading.excepthook = lambda _: None
started, ends = threading.Event(), threading.Event()
thread = threading.Thread(target=hook)
thread.start()
started.wait()
compute()
ends.set()
thread.join()
print("done")
""",
}


@pytest.mark.parametrize("way", LONG_WAYS)
def test_they_may_be_raised_long_before(trial, way):
    """With checkpoints between the raise and the end of the function."""
    assert any(leaves_later(trial, way, rounds) for rounds in longer(30_000))


def leaves_later(trial, way, rounds):
    """Whether there was a checkpoint."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(HEAD.replace("ROUNDS", str(rounds)) + LONG_WAYS[way])
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, 'raise ValueError("bad")')])])
        debugger.go("continue")
        raised = debugger.stop["position"]["window"]
        debugger.set_breakpoints(program, [])
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"])
        found = []
        for command in ("continue", "reverseContinue"):
            while debugger.go(command)["reason"] == "exception":
                assert debugger.where()[0] == "hook"
                note = "long.note" if way == "exit" else "note"
                assert debugger.evaluate(note) == "'ended'"
                info = debugger.request("exceptionInfo", threadId=debugger.stop["threadId"])
                assert (info["exceptionId"], info["description"]) == ("ValueError", "bad")
                found.append(debugger.stop["position"])
        assert len(found) == 2 and found[0] == found[1]
        debugger.go("gotoPosition", position=found[0])
        assert debugger.where()[0] == "hook" and debugger.evaluate(note) == "'ended'"
        # A step back is in the same function, and one forwards out of it.
        debugger.go("stepBack")
        assert debugger.where()[0] == "hook"
        return found[0]["window"] > raised


AGAIN = """\
import inspect
import json


def plain(pairs):
    raise ValueError("plain")


def cleaned(pairs):
    try:
        raise ValueError("cleaned")
    finally:
        done = True


class Lazy:
    def __getattr__(self, name):
        try:
            raise AttributeError(name)
        finally:
            done = True


for hook in (plain, cleaned):
    try:
        json.loads("{}", object_hook=hook)
    except ValueError:
        pass
inspect.unwrap(Lazy())
print("done")
"""


def test_one_that_leaves_where_it_was_raised_is_one_stop(trial):
    """And one that C code has asked for is none."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(AGAIN)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry")
        conditions = [{"filterId": "raised", "condition": "ValueError"}]
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"], filterOptions=conditions)
        for command in ("continue", "reverseContinue"):
            seen = []
            while debugger.go(command)["reason"] == "exception":
                seen.append((debugger.where()[0], debugger.locals().get("done")))
            expected = [("plain", None), ("cleaned", None), ("cleaned", "True")]
            assert seen == (expected if command == "continue" else expected[::-1])


GROUP = """\
import json


def hook(pairs):
    try:
        raise ExceptionGroup("group", [ValueError(1), KeyError(2)])
    except* KeyError:
        done = True


try:
    json.loads("{}", object_hook=hook)
except ExceptionGroup:
    pass
print("done")
"""


def test_what_is_left_of_a_group(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(GROUP)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["userUnhandled"])
        for command in ("continue", "reverseContinue"):
            assert list(stops(debugger, command)) == [("hook", "ExceptionGroup", "group (1 sub-exception)")]


BEHIND = """\
import atexit
import json


def hook(pairs):
    raise ValueError("the first")


class Last:
    def __del__(self):
        json.loads("{}", object_hook=hook)


@atexit.register
def bye():
    note = 1
    raise TypeError("an earlier one")


last = Last()
print("x")
"""


@pytest.mark.parametrize("filters", ["raised", "userUnhandled"])
def test_what_the_last_line_raises_is_before_the_end(trial, filters):
    """The end is shown at that line, but lies behind all that comes of it. What one has come to is not led back before it."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(BEHIND)
    lines = {"raised": ["an earlier", "the first"], "userUnhandled": ["an earlier", "the first", "json.loads"]}[filters]
    wanted = [line_of(program, text) for text in lines]
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("end")
        assert debugger.where()[1] == line_of(program, "the first")
        debugger.request("setExceptionBreakpoints", filters=[filters])
        # Nothing is behind the end.
        assert debugger.go("continue")["text"] == debugger.go("next")["text"] == "The end of the recording"

        def met(command):
            while debugger.go(command)["reason"] == "exception":
                yield debugger.where()[1]

        assert list(met("reverseContinue")) == wanted[::-1]
        assert list(met("continue")) == wanted
        assert debugger.stop["text"] == "The end of the recording" and debugger.where()[1] == wanted[-1]
        # It has been seen.
        assert list(met("reverseContinue")) == wanted[-2::-1]
