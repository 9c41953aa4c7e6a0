"""Runs programs plain, recorded and replayed, and compares everything they let out.

A trial is one program on one interpreter, in a folder of its own that is gone before the replay begins. When a
comparison fails the trace is kept and the message ends with the command that replays it.
"""

import contextlib
import difflib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PROGRAMS = TESTS / "programs"
INPUTS = TESTS / "inputs"
DIST = ROOT / "target" / "dist"
VENVS = ROOT / "target" / "test-venvs"
KEPT = ROOT / "target" / "failed-traces"
RETRACE = DIST / "retrace"

DIVERGED = 70
BAD_INPUT = 2

# Against a hang only: no test compares a time with it. Under strace things are slow.
HANG = 120
HUNG = -1000


@dataclass(frozen=True)
class Interpreter:
    """A line of target/dist/pythons.txt, which `build` writes."""

    name: str
    version: str
    path: Path

    @property
    def minor(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


def interpreters() -> list[Interpreter]:
    """The interpreters that the library was built for: `name version path` a line."""
    listing = DIST / "pythons.txt"
    if not listing.exists():
        raise SystemExit(f"{listing} is missing: run ./build first")
    lines = (line.split(maxsplit=2) for line in listing.read_text().splitlines())
    return [Interpreter(name, version, Path(path)) for name, version, path in lines]


@dataclass
class Result:
    stdout: bytes
    stderr: bytes
    exit: int
    trace: Path | None = None
    command: list[str] = field(default_factory=list)

    def summary(self) -> str:
        command = f"$ {' '.join(self.command)}".encode(errors="backslashreplace").decode()
        return f"{command}\nexit {self.exit}"

    def __str__(self) -> str:
        return "\n".join(
            [
                self.summary(),
                f"stdout: {self.stdout.decode(errors='backslashreplace')[-2000:]}",
                f"stderr: {self.stderr.decode(errors='backslashreplace')[-2000:]}",
            ]
        )


def run(command, *, cwd, env, stdin=b"", timeout=HANG) -> Result:
    """Runs to the end, or for `timeout` seconds: a hang is a result too (exit HUNG), so that its trace is kept."""
    command = [str(part) for part in command]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # A process group of its own, so that what it started can be ended with it.
    with subprocess.Popen(command, cwd=cwd, env=env, process_group=0, **pipes) as program:
        try:
            out, errors = program.communicate(stdin, timeout)
            return Result(out, errors, program.returncode, command=command)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            out, errors = program.communicate()
            return Result(out, errors + b"\n(the tests: no end after %d seconds)" % timeout, HUNG, command=command)


def as_shell(code: int) -> int:
    """A process ended by signal n is -n to its parent and 128 + n to a shell."""
    return 128 - code if code < 0 else code


def clean_environment(home: Path, scratch: Path, **more: str) -> dict[str, str]:
    """What a program gets: nothing of the tester's own settings."""
    home.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    base = {"PATH": path, "HOME": str(home), "TMPDIR": str(scratch), "LANG": "C.UTF-8", "USER": "tester"}
    return base | more


def difference(what: str, one: bytes, other: bytes, labels: tuple[str, str]) -> str:
    """A short unified diff; empty when the two are equal byte for byte."""
    if one == other:
        return ""
    lines = [text.decode(errors="backslashreplace").splitlines(keepends=True) for text in (one, other)]
    diff = list(difflib.unified_diff(*lines, *labels, n=2))
    shown = "".join(line if line.endswith("\n") else line + "\n" for line in diff[:80])
    return f"{what} differs:\n{shown or repr((one[-300:], other[-300:]))}"


class Trial:
    """One interpreter, one test: where its program runs, is recorded, and is replayed."""

    def __init__(self, interpreter: Interpreter, folder: Path, name: str):
        self.interpreter = interpreter
        self.python = interpreter.path
        self.folder = folder
        self.name = name
        self.work = folder / "work"
        self.trace = folder / "trial.retrace"
        self.runs = 0

    def use(self, python: Path) -> "Trial":
        """Runs the program with this interpreter from now on: a virtual environment's."""
        self.python = python
        return self

    def prepare(self, *programs: str, inputs: bool = True) -> Path:
        """A fresh work folder with copies of the programs (files or folders of tests/programs) and of tests/inputs."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for program in programs:
            source = PROGRAMS / program
            if source.is_dir():
                shutil.copytree(source, self.work / program, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.work / program)
        if inputs:
            shutil.copytree(INPUTS, self.work / "inputs")
        return self.work

    def environment(self, **more: str) -> dict[str, str]:
        return clean_environment(self.folder / "home", self.work / "tmp", **more)

    def plain(self, argv, *, stdin=b"", env=None, timeout=HANG) -> Result:
        return run([self.python, *argv], cwd=self.work, env=self.environment(**env or {}), stdin=stdin, timeout=timeout)

    def record_command(self, argv, how: str, trace: Path) -> tuple[list, dict[str, str]]:
        """How the user would record: with the CLI (`cli`), by environment (`env`), by option (`xopt`) or by `preload`."""
        if how == "cli":
            return [RETRACE, "record", "-o", trace, "--", self.python, *argv], {}
        if how == "env":
            return [self.python, *argv], {"RETRACE_RECORDING": str(trace)}
        if how == "preload":
            library = DIST / "libretrace-preload.so"
            return [self.python, *argv], {"RETRACE_RECORDING": str(trace), "LD_PRELOAD": str(library)}
        assert how == "xopt", how
        return [self.python, "-X", f"retrace={trace}", *argv], {}

    def record(self, argv, *, stdin=b"", env=None, how="cli", trace=None, timeout=HANG) -> Result:
        trace = trace or self.trace
        trace.unlink(missing_ok=True)
        command, extra = self.record_command(argv, how, trace)
        result = run(command, cwd=self.work, env=self.environment(**env or {}) | extra, stdin=stdin, timeout=timeout)
        assert trace.exists(), f"nothing was recorded\n{result}"
        result.trace = trace
        return result

    def replay(self, trace: Path, *options, prefix=(), timeout=HANG) -> Result:
        """Replays in an empty folder, with another home and scratch, no input, and none of the recorded variables."""
        self.runs += 1
        empty = self.folder / f"replay-{self.runs}"
        empty.mkdir()
        env = clean_environment(self.folder / "replay-home", self.folder / "replay-scratch", USER="replayer")
        result = run([*prefix, RETRACE, "replay", *options, trace], cwd=empty, env=env, timeout=timeout)
        # How often a position was not found at once is said at the end; it is nothing that the program printed.
        result.stderr = re.sub(rb"retrace: \d+ recorded positions [^\n]*\n", b"", result.stderr)
        result.trace = trace
        left = sorted(str(p) for p in empty.rglob("*"))
        assert not left, f"the replay left {left}\n{result}"
        return result

    def tool(self, *arguments) -> Result:
        """`retrace info`, `events` and the like."""
        env = clean_environment(self.folder / "replay-home", self.folder / "replay-scratch")
        return run([RETRACE, *arguments], cwd=self.folder, env=env)

    def keep(self, trace: Path) -> str:
        """Keeps a failing test's trace and says how to replay it."""
        KEPT.mkdir(parents=True, exist_ok=True)
        kept = KEPT / f"{self.name}.retrace"
        shutil.copy(trace, kept)
        return f"\nThe trace is kept. Replay it:\n    {RETRACE.relative_to(ROOT)} replay {kept.relative_to(ROOT)}"

    def fail(self, message: str, *results: Result) -> None:
        trace = next((r.trace for r in results if r.trace and r.trace.exists()), None)
        raise AssertionError("\n\n".join([message, *map(str, results)]) + (self.keep(trace) if trace else ""))

    def same(self, one: Result, other: Result, labels: tuple[str, str]) -> None:
        """Fails unless stdout, stderr and the exit code are equal, byte for byte."""
        found = [
            difference("stdout", one.stdout, other.stdout, labels),
            difference("stderr", one.stderr, other.stderr, labels),
        ]
        if HUNG in (one.exit, other.exit) or as_shell(one.exit) != as_shell(other.exit):
            found.append(f"exit code differs: {labels[0]} {one.exit}, {labels[1]} {other.exit}")
        if any(found):
            # The diff says what came out; the whole of it would bury that.
            commands = "\n".join(result.summary() for result in (one, other))
            kept = next((r.trace for r in (other, one) if r.trace and r.trace.exists()), None)
            raise AssertionError("\n".join(filter(None, found)) + "\n" + commands + (self.keep(kept) if kept else ""))

    def assert_replays(
        self,
        argv,
        *,
        programs=(),
        deterministic=False,
        stdin=b"",
        env=None,
        exit=0,
        how="cli",
        stop=lambda: None,
    ) -> Result:
        """Records and replays alone; everything that came out must be equal.

        `programs` are copied from tests/programs. A `deterministic` program is run unrecorded first, and the
        recording must not differ from that either. `stop` ends what the program talked to; the work folder, with
        the program and its inputs, is removed before the replay.
        """
        if deterministic:
            self.prepare(*programs)
            plain = self.plain(argv, stdin=stdin, env=env)
        self.prepare(*programs)
        recorded = self.record(argv, stdin=stdin, env=env, how=how)
        if as_shell(recorded.exit) != as_shell(exit):
            self.fail(f"the recorded program should have ended with {exit}", recorded)
        if deterministic:
            self.same(plain, recorded, ("plain", "recorded"))
        stop()
        shutil.rmtree(self.work)
        replayed = self.replay(recorded.trace)
        self.same(recorded, replayed, ("recorded", "replayed"))
        if self.work.exists():
            self.fail(f"the replay made {self.work} again", recorded, replayed)
        return recorded


def requirements_key(interpreter: Interpreter, requirements: tuple[str, ...]) -> str:
    text = "\n".join([str(interpreter.path), interpreter.version, *sorted(requirements)])
    return f"{interpreter.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def make_venv(interpreter: Interpreter, folder: Path, requirements: tuple[str, ...] = ()) -> Path:
    """A virtual environment without pip of its own: the runner's pip installs into it. Returns its python."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RETRACE", "LD_PRELOAD"))}
    subprocess.run([interpreter.path, "-m", "venv", "--clear", "--without-pip", folder], check=True, env=env)
    python = folder / "bin" / "python"
    if requirements:
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements]
        subprocess.run(pip, check=True, env=env)
    return python


@contextlib.contextmanager
def locked(path: Path):
    """While it lasts, no other process makes what shall be at the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared_venv(interpreter: Interpreter, requirements: tuple[str, ...]) -> Path:
    """The environment of these requirements, made once and cached by interpreter and requirements."""
    folder = VENVS / requirements_key(interpreter, requirements)
    with locked(folder):
        complete = folder / "complete"
        if not complete.exists():
            make_venv(interpreter, folder, requirements)
            complete.touch()
    return folder / "bin" / "python"


def this_run() -> str:
    """Which run of the tests this is: it may have several workers."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


def is_of_this_run(folder: Path) -> bool:
    """Whether what is made anew in each run has been made, by any of its workers."""
    made = folder / "run"
    return made.exists() and made.read_text() == this_run()


def set_of_this_run(folder: Path):
    (folder / "run").write_text(this_run())


def compile_extension(trial: Trial, target: Path, source: str, *options: str, language: str = "c") -> Path:
    """Makes an extension module for the trial's interpreter; `target` is its path without the suffix."""
    ask = "import sysconfig; print(sysconfig.get_path('include')); print(sysconfig.get_config_var('EXT_SUFFIX'))"
    include, suffix = subprocess.check_output([trial.python, "-c", ask], text=True).split()
    target = target.with_name(target.name + suffix)
    compiler = {"c": "cc", "c++": "c++"}[language]
    command = [compiler, "-shared", "-fPIC", *options, "-I", include, "-x", language, "-", "-o", target]
    subprocess.run(command, input=source.encode(), check=True)
    return target


def record_extension(trial: Trial, name: str, source: str, program: str) -> Result:
    """The recording of a program that imports an extension module made here, from the folder that it knows as `WHERE`."""
    trial.prepare()
    compile_extension(trial, trial.folder / name, source)
    (trial.work / "program.py").write_text(program)
    recorded = trial.record(["program.py"], env={"WHERE": str(trial.folder)})
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    return recorded
