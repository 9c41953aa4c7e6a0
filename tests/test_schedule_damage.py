"""A recording of threads whose schedule was changed: the replay says which thread is lost, and neither hangs nor crashes."""

import struct

import pytest

from harness import BAD_INPUT, DIVERGED
from trace_file import CHECK, RELEASED, TraceBytes

# Rotates through its threads by switches at checks of the eval breaker, and has releases of the GIL before and after.
RACE = """\
import sys, threading
sys.setswitchinterval(0.0001)
order = []
def count(me):
    for k in range(20000):
        order.append(me)
threads = [threading.Thread(target=count, args=(me,)) for me in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(order), sum(n * k % 7 for k, n in enumerate(order)))
"""
CODES = (DIVERGED, BAD_INPUT)


def has_what_is_changed(path):
    trace = TraceBytes(path)
    trace.spell_out_switches()
    switches = trace.switches()
    released = next((s for s in switches if s.kind == RELEASED), None)
    interrupted = any(s.kind == CHECK and before.thread != 0 for before, s in zip(switches, switches[1:]))
    return interrupted and released is not None and trace.data[released.event + 4] == 1


@pytest.fixture
def recorded(trial):
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(RACE)
    # On a busy machine a thread may be done before another one wants the GIL.
    for _ in range(20):
        recorded = trial.record(["program.py"])
        assert recorded.exit == 0, recorded
        if has_what_is_changed(recorded.trace):
            return recorded
    trial.fail("no recording has a thread that was interrupted, after a first release", recorded)


def replayed_after(trial, recorded, change):
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    trace.spell_out_switches()
    change(trace)
    return trial.replay(trace.write(trial.folder / "changed.retrace"))


def lost(trial, result, *words, codes=(DIVERGED,)):
    if result.exit not in codes:
        trial.fail(f"the replay should have ended with {codes}", result)
    for word in words:
        if word not in result.stderr.decode():
            trial.fail(f"the report does not say {word!r}", result)
    assert result.stderr.count(b"left the recording") == (result.exit == DIVERGED), result


def at_check(trace):
    """The first switch at a check away from a thread other than the main one, and that thread."""
    switches = trace.switches()
    for before, switch in zip(switches, switches[1:]):
        if switch.kind != RELEASED and before.thread != 0:
            return switch, before.thread
    raise AssertionError(f"no thread was interrupted: {switches}")


def test_the_unsealed_trace_itself_replays(trial, recorded):
    """What the tests below change is what they meant to change."""
    result = replayed_after(trial, recorded, lambda trace: at_check(trace))
    trial.same(recorded, result, ("recorded", "replayed"))


@pytest.mark.parametrize("field", ["place", "shallow", "deep", "near"])
def test_a_fingerprint_that_is_never_met(trial, recorded, field):
    thread = None

    def change(trace):
        nonlocal thread
        switch, thread = at_check(trace)
        at = switch.fingerprint + 8 * ["place", "shallow", "deep", "near"].index(field)
        trace.u64(at, trace.u64(at) ^ 0x5A5A)

    result = replayed_after(trial, recorded, change)
    lost(trial, result, "event ", f"thread {thread} ", " checks, ", "at the recorded place")


@pytest.mark.parametrize("thread", [3, 77, 127])
def test_another_thread(trial, recorded, thread):
    """One that is not there yet, and some that never are."""

    def change(trace):
        trace.data[trace.switches()[0].event + 2] = thread

    lost(trial, replayed_after(trial, recorded, change), f"thread {thread}", "which was never made")


def test_a_thread_that_has_ended(trial, recorded):
    ended = None

    def change(trace):
        nonlocal ended
        *_, before, last = trace.switches()
        ended = before.thread
        trace.data[last.event + 2] = ended

    lost(trial, replayed_after(trial, recorded, change), f"thread {ended}")


@pytest.mark.parametrize("count", [0, 2, 5, 100])
def test_another_count_of_releases(trial, recorded, count):
    def change(trace):
        switch = next(s for s in trace.switches() if s.kind == RELEASED)
        assert trace.data[switch.event + 4] == 1
        trace.data[switch.event + 4] = count

    lost(trial, replayed_after(trial, recorded, change), "event ", "thread")


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 255])
def test_another_kind_of_position(trial, recorded, kind):
    """What follows it is read as something else, or refused."""

    def change(trace):
        switch, _ = at_check(trace) if kind != 2 else (trace.switches()[0], 0)
        trace.data[switch.event + 3] = kind

    lost(trial, replayed_after(trial, recorded, change), codes=CODES)


def test_a_switch_turned_into_another_event(trial, recorded):
    """busy, wait, fork, signal, thread and codes that are none."""
    for code in (0xF04, 0xF05, 0xF0B, 0xF0C, 0xF0D, 0xF0E, 0xF0F, 0xF10, 0xF11, 0xFFF):

        def change(trace, code=code):
            struct.pack_into("<H", trace.data, at_check(trace)[0].event, code)

        lost(trial, replayed_after(trial, recorded, change), codes=CODES)


@pytest.mark.parametrize("where", ["first", "at-check", "last"])
def test_the_recording_cut_at_a_switch(trial, recorded, where):
    """As if the process had been killed there: the replay ends there and says so."""

    def change(trace):
        switches = trace.switches()
        switch = {"first": switches[0], "at-check": at_check(trace)[0], "last": switches[-1]}[where]
        trace.cut(switch.event)

    result = replayed_after(trial, recorded, change)
    assert result.exit == 71 and result.stdout == b"", result
    assert b"the recording ends here" in result.stderr, result


# Each thread but the main one waits for what only another one does.
WAITING = """\
import sys, threading
sys.setswitchinterval(0.0001)
flags = [False, False]
def wait(me):
    while not flags[me]:
        pass
threads = [threading.Thread(target=wait, args=(me,)) for me in range(2)]
for thread in threads:
    thread.start()
flags[:] = [True, True]
for thread in threads:
    thread.join()
"""


def test_a_thread_that_waits_for_what_never_comes(trial):
    """Nobody else gets a turn any more: the replay ends by itself, and says so."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(WAITING)
    for _ in range(20):
        recorded = trial.record(["program.py"])
        trace = TraceBytes(recorded.trace)
        trace.spell_out_switches()
        if any(s.kind == CHECK and b.thread for b, s in zip(trace.switches(), trace.switches()[1:])):
            break
    else:
        trial.fail("no recording has a thread that was interrupted while it waits", recorded)
    trace.unseal()
    switch, thread = at_check(trace)
    trace.u64(switch.fingerprint, trace.u64(switch.fingerprint) ^ 0x5A5A)
    result = trial.replay(trace.write(trial.folder / "changed.retrace"), "--patience", "1")
    lost(trial, result, f"thread {thread} passed", "s of CPU time")


# Where the thread is preempted nothing differs but one item among ten thousand, of which no fingerprint takes notice. A
# round takes a third as long as a thread waits for the GIL, so that some rounds come before, and few.
HIDDEN = """\
import threading, time
hidden, stop, size, took = [0] * 10_000, [], 100_000, 0
while took < 0.0015:
    size *= 2
    before = time.perf_counter()
    sum(range(size))
    took = time.perf_counter() - before
numbers = range(size)
def count():
    while not stop:
        hidden[5_000] += 1
        sum(numbers)
thread = threading.Thread(target=count)
thread.start()
time.sleep(0.001)
print(hidden[5_000], flush=True)
stop.append(1)
thread.join()
"""


def test_a_position_that_looks_like_an_earlier_one(trial):
    """What follows shows it: the replay begins anew, takes the next one, and says how often that was so."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(HIDDEN)
    for _ in range(10):
        recorded = trial.record(["program.py"])
        assert recorded.exit == 0, recorded
        replayed = trial.tool("replay", recorded.trace)
        if b"recorded positions looked like an earlier one" in replayed.stderr:
            assert (replayed.stdout, replayed.exit) == (recorded.stdout, 0), replayed
            assert replayed.stderr.count(b"\n") == 1, replayed
            return
        # The first position was the right one; or too many lay before it, and then it is said that the argument differs.
        explained = replayed.stdout == recorded.stdout
        assert explained or b"no other position that was tried explains it" in replayed.stderr, replayed
    trial.fail("no recording has such a position", recorded)
