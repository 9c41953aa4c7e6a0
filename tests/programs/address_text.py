"""Text with addresses in it: default reprs of all kinds, printed, logged, formatted, in errors and warnings, by threads and by
a forked child."""

import asyncio
import collections
import ctypes
import dataclasses
import functools
import gc
import logging
import os
import pprint
import queue
import socket
import sys
import threading
import traceback
import types
import warnings
import weakref


class Plain:
    def method(self):
        return sys._getframe()


class Slotted:
    __slots__ = ("x", "__weakref__")


class Meta(type):
    pass


class Failing:
    def __repr__(self):
        raise ValueError(object.__repr__(self))


class FailingEnd:
    def __del__(self):
        raise ValueError(self)


class Last:
    """Prints itself when it goes."""

    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("gone:", self.name, self)


@dataclasses.dataclass
class Record:
    plain: Plain
    call: object = print
    more: list = dataclasses.field(default_factory=list)


def generator():
    yield sys._getframe()


async def coroutine():
    await asyncio.sleep(0)


async def asynchronous_generator():
    yield 1


def kinds():
    plain = Plain()
    started = coroutine()
    capsule = __import__("_datetime").datetime_CAPI
    objects = [
        plain,
        Slotted(),
        Meta("Made", (), {})(),
        kinds,
        lambda: None,
        plain.method,
        "text".join,
        [].append,
        str.join,
        type("Other", (), {"__call__": lambda self: self})(),
        generator(),
        started,
        asynchronous_generator(),
        kinds.__code__,
        sys._getframe(),
        plain.method(),
        next(generator()),
        weakref.ref(plain),
        weakref.ref(Plain()),
        weakref.proxy(plain).__repr__,
        weakref.WeakValueDictionary(),
        threading.Lock(),
        threading.RLock(),
        threading.Event(),
        threading.Condition(),
        threading.Semaphore(),
        threading.local(),
        queue.Queue(),
        iter([]),
        iter({}),
        iter("text"),
        zip(),
        map(str, []),
        enumerate("a"),
        reversed([1]),
        functools.partial(kinds, plain),
        functools.lru_cache(kinds),
        property(kinds),
        staticmethod(kinds),
        classmethod(kinds),
        super(Plain, plain),
        types.CellType(plain),
        (lambda: plain).__closure__,
        types.MappingProxyType({"plain": plain}),
        types.SimpleNamespace(plain=plain),
        memoryview(b"bytes"),
        collections.deque([plain]),
        collections.defaultdict(Plain, {1: plain}),
        capsule,
        ctypes.c_int(3),
        ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3),
        ctypes.byref(ctypes.c_int(3)),
        __loader__,
        NotImplemented,
    ]
    for thing in objects:
        print(repr(thing))
    print(*objects[:5])
    print(f"{plain} {plain!r:>60} {plain!s}", "%r %s" % (plain, plain), "{0!r} {0}".format(plain))
    print(b"%a" % plain, ascii(plain), str(plain))
    print("the same number:", f"{id(plain):x}" in repr(plain))
    started.close()
    print(Record(plain, kinds, [plain, {plain: kinds}]))
    pprint.pprint([Record(plain, kinds, [plain] * 3), {"key": objects[:6]}], width=60)


def sets():
    print(sorted({repr(Plain()) for _ in range(5)} | {f"{Plain()}"}))
    alive = [Plain() for _ in range(200)]
    print("in order:", *{repr(plain)[-6:] for plain in alive})
    index = {repr(plain): number for number, plain in enumerate(alive)}
    print("found:", index[repr(alive[77])])


def errors():
    plain = Plain()
    for fail in (
        lambda: plain.missing,
        lambda: plain(),
        lambda: {plain: 1}["key"],
        lambda: {}[plain],
        lambda: plain + 1,
        lambda: [].remove(plain),
        lambda: asyncio.run(plain),
        lambda: repr(Failing()),
        lambda: (_ for _ in ()).throw(ValueError(plain, kinds)),
    ):
        try:
            fail()
        except Exception as error:
            print(type(error).__name__, error, error.args)
    try:
        raise RuntimeError(f"{plain!r} failed") from KeyError(kinds)
    except RuntimeError:
        traceback.print_exc()
        print(traceback.format_exc())
    try:
        local = plain
        assert local is None, f"{local} is left"
    except AssertionError:
        print("".join(traceback.TracebackException(*sys.exc_info(), capture_locals=True).format()))
    FailingEnd()


def messages():
    plain = Plain()
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s", stream=sys.stdout)
    logging.info("an %s and %r", plain, kinds)
    logging.getLogger("other").warning({"plain": plain})
    warnings.simplefilter("always")
    warnings.warn(f"{plain} is old", DeprecationWarning, stacklevel=1)
    with open("reprs.txt", "w") as file:
        print(plain, kinds, file=file)
    with open("reprs.txt") as file:
        print(file.read() == f"{plain} {kinds}\n")
    left, right = socket.socketpair()
    with left, right:
        left.sendall(repr(plain).encode())
        print(right.recv(200))
    os.write(1, f"{plain}\n".encode())


async def tasks():
    loop = asyncio.get_running_loop()
    task = loop.create_task(coroutine(), name="one")
    print(task, loop.create_future(), asyncio.Lock(), asyncio.Queue(), loop.call_later(1000, kinds))
    await task
    print(task)
    print(asyncio.Event(), asyncio.Semaphore(2), asyncio.current_task().get_coro())


def threads():
    """Each prints while the others may come between."""
    plain, lock = [Plain() for _ in range(4)], threading.Lock()

    def work(mine):
        for n in range(300):
            text = f"{mine} {Plain()} {n}"
            if n % 60 == 0:
                with lock:
                    print(text)

    workers = [threading.Thread(target=work, args=(each,)) for each in plain]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def finalizers():
    kept = Last("kept")
    Last("at once")
    cycle = Last("in a cycle")
    cycle.itself = cycle
    del cycle
    gc.collect()
    for number in range(3000):
        ring = [number]
        ring.append(ring)
    ring = Last("in a cycle that is collected sometime")
    ring.itself = ring
    del ring
    return kept


def callbacks():
    """Python code that C code of the outside calls."""
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.create_function("shown", 1, lambda x: f"{x} {Plain()}")
    print(connection.execute("select shown(1), shown(2)").fetchall())
    print(connection, connection.cursor())
    connection.close()


def child():
    plain = Plain()
    print("before the fork:", plain, flush=True)
    pid = os.fork()
    if pid == 0:
        print("child:", plain, Plain(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent:", plain, Plain())


if __name__ == "__main__":
    kinds()
    sets()
    errors()
    messages()
    asyncio.run(tasks())
    threads()
    kept = finalizers()
    callbacks()
    if sys.argv[1:] == ["fork"]:
        child()
    at_end = Last("at the end")
