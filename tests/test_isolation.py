"""A replay touches nothing: no network call, no file changed outside its scratch, no recorded program started."""

import re
import shutil

import pytest

from harness import RETRACE

CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)$")
# Calls that change the file system, with the position of the path that decides.
CHANGES = {
    "creat", "mkdir", "mkdirat", "mknod", "mknodat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2",
    "link", "linkat", "symlink", "symlinkat", "chmod", "fchmodat", "chown", "lchown", "fchownat", "truncate",
    "utimensat", "setxattr", "removexattr",
}  # fmt: skip
# Without these there is no connection to send or receive on. (The command line's own signal pipe is a socketpair.)
NETWORK = {"socket", "connect", "bind", "listen", "accept", "accept4"}
TRACED = ",".join(sorted({*CHANGES, *NETWORK, "open", "openat", "openat2", "execve", "execveat", "kill", "tgkill"}))

PROGRAMS = ["files", "file_tools", "subprocesses", "local_sockets", "callbacks", "environment", "randomness"]


def calls(log):
    for line in log.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match:
            yield match["name"], match["arguments"], line


def violations(trial, log):
    scratch = str(trial.folder / "replay-scratch")
    executed = []
    for name, arguments, line in calls(log):
        paths = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
        if name in NETWORK:
            yield line
        elif name in ("open", "openat", "openat2"):
            writes = re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", arguments)
            if (
                writes
                and "= -1" not in line
                and not paths[0].startswith((scratch, "/dev/null", "/dev/tty", "/proc/self"))
            ):
                yield line
        elif name in CHANGES:
            if "= -1" not in line and not any(path.startswith(scratch) for path in paths):
                yield line
        elif name in ("execve", "execveat"):
            if "= 0" in line:
                executed.append(paths[0])
        elif name in ("kill", "tgkill"):
            yield line
    # The command line, and interpreters: it probes candidates and becomes or starts one.
    for path in executed:
        if path != str(RETRACE) and not re.search(r"/python[\d.]*$", path):
            yield f"execve {path}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_replay_touches_nothing(trial, program):
    trial.prepare(f"{program}.py")
    recorded = trial.record([f"{program}.py"])
    shutil.rmtree(trial.work)
    log = trial.folder / "strace.log"
    strace = ["strace", "-f", "-qq", "-s", "400", "-e", f"trace={TRACED}", "-e", "signal=none", "-o", log]
    replayed = trial.replay(recorded.trace, prefix=strace)
    trial.same(recorded, replayed, ("recorded", "replayed"))
    assert any(name == "openat" for name, _, _ in calls(log)), "strace saw nothing"
    found = list(violations(trial, log))
    if found:
        trial.fail("the replay touched the outside:\n" + "\n".join(found[:40]), replayed)
    # Its scratch is gone too.
    assert list((trial.folder / "replay-scratch").iterdir()) == []
