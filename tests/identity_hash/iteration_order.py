"""Prints the order in which sets and dicts of all kinds of objects iterate. Must print the same in every process.

argv[1] seeds what a process may do differently before the start point: the order in which the modules that the
program uses are imported, which further ones are, what is allocated, and what is hashed.
"""
import importlib
import random
import sys

variant = int(sys.argv[1])
choose = random.Random(variant)

USED = ["asyncio", "contextvars", "dataclasses", "decimal", "enum", "functools", "json", "logging", "math", "re",
        "threading", "types", "typing", "weakref", "collections", "inspect"]
FURTHER = ["http.client", "xml.dom.minidom", "unittest", "sqlite3", "concurrent.futures", "csv", "zipfile",
           "html.parser", "email.message", "ast", "argparse", "difflib", "pickle", "ctypes", "xml.etree.ElementTree"]

imports = USED[:]
if variant:
    choose.shuffle(imports)
    imports += choose.sample(FURTHER, choose.randrange(len(FURTHER)))
for name in imports:
    importlib.import_module(name)
ballast = [object() for _ in range(choose.randrange(10_000))]
hashed_before = set()
for module in list(sys.modules.values()):
    for value in list(vars(module).values()):
        if choose.random() < 0.3:
            try:
                hashed_before.add(value)
            except TypeError:
                pass

import asyncio, contextvars, dataclasses, decimal, enum, functools, json, logging, math, re, threading, types, typing
import weakref

import identity_probe

identity_probe.install()
del hashed_before, ballast


def show(what, items, name=lambda x: x):
    print(what, [name(x) for x in items])


# what existed before
show("types", {int, str, dict, type, object, enum.Enum, re.Pattern, asyncio.Task, typing.Generic, logging.Logger})
show("type subclasses", set(BaseException.__subclasses__()) & {Exception, SystemExit, KeyboardInterrupt, GeneratorExit})
show("functions", {json.dumps, re.compile, enum.unique, dataclasses.dataclass, functools.wraps, logging.getLogger},
     lambda f: f.__qualname__)
show("builtins", {len, abs, print, sorted, math.sin, math.cos, repr, sys.exit, dict.fromkeys, "".join},
     lambda f: f.__name__)
show("methods", {logging.root.info, logging.root.debug, logging.root.warning}, lambda f: f.__name__)
show("modules", {sys, enum, types, weakref, asyncio, re, json, threading, math, typing}, lambda m: m.__name__)
show("singletons", {None, NotImplemented, ..., True})
show("enum members", {re.RegexFlag.I, re.RegexFlag.M, enum.auto, enum.CONTINUOUS, enum.STRICT}, str)
show("typing forms", {typing.Any, typing.Optional, typing.Union, typing.List, typing.Callable, typing.List[int],
                      typing.Optional[str], int | str, list[int]})
show("module instances", {dataclasses.MISSING, dataclasses._HAS_DEFAULT_FACTORY, logging.root, logging._lock,
                          threading.main_thread(), enum._auto_null}, lambda x: type(x).__name__)
show("deeper instances", {logging.Logger.manager, logging.root.manager.loggerDict.get("asyncio"), logging.lastResort,
                          threading.main_thread()._started}, lambda x: type(x).__name__)
show("descriptors", {v for v in vars(str).values() if type(v) in (types.MethodDescriptorType,
                                                                  types.WrapperDescriptorType)},
     lambda d: d.__name__)
show("class attributes", {v for v in vars(threading.Thread).values() if type(v) in (property, types.FunctionType)},
     lambda v: getattr(v, "__qualname__", type(v).__name__))
show("weakrefs", {weakref.ref(c) for c in (int, str, dict, list, json, re)}, lambda r: r().__name__)
show("code", {json.dumps.__code__, re.compile.__code__, enum.unique.__code__}, lambda c: c.co_name)
show("frozensets", {frozenset([int, str]), frozenset([json, re]), frozenset([None, len])},
     lambda s: sorted(str(x).split(" at ")[0] for x in s))
show("exceptions", {type(e) for e in (ValueError(), KeyError(), OSError(), UnicodeError())})

# what the program makes


class Slotted:
    __slots__ = ("i",)

    def __init__(self, i):
        self.i = i

    def method(self):
        pass


slotted = [Slotted(i) for i in range(40)]
show("instances", set(slotted), lambda s: s.i)
junk = [object() for _ in range(1000)]
set(junk)
del junk
classes = [type("C%d" % i, (), {}) for i in range(20)]
show("new classes", set(classes), lambda c: c.__name__)
lambdas = [eval("lambda: %d" % i) for i in range(20)]
show("lambdas", set(lambdas), lambda f: f())
show("bound methods", {s.method for s in slotted}, lambda m: m.__self__.i)
show("bound builtins", {x.append for x in [[i] for i in range(10)]}, lambda f: f.__self__)
show("method-wrappers", {x.__str__ for x in range(5)}, lambda f: f.__self__)
show("method-wrappers 2", {s.__hash__ for s in slotted}, lambda f: f.__self__.i)
enums = [enum.Enum("E%d" % i, "a b") for i in range(8)]
show("enum classes", set(enums), lambda e: e.__name__)
show("enum members 2", {m for e in enums for m in e}, str)
show("code 2", {f.__code__ for f in lambdas}, lambda c: c.co_consts)
show("weakrefs 2", {weakref.ref(c) for c in classes}, lambda r: r().__name__)
show("weak set", weakref.WeakSet(classes), lambda c: c.__name__)


def generator(i):
    yield i


generators = [generator(i) for i in range(8)]
show("generators", set(generators), lambda g: g.gi_frame.f_locals["i"])
show("NaN", {float("nan"), 1.5, complex("nan+1j"), 2.5, float("nan"), decimal.Decimal("nan"), decimal.Decimal(1)})
show("slot descriptors", {vars(type("S%d" % i, (), {"__slots__": ("x",)}))["x"] for i in range(9)},
     lambda d: d.__objclass__.__name__)
show("locks", set(enumerate(threading.Lock() for _ in range(5))), lambda x: x[0])
variables = [contextvars.ContextVar("v%d" % i) for i in range(20)]
for v in variables:
    v.set(1)
show("context variables", contextvars.copy_context(), lambda v: v.name)
show("partials", {functools.partial(int, base=b) for b in range(2, 12)}, lambda p: p.keywords["base"])
show("exceptions 2", {ValueError(i) for i in range(9)}, lambda e: e.args[0])


@dataclasses.dataclass(frozen=True)
class Point:
    kind: type
    callback: object


show("dataclasses", {Point(t, f) for t in (int, str, Slotted) for f in (len, show)}, lambda p: p.kind.__name__)


async def sleeper(i):
    await asyncio.sleep(0)
    return i


async def main():
    tasks = [asyncio.create_task(sleeper(i), name="t%d" % i) for i in range(10)]
    show("all tasks", asyncio.all_tasks(), lambda t: t.get_name())
    done, _ = await asyncio.wait(tasks)
    show("done", done, lambda t: t.get_name())


asyncio.run(main())
stats = identity_probe.stats()
print("numbers", stats["program_numbers"], stats["external_numbers"])
