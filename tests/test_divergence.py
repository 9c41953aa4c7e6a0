"""A replay that leaves the recording stops at the first event that differs, says how, and exits with 70."""

import pytest

from harness import DIVERGED
from trace_file import TraceBytes

PROGRAM = """\
import os
import time

def before():
    return os.getpid(), time.time()

def inner():
    return time.time()

def outer():
    print("about to")
    return inner()

before()
met = outer()
print(met)
time.sleep(0.0012345)
after = time.monotonic()
print("still here", after)
"""


@pytest.fixture
def recorded(trial):
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(PROGRAM)
    return trial.record(["program.py"])


def values(recorded):
    """What `outer` returned and what the last line printed."""
    lines = recorded.stdout.decode().split()
    return float(lines[2]), float(lines[-1])


def changed(trial, recorded, change):
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    change(trace)
    return trace.write(trial.folder / "changed.retrace")


def test_the_unsealed_trace_itself_replays(trial, recorded):
    """What the tests below change is what they meant to change."""
    trace = changed(trial, recorded, lambda trace: trace.float_event(values(recorded)[0]))
    trial.same(recorded, trial.replay(trace), ("recorded", "replayed"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda trace, event: trace.call_site(event, 2), id="another-caller"),
        pytest.param(lambda trace, event: trace.call_site(event, -0x100), id="far-away"),
        pytest.param(lambda trace, event: trace.hook(event, 1), id="another-function"),
        pytest.param(lambda trace, event: trace.hook(event, -1), id="the-function-before"),
    ],
)
def test_another_event_is_a_divergence(trial, recorded, change):
    value, _ = values(recorded)
    trace = changed(trial, recorded, lambda trace: change(trace, trace.float_event(value)))
    replayed = trial.replay(trace)
    if replayed.exit != DIVERGED:
        trial.fail("the replay should have diverged", replayed)
    # What ran before the event ran; nothing after it did.
    assert replayed.stdout in (b"", b"about to\n"), replayed
    report = replayed.stderr.decode()
    for part in ("expected", "met", "time.time", "inner", "outer", "program.py", "getpid"):
        if part not in report:
            trial.fail(f"the report does not say {part!r}", replayed)
    assert report.count("left the recording") == 1


def test_it_is_the_first_difference_that_is_reported(trial, recorded):
    first, last = values(recorded)

    def both(trace):
        trace.call_site(trace.float_event(last), 2)
        trace.call_site(trace.float_event(first), 2)

    replayed = trial.replay(changed(trial, recorded, both))
    assert replayed.exit == DIVERGED
    assert "in inner" in replayed.stderr.decode(), replayed


def test_a_later_difference_lets_the_earlier_part_run(trial, recorded):
    _, last = values(recorded)
    trace = changed(trial, recorded, lambda trace: trace.call_site(trace.float_event(last), 2))
    replayed = trial.replay(trace)
    assert replayed.exit == DIVERGED
    assert "time.monotonic" in replayed.stderr.decode(), replayed


def other_duration(trace):
    import struct

    pattern = b"\x09" + struct.pack("<d", 0.0012345)
    assert trace.data.count(pattern) == 1
    at = trace.data.index(pattern)
    trace.data[at : at + 9] = b"\x09" + struct.pack("<d", 0.0012346)


def test_another_argument_is_reported(trial, recorded):
    replayed = trial.replay(changed(trial, recorded, other_duration))
    assert (replayed.stdout, replayed.exit) == (recorded.stdout, 0), replayed
    report = replayed.stderr.decode()
    assert "0.0012346" in report and "0.0012345" in report and "sleep" in report, replayed


def test_another_argument_is_a_divergence_when_strict(trial, recorded):
    replayed = trial.replay(changed(trial, recorded, other_duration), "--strict")
    assert replayed.exit == DIVERGED, replayed
    assert "still here" not in replayed.stdout.decode()


def test_an_unchanged_recording_is_no_divergence_when_strict(trial, recorded):
    trial.same(recorded, trial.replay(recorded.trace, "--strict"), ("recorded", "replayed"))


def test_changed_sources_make_no_difference(trial, recorded):
    """The recording's own sources run, whatever the files say now."""
    (trial.work / "program.py").write_text("print('another program')\n")
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
