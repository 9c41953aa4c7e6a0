"""Pythons that a recorded program starts join its recording: each is a process of the trace that replays alone."""

import json
import re
import shutil
import subprocess

import pytest

from harness import RETRACE, Result, run
from test_activation import WAYS
from test_bad_input import unsupported_pythons

# What a child prints: what it is, what it sees, and what must come out of the trace.
CHILD = """\
import os, sys, time, random
print(os.getpid(), time.time(), random.random(), sys.argv, sys._xoptions, sorted(os.environ))
print("to stderr", file=sys.stderr)
sys.exit(3)
"""

# The parent writes down what it read from each child: (name, pid, exit code, stdout, stderr), a JSON object a line.
PARENT = """\
import json, os, subprocess, sys
def note(name, pid, code, out, err):
    print(json.dumps([name, pid, code, out, err]), flush=True)
def popen(name, command, **more):
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes, **more) as child:
        out, err = child.communicate()
    note(name, child.pid, child.returncode, out, err)
python = [sys.executable, "child.py"]
"""

STARTS = {
    "inherited": "popen('inherited', python)",
    "explicit": "popen('explicit', python, env={'A': 'b', 'LD_PRELOAD': ''})",
    "empty": "popen('empty', python, env={})",
    "bytes": "popen('bytes', python, env={b'A': b'b'})",
    "changed": "os.environ['CHANGED'] = 'x'; popen('changed', python)",
    "no vfork": "subprocess._USE_VFORK = False; popen('no vfork', python)",
    "preexec": "popen('preexec', python, preexec_fn=lambda: None)",
    "options": "popen('options', [sys.executable, '-IS' if len(sys.argv) > 1 else '-I', 'child.py', 'x'])",
    "module": "popen('module', [sys.executable, '-m', 'child', 'x'])",
    "command": "popen('command', [sys.executable, '-c', open('child.py').read(), 'x'])",
    "stdin": "popen('stdin', [sys.executable, '-', 'x'], stdin=open('child.py'))",
    "shell": "popen('shell', ['sh', '-c', 'exec \"$0\" child.py', sys.executable])",
    "env -i": "popen('env -i', ['env', '-i', 'X=y', *python])",
    "posix_spawn": """\
for function in os.posix_spawn, os.posix_spawnp:
    for environ in os.environ, {}, {b"A": "b"}:
        pipes = os.pipe(), os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, pipe[1], i + 1) for i, pipe in enumerate(pipes)]
        pid = function(sys.executable, python, environ, file_actions=actions)
        for pipe in pipes:
            os.close(pipe[1])
        out, err = (open(pipe[0]).read() for pipe in pipes)
        note("posix_spawn", pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out, err)
""",
    "system": """\
code = os.waitstatus_to_exitcode(os.system(f"exec {sys.executable} child.py >out.txt 2>err.txt"))
out, err = (open(name).read() for name in ("out.txt", "err.txt"))
note("system", int(out.split()[0]), code, out, err)
""",
    "spawnve": """\
code = os.spawnve(os.P_WAIT, "/bin/sh", ["sh", "-c", f"exec {sys.executable} child.py >out.txt 2>err.txt"], {"A": "b"})
out, err = (open(name).read() for name in ("out.txt", "err.txt"))
note("spawnve", int(out.split()[0]), code, out, err)
""",
}


@pytest.fixture
def ready(trial, installed):
    """The trial on an environment where `python -m retrace install` was run."""
    return trial.use(installed)


def prepare(trial, parent):
    trial.prepare()
    (trial.work / "child.py").write_text(CHILD)
    (trial.work / "parent.py").write_text(parent)


def info(trial, trace):
    result = trial.tool("info", "--json", trace)
    assert result.exit == 0, result
    return json.loads(result.stdout)["processes"]


def process_of(processes, pid):
    """The process with this pid that did not become another."""
    (found,) = [p for p in processes if p["start"]["pid"] == pid and p["ending"]["kind"] != "replaced"]
    return found


def children(recorded):
    for line in recorded.stdout.decode().splitlines():
        name, pid, code, out, err = json.loads(line)
        yield pid, Result(out.encode(), err.encode(), code, command=[name])


def without_numbers(text):
    return re.sub(rb"[\d.]+(e-\d+)?", b"N", text)


@pytest.mark.parametrize("how", WAYS)
def test_every_way_to_start_a_child(ready, how):
    """Each child joins, sees what it would have seen unrecorded, and replays alone; so does their parent."""
    parent = PARENT + "\n".join(STARTS.values())
    argv = ["parent.py", "x"] if how == "cli" else ["parent.py"]
    prepare(ready, parent)
    plain = ready.plain(argv)
    prepare(ready, parent)
    recorded = ready.record(argv, how=how)
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert without_numbers(recorded.stdout) == without_numbers(plain.stdout)
    shutil.rmtree(ready.work)

    processes = info(ready, recorded.trace)
    found = list(children(recorded))
    assert len(found) == len(STARTS) + 5
    for pid, child in found:
        if how not in ("cli", "preload") and child.command == ["env -i"]:
            # Only the preload library is in `env`, and hands on what it takes away.
            assert all(process["start"]["pid"] != pid for process in processes)
            continue
        process = process_of(processes, pid)
        parent = processes[process["start"]["parent"]]["start"]
        # spawnve forks, and the forked process becomes the child.
        assert parent["pid"] == (pid if child.command == ["spawnve"] else processes[0]["start"]["pid"]), child
        replayed = ready.replay(recorded.trace, "--process", str(process["index"]))
        ready.same(child, replayed, ("recorded", "replayed"))
    ready.same(recorded, ready.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("function", ["execv(*a)", "execve(*a, {'A': 'b'})", "execvp(*a)", "execl(a[0], *a[1])"])
def test_exec(ready, how, function):
    """The process goes on as another program: the same pid, another stream. Nobody records in between."""
    prepare(ready, f"import os, sys\na = sys.executable, [sys.executable, 'child.py', 'x']\nos.{function}\n")
    plain = ready.plain(["parent.py"])
    recorded = ready.record(["parent.py"], how=how)
    assert without_numbers(recorded.stdout) == without_numbers(plain.stdout)
    assert (recorded.exit, recorded.stderr) == (3, plain.stderr), recorded
    first, second = info(ready, recorded.trace)
    assert first["start"]["pid"] == second["start"]["pid"]
    assert first["ending"] == {"kind": "replaced", "by": 1}
    assert (second["start"]["parent"], second["start"]["forked_at"]) == (0, None)
    shutil.rmtree(ready.work)
    ready.same(recorded, ready.replay(recorded.trace, "--process", "1"), ("recorded", "replayed"))


@pytest.mark.parametrize("how", WAYS)
def test_a_program_that_starts_itself_again(ready, how):
    """With its own command line, `-X retrace=FILE` included: that is the same recording, not a new one."""
    program = "import os, sys\nif 'again' in sys.argv: print('again', sys.argv)\n"
    program += "else: os.execv(sys.executable, [*sys.orig_argv, 'again'])\n"
    ready.prepare()
    (ready.work / "program.py").write_text(program)
    recorded = ready.record(["program.py"], how=how)
    assert (recorded.stdout, recorded.exit) == (b"again ['program.py', 'again']\n", 0), recorded
    assert len(info(ready, recorded.trace)) == 2
    ready.same(recorded, ready.replay(recorded.trace, "--process", "1"), ("recorded", "replayed"))


MULTIPROCESSING = """\
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor

def work(n):
    return n * n, os.getpid(), sorted(name for name in os.environ if "RETRACE" in name or "PRELOAD" in name)

def send(queue, n):
    queue.put(work(n))

if __name__ == "__main__":
    spawn, server = (multiprocessing.get_context(name) for name in ("spawn", "forkserver"))
    with spawn.Pool(2) as pool:
        print(pool.map(work, range(8)))
    queue = server.SimpleQueue()
    process = server.Process(target=send, args=(queue, 5))
    process.start()
    print(queue.get())
    process.join()
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        print(list(pool.map(work, [6, 7])))
    process = spawn.Process(target=print, args=("in the process",), kwargs={"flush": True})
    process.start()
    process.join()
    print(process.pid, process.exitcode)
"""


@pytest.mark.parametrize("how", WAYS)
def test_multiprocessing(ready, how):
    ready.prepare()
    (ready.work / "program.py").write_text(MULTIPROCESSING)
    recorded = ready.record(["program.py"], how=how)
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    lines = recorded.stdout.decode().splitlines()
    assert re.findall(r"\((\d+), \d+, \[\]\)", lines[0]) == [str(n * n) for n in range(8)], recorded
    # A pool's worker may be killed before it could say anything.
    silent = [process for process in info(ready, recorded.trace) if process["start"] is None]
    assert all(process["ending"]["kind"] == "abrupt" for process in silent), silent
    processes = [process for process in info(ready, recorded.trace) if process["start"] is not None]
    pids = {process["start"]["pid"] for process in processes}
    working = {int(pid) for line in lines[:3] for pid in re.findall(r", (\d+), \[", line)}
    last = int(lines[4].split()[0])
    assert {*working, last} <= pids, recorded
    commands = [" ".join(process["start"]["orig_argv"]) for process in processes]
    for server in ("resource_tracker", "forkserver", "spawn_main"):
        assert any(server in command for command in commands), commands
    text = ready.tool("info", recorded.trace).stdout.decode()
    assert re.search(r"^processes\n  0 +\w.*\n    \d ", text, re.MULTILINE), text
    # The one without threads.
    shutil.rmtree(ready.work)
    replayed = ready.replay(recorded.trace, "--process", str(process_of(processes, last)["index"]))
    assert (replayed.stdout, replayed.stderr, replayed.exit) == (b"in the process\n", b"", 0), replayed


def test_grandchildren(trial):
    """The tree, as `info` shows it."""
    trial.prepare()
    (trial.work / "program.py").write_text(
        "import subprocess, sys\nn = int(sys.argv[1])\nif n:\n"
        "    for _ in range(2): subprocess.run([sys.executable, 'program.py', str(n - 1)], env={}, check=True)\n"
    )
    recorded = trial.record(["program.py", "2"])
    text = trial.tool("info", recorded.trace).stdout.decode()
    tree = text.split("\nprocesses\n")[1].split("\n\n")[0]
    depths = [len(re.match(" *", line)[0]) for line in tree.splitlines()]
    assert depths == [2, 4, 6, 6, 4, 6, 6], text
    assert "started by process 1:" in text


@pytest.mark.parametrize("python", unsupported_pythons(), ids=lambda path: path.name)
def test_children_that_are_not_recorded_say_nothing(trial, python):
    """Another version of Python, and programs that are none: they run as they would, and hand on what they do not need."""
    script = f"{python} -c \"import subprocess, os; print(sorted(os.environ)); subprocess.call(['env'])\"; env; "
    script += f"{python} -c \"import os; os.execv('{trial.python}', ['python', '-c', 'print(1)'])\""
    program = f"import subprocess; print(subprocess.run(['sh', '-c', {script!r}], capture_output=True, text=True))"
    trial.prepare()
    plain = trial.plain(["-c", program])
    recorded = trial.record(["-c", program])
    trial.same(plain, recorded, ("plain", "recorded"))
    assert [process["start"]["parent"] for process in info(trial, recorded.trace)] == [None, 0]


# What other programs start children with, in C.
STARTER = """\
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void run(const char *how, char *program, char **argv, char **env)
{
    pid_t pid = 0;
    if (!strcmp(how, "posix_spawn"))
        posix_spawn(&pid, program, NULL, NULL, argv, env);
    else if (!strcmp(how, "posix_spawnp"))
        posix_spawnp(&pid, program, NULL, NULL, argv, env);
    else if ((pid = strcmp(how, "vfork") ? fork() : vfork()) == 0) {
        if (!strcmp(how, "execv")) execv(program, argv);
        else if (!strcmp(how, "execvp")) execvp(program, argv);
        else if (!strcmp(how, "execvpe")) execvpe(program, argv, env);
        else if (!strcmp(how, "execl")) execl(program, argv[0], argv[1], argv[2], (char *)NULL);
        else if (!strcmp(how, "execlp")) execlp(program, argv[0], argv[1], argv[2], (char *)NULL);
        else if (!strcmp(how, "execle")) execle(program, argv[0], argv[1], argv[2], (char *)NULL, env);
        else execve(program, argv, env);
        _exit(127);
    }
    int status;
    if (pid > 0) waitpid(pid, &status, 0);
}

int main(int argc, char **argv, char **envp)
{
    const char *how[] = {"posix_spawn", "posix_spawnp", "vfork", "execve", "execv", "execvp", "execvpe", "execl",
                         "execlp", "execle"};
    char command[4096];
    for (char **entry = envp; *entry; entry++)
        if (strstr(*entry, "RETRACE") || strstr(*entry, "PRELOAD"))
            puts(*entry);
    fflush(stdout);
    for (size_t i = 0; i < sizeof how / sizeof *how; i++)
        run(how[i], argv[1], (char *[]){argv[1], "-c", argv[2], NULL}, i % 2 ? environ : (char *[]){"A=b", NULL});
    snprintf(command, sizeof command, "%s -c '%s'", argv[1], argv[2]);
    if (system(command) != 0) return 1;
    setenv("CHANGED", "x", 1);
    if (system(command) != 0) return 1;
    FILE *pipe = popen(command, "r");
    while (fgets(command, sizeof command, pipe)) fputs(command, stdout);
    pclose(pipe);
    return environ == envp || getenv("RETRACE_PARENT") || getenv("LD_PRELOAD");
}
"""


def test_children_of_other_programs(trial):
    """A program in C starts Pythons in every way that the C library has, and does not see our variables."""
    trial.prepare()
    (trial.work / "starter.c").write_text(STARTER)
    subprocess.run(["cc", "-o", "starter", "starter.c"], check=True, cwd=trial.work)
    child = "import os; print(sorted(os.environ), flush=True)"
    program = f"import subprocess, sys; r = subprocess.run(['./starter', sys.executable, {child!r}], text=True, "
    program += "capture_output=True); print(r.stdout, r.stderr, r.returncode)"
    plain = trial.plain(["-c", program])
    recorded = trial.record(["-c", program])
    trial.same(plain, recorded, ("plain", "recorded"))
    assert [process["start"]["parent"] for process in info(trial, recorded.trace)] == [None] + [0] * 13, recorded


def test_an_environment_too_large_for_more(trial):
    """Where our variables are what does not fit any more, the child is started without them."""
    program = """\
import os, subprocess
def fits(size):
    env = {f"V{n}": "x" * (100_000 if n < size // 100_000 else size % 100_000) for n in range(1 + size // 100_000)}
    try:
        return subprocess.run(["true"], env=env).returncode == 0
    except OSError as error:
        return False
low, high = 0, 8_000_000
while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if fits(middle) else (low, middle - 1)
print(low)
"""
    trial.prepare()
    plain = trial.plain(["-c", program])
    assert plain.exit == 0 and int(plain.stdout) > 100_000, plain
    trial.same(plain, trial.record(["-c", program]), ("plain", "recorded"))


LATE = """\
import os, subprocess, sys
os.mkfifo("go")
os.mkfifo("end")
child = "import time; print(time.time(), file=open('done', 'w'))"
nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
subprocess.Popen(["sh", "-c", 'read line <go; "$0" -c "$1"; echo >end', sys.executable, child], **nowhere)
print("ended")
"""


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("found", ["the same", "nothing", "another"])
def test_a_child_that_comes_too_late(ready, how, found):
    """It joins the recording of its parent, also after the end; it never makes or touches another."""
    ready.prepare()
    recorded = ready.record(["-c", LATE], how=how)
    assert (recorded.stdout, recorded.exit) == (b"ended\n", 0), recorded
    assert len(info(ready, recorded.trace)) == 1
    if found != "the same":
        recorded.trace.unlink()
    if found == "another":
        run([RETRACE, "record", "-o", recorded.trace, "--", ready.python, "-c", ""], cwd=ready.folder, env={})
        before = recorded.trace.read_bytes()
    (ready.work / "go").write_text("\n")
    (ready.work / "end").read_text()
    assert (ready.work / "done").exists()
    if found == "nothing":
        assert not recorded.trace.exists()
    elif found == "another":
        assert recorded.trace.read_bytes() == before
    else:
        assert [process["start"]["parent"] for process in info(ready, recorded.trace)] == [None, 0]
        ready.same(recorded, ready.replay(recorded.trace), ("recorded", "replayed"))
        assert ready.replay(recorded.trace, "--process", "1").exit == 0


def test_a_script_that_runs_several_programs(trial):
    """None replaces what the one before it left; `retrace record` gave them one recording."""
    trial.prepare()
    script = f"{trial.python} -c 'print(1)'; {trial.python} -c 'print(2)'; {trial.python} -c 'print(3)'"
    recorded = run([RETRACE, "record", "-o", trial.trace, "--", "sh", "-c", script], cwd=trial.work, env={})
    assert (recorded.stdout, recorded.exit) == (b"1\n2\n3\n", 0), recorded
    assert [process["start"]["parent"] for process in info(trial, trial.trace)] == [None] * 3
    for process in range(3):
        replayed = trial.replay(trial.trace, "--process", str(process))
        assert replayed.stdout == b"%d\n" % (process + 1), replayed
    # Another recording replaces it.
    run([RETRACE, "record", "-o", trial.trace, "--", trial.python, "-c", ""], cwd=trial.work, env={})
    assert len(info(trial, trial.trace)) == 1


@pytest.mark.parametrize("how", WAYS)
def test_a_recording_in_a_recorded_program(ready, how):
    """The inner one wins; the outer one has the child that starts it, and nothing of what it records."""
    inner = ready.folder / "inner.retrace"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(3)'])"
    command = [str(RETRACE), "record", "-o", str(inner), "--", str(ready.python), "-c", child]
    program = f"import os, subprocess; print(subprocess.run({command}, capture_output=True, env={{}}))"
    ready.prepare()
    recorded = ready.record(["-c", program], how=how)
    assert recorded.exit == 0 and b"stdout=b'3\\n'" in recorded.stdout, recorded
    assert len(info(ready, recorded.trace)) == 1
    assert [process["start"]["parent"] for process in info(ready, inner)] == [None, 0]
    # By the variable, if the child's environment is activated.
    other = ready.folder / "other.retrace"
    program = "import os, subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(3)'], capture_output=True,"
    program += f" env={{**os.environ, 'RETRACE_RECORDING': {str(other)!r}}}))"
    recorded = ready.record(["-c", program], how=how)
    assert len(info(ready, recorded.trace)) == 1
    assert len(info(ready, other)) == 1


@pytest.mark.parametrize("how", WAYS)
def test_children_that_nobody_wants_recorded(ready, how):
    """An empty RETRACE_RECORDING leaves a child, and what it starts, unrecorded."""
    child = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', '1'], env={**os.environ})"
    program = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], "
    program += "env={**os.environ, 'RETRACE_RECORDING': ''}, check=True)"
    ready.prepare()
    recorded = ready.record(["-c", program], how=how)
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert len(info(ready, recorded.trace)) == 1


def test_what_was_asked_for_holds_for_children(trial):
    """Full arguments, the user's boundary and the limit of the size."""
    trial.prepare()
    (trial.work / "mine.toml").write_text('module = "_bisect"\n[functions]\nbisect_left = "record"\n')
    child = "import os, bisect; os.write(os.open(os.devnull, os.O_WRONLY), b'y' * 300); bisect.bisect_left([1], 1)"
    program = f"import os, subprocess, sys; os.chdir('/'); subprocess.run([sys.executable, '-c', {child!r}], env={{}})"
    command = [RETRACE, "record", "--arguments", "full", "-o", trial.trace, "--", trial.python, "-c", program]
    env = trial.environment(RETRACE_BOUNDARY="mine.toml")
    assert run(command, cwd=trial.work, env=env).exit == 0
    events = trial.tool("events", "--process", "1", "--json", trial.trace).stdout.decode()
    assert "y" * 300 in events and "bisect_left" in events

    child = "import os; f = os.open('/dev/zero', os.O_RDONLY); print(sum(len(os.read(f, 1 << 20)) for _ in range(64)))"
    program = f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True))"
    command = [RETRACE, "record", "--max-size", "16M", "-o", trial.trace, "--", trial.python, "-c", program]
    recorded = run(command, cwd=trial.work, env=trial.environment())
    # The child said nothing: its stderr is the program's to read.
    assert (recorded.exit, recorded.stderr) == (0, b"") and b"stderr=b''" in recorded.stdout, recorded
    assert trial.trace.stat().st_size <= 16 << 20
    assert info(trial, trial.trace)[1]["ending"]["kind"] == "stopped"


def test_an_interactive_child_is_left_alone(trial):
    """`python -i` runs each line as it comes, and its parent waits for the answer before it writes the next."""
    program = """\
import subprocess, sys
pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
with subprocess.Popen([sys.executable, "-i", "-q"], text=True, bufsize=1, **pipes) as child:
    for n in range(3):
        print(f"print({n}, flush=True)", file=child.stdin)
        print(child.stdout.readline())
    child.stdin.close()
    print(child.stderr.read())
"""
    trial.prepare()
    plain = trial.plain(["-c", program])
    trial.same(plain, trial.record(["-c", program], timeout=60), ("plain", "recorded"))
