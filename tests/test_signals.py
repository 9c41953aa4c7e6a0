"""Signals: handlers run where they ran, and leave the program as it was."""

import collections
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from debugger import descendants

from harness import HANG, as_shell, run


@pytest.mark.parametrize(
    "wait",
    ["cpu", "sleep", "selecting", "polling", "lock", "rlock", "event", "condition", "joining", "child", "reading"],
)
def test_interrupted_while(trial, wait):
    """A handler that returns, one that raises, and KeyboardInterrupt; the traceback says where."""
    recorded = trial.assert_replays(["signals.py", wait], programs=["signals.py"])
    assert b"from the handler" in recorded.stderr and b"KeyboardInterrupt" in recorded.stderr, recorded


@pytest.mark.parametrize(
    "part",
    [
        "ticking",
        "virtual_time",
        "nested",
        "raised_in_handler",
        "with_threads",
        "sent_by_threads",
        "called_from_c",
        "looked_for_by_c",
        "wakeup_fd",
        "handler_crosses",
        "over_in_handler",
        "fault_handler",
    ],
)
def test_part(trial, part):
    recorded = trial.assert_replays(["signals.py", part], programs=["signals.py"])
    assert recorded.stdout and not recorded.stderr, recorded


def test_what_follows_a_handler_at_the_same_check(trial):
    """The check of the eval breaker that called it goes on: with another signal's handler, then by giving the GIL up.

    Both are coincidences, which a busy machine may not have in a single run.
    """
    followed = collections.Counter()
    for _ in range(10):
        recorded = trial.assert_replays(["signals.py", "at_one_check"], programs=["signals.py"])
        events = [json.loads(line) for line in trial.tool("events", "--json", recorded.trace).stdout.splitlines()]
        places = []
        for event, after in itertools.pairwise(events):
            if event.get("type") == "signal":
                places.append(event["at"])
            elif event.get("type") == "signal end" and places.pop() in (after.get("at"), after.get("from")):
                followed[after["type"]] += 1
        if followed["signal"] and followed["switch"]:
            return
    raise AssertionError(followed)


def test_interrupt_main(trial):
    recorded = trial.assert_replays(["signals.py", "interrupt_main"], programs=["signals.py"])
    assert b"KeyboardInterrupt" in recorded.stderr, recorded


def test_a_handler_ends_the_program(trial):
    recorded = trial.assert_replays(["signals.py", "raises_to_the_end"], programs=["signals.py"], exit=1)
    assert b"in fail\n" in recorded.stderr and b"Alarm: ('from the handler', 0)" in recorded.stderr, recorded


def test_handlers_stay_the_program_s_own(trial):
    trial.assert_replays(["signals.py", "identity"], programs=["signals.py"], deterministic=True)


def test_dispositions_and_masks(trial):
    """SIG_IGN, SIG_DFL, siginterrupt, pthread_sigmask, sigwait and pause; SIGTERM ends it."""
    argv = ["signals.py", "dispositions"]
    recorded = trial.assert_replays(argv, programs=["signals.py"], deterministic=True, exit=-15)
    assert recorded.stdout.endswith(b"the end\n"), recorded


def test_keyboard_interrupt_ends_the_program(trial):
    argv = ["signals.py", "ended_by_interrupt"]
    recorded = trial.assert_replays(argv, programs=["signals.py"], deterministic=True, exit=-2)
    assert recorded.stderr.endswith(b"KeyboardInterrupt\n"), recorded


@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]], ids=["off", "on"])
def test_a_crash_is_the_program_s_own(trial, options):
    """faulthandler writes what it would, or nothing, and the signal ends the program."""
    trial.prepare("signals.py")
    argv = [*options, "signals.py", "crash"]
    plain = trial.plain(argv)
    recorded = trial.record(argv)
    assert (plain.exit, recorded.stdout, as_shell(recorded.exit)) == (-11, b"begins\n", 128 + 11), (plain, recorded)
    for result in (plain, recorded):
        assert (b"Fatal Python error: Segmentation fault" in result.stderr) == bool(options), result
        assert (b"in crash\n" in result.stderr) == bool(options), result
    replayed = trial.replay(recorded.trace)
    assert replayed.stdout == b"begins\n" and replayed.exit not in (0, 70), replayed


STARTED_IN_THE_BACKGROUND = """
import asyncio, signal
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
async def main():
    await asyncio.sleep(0.001)
    print(signal.getsignal(signal.SIGINT))
asyncio.run(main())
"""


def test_a_program_that_a_shell_starts_in_the_background(trial):
    """SIGINT is ignored: Python sets no handler, and asyncio takes none over."""
    trial.prepare()
    (trial.work / "program.py").write_text(STARTED_IN_THE_BACKGROUND)
    command, extra = trial.record_command(["program.py"], "cli", trial.trace)
    shell = ["sh", "-c", "trap '' INT TERM; exec \"$@\"", "sh"]
    recorded = run([*shell, *command], cwd=trial.work, env=trial.environment() | extra)
    recorded.trace = trial.trace
    assert recorded.stdout == b"1 1\n1\n", recorded
    trial.same(recorded, trial.replay(trial.trace), ("recorded", "replayed"))


SPINS = """
def spin():
    turn = 0
    while True:
        turn += 1


spin()
"""


def is_at_work(pid):
    """Whether a process has had a fifth of a second of a core: Python begins in less."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > 20


def test_an_interrupt_before_any_call(trial):
    """The signal is the first that happens: what the recording says of hooks stands right before it."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(SPINS)
    command, extra = trial.record_command(["program.py"], "cli", trial.trace)
    recording = subprocess.Popen(
        command,
        cwd=trial.work,
        env=trial.environment() | extra,
        stderr=subprocess.PIPE,
        # Ignored, where the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + HANG
        while not (busy := [pid for pid in (recording.pid, *descendants(recording.pid)) if is_at_work(pid)]):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(busy[0], signal.SIGINT)
        _, said = recording.communicate(timeout=HANG)
    finally:
        recording.kill()
    assert said.endswith(b"KeyboardInterrupt\n"), said
    replayed = trial.replay(trial.trace)
    assert as_shell(replayed.exit) == 130 and replayed.stderr == said, replayed
