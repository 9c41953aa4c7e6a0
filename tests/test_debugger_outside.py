"""What the debugger shows of objects that belong to the outside: sockets, connections, contexts."""

import pytest
from debugger import Debugger, RequestFailed, line_of

OUTSIDE = """\
import os
import socket
import sqlite3
import ssl


def work():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    client = socket.create_connection(listening.getsockname(), timeout=3)
    server, _ = listening.accept()
    unnamed, other = socket.socketpair()
    gone = socket.socket()
    gone.close()
    base = sqlite3.connect(":memory:")
    base.execute("create table numbers (number)")
    base.execute("insert into numbers values (1)")
    changes = base.total_changes
    context = ssl.create_default_context()
    context.check_hostname = False
    os.getcwd()
    before = 1
    base.isolation_level = None
    context.check_hostname = True
    client.setblocking(False)
    after = 2
    print(listening, unnamed, gone, sep="\\n")
    print(client.fileno(), base.isolation_level, client.gettimeout(), os.getcwd())
    client.close()
    closed = client.fileno()
    return closed


work()
"""
LAST = " (last known)"


def test_objects_of_the_outside_say_what_the_recording_last_said(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(OUTSIDE)
    recorded = trial.record([program])
    assert trial.replay(recorded.trace).stdout == recorded.stdout
    *shown, last = recorded.stdout.decode().splitlines()
    descriptor, _, _, folder = last.split()
    lines = [line_of(program, text) for text in ("before = 1", "after = 2", "return closed")]
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(program, lines)])
        debugger.go("continue")
        values = debugger.locals()
        # What was asked before says so. What is in memory is known.
        assert [values[name] for name in ("listening", "unnamed", "gone")] == [shown[0] + LAST, *shown[1:]]
        assert f"fd={descriptor}," in values["client"] and "raddr=('127.0.0.1', " in values["client"]
        assert debugger.evaluate("client.fileno()") == descriptor
        assert debugger.evaluate("client.timeout") == debugger.evaluate("client.gettimeout()") == "3" + LAST
        assert debugger.evaluate("base.total_changes + 1") == "2" + LAST
        assert debugger.evaluate("context.check_hostname") == "False" + LAST
        assert debugger.evaluate("os.getcwd()") == f"'{folder}'" + LAST
        assert debugger.evaluate("changes") == "1"
        # One value that nobody knows hides no other.
        base = next(v for v in debugger.variables(debugger.scope()) if v["name"] == "base")["variablesReference"]
        children = {v["name"]: v["value"] for v in debugger.variables(base)}
        assert children["in_transaction"] == children["isolation_level"] == "<not in the recording>"
        assert (children["total_changes"], children["row_factory"]) == ("1" + LAST, "None")
        with pytest.raises(RequestFailed, match="isolation_level is not in the recording"):
            debugger.evaluate("base.isolation_level")
        # What does something is refused, as ever.
        with pytest.raises(RequestFailed, match="would leave the replay"):
            debugger.evaluate("client.recv(1)")
        debugger.go("continue")
        assert debugger.evaluate("base.isolation_level") == "None" + LAST
        assert debugger.evaluate("context.check_hostname") == "True" + LAST
        with pytest.raises(RequestFailed, match="gettimeout is not in the recording"):
            debugger.evaluate("client.gettimeout()")
        debugger.go("continue")
        assert debugger.evaluate("client.gettimeout()") == "0.0" + LAST
        assert debugger.locals()["closed"] == debugger.evaluate("client.fileno()") == "-1"
        assert debugger.locals()["client"].startswith("<socket.socket [closed] fd=-1, ")
        # Further back it is what was known by then.
        debugger.go("reverseContinue")
        debugger.go("reverseContinue")
        assert debugger.evaluate("client.gettimeout()") == "3" + LAST
        assert debugger.evaluate("context.check_hostname") == "False" + LAST


WRAPPED = """\
import sqlite3


class Base(sqlite3.Connection):
    def __repr__(self):
        return f"<Base with {self.total_changes} changes>"


class Holder:
    def __init__(self):
        self.base, self.number = Base(":memory:"), 5


holder = Holder()
base = holder.base
here = 1
print(base)
there = 2
"""


def test_a_repr_that_asks_for_what_nobody_knows(trial):
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(WRAPPED)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, "here = 1"), line_of(program, "there = 2")])])
        debugger.go("continue")
        assert debugger.locals()["base"] == "<__main__.Base object at 0x?, whose repr is not in the recording>"
        assert "whose repr is not in the recording" in debugger.evaluate("[5, base]")
        debugger.go("continue")
        assert debugger.locals()["base"] == "<Base with 0 changes>" + LAST
        assert debugger.evaluate("{1: base}") == "{1: <Base with 0 changes>}" + LAST
