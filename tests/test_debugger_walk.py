"""The debugger shows at each line, come to in whatever way, what a trace of the program saw there."""

import random

import pytest
from debugger import Debugger, line_of, record
from walker import COMMANDS, Walker, reference


def walk(walker, choose, turns):
    """Moves at random, in every way there is."""
    for _ in range(turns):
        way = choose.random()
        if way < 0.75:
            walker.step(choose.choice(COMMANDS))
        elif way < 0.85 and walker.positions:
            walker.go_again(choose.choice(sorted(walker.positions)))
        else:
            lines = {walker.line(choose.randrange(len(walker.log))) for _ in range(2)}
            walker.run(lines, choose.random() < 0.5)
        walker.check_outer(choose)


@pytest.fixture
def walked(trial):
    trial.prepare("walked.py", "walked_module.py", inputs=False)
    path = trial.work / "walked.py"
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    return recorded, path, reference(trial, [path])["MainThread"]


def test_every_line_forwards_and_backwards(walked):
    recorded, path, log = walked
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        walker = Walker(debugger, log, path)
        walker.begin(0)
        for into, over in (("stepIn", "next"), ("reverseStepIn", "stepBack")):
            while (goal := walker.goal(into)) is not None:
                walker.step(
                    over if walker.function(goal) == "burn" and walker.function(walker.place) != "burn" else into
                )
                while walker.function(walker.place) == "burn":
                    walker.step("stepOut" if into == "stepIn" else "reverseStepOut")
        assert walker.place == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk(walked, seed):
    recorded, path, log = walked
    choose = random.Random(seed)
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry" if seed % 2 else "end")
        walker = Walker(debugger, log, path)
        walker.begin(0 if seed % 2 else -1)
        walk(walker, choose, 120)


def test_every_exception_where_it_is_raised(trial, walked):
    recorded, path, _ = walked
    raised = reference(trial, [path], key="raised")
    assert len(raised) > 10
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry")
        debugger.request("setExceptionBreakpoints", filters=["raised"])
        for command, wanted in (("continue", raised), ("reverseContinue", reversed(raised[:-1]))):
            for stack, kind, text in wanted:
                assert debugger.go(command)["reason"] == "exception"
                assert [[f["name"], f["line"]] for f in debugger.stack()] == [frame[:2] for frame in stack]
                info = debugger.request("exceptionInfo", threadId=1)
                assert (info["exceptionId"], info["description"]) == (kind, text)


@pytest.fixture
def threaded(trial):
    trial.prepare("walked_threads.py", inputs=False)
    path = trial.work / "walked_threads.py"
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    return recorded, path, reference(trial, [path])


def lines_of(path, *texts):
    return [line_of(path, text) for text in texts]


def test_each_thread_comes_to_its_lines_in_both_directions(threaded):
    recorded, path, logs = threaded
    lines = lines_of(
        path,
        "results = []",
        "self.entered =",
        "fail(depth - 1)",
        "yield number",
        "results.append((turn",
        "into[number]",
    )
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, lines)])
        walkers = {}
        order, seen = [], 0
        while debugger.go("continue")["reason"] == "breakpoint":
            thread = debugger.stop["threadId"]
            if thread not in walkers:
                names = {t["id"]: t["name"] for t in debugger.request("threads")["threads"]}
                walkers[thread] = Walker(debugger, logs[names[thread]], path)
                walkers[thread].place = -1
            walker = walkers[thread]
            walker.place = walker.hit(lines, True)
            assert walker.place is not None
            walker.check("continue")
            seen += sum(walkers[other].check_other(other, lines) for other in walkers.keys() - {thread})
            order.append((thread, walker.place))
        assert len(walkers) == len(logs)
        assert seen
        for walker in walkers.values():
            assert walker.hit(lines, True) is None
        for thread, place in reversed(order):
            assert debugger.go("reverseContinue")["reason"] == "breakpoint"
            assert debugger.stop["threadId"] == thread
            walkers[thread].place = place
            walkers[thread].check("reverseContinue")
            for other in walkers.keys() - {thread}:
                # The thread has gone back to before its place, or not yet.
                before = [p for t, p in order[: order.index((thread, place))] if t == other]
                walkers[other].place = before[-1] if before else -1
                walkers[other].check_other(other, lines)


@pytest.mark.parametrize("seed", range(2))
def test_a_random_walk_in_a_thread(threaded, seed):
    recorded, path, logs = threaded
    choose = random.Random(seed)
    (line,) = lines_of(path, "results = []")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [line])])
        for _ in range(choose.randrange(1, 5)):
            debugger.go("continue")
        debugger.set_breakpoints(path, [])
        names = {t["id"]: t["name"] for t in debugger.request("threads")["threads"]}
        log = logs[names[debugger.stop["threadId"]]]
        walker = Walker(debugger, log, path)
        begin = next(place for place, entry in enumerate(log) if entry[0][0][:2] == ["work", line])
        walker.begin(begin)
        for _ in range(100):
            if choose.random() < 0.8:
                walker.step(choose.choice(COMMANDS))
            else:
                walker.go_again(choose.choice(sorted(walker.positions)))
            walker.check_outer(choose)


def test_sys_settrace_sees_the_same_states(trial):
    """On 3.12 it has more line events; the debugger's are among them. (Asked for variables there, CPython 3.12 changes
    those of a comprehension in a module's or a class's body.)"""
    trial.prepare("walked.py", "walked_module.py", inputs=False)
    path = trial.work / "walked.py"
    monitored = reference(trial, [path])["MainThread"]
    traced = iter(reference(trial, [path], "--settrace")["MainThread"])

    def seen(entry):
        frames = [frame[:3] for frame in entry[0]]
        name = frames[0][0]
        return frames, None if name == "<module>" or name.endswith("Made") else entry[0][0][3]

    for entry in monitored:
        assert any(seen(entry) == seen(other) for other in traced), entry


def test_no_line_of_a_thread_is_missing_where_it_begins(trial):
    recorded, path = record(trial, "walked_many_threads.py")
    lines = lines_of(path, "first = burn", "second = burn", "done.append")
    with Debugger(recorded.trace) as debugger:
        debugger.launch("entry", [(path, [{"line": line, "logMessage": f"{line} {{number}}"} for line in lines])])
        debugger.go("continue")
        logged = sorted(line for line in debugger.output("console").splitlines() if line)
        assert logged == sorted(
            f"{line} {group * 10 + number}" for line in lines for group in range(10) for number in range(5)
        )


GENERATORS = """
import sys
import threading

sys.setswitchinterval(0.0001)


def numbers(limit):
    for number in range(limit):
        yield number


def twice(limit):
    for number in range(limit):
        (yield number) or (yield number)


def work(into):
    into.append(sum(numbers(400_000)) + sum(twice(100_000)))


into = []
threads = [threading.Thread(target=work, args=(into,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(into)
"""


def test_preemption_right_behind_a_yield_is_met_again(trial):
    """On 3.11 a traced generator looks at the eval breaker twice where it goes on, and may be preempted on the same line."""
    trial.prepare(inputs=False)
    path = trial.work / "generators.py"
    path.write_text(GENERATORS)
    recorded = trial.record([path])
    assert recorded.exit == 0, recorded
    with Debugger(recorded.trace) as debugger:
        debugger.launch("end")
        # Through each window, with line events.
        assert debugger.go("reverseContinue")["reason"] == "entry"
        assert debugger.go("continue")["reason"] == "step"
        said = debugger.output("console") + debugger.output("important")
        assert "not met" not in said, said
