"""The debugger driven by the client that VS Code's authors test debug adapters with, from npm."""

import json
import subprocess

import pytest
from debugger import assert_gone, descendants
from harness import HANG, RETRACE, TESTS
from npm import installed_for

SCRIPTS = TESTS / "dap_kit"
PROGRAM = "debugged_crash.py"


@pytest.fixture(scope="session")
def packages(node):
    return installed_for(SCRIPTS, node)


@pytest.fixture
def command(trial, node, packages):
    """command(script): runs a script of the kit with the recording of a program that crashes."""
    trial.prepare(PROGRAM, inputs=False)
    program = trial.work / PROGRAM
    recorded = trial.record([program])
    assert recorded.exit == 1, recorded
    given = {
        "packages": str(packages),
        "retrace": str(RETRACE),
        "recording": str(recorded.trace),
        "program": str(program),
        "lines": {name: line_of(program, text) for name, text in LINES.items()},
    }
    return lambda script: [node.program, SCRIPTS / script, json.dumps(given)]


LINES = {"text": 'text = "dividing"', "add": "total += i * 2", "loop": "for i in range(n)"}


def line_of(program, text):
    (number,) = [i for i, line in enumerate(program.read_text().splitlines(), 1) if text in line]
    return number


def test_a_session(command):
    done = subprocess.run(command("session.mjs"), capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_a_client_that_vanishes_mid_request_leaves_nothing(command):
    client = subprocess.Popen(command("vanish.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with client:
        assert client.stdout.readline() == "at the crash\n"
        processes = descendants(client.pid)
        assert len(processes) > 1
        client.communicate("go\n", timeout=HANG)
    assert client.returncode < 0
    assert_gone(processes)
