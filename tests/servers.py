"""Servers that are recorded: started, loaded from a process that is not, stopped by a signal, and replayed, every process
of the tree, without their folder. Each line that such a server writes names its process: `[123]`."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import HANG, TESTS, Result, as_shell


class Server:
    """A recorded program that says on stdout or stderr where it listens."""

    def __init__(self, trial, argv, env=None):
        self.trial = trial
        trial.trace.unlink(missing_ok=True)
        command, extra = trial.record_command(argv, "cli", trial.trace)
        self.files = [open(trial.folder / name, "wb") for name in ("server.out", "server.err")]
        stdout, stderr = self.files
        env = trial.environment(**env or {}) | extra
        self.process = subprocess.Popen(command, cwd=trial.work, env=env, stdout=stdout, stderr=stderr, process_group=0)
        self.port = self.wait_for_port()

    def written(self) -> list[bytes]:
        """What it wrote so far. The files are opened anew: the server writes where its own descriptor stands."""
        return [Path(file.name).read_bytes() for file in self.files]

    def result(self) -> Result:
        return Result(
            *self.written(), self.process.returncode, self.trial.trace, [str(part) for part in self.process.args]
        )

    def wait_for_port(self) -> int:
        until = time.monotonic() + HANG
        while self.process.poll() is None and time.monotonic() < until:
            if found := re.search(rb"(?:serving on |127\.0\.0\.1:)(\d+)\D", b"".join(self.written())):
                return int(found[1])
            time.sleep(0.02)
        self.trial.fail("the server does not say where it listens", self.result())

    def load(self, requests: int, at_a_time: int, *paths: str) -> None:
        command = [sys.executable, TESTS / "load.py", str(self.port), str(requests), str(at_a_time), *paths]
        client = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
        if client.returncode:
            self.stop(signal.SIGKILL)
            self.trial.fail(client.stderr, self.result())

    def stop(self, with_signal=signal.SIGTERM) -> Result:
        self.process.send_signal(with_signal)
        self.process.wait(HANG)
        result = self.result()
        for file in self.files:
            file.close()
        return result


def lines_of(written: bytes, pid: int) -> bytes:
    return b"".join(line for line in written.splitlines(keepends=True) if b"[%d]" % pid in line)


def replay_all(trial, recorded: Result) -> list[dict]:
    """Replays each process of the recording; each must write the lines that it wrote. Returns what `info` says."""
    shutil.rmtree(trial.work)
    info = trial.tool("info", "--json", recorded.trace)
    assert info.exit == 0, info
    processes = json.loads(info.stdout)["processes"]
    wrong = []
    for process in processes:
        replayed = trial.replay(recorded.trace, "--process", str(process["index"]))
        pid = process["start"]["pid"]
        parent = process["index"] == 0
        lines = [lines_of(written, pid) for written in (recorded.stdout, recorded.stderr)]
        met = [lines_of(written, pid) for written in (replayed.stdout, replayed.stderr)]
        if met != lines or as_shell(replayed.exit) != (as_shell(recorded.exit) if parent else 0):
            wrong.append(f"process {process['index']} ({process['ending']}) differs:\n{replayed}")
    if wrong:
        trial.fail("\n\n".join(wrong), recorded)
    return processes
