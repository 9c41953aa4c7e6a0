"""Wrong files, wrong interpreters, wrong paths: a message that says what and what to do, never a traceback or a crash."""

import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from debugger import Debugger, RequestFailed
from harness import BAD_INPUT, DIVERGED, RETRACE, compile_extension, make_venv, run
from trace_file import CLAIMED_AT, EXTENT_SIZE_AT, HEADER, PYTHON_AT, VERSION_AT, TraceBytes

COMMANDS = ["replay", "info", "events", "sources"]


@pytest.fixture
def recorded(trial):
    trial.prepare("counting.py")
    return trial.record(["counting.py", "20"])


def refused(trial, command, trace, *words):
    """Exit code 2, one message that names the file and says these words, nothing on stdout, nothing written."""
    before = trace.read_bytes() if trace.is_file() else None
    result = trial.replay(trace) if command == "replay" else trial.tool(command, trace)
    assert (result.exit, result.stdout) == (BAD_INPUT, b""), result
    message = result.stderr.decode()
    assert message.startswith("retrace: ") and str(trace) in message and message.count("\n") == 1, result
    for word in words:
        assert word in message, result
    assert (trace.read_bytes() if trace.is_file() else None) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"print('not a trace')\n", id="text"),
        pytest.param(b"\x7fELF" + bytes(5000), id="elf"),
        pytest.param(bytes(HEADER * 2), id="zeros"),
        pytest.param(b"RETRACE", id="half-a-magic"),
    ],
)
def test_not_a_trace(trial, command, contents):
    trace = trial.folder / "wrong.retrace"
    trace.write_bytes(contents)
    refused(trial, command, trace)


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_and_folder(trial, command):
    refused(trial, command, trial.folder / "missing.retrace", "No such file")
    folder = trial.folder / "folder.retrace"
    folder.mkdir()
    refused(trial, command, folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_cut_within_the_header(trial, recorded, command):
    trace = trial.folder / "short.retrace"
    trace.write_bytes(recorded.trace.read_bytes()[: HEADER // 2])
    refused(trial, command, trace, "cut short")


@pytest.mark.parametrize("command", ["replay", "events"])
def test_cut_behind_the_header(trial, recorded, command):
    trace = trial.folder / "short.retrace"
    trace.write_bytes(recorded.trace.read_bytes()[:HEADER])
    refused(trial, command, trace, "cut short")


def test_cut_within_the_first_extent(trial, recorded):
    """Less than what the extent says is committed."""
    trace = trial.folder / "short.retrace"
    trace.write_bytes(recorded.trace.read_bytes()[: HEADER + 200])
    refused(trial, "replay", trace)


@pytest.mark.parametrize("command", COMMANDS)
def test_newer_format(trial, recorded, command):
    trace = TraceBytes(recorded.trace)
    trace.u32(VERSION_AT, trace.u32(VERSION_AT) + 41)
    refused(trial, command, trace.write(trial.folder / "newer.retrace"), "format", str(trace.u32(VERSION_AT)))


def test_another_python_by_option(trial, recorded):
    """Replaying with another minor version is refused, by name."""
    wrong = next(i for i in other_pythons(trial))
    result = trial.replay(recorded.trace, "--python", wrong)
    assert (result.exit, result.stdout) == (BAD_INPUT, b""), result
    version = "{}.{}".format(*trial.interpreter.minor)
    assert version in result.stderr.decode() and str(wrong) in result.stderr.decode(), result
    with Debugger(recorded.trace, python=str(wrong)) as debugger:
        with pytest.raises(RequestFailed, match=f"{wrong} is not usable.*{version}"):
            debugger.launch()


def other_pythons(trial):
    """Interpreters of another minor version than the trial's."""
    for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3.*")) + [Path("/usr/bin/python3.11")]:
        version = "python{}.{}".format(*trial.interpreter.minor)
        if path.name.removeprefix("python3.").isdigit() and path.name != version and path.exists():
            yield path


def test_no_python_of_the_recorded_version(trial, recorded, monkeypatch):
    """The recorded interpreter is gone and there is no other of its version."""
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    # The start event's hexversion is what counts; both are made one that nobody has.
    trace.u32(PYTHON_AT, 3 << 8 | 99)
    major, minor = trial.interpreter.minor
    release = int(trial.interpreter.version.split(".")[2])
    old = struct.pack("<I", major << 24 | minor << 16 | release << 8 | 0xF0)
    assert old in trace.data
    trace.data = trace.data.replace(old, struct.pack("<I", 3 << 24 | 99 << 16 | 0xF0))
    refused(trial, "replay", trace.write(trial.folder / "other.retrace"), "3.99", "--python")
    with Debugger(trial.folder / "other.retrace") as debugger, pytest.raises(RequestFailed, match="3.99.*--python"):
        debugger.launch()


EXTENSION = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject *version(PyObject *self, PyObject *none) { return PyLong_FromLong(VERSION); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "spam", NULL, 0, methods};
PyMODINIT_FUNC PyInit_spam(void) { return PyModule_Create(&definition); }
"""


def test_another_version_of_an_extension(trial, tmp_path):
    """A C extension in the environment was replaced between the recording and the replay."""
    trial.use(make_venv(trial.interpreter, tmp_path / "venv"))
    site = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    trial.prepare()
    extension = compile_extension(trial, site / "spam", EXTENSION, "-DVERSION=1")
    recorded = trial.record(["-c", "import spam, time; print(spam.version(), time.time())"])
    assert recorded.stdout.startswith(b"1 "), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))

    compile_extension(trial, site / "spam", EXTENSION, "-DVERSION=2")
    result = trial.replay(recorded.trace)
    assert (result.exit, result.stdout) == (BAD_INPUT, b""), result
    assert "spam" in result.stderr.decode() and "Traceback" not in result.stderr.decode(), result
    assert_debugger_refuses(recorded.trace, "spam", "another version")

    extension.unlink()
    result = trial.replay(recorded.trace)
    assert (result.exit, result.stdout) == (BAD_INPUT, b""), result
    assert "spam" in result.stderr.decode(), result
    assert_debugger_refuses(recorded.trace, "spam", "is not here")


def assert_debugger_refuses(trace, *said):
    """The launch fails, and says why. From the beginning as far as the first movement, there is a session."""
    with Debugger(trace) as debugger:
        with pytest.raises(RequestFailed) as failed:
            debugger.request("launch", recording=str(trace), stopOn="crash")
        told = str(failed.value)
        assert "install the version that was recorded" in told and "--python" in told and "\n" not in told, told
        assert all(text in told for text in said), told
        # The same client may go on with another one, or see what there is.
        debugger.launch("entry")
        assert debugger.evaluate("1 + 1") == "2"
        debugger.go("continue")
        assert told in debugger.output("important")


@pytest.mark.parametrize("where", ["missing/x.retrace", "file/x.retrace", "folder", "/proc/x.retrace", "/dev/null/x"])
def test_output_that_cannot_be_written(trial, where):
    """One line on stderr; the program runs, unrecorded."""
    trial.prepare("exit_five.py")
    (trial.folder / "file").write_text("text")
    (trial.folder / "folder").mkdir()
    output = trial.folder / where
    command, extra = trial.record_command(["exit_five.py"], "cli", output)
    result = run(command, cwd=trial.work, env=trial.environment() | extra)
    assert result.exit == 5 and result.stdout.startswith(b"leaving at "), result
    assert result.stderr.count(b"\n") == 1 and result.stderr.startswith(b"retrace: "), result
    assert str(output) in result.stderr.decode(), result
    assert (trial.folder / "file").read_text() == "text"


@pytest.mark.parametrize("where", ["missing/x.retrace", "folder"])
@pytest.mark.parametrize("how", ["env", "xopt", "preload"])
def test_output_that_cannot_be_written_when_activated(trial, installed, where, how):
    trial.use(installed).prepare("exit_five.py")
    (trial.folder / "folder").mkdir()
    command, extra = trial.record_command(["exit_five.py"], how, trial.folder / where)
    result = run(command, cwd=trial.work, env=trial.environment() | extra)
    assert result.exit == 5 and result.stdout.startswith(b"leaving at "), result
    assert result.stderr.count(b"\n") == 1 and result.stderr.startswith(b"retrace: "), result


def unsupported_pythons():
    versions = Path.home() / ".pyenv" / "versions"
    found = [path for minor in ("3.8", "3.9", "3.10", "3.13") for path in versions.glob(f"{minor}.*/bin/python{minor}")]
    # Debian's debug build of a version that is supported.
    debug = [path for path in [Path("/usr/bin/python3.11d")] if path.exists()]
    return sorted(found) + debug


@pytest.mark.parametrize("python", unsupported_pythons(), ids=lambda path: path.name)
def test_unsupported_interpreter(python, tmp_path):
    """Refused by name, in one line; the program still runs, and nothing is written."""
    trace = tmp_path / "x.retrace"
    program = "import sys; print('ran', sys.argv[1]); sys.exit(4)"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    result = run([RETRACE, "record", "-o", trace, "--", python, "-c", program, "x"], cwd=tmp_path, env=env)
    assert (result.stdout, result.exit) == (b"ran x\n", 4), result
    version = "debug" if python.name.endswith("d") else python.name.removeprefix("python")
    assert result.stderr.count(b"\n") == 1 and result.stderr.startswith(b"retrace: "), result
    assert version in result.stderr.decode() and "unrecorded" in result.stderr.decode(), result
    assert not trace.exists()


def test_there_is_an_unsupported_interpreter_to_test_with():
    """Else the test above would test nothing."""
    assert unsupported_pythons(), "install Python 3.10 or 3.13 with pyenv"


def test_a_program_that_is_no_python(tmp_path):
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    result = run([RETRACE, "record", "-o", tmp_path / "x.retrace", "--", "echo", "hello"], cwd=tmp_path, env=env)
    assert (result.stdout, result.exit) == (b"hello\n", 0), result


@pytest.mark.parametrize(
    "arguments", [[], ["replay"], ["record"], ["no-such-command"], ["replay", "--no-such-option", "x"]]
)
def test_wrong_command_lines(tmp_path, arguments):
    result = run([RETRACE, *arguments], cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    assert result.exit == BAD_INPUT and result.stdout == b"" and b"Usage" in result.stderr, result


def hostile(trace: TraceBytes):
    """Changes a malicious or a broken disk could make, by name."""
    extents = list(trace.extents())
    events = next(e for e in extents if e.stream == 0)
    big = 0xFFFF_FFFF_FFFF_FFFF
    yield "no-extent-size", lambda: trace.u32(EXTENT_SIZE_AT, 0)
    yield "odd-extent-size", lambda: trace.u32(EXTENT_SIZE_AT, 4097)
    yield "huge-extent-size", lambda: trace.u32(EXTENT_SIZE_AT, 0xFFFF_F000)
    yield "huge-claim", lambda: trace.u64(CLAIMED_AT, big)
    yield "huge-processes", lambda: trace.u64(24, big)
    yield "huge-commit", lambda: trace.u64(events.offset + 16, big)
    yield "commit-past-the-extent", lambda: trace.u64(events.offset + 16, trace.u32(EXTENT_SIZE_AT))
    yield "another-stream", lambda: trace.u32(events.offset + 12, 7)
    yield "another-process", lambda: trace.u32(events.offset + 4, 0xFFFF_FFFF)
    yield "another-sequence", lambda: trace.u32(events.offset + 8, 5)
    yield "zeroed-events", lambda: zero(trace, events.offset + 64, events.committed)
    yield "long-varints", lambda: fill(trace, events.offset + 64, events.committed, 0xFF)


def zero(trace, offset, length):
    trace.data[offset : offset + length] = bytes(length)


def fill(trace, offset, length, byte):
    trace.data[offset : offset + length] = bytes([byte]) * length


HOSTILE = ["no-extent-size", "odd-extent-size", "huge-extent-size", "huge-claim", "huge-processes", "huge-commit"]
HOSTILE += ["commit-past-the-extent", "another-stream", "another-process", "another-sequence", "zeroed-events"]
HOSTILE += ["long-varints"]


def survives(trial, trace, *, allowed, commands=COMMANDS):
    """No command crashes, hangs, panics or eats the memory of the machine."""
    for command in commands:
        # 2 GiB of address space: a length from the file may not decide how much is allocated.
        limited = ["prlimit", f"--as={2 << 30}", RETRACE, command, trace]
        env = {"PATH": os.environ["PATH"], "HOME": str(trial.folder), "TMPDIR": str(trial.folder)}
        result = run(limited, cwd=trial.folder, env=env, timeout=60)
        result.trace = trace
        if result.exit not in allowed or b"panicked" in result.stderr or b"Fatal Python error" in result.stderr:
            trial.fail(f"`retrace {command}` did not take this well", result)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(trial, recorded, name):
    trace = TraceBytes(recorded.trace)
    trace.unseal()
    changes = dict(hostile(trace))
    assert list(changes) == HOSTILE
    changes[name]()
    survives(trial, trace.write(trial.folder / "hostile.retrace"), allowed=(0, BAD_INPUT, DIVERGED, 137))


def flipped(trial, recorded, *, sealed):
    """Traces with some bytes changed anywhere in what is committed, with the checksums in force or out of the way."""
    spots = [e.offset + 64 + n for e in TraceBytes(recorded.trace).extents() for n in range(e.committed)]
    chance = random.Random(3)
    for number in range(40):
        trace = TraceBytes(recorded.trace)
        if not sealed:
            trace.unseal()
        for spot in chance.sample(spots, 3):
            trace.data[spot] ^= 1 << chance.randrange(8)
        path = trace.write(trial.folder / f"flipped-{number}.retrace")
        yield path
        path.unlink()


def test_flipped_bytes(trial, recorded):
    """Nothing vouches for the contents: those who only read a trace read what makes sense, or refuse."""
    for path in flipped(trial, recorded, sealed=False):
        survives(trial, path, allowed=(0, BAD_INPUT), commands=["info", "events", "sources"])


def test_flipped_bytes_are_not_replayed(trial, recorded):
    """A recording that ended is sealed, and a replay of a damaged one does not begin."""
    for path in flipped(trial, recorded, sealed=True):
        refused(trial, "replay", path, "damaged")


def test_a_sealed_extent_with_a_flipped_byte_is_damaged(trial, recorded):
    """Where a checksum was written, it is checked."""
    trace = TraceBytes(recorded.trace)
    sealed = [e for e in trace.extents() if e.sealed and e.committed]
    assert sealed, "a recording that ended is sealed"
    trace.data[sealed[0].offset + 64 + sealed[0].committed // 2] ^= 0x40
    refused(trial, "replay", trace.write(trial.folder / "damaged.retrace"), "damaged")


def test_the_trace_is_not_changed_by_reading_it(trial, recorded):
    """A read-only trace in a read-only folder replays."""
    folder = trial.folder / "read-only"
    folder.mkdir()
    trace = folder / "x.retrace"
    shutil.copy(recorded.trace, trace)
    before = trace.read_bytes()
    trace.chmod(0o444)
    folder.chmod(0o555)
    trial.same(recorded, trial.replay(trace), ("recorded", "replayed"))
    for command in ("info", "events", "sources"):
        assert trial.tool(command, trace).exit == 0
    assert trace.read_bytes() == before
    assert [p.name for p in folder.iterdir()] == ["x.retrace"]
