"""The wheel that maturin builds, in a fresh environment: install, record both ways, replay, uninstall."""

import subprocess
import zipfile

import pytest

from harness import make_venv, run

PROGRAM = "import time, random; print(time.time(), random.random()); raise SystemExit(3)"


@pytest.fixture
def fresh(trial, wheel, tmp_path):
    """The trial on an environment of its own with the wheel in it, not activated yet."""
    trial.use(make_venv(trial.interpreter, tmp_path / "fresh", (str(wheel),)))
    trial.prepare()
    return trial


def module(trial, *arguments):
    return trial.plain(["-m", "retrace", *arguments])


def site_packages(trial):
    return next((trial.python.parent.parent / "lib").glob("python3*/site-packages"))


def test_contents(wheel, interpreter):
    major, minor = interpreter.minor
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {item.filename: item.external_attr >> 16 & 0o777 for item in archive.infolist()}
        assert archive.testzip() is None
    assert f"cp{major}{minor}-cp{major}{minor}-" in wheel.name
    package = {name for name in names if name.startswith("retrace/")}
    assert package == {
        "retrace/__init__.py",
        "retrace/__main__.py",
        "retrace/_external.py",
        "retrace/_start.py",
        f"retrace/lib/libretrace-{major}.{minor}.so",
        "retrace/lib/libretrace-preload.so",
        "retrace/lib/retrace",
    }
    assert modes["retrace/lib/retrace"] & 0o111 == 0o111
    assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.parametrize("how", ["env", "xopt"])
def test_install_record_replay_uninstall(fresh, how):
    done = module(fresh, "install")
    assert done.exit == 0, done
    recorded = fresh.record(["-c", PROGRAM], how=how)
    assert (recorded.exit, recorded.stderr) == (3, b""), recorded

    # The replay by the environment's own command line, with the trace as the only input.
    env = fresh.environment()
    replayed = run([fresh.python, "-m", "retrace", "replay", fresh.trace], cwd=fresh.folder, env=env)
    fresh.same(recorded, replayed, ("recorded", "replayed"))
    script = run([fresh.python.parent / "retrace", "info", fresh.trace], cwd=fresh.folder, env=env)
    assert script.exit == 0, script

    done = module(fresh, "uninstall")
    assert done.exit == 0, done
    fresh.trace.unlink()
    for argv, extra in (
        (["-X", f"retrace={fresh.trace}", "-c", "print(1)"], {}),
        (["-c", "print(1)"], {"RETRACE_RECORDING": str(fresh.trace)}),
    ):
        plain = fresh.plain(argv, env=extra)
        assert (plain.stdout, plain.stderr, plain.exit) == (b"1\n", b"", 0)
    assert not fresh.trace.exists()


def test_record_without_install(fresh):
    """`retrace record` needs nothing in the environment but the package's own files."""
    command = [fresh.python, "-m", "retrace", "record", "-o", fresh.trace, "--", fresh.python, "-c", PROGRAM]
    recorded = run(command, cwd=fresh.work, env=fresh.environment())
    recorded.trace = fresh.trace
    assert recorded.exit == 3, recorded
    fresh.same(recorded, fresh.replay(fresh.trace), ("recorded", "replayed"))


def test_uninstall_leaves_what_was_there(fresh):
    before = sorted(p.name for p in site_packages(fresh).iterdir() if p.name != "__pycache__")
    assert module(fresh, "install").exit == 0
    assert module(fresh, "install").exit == 0, "twice is fine"
    assert module(fresh, "uninstall").exit == 0
    assert sorted(p.name for p in site_packages(fresh).iterdir() if p.name != "__pycache__") == before
    again = module(fresh, "uninstall")
    assert again.exit == 0 and b"nothing to do" in again.stdout


def test_install_where_nothing_can_be_written(fresh):
    """A folder in the file's place: the reason on stderr, exit code 1, nothing changed."""
    (site_packages(fresh) / "00-retrace.pth").mkdir()
    done = module(fresh, "install")
    assert done.exit == 1 and b"cannot write" in done.stderr, done
    assert b"Traceback" not in done.stderr


def test_activated_but_not_recording_changes_nothing(fresh):
    """Neither set: the same modules in the same order, and one file more opened, the .pth itself."""

    def started():
        imports = fresh.plain(["-X", "importtime", "-c", "pass"]).stderr.decode().splitlines()
        log = fresh.folder / "opened"
        command = ["strace", "-f", "-qq", "-e", "trace=openat", "-o", log, fresh.python, "-c", "pass"]
        assert run(command, cwd=fresh.work, env=fresh.environment()).exit == 0
        opened = [
            line.split('"')[1] for line in log.read_text().splitlines() if "AT_FDCWD" in line and "= -1" not in line
        ]
        return [line.rsplit("|")[-1] for line in imports], [name for name in opened if not name.startswith("/proc")]

    started()  # the first start writes byte code
    modules, opened = started()
    assert module(fresh, "install").exit == 0
    modules_after, opened_after = started()
    assert modules_after == modules
    # (site reads the .pth files of a virtual environment twice)
    assert set(opened_after) - set(opened) == {str(site_packages(fresh) / "00-retrace.pth")}


def test_a_package_of_that_name_does_not_get_in_the_way(fresh):
    """The program's own module `retrace` is the program's."""
    assert module(fresh, "install").exit == 0
    (fresh.work / "retrace.py").write_text("NAME = 'mine'")
    (fresh.work / "program.py").write_text("import retrace, time\nprint(retrace.NAME, time.time())\n")
    recorded = fresh.record(["program.py"], how="xopt")
    assert recorded.stdout.startswith(b"mine "), recorded
    fresh.same(recorded, fresh.replay(fresh.trace), ("recorded", "replayed"))


def test_commands_go_to_the_command_line(fresh):
    done = module(fresh, "--help")
    assert done.exit == 0 and b"replay" in done.stdout, done
    assert module(fresh).exit == 2
    version = subprocess.run([fresh.python.parent / "retrace", "--version"], capture_output=True, check=True)
    assert version.stdout.startswith(b"retrace 0.1.0")
