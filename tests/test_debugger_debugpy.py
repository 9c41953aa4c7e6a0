"""Values beside those that debugpy shows of the same program: most people know them from there."""

import os
import subprocess

import pytest
from dap import DAPClient
from debugger import Debugger, line_of

PROGRAM = """
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import re
import types
import uuid


class Str(str):
    pass


class Int(int):
    pass


class Dict(dict):
    pass


class List(list):
    def __repr__(self):
        return "List!"


class Tuple(tuple):
    pass


class Lines:
    def __repr__(self):
        return "a\\nb"


class Long:
    def __repr__(self):
        return "x" * 1000


class Meta(type):
    def __repr__(cls):
        return "Meta!"


class Colour(enum.Enum):
    RED = 1


class Flag(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass
class Data:
    a: int
    b: str = "b"


Point = collections.namedtuple("Point", "x y")


class Slots:
    __slots__ = ("a", "b")


class Raises:
    def __repr__(self):
        raise ValueError("no")


class NotText:
    def __repr__(self):
        return 7


class Exits:
    def __repr__(self):
        raise SystemExit


def work():
    none, true, small, big, negative = None, True, 42, 10**300, -3
    floating, infinite, imaginary = 1.5, float("-inf"), 1 + 2j
    text, quotes, escapes, empty_text = "hello", "it's \\"q\\"", "a\\nb\\tc\\\\\\x00\\x7f", ""
    letters = "\\u00e9\\u6f22\\U0001f600\\ud800"
    data, writable, view = b"ab\\xff", bytearray(b"qq"), range(10)
    empty_list, empty_tuple, empty_dict = [], (), {}
    plain_list, single, pair, plain_set = [1, "a", None], (1,), (1, 2), {1}
    frozen = frozenset({1})
    plain_dict = {"a": 1, 2: "b", (1, 2): [3]}
    two_deep, tuples = [[1], [2, 3]], ((1,), {"a": 2})
    recursive, around = [1], {}
    recursive.append(recursive)
    around["me"] = around
    long_texts = ["a" * 1000, b"b" * 1000, 5]
    long_keys = {"k" * 1000: {"v" * 200}}
    long_reprs = [Long(), {"one": Long()}]
    subclasses = [Str("a"), Int(1), Dict(a=1), List([1, 2]), Tuple((1, 2))]
    text_of_mine, number_of_mine = Str("abc"), Int(5)
    dict_of_mine, list_of_mine, tuple_of_mine = Dict(a=1), List([1, 2]), Tuple((1, 2))
    lines, colour, flag, record, point = Lines(), Colour.RED, Flag.A | Flag.B, Data(1), Point(1, 2)
    counter, defaults = collections.Counter("aab"), collections.defaultdict(list, a=[1])
    queue, chain = collections.deque([1, 2]), collections.ChainMap({"a": 1}, {})
    keys, proxy = {"a": 1}.keys(), types.MappingProxyType({"a": 1})
    decimals, path, when = decimal.Decimal("1.10"), pathlib.PurePosixPath("/a/b"), datetime.datetime(2020, 1, 2)
    pattern, ints, identity = re.compile("a+"), array.array("i", [1, 2]), uuid.UUID(int=5)
    names, error = types.SimpleNamespace(a=1), ValueError("bad", 1)
    group = ExceptionGroup("g", [ValueError(1)])
    partial = functools.partial(int, base=2)
    # Those that are better shown differently.
    empty_set, empty_frozen, few = set(), frozenset(), collections.deque([1], maxlen=5)
    huge, deep = 1 << 20000, [[[[[[[[1]]]]]]]]
    raises, not_text, exits = Raises(), NotText(), Exits()
    some_raise = [Raises(), 1, {"one": Raises()}]
    slots, shown_alike = Slots(), [object()]
    many, many_more = list(range(1000)), {number: str(number) for number in range(1000)}
    long_text, long_data = "abc" * 5000, b"xy" * 5000
    cube = [[list(range(100)) for _ in range(100)] for _ in range(100)]
    ordered = collections.OrderedDict(a=1)
    print("here")


class Made(metaclass=Meta):
    pass


work()
"""

KINDS_RAISE = "<{} whose repr raised {}>"
OURS = {
    # `{}` is an empty dict.
    "empty_set": "set()",
    "empty_frozen": "frozenset()",
    "few": "deque([1], maxlen=5)",
    "huge": "<int of 20001 bits>",
    # Two levels there.
    "deep": "[[[[[[[...]]]]]]]",
    # As an object without a `__repr__` there, without a reason.
    "raises": KINDS_RAISE.format("Raises", "ValueError: no"),
    "not_text": KINDS_RAISE.format("NotText", "TypeError: __repr__ returned non-string (type int)"),
    "exits": KINDS_RAISE.format("Exits", "SystemExit: "),
    "some_raise": "[{0}, 1, {{'one': {0}}}]".format(KINDS_RAISE.format("Raises", "ValueError: no")),
    # The address that it had is not known.
    "slots": "<__main__.Slots object at 0x?>",
    "shown_alike": "[<object object at 0x?>]",
    # 60 items there, of a dict too, and fewer where there are lists in a list.
    "many": f"[{', '.join(map(str, range(100)))}, ...]",
    "many_more": f"{{{', '.join(f'{number}: {str(number)!r}' for number in range(100))}, ...}}",
    # 65536 characters there, also of each item of what has many.
    "long_text": repr(("abc" * 5000)[:2666] + "..." + ("abc" * 5000)[-1333:]),
    "long_data": repr((b"xy" * 5000)[:2666] + b"..." + (b"xy" * 5000)[-1333:]),
    # As of 3.12.
    "ordered": None,
    # As many as there is room for.
    "cube": None,
}


class Debugpy(Debugger):
    """A session with debugpy's adapter, which runs the program."""

    def __init__(self, python, program):
        self.client = DAPClient(adapterID="debugpy", clientID="tests", clientName="tests", locale="en")
        command = [python, "-m", "debugpy.adapter"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.server = subprocess.Popen(command, **pipes)
        os.set_blocking(self.server.stdout.fileno(), False)
        self.python, self.program = python, program
        self.answers, self.events, self.buffer = {}, [], b""

    def __enter__(self):
        self.flush()
        return self

    def stopped(self):
        self.stop = self.wait(lambda: self.take("stopped"))
        return self.stop

    def run_to(self, line):
        self.wait(lambda: self.answers or None)
        self.send("launch", program=str(self.program), console="internalConsole", python=[str(self.python)])
        self.wait(lambda: self.take("initialized"))
        self.set_breakpoints(self.program, [line])
        self.request("configurationDone")
        self.stopped()


def by_name(debugger):
    return {variable["name"]: variable for variable in debugger.variables(debugger.scope())}


@pytest.fixture
def both(trial, venv):
    """Two debuggers where the program says that it is there, debugpy's first."""
    python = venv("debugpy==1.8.22")
    trial.use(python).prepare(inputs=False)
    program = trial.work / "program.py"
    program.write_text(PROGRAM)
    line = line_of(program, '"here"')
    trace = trial.record([program]).trace
    with Debugpy(python, program) as debugpy, Debugger(trace) as debugger:
        debugpy.run_to(line)
        debugger.launch("entry", [(program, [line])])
        debugger.go("continue")
        yield debugpy, debugger


def test_values_and_types_are_shown_alike(both):
    theirs, ours = map(by_name, both)
    assert set(ours) == set(theirs) and set(OURS) < set(ours)
    differ = {
        name: (variable["value"], ours[name]["value"])
        for name, variable in theirs.items()
        if name not in OURS and variable["value"] != ours[name]["value"]
    }
    assert not differ
    for name, value in OURS.items():
        assert value in (None, ours[name]["value"]), (name, ours[name]["value"], theirs[name]["value"])
    assert {name: v["type"] for name, v in ours.items()} == {name: v["type"] for name, v in theirs.items()}
    cube = ours["cube"]["value"]
    assert cube.startswith("[[[0, 1, 2") and cube.endswith("...") and 2000 < len(cube) < 6000


@pytest.mark.parametrize(
    "name",
    ["plain_list", "plain_dict", "dict_of_mine", "record", "pair", "queue", "defaults", "error", "names", "when"],
)
def test_children_are_named_and_grouped_alike(both, name):
    """Items come first here, as clients ask for some of them by their numbers."""
    found = []
    for debugger in both:
        children = debugger.variables(by_name(debugger)[name]["variablesReference"])
        groups = [child for child in children if child["name"].endswith(" variables")]
        others = [child for child in children if child not in groups]
        found.append(
            (
                [child["name"] for child in groups],
                sorted((child["name"], child["value"], child["type"], child.get("evaluateName")) for child in others),
            )
        )
    assert found[0] == found[1]
