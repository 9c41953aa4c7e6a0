"""Threads that a library makes for itself and that do I/O take turns with Python's, recorded and replayed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def build(trial, tmp_path, name):
    """A folder with the built extension."""
    script = "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_config_var('EXT_SUFFIX'))"
    output = subprocess.run([trial.python, "-c", script], check=True, capture_output=True, text=True).stdout
    include, suffix = output.splitlines()
    folder = tmp_path / "extension"
    folder.mkdir()
    command = ["cc", "-O1", "-shared", "-fPIC", f"-I{include}", "-o", folder / f"{name}{suffix}"]
    subprocess.run([*command, HERE / f"{name}.c", "-lpthread"], check=True)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("attempt", range(3))
def test_all_that_threads_share(trial, tmp_path, attempt):
    env = build(trial, tmp_path, "pool")
    trial.prepare(inputs=False)
    shutil.copy(HERE / "program.py", trial.work)
    plain = trial.plain(["program.py"], env=env)
    recorded = trial.record(["program.py"], env=env)
    # What no schedule changes: the threads' results, and that each thread's own values are its own.
    for trial_run in (plain, recorded):
        first = trial_run.stdout.splitlines()[0]
        assert trial_run.exit == 0 and re.match(rb"stopped \(\[1000, 200[01], 3000, 400[01]\], 10,.* 100\)", first), trial_run
    listing = trial.tool("events", trial.trace).stdout
    assert listing.count(b"switch to thread") > 100, listing[-2000:]
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize("attempt", range(3))
def test_python_threads_in_a_library(trial, tmp_path, attempt):
    """They race without the GIL at what is read without a lock, at what is done once and at locks of every kind."""
    env = build(trial, tmp_path, "shared")
    trial.prepare(inputs=False)
    shutil.copy(HERE / "shared_program.py", trial.work)
    plain = trial.plain(["shared_program.py"], env=env)
    recorded = trial.record(["shared_program.py"], env=env)
    for trial_run in (plain, recorded):
        assert trial_run.exit == 0 and trial_run.stdout.startswith(b"served 48\n"), trial_run
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_a_library_that_computes_is_waited_for(trial, tmp_path):
    """For as long as it takes to make a key of a password."""
    env = build(trial, tmp_path, "shared")
    trial.prepare(inputs=False)
    shutil.copy(HERE / "computing_program.py", trial.work)
    recorded = trial.record(["computing_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout == b"computed\n" and not recorded.stderr, recorded


def test_gives_the_gil_up_when_it_was_asked_for(trial, tmp_path):
    """Who keeps the turn doesn't wait for the one who gets the GIL, and who then waits for the turn."""
    env = build(trial, tmp_path, "pool")
    trial.prepare(inputs=False)
    shutil.copy(HERE / "late_program.py", trial.work)
    recorded = trial.record(["late_program.py"], env=env)
    assert recorded.exit == 0 and not recorded.stderr, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize("how", ["spins", "waits"])
def test_a_thread_that_lets_nobody_go_on_ends_the_recording(trial, tmp_path, how):
    env = build(trial, tmp_path, "stuck")
    trial.prepare(inputs=False)
    shutil.copy(HERE / "stuck_program.py", trial.work)
    recorded = trial.record(["stuck_program.py", how], env=env)
    assert recorded.exit == 0 and recorded.stdout.endswith(b"went on\n"), recorded
    assert b"recording ended: a thread of a library's" in recorded.stderr, recorded
    assert "went on without letting others" in trial.tool("info", recorded.trace).stdout.decode()
    replayed = trial.replay(recorded.trace)
    assert b"the recording ends here" in replayed.stderr and b"left the recording" not in replayed.stderr, replayed
