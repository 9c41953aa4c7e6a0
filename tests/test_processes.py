"""Processes by os.fork and multiprocessing: the root replays, and so does each of the others, alone.

Every line that a process of these programs writes begins with its number, so that the lines of the recording can be told
apart; a parent says how its child ended.
"""

import ast
import json
import re
import shutil

import pytest

from harness import DIVERGED, as_shell

CUT = 71


def passed_on(stdout):
    """What was written, with what processes on terminals wrote besides: their parents say it (terminals.py)."""
    lines = []
    for line in stdout.splitlines(keepends=True):
        lines.append(line)
        if of := re.fullmatch(rb"\[\d+\] of \d+ (b.*)\n", line):
            lines.append(passed_on(ast.literal_eval(of[1].decode()) + b"\n"))
    return b"".join(lines)


def own_lines(result, pid):
    lines = passed_on(result.stdout).splitlines(keepends=True)
    return b"".join(line for line in lines if line.startswith(b"[%d] " % pid))


def record_all(trial, argv, program, exit=0):
    """Records, and replays every process; returns what `info` says of them."""
    trial.prepare(program)
    recorded = trial.record(argv)
    if recorded.exit != exit:
        trial.fail(f"the recorded program should have ended with {exit}", recorded)
    shutil.rmtree(trial.work)
    result = trial.tool("info", "--json", recorded.trace)
    assert result.exit == 0, result
    processes = json.loads(result.stdout)["processes"]
    endings = dict(re.findall(rb"^\[\d+\] ended (\d+) (-?\d+)$", passed_on(recorded.stdout), re.MULTILINE))
    endings = {int(pid): int(code) for pid, code in endings.items()} | {processes[0]["start"]["pid"]: exit}
    wrong = []
    # One that was killed before it could say anything has nothing to replay.
    silent = [process for process in processes if process["start"] is None]
    assert all(process["ending"]["kind"] == "abrupt" for process in silent), silent
    processes = [process for process in processes if process["start"] is not None]
    for process in processes:
        pid, kind = process["start"]["pid"], process["ending"]["kind"]
        replayed = trial.replay(recorded.trace, "--process", str(process["index"]))
        lines = own_lines(recorded, pid)
        if kind == "abrupt" and replayed.exit == CUT:
            # It was killed, perhaps between writing a line and saying so.
            good = lines.startswith(replayed.stdout) and b"the recording ends here" in replayed.stderr
        else:
            good = replayed.stdout == lines and as_shell(replayed.exit) == as_shell(endings.get(pid, 0))
        if not good:
            wrong.append(f"process {process['index']} ({process['ending']}), its lines:\n{lines.decode()}\n{replayed}")
    if wrong:
        trial.fail("\n\n".join(wrong), recorded)
    # Whoever wrote a line is a process of the recording.
    writers = {int(pid) for pid in re.findall(rb"^\[(\d+)\]", recorded.stdout, re.MULTILINE)}
    assert writers <= {process["start"]["pid"] for process in processes}, recorded
    return recorded, processes


@pytest.mark.parametrize(
    ("part", "count"),
    [("pipes", 3), ("in_threads", 7), ("locks_held", 2), ("endings", 7), ("with_exec", 2), ("garbage", 2)],
)
def test_fork(trial, part, count):
    _, processes = record_all(trial, ["forks.py", part], "forks.py")
    assert len(processes) == count
    assert processes[0]["start"]["parent"] is None
    assert all(process["start"]["forked_at"] is not None for process in processes[1:]), processes


def test_a_warning_of_a_fork_beside_threads(trial):
    """How many threads there are is said by the system, and was recorded."""
    recorded, processes = record_all(trial, ["forks.py", "beside_threads"], "forks.py")
    assert len(processes) == 8
    first = recorded.stdout.splitlines()[0]
    assert (b"warned DeprecationWarning" in first) == (trial.interpreter.minor >= (3, 12)), recorded


def test_forks_of_forks(trial):
    """Each process has its parent's whole history."""
    _, processes = record_all(trial, ["forks.py", "many"], "forks.py")
    depths = []
    for process in processes:
        parent = process["start"]["parent"]
        depths.append(0 if parent is None else depths[parent] + 1)
    assert max(depths) == 4 and len(depths) > 20, depths


@pytest.mark.parametrize(("part", "count"), [("forkpty", 2), ("nested", 4), ("in_thread", 2), ("fails", 2)])
def test_a_process_on_a_terminal_of_its_own(trial, part, count):
    recorded, processes = record_all(trial, ["terminals.py", part], "terminals.py")
    assert len(processes) == count
    assert all(process["start"]["forked_at"] is not None for process in processes[1:]), processes
    # Each child said something on its terminal.
    for process in processes:
        assert own_lines(recorded, process["start"]["pid"]), recorded


def test_a_buffer_is_written_by_both(trial):
    trial.prepare("forks.py")
    recorded = trial.record(["forks.py", "buffered"])
    first, child, again, parent = recorded.stdout.splitlines(keepends=True)
    assert first == again and b"child" in child and b"parent" in parent, recorded
    for process, lines in enumerate([first + parent, first + child]):
        replayed = trial.replay(recorded.trace, "--process", str(process))
        assert (replayed.stdout, replayed.exit) == (lines, 0), replayed


def test_a_server_that_forks_its_workers(trial):
    recorded, processes = record_all(trial, ["prefork.py"], "prefork.py")
    assert [process["start"]["parent"] for process in processes] == [None, 0, 0, 0, 0]
    assert recorded.stdout.count(b"served") == 4 and b"] 40 [b'" in recorded.stdout, recorded


def test_shared_memory(trial):
    """Each process reads what the other wrote, without any call in between."""
    recorded = trial.assert_replays(["shared_memory.py"], programs=["shared_memory.py"])
    assert b"\n3 [" in recorded.stdout, recorded
    processes = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert len(processes) == 3, processes
    for process in processes[1:]:
        replayed = trial.replay(recorded.trace, "--process", str(process["index"]))
        assert replayed.exit != DIVERGED, replayed


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(trial, method):
    recorded, processes = record_all(trial, ["pools.py", method], "pools.py")
    # The pool's, three with a queue, one with a pipe, one that fails, the executor's.
    assert len(processes) >= 1 + 3 + 3 + 1 + 1 + 1
    assert recorded.stdout.count(b"square") == 19, recorded
