"""Positions that a program came to after much computing: a replay passes most of the way without looking."""

import json
import subprocess

import pytest
from debugger import Debugger
from harness import RETRACE
from trace_file import EXTENT_HEADER, TraceBytes

FAR = """\
import signal, sys
done = False


def stop(*_):
    global done
    done = True
    if "raise" in sys.argv:
        raise KeyboardInterrupt


def work():
    x = i = 0
    while not done:
        x = (x * 31 + i) % 1000003
        i += 1
    return x, i


signal.signal(signal.SIGVTALRM, stop)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.3)
print(work())
"""

IN_MODULE = """\
import signal
done = []
signal.signal(signal.SIGVTALRM, lambda *_: done.append(1))
signal.setitimer(signal.ITIMER_VIRTUAL, 0.3)
x = i = 0
while not done:
    x = (x * 31 + i) % 1000003
    i += 1
print(x, i)
"""

IN_C = """\
import signal
signal.signal(signal.SIGVTALRM, lambda *_: print("handled"))
signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
number = 3 ** 600_000 - 1
for i in range(6):
    number = number * 3 // 3 + i
    print(number % 1_000_007)
"""

# One thread computes until the main one, which waits, wants to go on.
IN_THREAD = """\
import signal, threading
done = False
def work():
    x = i = 0
    while not done:
        x = (x * 31 + i) % 1000003
        i += 1
    print(x, i)
def stop(*_):
    global done
    done = True
signal.signal(signal.SIGALRM, stop)
thread = threading.Thread(target=work)
thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.3)
thread.join()
"""


def recorded_of(trial, program, *arguments, exit=0):
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(program)
    recorded = trial.record(["program.py", *arguments])
    assert recorded.exit == exit, recorded
    return recorded


@pytest.mark.parametrize("program", [FAR, IN_MODULE, IN_C, IN_THREAD], ids=["function", "module", "c", "thread"])
def test_a_far_position_is_found(trial, program):
    recorded = recorded_of(trial, program)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize("factor", [0.25, 0.7, 2])
def test_what_the_recording_says_of_the_way_may_be_wrong(trial, factor):
    """This machine is faster, or slower; where the position was passed, another attempt looks at all."""
    recorded = recorded_of(trial, FAR)
    text = subprocess.run([RETRACE, "events", recorded.trace, "--json"], capture_output=True, check=True, text=True)
    events = [json.loads(line) for line in text.stdout.splitlines()]
    signal = next(event for event in events if event["type"] == "signal")
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    # A varint of three bytes ends the event.
    extent = next(e for e in trace.extents() if e.stream == 0 and e.process == 0)
    at = extent.offset + EXTENT_HEADER + signal["position"] + signal["size"] - 3
    time = trace.data[at] & 127 | (trace.data[at + 1] & 127) << 7 | trace.data[at + 2] << 14
    assert trace.data[at] & trace.data[at + 1] & 128 and 200_000 < time < 1_000_000
    time = int(time * factor)
    trace.data[at : at + 3] = bytes([time & 127 | 128, time >> 7 & 127 | 128, time >> 14])
    changed = trace.write(trial.folder / "changed.retrace")
    trial.same(recorded, trial.replay(changed), ("recorded", "replayed"))


def test_the_debugger_stands_at_a_far_position(trial):
    recorded = recorded_of(trial, FAR, "raise", exit=-2)
    path = trial.work / "program.py"
    with Debugger(recorded.trace) as debugger:
        debugger.launch()
        assert debugger.where()[0] == "stop"
        frame = debugger.stack()[1]
        assert frame["name"] == "work"
        before = debugger.locals(1)
        debugger.go("stepBack")
        debugger.set_breakpoints(path, [{"line": 16, "hitCondition": "%1000"}])
        debugger.go("reverseContinue")
        first = debugger.locals()
        assert int(first["i"]) == (int(before["i"]) - 1000) // 1000 * 1000 + 999
        debugger.go("reverseContinue")
        assert int(debugger.locals()["i"]) == int(first["i"]) - 1000
        debugger.go("continue")
        assert debugger.locals() == first
        debugger.set_breakpoints(path, [])
        debugger.go("continue")
        assert debugger.locals(1) == before
        assert "not met" not in debugger.output("console")
