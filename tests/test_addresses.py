"""Text with an object's address in it is the recorded text."""

import re
import struct

from debugger import Debugger, line_of, record
from harness import DIVERGED
from trace_file import TraceBytes

FAILS = """\
import logging

class Account:
    def __init__(self, balance):
        self.balance = balance

def test_fails():
    account = Account(3)
    logging.warning("%s", account)
    assert account == Account(3), account

def test_with(tmp_path, monkeypatch):
    raise LookupError(monkeypatch, print, test_fails)
"""


def shown(text: bytes) -> set[bytes]:
    return set(re.findall(rb" at (0x[0-9a-f]+)", text))


def test_default_reprs(trial):
    recorded = trial.assert_replays(["address_text.py"], programs=["address_text.py"])
    assert len(shown(recorded.stdout)) > 50 and len(shown(recorded.stderr)) > 2, recorded
    assert b"the same number: True" in recorded.stdout


def test_in_a_forked_child(trial):
    trial.prepare("address_text.py")
    recorded = trial.record(["address_text.py", "fork"])
    parent, child = (trial.replay(trial.trace, "--process", number) for number in "01")
    printed = rb"child: <[^\n]*\n"
    assert parent.stdout == re.sub(printed, b"", recorded.stdout), (recorded, parent)
    assert child.stdout == re.search(printed, recorded.stdout)[0], (recorded, child)
    assert recorded.exit == parent.exit == child.exit == 0


def test_what_a_failing_test_prints(trial, venv):
    trial.use(venv("pytest")).prepare()
    (trial.work / "test_it.py").write_text(FAILS)
    recorded = trial.record(["-m", "pytest", "-p", "no:cacheprovider", "-l", "--durations=1", "test_it.py"])
    assert recorded.exit == 1 and len(shown(recorded.stdout)) >= 4, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_text_that_is_made_elsewhere_is_a_divergence(trial):
    trial.prepare("address_text.py")
    recorded = trial.record(["address_text.py"])
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    number = re.search(rb"<__main__.Slotted object at (0x[0-9a-f]+)>", recorded.stdout)[1]
    # The result, an int of eight bytes, behind the head and the caller's position.
    trace.call_site(trace.data.index(b"\x07" + struct.pack("<q", int(number, 16))) - 4, 2)
    replayed = trial.replay(trace.write(trial.folder / "changed.retrace"))
    assert replayed.exit == DIVERGED and b"an address is put into text here" in replayed.stderr, replayed
    assert b"in kinds\n" in replayed.stderr


def test_the_debugger_shows_what_the_program_printed(trial):
    recorded, path = record(trial, "address_text.py")
    plain = recorded.stdout.splitlines()[0].decode()
    assert re.fullmatch(r"<__main__\.Plain object at 0x[0-9a-f]+>", plain)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line_of(path, '"the same number:"')])])
        debugger.go("continue")
        assert debugger.locals()["plain"] == plain
        assert debugger.evaluate("f'{plain} {id(plain):#x}'") == repr(f"{plain} {plain[-15:-1]}")
        assert debugger.evaluate("objects[3]").encode() == recorded.stdout.splitlines()[3]
        for _ in range(3):
            debugger.go("stepBack")
            assert debugger.locals()["plain"] == plain
        debugger.set_breakpoints(path, [])
        debugger.go("continue")
        # What is printed once the program has ended comes behind the stop.
        output = debugger.output().encode()
        assert output.count(b"\n") > 100 and recorded.stdout.startswith(output), (output, recorded)
