"""Threads that a library makes for itself and that do I/O take turns with Python's, recorded and replayed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import compile_extension

HERE = Path(__file__).resolve().parent


def prepare(trial, extension, program):
    """Builds the extension, and puts the program into the trial's folder. Returns the environment that finds the former."""
    source = (HERE / f"{extension}.c").read_text()
    (trial.folder / "extension").mkdir()
    compile_extension(trial, trial.folder / "extension" / extension, source, "-O1", "-pthread")
    trial.prepare(inputs=False)
    shutil.copy(HERE / program, trial.work)
    return {"PYTHONPATH": str(trial.folder / "extension")}


@pytest.mark.parametrize("attempt", range(3))
def test_all_that_threads_share(trial, attempt):
    env = prepare(trial, "pool", "program.py")
    plain = trial.plain(["program.py"], env=env)
    recorded = trial.record(["program.py"], env=env)
    # What no schedule changes: the threads' results, and that each thread's own values are its own.
    for trial_run in (plain, recorded):
        first = trial_run.stdout.splitlines()[0]
        assert trial_run.exit == 0 and re.match(rb"stopped \(\[1000, 200[01], 3000, 400[01]\], 10,.* 100\)", first), trial_run
    listing = trial.tool("events", trial.trace).stdout
    assert listing.count(b"switch to thread") > 100, listing[-2000:]
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_states_that_threads_gave_back(trial):
    """A library's thread has a state for as long as it calls Python: afterwards nothing may read it."""
    env = prepare(trial, "pool", "freed_program.py")
    recorded = trial.record(["freed_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout.startswith(b"[1000, 200"), recorded
    listing = trial.tool("events", trial.trace).stdout
    assert listing.count(b"switch to thread") > 100, listing[-2000:]
    trial.same(recorded, trial.replay(recorded.trace, prefix=["env", "MALLOC_PERTURB_=165"]), ("recorded", "replayed"))


@pytest.mark.parametrize("attempt", range(3))
def test_python_threads_in_a_library(trial, attempt):
    """They race without the GIL at what is read without a lock, at what is done once and at locks of every kind."""
    env = prepare(trial, "shared", "shared_program.py")
    plain = trial.plain(["shared_program.py"], env=env)
    recorded = trial.record(["shared_program.py"], env=env)
    for trial_run in (plain, recorded):
        assert trial_run.exit == 0 and trial_run.stdout.startswith(b"served 48\n"), trial_run
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_threads_write_to_each_others_own_variables(trial):
    """A job's answer is put into a variable of the thread that waits for it, as a library's `thread_local!` latch is set."""
    env = prepare(trial, "latch", "latch_program.py")
    recorded = trial.record(["latch_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout.startswith(str([True] * 9).encode()), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_a_mutex_that_a_thread_without_turns_has(trial):
    """An allocator's own thread has it at other times on replay."""
    env = prepare(trial, "allocator", "allocator_program.py")
    recorded = trial.record(["allocator_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout.startswith(b"800 "), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize("attempt", range(2))
def test_a_library_that_ctypes_loads(trial, attempt):
    """Its thread calls Python, and Python's threads wait for one another in it, though it does no I/O."""
    trial.prepare(inputs=False)
    command = ["cc", "-shared", "-fPIC", "-O1", "-pthread", HERE / "loaded.c", "-o", trial.work / "loaded.so"]
    subprocess.run(command, check=True)
    shutil.copy(HERE / "loaded_program.py", trial.work)
    recorded = trial.record(["loaded_program.py"])
    assert recorded.exit == 0 and recorded.stdout.startswith(b"called 60 in 3 threads\n"), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_a_library_that_computes_is_waited_for(trial):
    """For as long as it takes to make a key of a password."""
    env = prepare(trial, "shared", "computing_program.py")
    recorded = trial.record(["computing_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout == b"computed\n" and not recorded.stderr, recorded


def test_gives_the_gil_up_when_it_was_asked_for(trial):
    """Who keeps the turn doesn't wait for the one who gets the GIL, and who then waits for the turn."""
    env = prepare(trial, "pool", "late_program.py")
    recorded = trial.record(["late_program.py"], env=env)
    assert recorded.exit == 0 and not recorded.stderr, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_who_only_computes_lets_others_go_on(trial):
    """Without the GIL, and for as long as another thread has not done something that needs the turn."""
    env = prepare(trial, "busy", "busy_program.py")
    plain = trial.plain(["busy_program.py"], env=env)
    recorded = trial.record(["busy_program.py"], env=env)
    assert plain.exit == 0, plain
    trial.same(plain, recorded, ("plain", "recorded"))
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    listing = trial.tool("events", recorded.trace).stdout.decode()
    assert "the turn was taken away" in listing, listing[-2000:]


def test_a_thread_that_lets_nobody_go_on_ends_the_recording(trial):
    env = prepare(trial, "stuck", "stuck_program.py")
    recorded = trial.record(["stuck_program.py"], env=env)
    assert recorded.exit == 0 and recorded.stdout.endswith(b"went on\n"), recorded
    assert b"recording ended: a thread of a library's" in recorded.stderr, recorded
    assert "went on without letting others" in trial.tool("info", recorded.trace).stdout.decode()
    replayed = trial.replay(recorded.trace)
    assert b"the recording ends here" in replayed.stderr and b"left the recording" not in replayed.stderr, replayed


def test_each_thread_blocks_signals_of_its_own(trial):
    env = prepare(trial, "masks", "masks_program.py")
    plain = trial.plain(["masks_program.py"], env=env)
    recorded = trial.record(["masks_program.py"], env=env)
    trial.same(plain, recorded, ("plain", "recorded"))
    # The main thread's, after and before: one. A thread's: its maker's, all, all but one, and those again.
    first = plain.stdout.splitlines()[0]
    assert first == b"1 3 [(1, 29, 28, 28), (1, 29, 28, 28), (1, 29, 28, 28)]", plain
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_what_a_module_does_when_it_is_loaded(trial):
    """It comes before the module's own event, in both directions."""
    folder = trial.folder / "extension"
    folder.mkdir()
    built = compile_extension(trial, folder / "first", (HERE / "first.c").read_text(), "-O1", "-pthread")
    linked = ["-Wl,--no-as-needed", f"-L{folder}", f"-l:{built.name}", "-Wl,-rpath,$ORIGIN"]
    compile_extension(trial, folder / "second", (HERE / "second.c").read_text(), "-O1", *linked)
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text("import first\nimport second\nimport time\nprint(first.counts(), time.time())\n")
    recorded = trial.record(["program.py"], env={"PYTHONPATH": str(folder)})
    assert recorded.exit == 0 and recorded.stdout.startswith(b"(1, 1) "), recorded
    listing = trial.tool("events", trial.trace).stdout
    assert 0 < listing.index(b"pthread_once") < listing.index(b"module second"), listing[-2000:]
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
