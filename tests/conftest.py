"""Fixtures: one trial per test and interpreter, environments with packages, the wheel."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import compatibility
import postgresql
from harness import ROOT, VENVS, Interpreter, Trial, interpreters, make_venv, shared_venv
from harness import is_of_this_run, locked, set_of_this_run
from npm import install_node
from wheels import wheel_for


def pytest_addoption(parser):
    parser.addoption(
        "--write-compatibility", action="store_true", help="put the results into the table of docs/compatibility.md"
    )


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        # A socket's path may have 107 characters, of which multiprocessing's own part takes many.
        base = Path(config.option.basetemp)
        config.option.basetemp = base.with_name(base.name.replace("popen-gw", "w"))
    if config.getoption("--write-compatibility"):
        config.pluginmanager.register(compatibility.Results())


def pytest_generate_tests(metafunc):
    chosen = any("interpreter" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "interpreter" in metafunc.fixturenames and not chosen:
        found = interpreters()
        metafunc.parametrize("interpreter", found, ids=[i.name for i in found], scope="session")


@pytest.fixture
def trial(interpreter: Interpreter, tmp_path, request) -> Trial:
    """Where the test's program runs, is recorded and is replayed."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.nodeid.split("::", 1)[-1]).strip("-")
    return Trial(interpreter, tmp_path, name)


@pytest.fixture
def venv(interpreter: Interpreter):
    """venv("requests", …): the python of an environment that has these packages."""
    return lambda *requirements: shared_venv(interpreter, requirements)


@pytest.fixture(scope="session")
def wheel(interpreter: Interpreter):
    """The wheel for this interpreter, built by maturin once per Python version."""
    return wheel_for(interpreter)


@pytest.fixture(scope="session")
def installed(interpreter: Interpreter, wheel):
    """An environment with the wheel installed and activated: `python -m retrace install` was run in it."""
    folder = VENVS / f"activated-{interpreter.name}"
    with locked(folder):
        if not is_of_this_run(folder):
            python = make_venv(interpreter, folder, (str(wheel),))
            subprocess.run([python, "-m", "retrace", "install"], check=True, cwd=ROOT / "target", stdout=sys.stderr)
            set_of_this_run(folder)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def node():
    return install_node()


@pytest.fixture(scope="session")
def postgresql_server():
    """A PostgreSQL server of this run's own. Its user must reach its folder: pytest's own are for their owner only."""
    with tempfile.TemporaryDirectory(prefix="retrace-postgresql-", ignore_cleanup_errors=True) as folder:
        server = postgresql.Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def database(postgresql_server):
    """The server, running at the test's beginning."""
    return postgresql_server.start()
