"""A client of `retrace dap` that costs little beside what it measures."""

import json
import subprocess
import time
from pathlib import Path


class Client:
    def __init__(self, retrace):
        command = [str(retrace), "dap"]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sequence = 0
        self.events = []
        self.request("initialize", adapterID="retrace")

    def close(self):
        self.request("disconnect")
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()

    def receive(self):
        length = 0
        while line := self.server.stdout.readline().strip():
            length = int(line.rpartition(b":")[2])
        if not length:
            raise SystemExit("the server has gone")
        return json.loads(self.server.stdout.read(length))

    def send(self, command, **arguments):
        self.sequence += 1
        message = {"seq": self.sequence, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.server.stdin.flush()
        return self.sequence

    def request(self, command, **arguments):
        sequence = self.send(command, **arguments)
        while True:
            message = self.receive()
            if message["type"] == "event":
                self.events.append(message)
            elif message["request_seq"] == sequence:
                if not message["success"]:
                    raise RequestFailed(f"{command}: {message.get('message')}")
                return message.get("body") or {}

    def event(self, name):
        """The next event of that name, and its body; earlier ones of others go."""
        while True:
            message = self.events.pop(0) if self.events else self.receive()
            if message.get("event") == name:
                return message.get("body") or {}

    # ---- what an editor does ----

    def launch(self, recording, stop_on="crash"):
        self.request("launch", recording=str(recording), stopOn=stop_on)
        self.request("configurationDone")
        self.stop = self.event("stopped")
        return self.look()

    def go(self, command, **arguments):
        """A movement, and what an editor asks after the stop; returns the seconds and the innermost frame."""
        self.events.clear()
        start = time.perf_counter()
        self.request(command, **{"threadId": self.stop["threadId"], **arguments})
        self.stop = self.event("stopped")
        frame = self.look()
        return time.perf_counter() - start, frame

    def look(self):
        """The threads, the stack, and the variables of the innermost frame."""
        self.request("threads")
        frames = self.request("stackTrace", threadId=self.stop["threadId"])["stackFrames"]
        scopes = self.request("scopes", frameId=frames[0]["id"])["scopes"]
        self.request("variables", variablesReference=scopes[0]["variablesReference"])
        return frames[0]["name"], frames[0]["line"]

    def processes(self):
        """The processes of the replay, and the memory that is theirs (bytes; a shared page counts in parts)."""
        parents = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                except OSError:
                    continue
                # One that has ended is only a number until it is waited for.
                if state != "Z":
                    parents[int(folder.name)] = int(parent)
        found, new = [], {self.server.pid}
        while new:
            new = {pid for pid, parent in parents.items() if parent in new and pid not in found}
            found += new
        return len(found), sum(memory(pid) for pid in found)


class RequestFailed(Exception):
    pass


def memory(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0
