"""A debugging session over `retrace dap`. The protocol's client is dap-python's; this drives it."""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dap import DAPClient
from harness import HANG, RETRACE


def record(trial, program, *arguments, exit=0):
    """Records one of the programs. Returns what came of it, and the program's path."""
    trial.prepare(program, inputs=False)
    path = trial.work / program
    recorded = trial.record([path, *arguments])
    assert recorded.exit == exit, recorded
    return recorded, path


def record_trace(trial, program, exit=0):
    """The same where only the trace is of interest: that, and the program's path."""
    recorded, path = record(trial, program, exit=exit)
    return recorded.trace, path


def line_of(path, text):
    """The number of the first line that has the text."""
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


class RequestFailed(Exception):
    """The server answered that it could not. `shown`: in a message of its own."""

    def __init__(self, answer):
        super().__init__(answer.get("message"))
        self.shown = answer["body"]["error"]["showUser"]


def longer(rounds: int) -> Iterator[int]:
    """So many rounds, and more and more of them: the replay leaves checkpoints by time, so a machine that is slow at
    making them leaves none in what another one takes long enough for."""
    yield from (rounds * 4**step for step in range(4))


class Debugger:
    """One client and one server. Used as a context manager: leaving it disconnects and sees that nothing is left."""

    def __init__(self, trace: Path, *, command=RETRACE, environment=None, shows_progress=False, **arguments):
        self.client = DAPClient(adapterID="retrace", supportsProgressReporting=shows_progress)
        self.server = subprocess.Popen(
            [command, "dap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (environment or {}),
        )
        os.set_blocking(self.server.stdout.fileno(), False)
        self.arguments = {"recording": str(trace), **arguments}
        self.answers, self.events = {}, []
        self.buffer = b""
        self.stop = None

    def __enter__(self):
        self.flush()
        self.wait(lambda: self.take("initialized"))
        return self

    def __exit__(self, kind, *_):
        left = descendants(self.server.pid)
        if self.server.poll() is None and kind is None:
            self.request("disconnect")
        self.server.stdin.close()
        try:
            self.server.wait(HANG)
        finally:
            self.server.kill()
            self.server.stdout.close()
            self.server.stderr.close()
        assert_gone(left)

    # ---- the wire ----

    def flush(self):
        self.server.stdin.write(self.client.send())
        self.server.stdin.flush()

    def pump(self, timeout):
        ready, _, _ = select.select([self.server.stdout], [], [], timeout)
        if not ready:
            return
        data = self.server.stdout.read()
        if data == b"":
            raise AssertionError(f"the server has gone: {self.server.stderr.read().decode()}")
        # dap-python checks what it knows; requests of our own it does not, so the frames are read here too.
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            length = int(head.split(b":")[1])
            if len(rest) < length:
                break
            whole, self.buffer = head + b"\r\n\r\n" + rest[:length], rest[length:]
            message = json.loads(rest[:length])
            if message["type"] == "event":
                self.events.append(message)
                if message["event"] == "positionChanged":
                    continue
            else:
                self.answers[message["request_seq"]] = message
                if message["command"] in OWN or not message["success"]:
                    continue
            list(self.client.recv(whole))

    def wait(self, condition):
        deadline = time.monotonic() + HANG
        while True:
            found = condition()
            if found is not None:
                return found
            assert time.monotonic() < deadline, f"no answer; events: {self.events[-5:]}"
            self.pump(1)

    def take(self, event):
        for place, message in enumerate(self.events):
            if message["event"] == event:
                return self.events.pop(place).get("body", {})
        return None

    def send(self, command, **arguments):
        sequence = self.client._send_request(command, arguments)
        self.flush()
        return sequence

    def request(self, command, **arguments):
        sequence = self.send(command, **arguments)
        answer = self.wait(lambda: self.answers.pop(sequence, None))
        if not answer["success"]:
            raise RequestFailed(answer)
        return answer.get("body") or {}

    # ---- what a user does ----

    def launch(self, stop_on="crash", breakpoints=()):
        """Starts the session; `breakpoints`: (path, lines or DAP's breakpoints)."""
        self.request("launch", **self.arguments, stopOn=stop_on)
        for path, lines in breakpoints:
            self.set_breakpoints(path, lines)
        self.request("configurationDone")
        return self.stopped()

    def set_breakpoints(self, path, lines):
        wanted = [line if isinstance(line, dict) else {"line": line} for line in lines]
        return self.request("setBreakpoints", source={"path": str(path)}, breakpoints=wanted)["breakpoints"]

    def stopped(self):
        self.stop = self.wait(lambda: self.take("stopped"))
        self.stop["position"] = self.wait(lambda: self.take("positionChanged"))["position"]
        return self.stop

    def go(self, command, **arguments):
        """A movement, and the stop it ends with."""
        thread = self.stop["threadId"] if self.stop else 1
        self.request(command, **{"threadId": thread, **arguments})
        return self.stopped()

    def stack(self, thread=None):
        return self.request("stackTrace", threadId=thread or self.stop["threadId"])["stackFrames"]

    def where(self):
        """(function, line) of the innermost frame."""
        frame = self.stack()[0]
        return frame["name"], frame["line"]

    def variables(self, reference, **arguments):
        return self.request("variables", variablesReference=reference, **arguments)["variables"]

    def scope(self, name="Locals", frame=0):
        frame = self.stack()[frame]["id"]
        scopes = self.request("scopes", frameId=frame)["scopes"]
        return next(scope["variablesReference"] for scope in scopes if scope["name"] == name)

    def locals(self, frame=0):
        return {variable["name"]: variable["value"] for variable in self.variables(self.scope("Locals", frame))}

    def evaluate(self, expression, context="watch", frame=0):
        frame = self.stack()[frame]["id"]
        return self.request("evaluate", expression=expression, context=context, frameId=frame)["result"]

    def output(self, category="stdout"):
        """The output events so far."""
        texts = [
            e["body"]["output"] for e in self.events if e["event"] == "output" and e["body"]["category"] == category
        ]
        return "".join(texts)


OWN = {"reverseStepIn", "reverseStepOut", "gotoPosition", "lastChange", "timeline", "processes"}


def descendants(ancestor: int) -> dict[int, str]:
    """The children of a process and theirs, as (pid, start time): a number may be used again."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = (int(fields[1]), fields[19])
    found, new = {}, {ancestor}
    while new:
        new = {pid for pid, (parent, _) in parents.items() if parent in new and pid not in found}
        found.update({pid: parents[pid][1] for pid in new})
    return found


def assert_gone(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + HANG
    while True:
        left = [pid for pid, born in processes.items() if start_time(pid) == born]
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)


def start_time(pid):
    """None if it has ended: that it is waited for is for its parent to see to, which may be the system's first process."""
    try:
        state, *fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else fields[18]


@contextmanager
def stopped_at(trial, source, text):
    """A debugger of a recording of `source`, where it has first come to the line that has the text."""
    trial.prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(source)
    with Debugger(trial.record([program]).trace) as debugger:
        debugger.launch("entry", [(program, [line_of(program, text)])])
        debugger.go("continue")
        yield debugger
