"""`retrace.external`: a call is one event, and its body is not run again."""

import json

import pytest

from harness import DIVERGED, ROOT

PROGRAM = "external_functions.py"
# As if the package were installed.
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "python")}

NO_VALUE = """
import retrace, threading

@retrace.external
def connect():
    return threading.Lock()

print("before", flush=True)
connect()
"""

CHECKS = """
import functools, retrace

def plain():
    pass

async def fetch():
    pass

async def stream():
    yield

def items():
    yield

assert retrace.external(plain) is plain
for refused in (fetch, stream, items, property(plain), int, len, functools.partial(plain), None):
    try:
        retrace.external(refused)
    except TypeError as error:
        print(error)
"""


def test_calls_return_what_they_returned(trial):
    """Methods of all kinds, errors with their tracebacks, callbacks, threads and children inside, several threads."""
    recorded = trial.assert_replays([PROGRAM], programs=[PROGRAM], env=ENVIRONMENT)
    listed = trial.tool("events", "--json", "--function", "__main__.*", recorded.trace).stdout.splitlines()
    calls = [json.loads(line) for line in listed]
    one, two, _ = [call.get("arguments") for call in calls if call["function"] == "__main__.ask"]
    assert one == ["one"] and two[:2] == ["two", 2], (one, two)
    assert [(given["name"], given["value"]) for given in two[2:]] == [("temperature", 0.1), ("top", 3)], two
    assert sum(call["function"] == "__main__.Model.complete" for call in calls) == 82
    assert b"inner()\n" in recorded.stdout, recorded


def test_what_can_be_no_value_is_named(trial):
    trial.prepare()
    (trial.work / "program.py").write_text(NO_VALUE)
    recorded = trial.record(["program.py"], env=ENVIRONMENT)
    assert (recorded.stdout, recorded.stderr, recorded.exit) == (b"before\n", b"", 0), recorded
    told = trial.tool("info", recorded.trace)
    assert b"1 of __main__.connect's results held a _thread.lock, which can't be stored" in told.stdout, told
    process = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"][0]
    found = [{"function": "__main__.connect", "type": "_thread.lock", "count": 1}]
    assert process["unstored"] == {"values": found, "callbacks": [], "given": []}, process["unstored"]
    replayed = trial.replay(recorded.trace)
    assert replayed.exit == DIVERGED and replayed.stdout == b"before\n", replayed
    assert b"__main__.connect() " in replayed.stderr and b"value of type _thread.lock" in replayed.stderr, replayed


@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_refused(trial, recorded):
    """At the decoration, in the same words; and unrecorded the function stays itself."""
    trial.prepare()
    checks = CHECKS.replace("assert retrace.external(plain) is plain", "") if recorded else CHECKS
    run = trial.record if recorded else trial.plain
    refused = run(["-c", checks], env=ENVIRONMENT)
    words = [
        b"an async function",
        b"an async generator",
        b"a generator",
        b"a property",
        b"the class int",
        b"written in C",
    ]
    lines = refused.stdout.splitlines()
    assert len(lines) == 8 and all(word in line for word, line in zip(words, lines)), refused
