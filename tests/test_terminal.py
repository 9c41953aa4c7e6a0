"""The debugger in the terminal: from a script on standard input, and with a user who types."""

import os
import re
import signal
import subprocess
import termios
import time

import pexpect
import pytest
from debugger import assert_gone, descendants, record_trace
from harness import HANG, RETRACE

CRASH = "debugged_crash.py"
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])|\r")


def script(trace, *commands, options=()):
    """What the debugger prints for commands, in lines."""
    command = [RETRACE, "debug", trace, *options]
    done = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "\x1b" not in done.stdout
    return done.stdout.splitlines()


def line_of(path, text):
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def at(path, text, function):
    """How a stop at a line is printed."""
    return [f"> {path}({line_of(path, text)}){function}()", f"-> {text}"]


def test_from_the_crash_back_to_the_cause(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    crash = ["ZeroDivisionError: division by zero", *at(path, "return p / q", "divide")]
    shown = script(trace, "p q", "rn", "rr", "p a, b - b", "rn", "rs", "p total", "c", "q")
    assert shown == [
        *["start True", "round 0", "round 1", "round 2"],
        *crash,
        "0",
        *at(path, 'text = "dividing"', "divide"),
        *at(path, "return divide(a, b - b)", "middle"),
        "(2450, 0)",
        *at(path, "if b > a:", "middle"),
        *at(path, "return total", "inner"),
        "2550",
        *crash,
    ]


def test_breakpoints_hold_in_both_directions(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    line = line_of(path, "total += i * 2")
    stop = at(path, "total += i * 2", "inner")
    shown = script(
        trace, f"b {line}, i == 48", "rc", "p n, total", "rc", "p n, total", "c", "p n", "condition 1 i == 7", "rc", "p i",
        "ignore 1 2", "rc", "p n, i", "cl 1", "goto start", f"tbreak {path.name}:{line}", "c", "p i", "c",
    )  # fmt: skip
    place = f"{path}:{line}"
    assert shown[shown.index(f"Breakpoint 1 at {place}") :] == [
        f"Breakpoint 1 at {place}",
        *[*stop, "(51, 2256)", *stop, "(50, 2256)", *stop, "51"],
        *["New condition set for breakpoint 1.", *stop, "7"],
        *["Will ignore next 2 crossings of breakpoint 1.", *stop, "(1000, 7)"],
        f"Deleted breakpoint 1 at {place}",
        *["[The start of the recording]", *at(path, "import time", "<module>")],
        *[f"Breakpoint 2 at {place}", f"Deleted breakpoint 2 at {place}", *stop, "0"],
        *["ZeroDivisionError: division by zero", *at(path, "return p / q", "divide")],
    ]


TWINS = """
import twin

def run(n):
    return n + 1

def other():
    return 7

twin.run(1)
run(2)
twin.other()
"""


def test_a_function_is_the_one_that_is_named(trial):
    """And not another one of that name in another file."""
    trial.prepare(inputs=False)
    path = trial.work / "twins.py"
    path.write_text(TWINS)
    (trial.work / "twin.py").write_text("def run(n):\n    return n * 2\n\ndef other():\n    pass\n")
    trace = trial.record([path]).trace
    shown = script(trace, "goto start", "b run", "c", "p n", "c", "goto start", "cl", "b twin.run", "c", "p n", "c")
    assert [text for text in shown if text in ("1", "2")] == ["2", "1"]
    assert shown.count("[The end of the recording]") >= 2
    # Defined by now.
    shown = script(
        trace,
        f"b twins.py:{line_of(path, 'twin.other()')}",
        "rc",
        "b run",
        "b twin.run",
        "goto start",
        "c",
        "p n",
        "c",
        "p n",
    )
    assert [text for text in shown if text in ("1", "2")] == ["1", "2"]


def test_breakpoints_at_one_line_are_cleared_together(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    place = f"{path.name}:{line_of(path, 'total += i * 2')}"
    shown = script(trace, f"b {place},", f"b {place}, i == 3", "b", f"cl {place}", "b", f"cl {place}")
    assert [text.split(" at ")[0] for text in shown[-3:-1]] == ["Deleted breakpoint 1", "Deleted breakpoint 2"]
    assert shown[-1] == f"*** There are no breakpoints at {place}"
    assert [text for text in shown if "stop only if" in text] == ["\tstop only if i == 3"]


def test_where_a_value_was_last_changed_and_what_is_displayed(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    shown = script(
        trace, "u", "last b", "rs", "display total", "last total", "p i", "until", "p total", "last total + nope"
    )
    middle, end = at(path, "if b > a:", "middle"), at(path, "return total", "inner")
    loop = at(path, "for i in range(n):", "inner")
    begin = shown.index("[b: <NameError: name 'b' is not defined> -> 2550]")
    assert shown[begin:] == [
        *["[b: <NameError: name 'b' is not defined> -> 2550]", *middle, *end, "display total: 2550"],
        *["[total: 2450 -> 2550]", *loop, "50", *end, "2550"],
        "*** NameError: name 'nope' is not defined",
    ]


def test_what_pdb_prints_is_what_this_prints(trial):
    """pdb runs the program itself, to the same place."""
    trace, path = record_trace(trial, CRASH, exit=1)
    commands = [
        *["a", "p p, q", "p 'x' * 3", "pp {str(i): list(range(i)) for i in range(14)}", "whatis divide", "whatis p"],
        *["l", "l", "l 1, 3", "l 24", "ll", "source inner", "d", "p nope", "p 1 +", "p (", "u", "a", "u", "u"],
        *[
            "p None",
            "p",
            "d",
            "d",
            "d",
            "d",
            "text",
            "!k = p * 2",
            "k",
            "d",
            "d",
            "text = str(k)",
            "p text",
            "text.upper()",
            "condition 7",
        ],
    ]
    wanted = subprocess.run(
        [trial.python, "-m", "pdb", path],
        input="\n".join(["b divide", "c", "n", "p 'begin'", *commands, "q"]),
        capture_output=True,
        text=True,
        timeout=HANG,
        cwd=trial.work,
    ).stdout
    wanted = re.sub(r"^(\(Pdb\) )+", "", wanted, flags=re.MULTILINE).split("'begin'\n")[1].splitlines()
    shown = script(trace, "goto start", "b divide", "c", "n", "p 'begin'", *commands)
    shown = shown[shown.index("'begin'") + 1 :]
    said = "[this is changed in a diversion from the recording, which ends with the next movement]"
    assert shown.count(said) == 1
    shown.remove(said)
    assert shown == wanted


def test_what_a_recording_can_not_do_is_said(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    shown = script(
        trace, "j 3", "b 9999", "b nowhere.py:1", "goto soon", "thread 9", "goto end", "n", "x = 1", "n", "x"
    )
    text = "\n".join(shown)
    assert "*** a recording runs as it ran" in text
    assert f"*** no code at or after line 9999 of {path}" in text
    assert "*** 'nowhere.py' is not a file that the program loaded" in text.replace('"', "'")
    assert "*** goto: a number of an event, start, end or crash" in text
    assert "*** there is no thread 9 here" in text
    assert "[The end of the recording]" in shown
    assert shown[-1] == "*** NameError: name 'x' is not defined"
    missing = subprocess.run([RETRACE, "debug", path], input="", capture_output=True, text=True, timeout=HANG)
    assert missing.returncode == 2 and str(path) in missing.stderr


def test_threads(trial):
    trace, path = record_trace(trial, "debugged_threads.py")
    line = line_of(path, "total += number")
    shown = script(trace, f"b {line}", "rc", "threads", "thread 0", "w", "goto start", "c", "p number", "rn")
    first = next(number for number, text in enumerate(shown) if text.startswith("[thread "))
    number, name = re.fullmatch(r"\[thread (\d): (worker-\d.*)\]", shown[first]).groups()
    assert shown[first + 1 : first + 3] == at(path, "total += number", "count")
    listed = [text for text in shown if re.match(r"[* ]   \d  ", text)]
    assert [text[0] for text in listed].count("*") == 1
    assert next(text for text in listed if text[0] == "*").split()[1:3] == [number, name.split()[0]]
    assert listed[0].split()[0:2] == ["0", "MainThread"]
    # The main thread waits for the others.
    assert any(text.startswith(f"  {path}") and "<module>" in text for text in shown)
    assert shown[-3:] == ["0", *at(path, "for number in range(rounds):", "count")]


def test_processes_and_events(trial):
    trace, path = record_trace(trial, "debugged_fork.py")
    line = line_of(path, "answer = part * 2")
    shown = script(trace, "processes", f"b {line}", "rc", "process 1", "rc", "p part", "events 0 3")
    assert [text[:5] for text in shown if "  pid " in text] == ["*   0", "    1"]
    stop = shown.index("21")
    assert shown[stop - 2 : stop] == at(path, "answer = part * 2", "child")
    assert [int(text[2:].split()[0]) for text in shown[stop + 1 :]] == [0, 1, 2]
    assert shown[: stop - 2].count(at(path, "answer = part * 2", "child")[0]) == 0
    alone = script(trace, f"b {line}", "rc", "p part", options=("--process", "1"))
    assert alone[-1] == "21"


class User:
    """Types into a pseudo-terminal."""

    def __init__(self, trace, tmp_path, **environment):
        environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(tmp_path / "state"), **environment}
        self.child = pexpect.spawn(
            str(RETRACE), ["debug", str(trace)], env=environment, encoding="utf-8", timeout=HANG, dimensions=(40, 160)
        )
        self.prompt()

    def prompt(self):
        """What was printed up to the next prompt."""
        self.child.expect_exact("(retrace) ")
        self.raw = self.child.before
        # The prompt is there when keys are read.
        self.wait(lambda flags: not flags & termios.ISIG)
        return CONTROL.sub("", self.raw)

    def wait(self, condition):
        deadline = time.monotonic() + HANG
        while not condition(termios.tcgetattr(self.child.child_fd)[3]):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def types(self, text):
        self.child.send(text)

    def enters(self, line):
        self.types(line + "\r")
        self.child.expect_exact("\n")

    def says(self, line):
        self.enters(line)
        return self.prompt()

    def leave(self, how):
        processes = descendants(self.child.pid)
        assert processes
        how()
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert_gone(processes)


def test_a_user_completes_recalls_and_leaves(trial, tmp_path):
    trace, path = record_trace(trial, CRASH, exit=1)
    user = User(trace, tmp_path)
    assert "\x1b[34mreturn\x1b[0m" in user.raw
    user.types("p tex\t")
    user.child.expect_exact("text")
    assert "'dividing'" in user.says("")
    assert "'DIVIDING'" in user.says("p text.upp\t()")
    assert "2450" in user.says("p p")
    # An empty line does the last one again; the arrow brings back the one before.
    assert "2450" in user.says("")
    assert "'DIVIDING'" in user.says("\x1b[A\x1b[A")
    assert user.says("rcont\t").endswith(f"> {path}(1)<module>()\n-> import time\n")
    user.leave(lambda: user.types("\x04"))
    # Another session knows what was typed.
    user = User(trace, tmp_path, NO_COLOR="1")
    assert "\x1b[34m" not in user.raw
    user.types("\x1b[A")
    user.child.expect_exact("rcontinue")
    user.leave(lambda: user.types("\x15q\r"))


def test_an_interrupt_cancels_a_search(trial, tmp_path):
    trace, path = record_trace(trial, CRASH, exit=1)
    user = User(trace, tmp_path)
    where = user.says("w")
    # Every hit takes long, and none is one.
    user.says(f"b {line_of(path, 'total += i * 2')}, sum(range(10**7)) < 0")
    user.enters("rc")
    user.wait(lambda flags: flags & termios.ISIG)
    user.types("\x03")
    assert "*** cancelled" in user.prompt()
    assert user.says("w") == where
    # A line that is being typed is dropped.
    user.types("p 1 + \x03")
    user.child.expect_exact("\n")
    user.prompt()
    assert user.says("p 20 + 1").strip().endswith("21")
    user.leave(lambda: user.types("q\r"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_however_it_ends(trial, tmp_path, number):
    trace, _ = record_trace(trial, CRASH, exit=1)
    user = User(trace, tmp_path)
    user.leave(lambda: user.child.kill(number))


def test_an_interrupt_ends_a_script(trial):
    trace, path = record_trace(trial, CRASH, exit=1)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([RETRACE, "debug", trace], **pipes) as debugger:
        debugger.stdin.write(f"b {line_of(path, 'total += i * 2')}, sum(range(10**7)) < 0\nrc\n")
        debugger.stdin.flush()
        while not debugger.stdout.readline().startswith("Breakpoint"):
            pass
        processes = descendants(debugger.pid)
        debugger.send_signal(signal.SIGINT)
        assert debugger.wait(HANG) == 130
        assert_gone(processes)
