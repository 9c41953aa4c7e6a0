"""Four ways to record, four kinds of programs; the program's streams, exit code and signals are its own."""

import os
import shutil
import signal
import subprocess

import pytest

from harness import PROGRAMS, RETRACE, run

WAYS = ["cli", "env", "xopt", "preload"]

SOURCE = """\
import sys, time, random
print(__name__, sys.argv, sys.orig_argv[-2:], sys.stdin.read(3) if len(sys.argv) > 2 else None)
print(time.time(), random.random(), globals().get("__file__"), __spec__ and __spec__.name)
print("to stderr", time.monotonic(), file=sys.stderr)
def f(x):
    return [].pop(x)
f(3)
"""


@pytest.fixture
def ready(trial, installed):
    """The trial on an environment where `python -m retrace install` was run."""
    return trial.use(installed)


def recorded_and_replayed(trial, how, argv, exit, stdin=b""):
    recorded = trial.record(argv, how=how, stdin=stdin)
    if recorded.exit != exit:
        trial.fail(f"should have ended with {exit}", recorded)
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    return recorded


@pytest.mark.parametrize("how", WAYS)
def test_script(ready, how):
    ready.prepare()
    (ready.work / "program.py").write_text(SOURCE)
    recorded = recorded_and_replayed(ready, how, ["program.py", "one", "two"], 1, b"abcdef")
    assert b"program.py', 'one', 'two'] ['one', 'two'] abc" in recorded.stdout
    assert b"return [].pop(x)" in recorded.stderr


@pytest.mark.parametrize("how", WAYS)
def test_module(ready, how):
    ready.prepare("shop")
    recorded = recorded_and_replayed(ready, how, ["-m", "shop", "x"], 2)
    assert recorded.stdout.startswith(b"__main__ shop shop.__main__ ")


@pytest.mark.parametrize("how", WAYS)
def test_command(ready, how):
    ready.prepare()
    recorded = recorded_and_replayed(ready, how, ["-c", SOURCE, "one"], 1)
    assert recorded.stdout.startswith(b"__main__ ['-c', 'one']")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("argv", [[], ["-", "one"]], ids=["bare", "dash"])
def test_program_on_stdin(ready, how, argv):
    ready.prepare()
    recorded = recorded_and_replayed(ready, how, argv, 1, SOURCE.encode())
    assert recorded.stdout.startswith(b"__main__ [''" if not argv else b"__main__ ['-', 'one']")


@pytest.mark.parametrize("how", WAYS)
def test_options_of_the_interpreter(ready, how):
    """Flags are the recorded program's in the replay too."""
    ready.prepare()
    program = "import sys, time; print(sys.flags, sys.warnoptions, __debug__, time.time()); assert False"
    argv = ["-O", "-B", "-W", "error::UserWarning", "-X", "utf8", "-u", "-c", program]
    recorded_and_replayed(ready, how, argv, 0)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_are_the_programs_own(ready, how, number):
    ready.prepare("killed_by_signal.py")
    assert ready.record(["killed_by_signal.py", number.name], how=how).exit == -number


@pytest.mark.parametrize("how", WAYS)
def test_a_signal_from_outside_reaches_the_program(ready, how):
    """The process that the shell started is the program: no parent stands between."""
    ready.prepare()
    (ready.work / "program.py").write_text(
        "import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()\n",
    )
    command, extra = ready.record_command(["program.py"], how, ready.trace)
    env = ready.environment() | extra
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ready.work, env=env, **pipes) as program:
        pid = int(program.stdout.readline())
        os.kill(pid, signal.SIGTERM)
        _, errors = program.communicate()
    assert (pid, program.returncode, errors) == (program.pid, -signal.SIGTERM, b"")


def test_what_the_program_can_see_is_the_same_with_the_package(ready):
    """Recorded by option: nothing of the package is left in sys.modules, sys.path or the importer's caches."""
    program = (
        "import sys; print(sorted(m for m in sys.modules), sys.path, sorted(sys.path_importer_cache), sys.meta_path,"
        " len(sys.path_hooks), sorted(vars(sys)), sorted(vars(__import__('builtins'))), sorted(globals()))"
    )
    ready.prepare()
    plain = ready.plain(["-X", "retrace_not=x", "-c", program])
    recorded = ready.record(["-c", program], how="xopt")
    ready.same(plain, recorded, ("plain", "recorded"))


def test_both_ways_at_once_record_once(ready, tmp_path):
    """`retrace record` in an environment that is also activated: one recorder, and the command line's file."""
    ready.prepare("shop")
    other = tmp_path / "other.retrace"
    recorded = ready.record(["-m", "shop"], env={"RETRACE_RECORDING": str(other)})
    assert recorded.exit == 1, recorded
    assert not other.exists()
    shutil.rmtree(ready.work)
    ready.same(recorded, ready.replay(recorded.trace), ("recorded", "replayed"))


def test_option_without_a_file(ready):
    ready.prepare()
    result = ready.plain(["-X", "retrace", "-c", "print('ran')"])
    assert (result.stdout, result.exit) == (b"ran\n", 0)
    assert result.stderr == b"retrace: -X retrace needs a file name: -X retrace=FILE; the program runs unrecorded\n"


def test_record_passes_arguments_untouched(trial):
    trial.prepare()
    argv = ["-c", "import sys; print(sys.argv[1:])", "--", "-o", "x", "", "a b", "*", "--help"]
    recorded = trial.assert_replays(argv)
    assert recorded.stdout == b"['--', '-o', 'x', '', 'a b', '*', '--help']\n"


def test_record_finds_the_interpreter_on_path(trial, tmp_path):
    trial.prepare()
    links = tmp_path / "bin"
    links.mkdir()
    (links / "python-by-name").symlink_to(trial.python)
    env = trial.environment()
    env["PATH"] = f"{links}:{env['PATH']}"
    command = [RETRACE, "record", "-o", trial.trace, "--", "python-by-name", "-c", "print(1)"]
    result = run(command, cwd=trial.work, env=env)
    assert (result.stdout, result.stderr, result.exit) == (b"1\n", b"", 0)
    assert trial.replay(trial.trace).stdout == b"1\n"


def test_record_reports_a_program_that_does_not_exist(trial):
    trial.prepare()
    result = trial.tool("record", "-o", trial.trace, "--", "no-such-interpreter", "x.py")
    assert result.exit in (2, 127), result
    assert b"no-such-interpreter" in result.stderr
    assert not trial.trace.exists()


def test_through_a_shell(trial):
    """The program may be a shell script that starts Python at some point."""
    trial.prepare("shop")
    script = trial.work / "start.sh"
    script.write_text(f'#!/bin/sh\nexec {trial.python} -m shop "$@"\n')
    script.chmod(0o755)
    command = [RETRACE, "record", "-o", trial.trace, "--", script, "x"]
    recorded = run(command, cwd=trial.work, env=trial.environment())
    recorded.trace = trial.trace
    assert recorded.exit == 2, recorded
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(trial.trace), ("recorded", "replayed"))


def test_programs_folder_needs_no_byte_code(trial):
    """Byte code that was cached before, or is missing, makes no difference to the replay."""
    trial.prepare("importing.py", "shop")
    trial.plain(["-m", "shop"])
    assert any((trial.work / "shop").glob("__pycache__/*.pyc"))
    recorded = trial.record(["-m", "shop"])
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    assert os.path.isdir(PROGRAMS / "shop")
