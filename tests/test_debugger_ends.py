"""However a session ends, no process of it is left."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest
from debugger import Debugger, RequestFailed, assert_gone, descendants, record, start_time
from harness import HANG, RETRACE
from test_debugger import WALK

LONG = "def work(rounds):\n    total = 0\n    for i in range(rounds):\n        total += i\n    return total\n\n\nwork({})\n"


def long_recording(trial, rounds=2_000_000):
    trial.prepare(inputs=False)
    path = trial.work / "long.py"
    path.write_text(LONG.format(rounds))
    return trial.record([path]), path


def begun(server, rest=lambda _: True):
    """The processes of a server's session, once there are some that are as wanted."""
    deadline = time.monotonic() + HANG
    while not ((found := descendants(server.pid)) and rest(found)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def finish(debugger):
    debugger.server.stdin.close()
    debugger.server.wait(HANG)
    debugger.server.stdout.close()
    debugger.server.stderr.close()


@pytest.mark.parametrize("end", ["the client closes", "the server is killed", "the server is terminated"])
@pytest.mark.parametrize("moment", ["launch", "movement", "standing"])
def test_nothing_is_left(trial, moment, end):
    recorded, path = long_recording(trial)
    debugger = Debugger(recorded.trace)
    debugger.flush()
    debugger.wait(lambda: debugger.take("initialized"))
    if moment == "launch":
        debugger.send("launch", recording=str(recorded.trace), stopOn="end")
        debugger.send("configurationDone")
        left = begun(debugger.server, lambda found: len(found) > 1)
    else:
        debugger.launch("end")
        if moment == "movement":
            debugger.set_breakpoints(path, [{"line": 4, "condition": "i < 0"}])
            before = begun(debugger.server)
            debugger.send("reverseContinue", threadId=1)
            left = before | begun(debugger.server, lambda found: set(found) - set(before))
        left = left | begun(debugger.server) if moment == "movement" else begun(debugger.server)
    assert left
    if end == "the client closes":
        debugger.server.stdin.close()
    else:
        debugger.server.send_signal(signal.SIGKILL if end == "the server is killed" else signal.SIGTERM)
    debugger.server.wait(HANG)
    debugger.server.stdout.close()
    debugger.server.stderr.close()
    assert_gone(left)


def test_the_replay_is_killed_while_it_runs(trial):
    recorded, _ = long_recording(trial)
    debugger = Debugger(recorded.trace)
    debugger.flush()
    debugger.wait(lambda: debugger.take("initialized"))
    sent = debugger.send("launch", recording=str(recorded.trace), stopOn="end")
    debugger.send("configurationDone")
    left = begun(debugger.server, lambda found: len(found) > 1)
    # The replay itself is the server's only child that was there first.
    os.kill(min(left, key=lambda pid: int(left[pid])), signal.SIGKILL)
    debugger.wait(lambda: debugger.answers.get(sent))
    debugger.wait(lambda: next((e for e in debugger.events if e["event"] in ("stopped", "terminated", "output")), None))
    left |= descendants(debugger.server.pid)
    debugger.request("disconnect")
    finish(debugger)
    assert_gone(left)


def kill(processes):
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    assert_gone(processes)


def test_where_all_processes_are_killed_the_session_says_so(trial):
    recorded, _ = record(trial, WALK)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        debugger.locals()
        kill(begun(debugger.server))
        with pytest.raises(RequestFailed, match="gone"):
            debugger.stack()
        debugger.request("stepBack", threadId=1)
        debugger.stopped()
        assert "gone" in debugger.output("important")


def test_where_copies_are_killed_the_session_goes_on(trial):
    recorded, _ = record(trial, WALK)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        # Then the replay has ended, and all its checkpoints are there.
        debugger.request("timeline")
        checkpoints = begun(debugger.server)
        debugger.go("gotoPosition", position="end")
        states = []
        for _ in range(3):
            states.append((debugger.where(), debugger.stop["position"]))
            debugger.go("stepBack")
        for _ in range(2):
            debugger.go("gotoPosition", position="end")
            assert (debugger.where(), debugger.stop["position"]) == states[0]
            kill({pid: born for pid, born in begun(debugger.server).items() if pid not in checkpoints})
            for state in states[1:]:
                debugger.go("stepBack")
                assert (debugger.where(), debugger.stop["position"]) == state


def test_a_terminal_that_closes_leaves_nothing(trial):
    recorded, path = long_recording(trial)
    terminal = subprocess.Popen(
        [RETRACE, "debug", recorded.trace], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    terminal.stdin.write(b"end\nrc\n")
    terminal.stdin.flush()
    left = begun(terminal, lambda found: len(found) > 1)
    terminal.stdin.close()
    terminal.stdout.read()
    terminal.wait(HANG)
    terminal.stdout.close()
    assert_gone(left)


@contextlib.contextmanager
def serving():
    """A server, and the port that it listens on."""
    with subprocess.Popen([RETRACE, "dap", "--port", "0"], stdout=subprocess.PIPE) as server:
        try:
            yield server, int(server.stdout.readline().rsplit(b":", 1)[1])
        finally:
            server.kill()


def send(client, number, command, **arguments):
    body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
    client.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def launch(client, server, trace):
    """Asks for the recording's end; returns the processes there are for it."""
    send(client, 1, "initialize", adapterID="retrace")
    send(client, 2, "launch", recording=str(trace), stopOn="end")
    send(client, 3, "configurationDone")
    return begun(server, lambda found: len(found) > 1)


def test_a_session_on_a_port_leaves_nothing_when_its_client_goes(trial):
    recorded, _ = long_recording(trial)
    with serving() as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            left = launch(client, server, recorded.trace)
        assert_gone(left)
        assert server.poll() is None
        # The next one. A client that has left is told that the session is over.
        with socket.create_connection(("127.0.0.1", port), HANG) as client:
            send(client, 1, "initialize", adapterID="retrace")
            send(client, 2, "disconnect")
            while client.recv(65536):
                pass
        taken = subprocess.run([RETRACE, "dap", "--port", str(port)], capture_output=True, text=True, timeout=HANG)
        assert taken.returncode == 2 and f"cannot listen on port {port}" in taken.stderr


PRINTS = "for _ in range(40):\n    print('x' * 500_000)\n"


def printed(trial):
    """A recording that has more to say than is kept for a client that does not read."""
    trial.prepare(inputs=False)
    path = trial.work / "prints.py"
    path.write_text(PRINTS)
    return trial.record([path]).trace


@pytest.mark.parametrize("end", ["closes its end", "disconnects", "terminates", "closes the server's end"])
def test_a_client_that_does_not_read_any_more_keeps_nothing(trial, end):
    """It may leave in one direction only, or say that it leaves."""
    debugger = Debugger(printed(trial))
    debugger.flush()
    debugger.wait(lambda: debugger.take("initialized"))
    debugger.request("launch", **debugger.arguments, stopOn="end")
    left = begun(debugger.server)
    debugger.send("configurationDone")
    # Then there is more to come than anybody has room for.
    debugger.wait(lambda: debugger.output() or None)
    if end == "closes its end":
        debugger.server.stdin.close()
    elif end == "closes the server's end":
        debugger.server.stdout.close()
    else:
        debugger.send("disconnect" if end == "disconnects" else "terminate")
    # A session that was only terminated goes on, without a recording.
    if end == "terminates":
        assert_gone(left)
        debugger.server.stdin.close()
    debugger.server.wait(HANG)
    assert_gone(left)
    for pipe in (debugger.server.stdin, debugger.server.stdout, debugger.server.stderr):
        pipe.close()


def test_a_client_of_a_port_that_stops_reading_does_not_keep_the_next_one(trial):
    trace = printed(trial)
    with serving() as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as silent:
            left = launch(silent, server, trace)
            while b'"output"' not in silent.recv(65536):
                pass
            silent.shutdown(socket.SHUT_WR)
            with socket.create_connection(("127.0.0.1", port), HANG) as client:
                send(client, 1, "initialize", adapterID="retrace")
                assert client.recv(65536)
            assert_gone(left)


def test_there_are_never_more_than_32_processes(trial):
    """In a session that goes to and fro, evaluates, watches and changes."""
    recorded, path = long_recording(trial, 300_000)
    choose = random.Random(3)
    most = 0
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        done = threading.Event()

        def count():
            nonlocal most
            while not done.is_set():
                most = max(most, sum(start_time(pid) is not None for pid in descendants(debugger.server.pid)))

        counting = threading.Thread(target=count)
        counting.start()
        try:
            positions = []
            for round in range(40):
                debugger.set_breakpoints(path, [{"line": 4, "condition": f"i == {choose.randrange(300_000)}"}])
                debugger.go("continue" if round % 2 else "reverseContinue")
                debugger.set_breakpoints(path, [])
                for command in choose.choices(["stepBack", "next", "stepOut", "reverseStepOut"], k=2):
                    debugger.go(command)
                positions.append(debugger.stop["position"])
                debugger.locals()
                debugger.evaluate("round = 5", "repl")
                debugger.go("gotoPosition", position=choose.choice(positions))
                debugger.evaluate("[].append(1)", "watch")
        finally:
            done.set()
            counting.join()
    assert 5 < most <= 32
