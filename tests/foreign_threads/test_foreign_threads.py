"""Threads that a C extension makes and that call Python are recorded as callbacks, and replayed without the extension's
code."""

import shutil
import sys
from pathlib import Path

import pytest
from harness import compile_extension

HERE = Path(__file__).resolve().parent


@pytest.fixture
def extension(trial, tmp_path):
    """A folder with the built extension."""
    folder = tmp_path / "extension"
    folder.mkdir()
    flags = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    compile_extension(trial, folder / "foreign", (HERE / "foreign.c").read_text(), "-O1", "-pthread", *flags)
    return folder


def record(trial, extension, program):
    trial.prepare(inputs=False)
    shutil.copy(HERE / program, trial.work)
    shutil.copy(HERE / "foreign.toml", trial.work)
    env = {"PYTHONPATH": str(extension), "RETRACE_BOUNDARY": str(trial.work / "foreign.toml")}
    recorded = trial.record([program], env=env)
    assert recorded.exit == 0 and b"joined 3" in recorded.stdout, recorded
    return recorded


def test_callbacks_on_foreign_threads(trial, extension):
    recorded = record(trial, extension, "program.py")
    assert recorded.stdout.count(b"raises") == 3, recorded
    listing = trial.tool("events", trial.trace).stdout
    assert listing.count(b"callback") >= 90, listing[-2000:]
    # The boundary is in the trace; the extension is loaded, and its functions are never called.
    shutil.rmtree(trial.work)
    replayed = trial.replay(recorded.trace)
    trial.same(recorded, replayed, ("recorded", "replayed"))


def test_they_come_to_python_while_it_makes_a_thread(trial, extension):
    recorded = record(trial, extension, "waiting.py")
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_made_by_cpythons_own_function(trial):
    """C code waits for the thread's beginning with the GIL: replay has it begin there."""
    trial.prepare(inputs=False)
    shutil.copy(HERE / "made_program.py", trial.work)
    compile_extension(trial, trial.work / "made", (HERE / "made.c").read_text(), "-O1", "-pthread")
    recorded = trial.record(["made_program.py"])
    assert recorded.exit == 0 and recorded.stdout.count(b"called") == 12, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
