"""`retrace info`, `events` and `doctor` say what is in a trace and what can be recorded."""

import json

import pytest

PROGRAM = """\
import os
import time

print(time.time(), os.getpid())
with open("inputs/poem.txt") as poem:
    poem.readline()
try:
    os.stat("nowhere")
except OSError:
    pass
time.sleep(0.001)
"""


@pytest.fixture
def recorded(trial):
    trial.prepare()
    (trial.work / "program.py").write_text(PROGRAM)
    return trial.record(["program.py", "argument"])


def test_info(trial, recorded):
    shown = trial.tool("info", recorded.trace)
    assert shown.exit == 0, shown
    text = shown.stdout.decode()
    for part in ("program.py argument", str(trial.interpreter.path), trial.interpreter.version, "process 0", "ended"):
        assert part in text, shown


def test_info_as_json(trial, recorded):
    shown = trial.tool("info", "--json", recorded.trace)
    assert shown.exit == 0, shown
    assert json.loads(shown.stdout)


def test_events(trial, recorded):
    shown = trial.tool("events", recorded.trace)
    assert shown.exit == 0, shown
    text = shown.stdout.decode()
    wanted = ["time.time", "getpid", "poem.txt", "nowhere", "FileNotFoundError", "time.sleep"]
    positions = [text.find(part) for part in wanted]
    assert -1 not in positions and positions == sorted(positions), shown


def test_sizes_of_events(trial, recorded):
    """Each event stands behind the one before, and the table has the sums of what the listing says."""
    shown = trial.tool("events", "--json", recorded.trace)
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert events[0]["position"] == 0
    for before, event in zip(events, events[1:]):
        assert before["position"] + before["size"] <= event["position"] and event["size"] >= 2, event
    table = trial.tool("events", "--sizes", "--json", recorded.trace)
    rows = {row["name"]: (row["events"], row["bytes"]) for row in map(json.loads, table.stdout.splitlines())}
    assert sum(count for count, _ in rows.values()) == len(events), table
    assert sum(size for _, size in rows.values()) == sum(event["size"] for event in events), table
    assert rows["time.sleep"][0] == 1 and rows["time.time"] == (1, 12) and rows["[start]"] == (1, events[0]["size"])
    text = trial.tool("events", "--sizes", "--function", "time.*", recorded.trace).stdout.decode().splitlines()
    assert [line.split()[-1] for line in text[1:3]] == ["time.sleep", "time.time"], text
    assert text[-1].split()[1:2] == ["2"] and text[-1].endswith("in all"), text


def test_events_as_json(trial, recorded):
    shown = trial.tool("events", "--json", "--function", "time.*", recorded.trace)
    assert shown.exit == 0, shown
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [event["function"] for event in events] == ["time.time", "time.sleep"], shown
    time, pid = recorded.stdout.split()
    assert events[0]["result"] == float(time)
    assert events[0]["index"] < events[1]["index"]
    (event,) = [
        json.loads(line)
        for line in trial.tool("events", "--json", "--function", "posix.getpid", recorded.trace).stdout.splitlines()
    ]
    assert event["result"] == int(pid)


def test_events_of_an_interval(trial, recorded):
    every = [json.loads(line) for line in trial.tool("events", "--json", recorded.trace).stdout.splitlines()]
    assert [event["index"] for event in every] == list(range(len(every)))
    some = trial.tool("events", "--json", "--from", "3", "--to", "6", recorded.trace).stdout.splitlines()
    assert [json.loads(line)["index"] for line in some] == [3, 4, 5, 6]


THREADED = """\
import os
import threading


def work():
    try:
        os.stat("nowhere")
    except OSError:
        os.stat(".")


thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_events_of_a_thread_and_those_that_raised(trial):
    trial.prepare()
    (trial.work / "program.py").write_text(THREADED)
    trace = trial.record(["program.py"]).trace

    def listed(*options):
        shown = trial.tool("events", "--json", *options, trace)
        assert shown.exit == 0, shown
        return [json.loads(line) for line in shown.stdout.splitlines()]

    every = listed()
    of_thread = listed("--thread", "1")
    assert of_thread == [event for event in every if event["running"] == 1]
    raised = [event for event in every if "raised" in event]
    assert listed("--raised") == raised
    (stat,) = listed("--raised", "--thread", "1", "--function", "posix.stat")
    assert stat["text"].startswith("posix.stat('nowhere') !FileNotFoundError("), stat

    (process,) = json.loads(trial.tool("info", "--json", trace).stdout)["processes"]
    assert process["raised"] == len(raised)
    main, thread = process["threads"]
    made = next(event for event in every if event["type"] == "thread")
    assert (main["serial"], main["made_at"], main["events"]) == (0, None, len(every) - len(of_thread))
    assert (thread["serial"], thread["made_at"], thread["events"]) == (1, made["index"], len(of_thread))


def test_doctor(trial):
    shown = trial.tool("doctor", "--python", trial.python)
    assert shown.exit == 0, shown
    text = shown.stdout.decode()
    assert trial.interpreter.version in text, shown


def test_doctor_on_an_environment_with_extensions(trial, venv):
    shown = trial.tool("doctor", "--python", venv("requests"))
    assert shown.exit == 0, shown
