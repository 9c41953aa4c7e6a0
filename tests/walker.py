"""Walks a debugger through a recording and compares each state with the reference's (line_reference.py).

A place is a line of a thread: a number in the thread's log. What the reference knows of frames says where each movement
leads; the debugger has to be there, with the same frames, lines and variables. Where a place was come to once, its position
is the same for ever.
"""

import json

from harness import TESTS

COMMANDS = ("stepIn", "next", "stepOut", "stepBack", "reverseStepIn", "reverseStepOut")
GROUPS = ("special variables", "function variables", "class variables")


def reference(trial, arguments, *options, child=False, exit=0, key="logs"):
    """The program's log, by thread; or the exceptions that its own code raised."""
    path = trial.folder / "reference.json"
    traced = trial.plain([TESTS / "line_reference.py", *options, path, *arguments])
    assert traced.exit == exit, traced
    return json.loads((path.with_name(path.name + ".child") if child else path).read_text())[key]


class Walker:
    def __init__(self, debugger, log, path):
        self.debugger = debugger
        self.log = log
        self.path = path
        self.place = None
        self.positions = {}

    # ---- where it should be ----

    def goal(self, command, place=None):
        """Where a step leads, by what the reference knows of frames; None for the recording's ends."""
        place = self.place if place is None else place
        *below, own = self.log[place][1]
        allowed = set(below) if command in ("stepOut", "reverseStepOut") else {own, *below}
        if command in ("stepIn", "next", "stepOut"):
            places = range(place + 1, len(self.log))
        else:
            places = range(place - 1, -1, -1)
        anywhere = command in ("stepIn", "reverseStepIn")
        return next((other for other in places if anywhere or self.log[other][1][-1] in allowed), None)

    def hit(self, lines, forwards):
        places = range(self.place + 1, len(self.log)) if forwards else range(self.place - 1, -1, -1)
        own = self.path.name
        return next((place for place in places if self.line(place) in lines and self.log[place][0][0][2] == own), None)

    def lines(self, place):
        return [f"{entry[0]}:{entry[1]}" for entry in self.log[place][0]]

    def line(self, place):
        return self.log[place][0][0][1]

    def function(self, place):
        return self.log[place][0][0][0]

    # ---- movements ----

    def begin(self, place):
        self.place = place % len(self.log)
        self.check("began")

    def step(self, command):
        """False where the recording ends."""
        goal = self.goal(command)
        if goal is None:
            return False
        self.move(command, goal)
        return True

    def move(self, command, goal, **arguments):
        from_there = self.place
        self.debugger.go(command, **arguments)
        self.place = goal
        self.check(f"{command} {arguments or ''} from {from_there} {self.lines(from_there)}")

    def run(self, lines, forwards):
        """Runs to a breakpoint on one of some lines of the program's own file."""
        goal = self.hit(lines, forwards)
        if goal is None:
            return
        self.debugger.set_breakpoints(self.path, sorted(lines))
        self.move("continue" if forwards else "reverseContinue", goal)
        assert self.debugger.stop["reason"] == "breakpoint"
        self.debugger.set_breakpoints(self.path, [])

    def go_again(self, place):
        """To a place whose position is known."""
        self.move("gotoPosition", place, position=self.positions[place])

    # ---- what is shown ----

    def check(self, how):
        debugger = self.debugger
        stack, _ = self.log[self.place]
        wanted = self.lines(self.place)
        where = f"{how} to {self.place} {wanted}"
        shown = debugger.stack()
        lines = [f"{f['name']}:{f['line']}" for f in shown]
        assert lines == wanted, f"{where}, not {lines}"
        if stack[0][3] is not None:
            self.check_variables(shown[0]["id"], stack[0][3], where)
        position = debugger.stop["position"]
        assert self.positions.setdefault(self.place, position) == position, (where, self.positions[self.place], position)

    def check_other(self, thread, lines):
        """A thread that does not run now is at a place behind its last hit, and not behind the next one."""
        own = self.path.name
        shown = [f"{f['name']}:{f['line']}" for f in self.debugger.stack(thread) if f["source"]["name"] == own]
        next_one = self.hit(lines, True)
        last = len(self.log) - 1 if next_one is None else next_one
        stacks = [stack for stack, _ in self.log[max(self.place, 0) : last + 1]]
        stacks = [[f"{f[0]}:{f[1]}" for f in stack if f[2] == own] for stack in stacks]
        # A frame that has just begun has come to no line yet.
        has_begun = bool(shown) and not any(stack[0] == shown[0] for stack in stacks)
        # The log has only the program's own lines: below a thread's first frame is none.
        is_first = self.place < 0 and len(shown) == 1
        assert not shown or shown in stacks or has_begun and (is_first or shown[1:] in stacks), shown
        return bool(shown)

    def check_outer(self, choose):
        """The variables of one of the frames that called this one."""
        stack = self.log[self.place][0]
        places = [place for place, entry in enumerate(stack) if entry[3] is not None]
        place = choose.choice(places)
        self.check_variables(
            self.debugger.stack()[place]["id"], stack[place][3], f"frame {place} at {self.lines(self.place)}"
        )

    def check_variables(self, frame, wanted, where):
        scopes = self.debugger.request("scopes", frameId=frame)["scopes"]
        found = self.debugger.variables(scopes[0]["variablesReference"])
        found = {v["name"]: v["value"] for v in found if v["name"] not in GROUPS}
        assert set(found) == set(wanted), f"{where}: {found}"
        differ = {
            name: (found[name], text) for name, text in wanted.items() if text is not None and found[name] != text
        }
        assert not differ, f"{where}: {differ}"
