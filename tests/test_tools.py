"""Programs people run every day, as modules: json.tool, pip, pytest."""

import json
import shutil

import pytest

from harness import DIVERGED


def test_json_tool(trial):
    document = b'{"b": [1, 2.5, null, "\\u00e9"], "a": {"nested": true}}'
    trial.assert_replays(["-m", "json.tool", "--sort-keys"], deterministic=True, stdin=document)


def test_json_tool_on_files(trial):
    trial.prepare()
    (trial.work / "in.json").write_text('{"a": [1, 2]}')
    recorded = trial.record(["-m", "json.tool", "in.json", "out.json"])
    assert (trial.work / "out.json").read_text().startswith('{\n    "a"')
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    assert not trial.work.exists()


def test_json_tool_error(trial):
    recorded = trial.assert_replays(["-m", "json.tool"], deterministic=True, stdin=b"{prose}", exit=1)
    assert b"Expecting property name enclosed in double quotes" in recorded.stderr


def test_pip_version(trial, venv):
    python = venv("pip")
    recorded = trial.use(python).assert_replays(["-m", "pip", "--version"], deterministic=True)
    assert recorded.stdout.startswith(b"pip ")


def test_pip_list(trial, venv):
    trial.use(venv("pip")).assert_replays(["-m", "pip", "list", "--disable-pip-version-check"], deterministic=True)


def test_pytest_with_a_failing_test(trial, venv):
    trial.use(venv("pytest"))
    argv = ["-m", "pytest", "-p", "no:cacheprovider", "suite", "-v"]
    recorded = trial.assert_replays(argv, programs=["suite"], exit=1)
    assert b"1 failed, 4 passed" in recorded.stdout, recorded


def test_pytest_with_its_cache(trial, venv):
    recorded = trial.use(venv("pytest")).assert_replays(["-m", "pytest", "suite"], programs=["suite"], exit=1)
    assert b"captured the time" in recorded.stdout, recorded


@pytest.mark.stacks
@pytest.mark.parametrize("command", ["pytest -n 2 -v suite", "pytest suite", "coverage run --branch -m pytest suite"])
def test_pytest_with_plugins(trial, venv, command):
    """In processes of xdist's, in an order that is drawn, and traced; every process of it replays."""
    trial.use(venv("pytest", "pytest-xdist", "pytest-randomly", "coverage"))
    recorded = trial.assert_replays(["-m", *command.split()], programs=["suite"], exit=1)
    for process in range(1, len(json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"])):
        replayed = trial.replay(recorded.trace, "--process", str(process))
        assert replayed.exit != DIVERGED, replayed


def test_unittest(trial):
    recorded = trial.assert_replays(["-m", "unittest", "-v", "suite.plain_cases"], programs=["suite"], exit=1)
    assert b"FAILED (failures=1)" in recorded.stderr


def test_timeit(trial):
    trial.assert_replays(["-m", "timeit", "-n", "100", "-r", "3", "sum(range(100))"])


def test_zipapp_folder(trial):
    """A folder with __main__.py is a program too."""
    trial.assert_replays(["shop_folder"], programs=["shop_folder"])
