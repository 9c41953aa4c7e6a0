"""Each program of tests/programs is recorded, loses its folder, inputs and servers, and replays byte for byte."""

import os
import subprocess
import sys
import zipfile

import pytest

from harness import TESTS

TEXT = b"Ada\nand Grace\nthird \xc3\xa9\nfourth\nstop here\n12345 buffered\nthe rest\nto the end"


@pytest.mark.parametrize(
    "program",
    [
        "clocks",
        "datetimes",
        "randomness",
        "sets_in_order",
        "types_in_sets",
        "files",
        "dev_stdout",
        "file_tools",
        "foreign_functions",
        "notified",
        "local_sockets",
        "sizes",
        "subprocesses",
        "finalizers",
        "atexit_time",
        "addresses",
        "rebound_names",
        "names_moved",
        "handlers_in_calls",
        "profiled",
    ],
)
def test_program(trial, program):
    trial.assert_replays([f"{program}.py"], programs=[f"{program}.py"])


def test_files_without_times_are_the_same_recorded(trial):
    trial.assert_replays(["files.py"], programs=["files.py"], deterministic=True)


def test_pure_python_is_the_same_recorded(trial):
    trial.assert_replays(["pure.py", "3000"], programs=["pure.py"], deterministic=True)


@pytest.mark.parametrize("program", ["path_objects", "given_to_c", "time_zones", "standard_streams", "pickles"])
def test_deterministic_program(trial, program):
    trial.assert_replays([f"{program}.py"], programs=[f"{program}.py"], deterministic=True)


def test_pickles_where_nothing_is_imported_before(trial):
    """Without `site`, the recorder is the first to import what pickle needs."""
    trial.assert_replays(["-S", "pickles.py"], programs=["pickles.py"], deterministic=True)


def test_classes_without_a_name(trial):
    trial.assert_replays(["local_classes.py"], programs=["local_classes.py"])


def test_maps_of_one_file(trial):
    recorded = trial.assert_replays(["maps_of_one_file.py"], programs=["maps_of_one_file.py"], deterministic=True)
    assert b"5368709127 b'the end'" in recorded.stdout, recorded


def test_locks_of_mapped_files(trial):
    """Of a file on a disk and of one in memory: to look into a file must not end the process's locks of it."""
    options = ["locks_of_mapped_files.py", ".", "/dev/shm"]
    recorded = trial.assert_replays(options, programs=["locks_of_mapped_files.py"], deterministic=True)
    said = b"locked 7 b'\\x00\\x00there\\x00\\x00' 0"
    assert recorded.stdout.split(b"\n") == [said, said, b""], recorded


def test_maps_by_c(trial):
    recorded = trial.assert_replays(["maps_by_c.py"], programs=["maps_by_c.py"])
    for line in (b"b'far away", b"not mapped: Bad file descriptor", b"b'through the map'"):
        assert line in recorded.stdout, recorded


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("device", "a map of 4096 bytes by C code: its contents were not recorded: it is not a file's"),
        ("large", "a map of 68157440 bytes by C code: its contents were not recorded: it is too large"),
    ],
)
def test_maps_by_c_that_are_not_recorded(trial, what, why):
    trial.prepare("maps_by_c.py")
    recorded = trial.record(["maps_by_c.py", what])
    assert recorded.exit == 0, recorded
    replayed = trial.replay(recorded.trace)
    assert replayed.exit == 70, replayed
    assert why in replayed.stderr.decode(), replayed


def test_standard_streams_that_are_files(trial):
    """A replay's streams are pipes here: what they can do is what they could."""
    work = trial.prepare("standard_streams.py")
    command, env = trial.record_command(["standard_streams.py"], "cli", trial.trace)
    written = work / "written"
    with open(written, "wb") as stdout:
        streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.STDOUT}
        subprocess.run(command, cwd=work, env=trial.environment() | env, check=True, **streams)
    assert written.read_bytes().startswith(b"seekable True True True\n")
    replayed = trial.replay(trial.trace)
    assert (replayed.stdout, replayed.stderr, replayed.exit) == (written.read_bytes(), b"", 0), replayed


@pytest.mark.parametrize("options", [[], ["-X", "perf"]], ids=["activated", "option"])
def test_stack_trampolines(trial, options):
    if trial.interpreter.minor < (3, 12):
        # Nothing to find, but to be asked for as before.
        recorded = trial.assert_replays([*options, "stack_trampoline.py"], programs=["stack_trampoline.py"])
        assert recorded.stdout == b"none\n"
        return
    argv = [*options, "stack_trampoline.py"]
    trial.assert_replays(argv, programs=["stack_trampoline.py"], deterministic=True)


def test_environment(trial):
    env = {"COLUMNS": "123", "RETRACE_TEST_TEXT": "é", "EMPTY": "", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu"}
    trial.assert_replays(["environment.py", "an argument", "--flag", ""], programs=["environment.py"], env=env)


def test_environment_with_bytes_that_are_no_text(trial):
    env = {"RETRACE_TEST_BYTES": b"\xff\xfe not utf-8"}
    trial.assert_replays(["environment.py", os.fsdecode(b"\xff argument")], programs=["environment.py"], env=env)


def test_time_zone(trial):
    trial.assert_replays(["datetimes.py"], programs=["datetimes.py"], env={"TZ": "America/St_Johns"})


def test_stdin_piped(trial):
    trial.assert_replays(["stdin_lines.py"], programs=["stdin_lines.py"], deterministic=True, stdin=TEXT)


def test_stdin_by_descriptor(trial):
    trial.assert_replays(["stdin_fd.py"], programs=["stdin_fd.py"], deterministic=True, stdin=TEXT * 1000)


def test_stdin_empty(trial):
    recorded = trial.assert_replays(["stdin_lines.py"], programs=["stdin_lines.py"], deterministic=True, exit=1)
    assert b"EOFError" in recorded.stderr


def test_callbacks(trial):
    recorded = trial.assert_replays(["callbacks.py"], programs=["callbacks.py"], exit=1)
    assert b"excepthook SystemError" in recorded.stdout


def test_what_children_print_themselves(trial):
    """A limit, documented in the README: what a child wrote to an inherited stream never crossed our boundary."""
    trial.prepare("child_output.py")
    recorded = trial.record(["child_output.py"])
    assert recorded.stdout.count(b"child: ") == 2 and recorded.stderr.count(b"child: ") == 1, recorded
    replayed = trial.replay(recorded.trace)
    for stream in ("stdout", "stderr"):
        lines = getattr(recorded, stream).splitlines(keepends=True)
        setattr(recorded, stream, b"".join(line for line in lines if not line.startswith(b"child: ")))
    trial.same(recorded, replayed, ("recorded, without the children's lines", "replayed"))


def test_an_unhandled_exception(trial):
    recorded = trial.assert_replays(["unhandled.py"], programs=["unhandled.py"], exit=1)
    assert b"\nOutOfStock: apples at " in recorded.stderr
    # The source line is in the traceback although the file is gone.
    assert b'find("apples")' in recorded.stderr


@pytest.mark.parametrize(("program", "code"), [("exit_five", 5), ("exit_text", 1), ("exit_now", 3)])
def test_exit(trial, program, code):
    trial.assert_replays([f"{program}.py"], programs=[f"{program}.py"], exit=code)


@pytest.mark.parametrize(("signal", "number"), [("SIGTERM", 15), ("SIGKILL", 9), ("SIGINT", 2), ("SIGABRT", 6)])
def test_killed_by_signal(trial, signal, number):
    argv = ["killed_by_signal.py", signal]
    trial.assert_replays(argv, programs=["killed_by_signal.py"], exit=-number)


def test_several_files_and_a_zip(trial, monkeypatch):
    prepare = trial.prepare

    def with_zip(*programs):
        prepare(*programs)
        with zipfile.ZipFile(trial.work / "bundle.zip", "w") as bundle:
            bundle.writestr("bundled.py", "import time\n\n\ndef hello():\n    return time.time_ns()\n")

    monkeypatch.setattr(trial, "prepare", with_zip)
    recorded = trial.assert_replays(["importing.py"], programs=["importing.py", "shop"], exit=1)
    assert b"LookupError: ('no price for', " in recorded.stderr
    assert b"random.getrandbits(40)" in recorded.stderr


def test_what_the_program_can_see_is_the_same_recorded(trial):
    """Types, names, signatures, pickles and error texts of callables at the boundary."""
    trial.assert_replays(["transparent.py"], programs=["transparent.py"], deterministic=True)


@pytest.fixture
def tls_server(tmp_path):
    """The address and the certificate of a running HTTPS server, and what stops it."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    openssl = ["openssl", *request.split(), "-keyout", key, "-out", certificate]
    subprocess.run(openssl, check=True, capture_output=True)
    command = [sys.executable, TESTS / "tls_server.py", certificate, key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:

        def stop():
            server.terminate()
            server.wait()
            certificate.unlink(missing_ok=True)

        yield f"https://localhost:{int(server.stdout.readline())}", certificate, stop
        stop()


def test_requests_over_tls(trial, venv, tls_server):
    url, certificate, stop = tls_server
    argv = ["tls_client.py", url, str(certificate)]
    trial.use(venv("requests")).assert_replays(argv, programs=["tls_client.py"], stop=stop)


@pytest.mark.parametrize("program", ["odd_arguments.py", "said_by_c.py", "kept_by_others.py", "stream_of_its_own.py"])
def test_what_the_programs_classes_and_c_do_to_each_other(trial, program):
    # An address differs from run to run.
    is_same = program != "said_by_c.py"
    recorded = trial.assert_replays([program], programs=[program], deterministic=is_same)
    assert recorded.exit == 0 and (is_same or recorded.stderr.count(b"ValueError: in the function") == 2), recorded


def test_what_ends_in_a_prompt_is_not_recorded(trial):
    """And says so; the program runs."""
    trial.prepare()
    (trial.work / "program.py").write_text("print(1)\n")
    command, more = trial.record_command(["-i", "program.py"], "cli", trial.trace)
    ran = subprocess.run(command, cwd=trial.work, env=trial.environment() | more, input=b"print(2)\n", capture_output=True)
    assert (ran.returncode, ran.stdout) == (0, b"1\n2\n"), ran
    assert b"an interactive session can't be recorded" in ran.stderr and not trial.trace.exists(), ran
