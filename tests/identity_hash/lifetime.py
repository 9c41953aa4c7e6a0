"""What was freed leaves no trace, and nothing that the watching does can be noticed."""
import contextlib
import gc
import io
import itertools
import sys
import threading
import types
import warnings
import weakref
import xml.etree.ElementTree as ElementTree

import identity_probe

identity_probe.install()


def entries():
    gc.collect()
    return identity_probe.stats()["entries"]


class Plain:
    pass


class Base:
    __slots__ = ()


class Meta(type):
    pass


def generator():
    yield


# Four million objects of all kinds come and go, each with a number of its own.
makers = [object, Plain, Base, lambda: (lambda: 0), lambda: type("T", (), {}), lambda: Meta("M", (Plain,), {}),
          generator, ValueError, MemoryError, threading.Lock, lambda: iter(()), lambda: itertools.chain((), ()),
          lambda: types.ModuleType("m"), lambda: ElementTree.Element("e"), lambda: property(), io.StringIO,
          lambda: types.SimpleNamespace().__init__.__self__.__class__, lambda: sys._getframe(),
          lambda: type("S", (str,), {})("x").upper]
for make in makers:
    first = hash(make())
    assert entries() is not None
before = entries()
seen = set()
for make in makers:
    for _ in range(1000):
        hash(make())
assert entries() <= before + len(makers), (before, entries(), identity_probe.stats())
before = entries()
total = 0
for rounds in range(40):
    for make in (object, Plain, Base, generator, makers[3]):
        batch = [make() for _ in range(20_000)]
        numbers = set(map(hash, batch))
        assert len(numbers) == 20_000 and seen.isdisjoint(numbers)
        total += 20_000
    seen = numbers
assert total == 4_000_000
del batch, numbers, seen
after = entries()
assert after <= before + 10, (before, after)
assert identity_probe.stats()["capacity"] <= 1 << 17, identity_probe.stats()

# A new object at an old address has a new number.
address, number = None, None
for _ in range(100):
    x = object()
    if id(x) == address:
        assert hash(x) != number
    address, number = id(x), hash(x)
    del x


# Resurrection keeps the number.
class Phoenix:
    kept = []

    def __del__(self):
        self.kept.append(self)


bird = Phoenix()
number = hash(bird)
del bird
assert hash(Phoenix.kept.pop()) == number


class Raw(io.RawIOBase):
    """A C type with a finalizer."""

    kept = []

    def close(self):
        self.kept.append(self)


raw = Raw()
number = hash(raw)
del raw
assert hash(Raw.kept.pop()) == number


# __class__ and __bases__ between classes that are watched and classes that are not.
class A:
    pass


class B:
    pass


for first, second in ((A, B), (B, A)):
    x = first()
    hash(x)
    x.__class__ = second
    number = hash(x)
    x.__class__ = first
    assert hash(x) == number
    del x
x = type("C", (), {})()
number = hash(x)
x.__class__ = type("D", (), {})
assert hash(x) == number
before = entries()
x = [type("C", (), {})() for _ in range(100)]
for i in x:
    hash(i)
    i.__class__ = type("D", (), {})
del x, i
assert entries() <= before + 4, (before, entries())


class Module(types.ModuleType):
    pass


hash(types.ModuleType("m")), hash(Module("m"))
module = types.ModuleType("m")
hash(module)
module.__class__ = Module
del module


class Left:
    pass


class Right:
    pass


class Child(Left):
    pass


hash(Left()), hash(Child())
Child.__bases__ = (Right,)
hash(Right())
Child.__bases__ = (Left, Right)
hash(Child())
assert Child.__mro__[1:3] == (Left, Right)


class Empty1(object):
    __slots__ = ()


class Empty2(Empty1):
    __slots__ = ()


hash(Empty1()), hash(Empty2())
Empty2.__bases__ = (Base,)
for assignment in ("Plain().__class__ = Base", "Plain().__class__ = int", "(1).__class__ = Plain", "int.__bases__ = ()",
                   "Child.__bases__ = (int,)", "Child.__bases__ = 3", "del Plain().__class__", "Plain().__class__ = 3"):
    try:
        exec(assignment)
    except TypeError:
        pass
    else:
        raise AssertionError(assignment)

# Long chains are still freed through the trashcan: on a small stack, each level in C would overflow it.


def free_long_chains():
    depth = 100_000
    chain = None
    for i in range(depth):
        chain, link = ValueError(), chain
        chain.__context__ = link
        if i % 1000 == 0:
            hash(chain)
    del chain, link
    traceback = None
    frame = sys._getframe()
    for i in range(depth):
        traceback = types.TracebackType(traceback, frame, 0, 1)
        if i % 1000 == 0:
            hash(traceback)
    del traceback, frame
    root = element = ElementTree.Element("root")
    for i in range(depth):
        element = ElementTree.SubElement(element, "e")
        if i % 1000 == 0:
            hash(element)
    del root, element
    {[].append, {}.get}
    nested = None
    for _ in range(depth):
        nested = [nested]
    del nested
    survivors.append(True)


survivors = []
threading.stack_size(512 * 1024)
thread = threading.Thread(target=free_long_chains)
thread.start()
thread.join()
assert survivors

# Finalizers see what they saw: a file left open still warns, weak references die before a generator's finally.
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    file = open("/dev/null", "rb", buffering=0)
    hash(file)
    del file
assert [w.category for w in caught] == [ResourceWarning], caught
events = []


def with_finally():
    try:
        yield
    finally:
        events.append("finally")


g = with_finally()
next(g)
hash(g)
reference = weakref.ref(g, lambda r: events.append("weakref"))
del g
assert events == ["weakref", "finally"], events

# An unhashable function makes its method unhashable, as before; explicit object.__hash__ works on anything.


class Unhashable:
    __hash__ = None

    def __call__(self):
        pass


with contextlib.suppress(TypeError):
    hash(types.MethodType(Unhashable(), 1))
    raise AssertionError
assert object.__hash__([]) == object.__hash__([1]) and object.__hash__("a") == object.__hash__("b")
nan = float("nan")
assert hash(nan) == object.__hash__(nan) == hash(float("nan"))


class Float(float):
    pass


nans = [Float("nan") for _ in range(100)]
assert len({hash(x) for x in nans}) == 100 and len(set(nans)) == 100

# A hooked builtin hashes like the original.
before = hash(sys.intern), hash(sys.getrefcount)
identity_probe.hook(sys.intern)
assert (hash(sys.intern), hash(sys.getrefcount)) == before

# External code counts for itself.
numbers = identity_probe.stats()
assert identity_probe.external(True) is False
x = object()
assert hash(x) >= 1 << 62
assert identity_probe.external(False) is True
now = identity_probe.stats()
assert now["external_numbers"] == numbers["external_numbers"] + 1
assert now["program_numbers"] == numbers["program_numbers"]
assert hash(object()) == now["program_numbers"] + 1
assert identity_probe.stats()["unwatched_types"] == 0, identity_probe.stats()
print("ok")
