"""The computed depth of the value stack is the real one, where that is known: in generators that wait.

Every way to hold values on the stack across a yield: calls, operators, displays, loops, handlers, `with`, `match`,
comprehensions, formatted text, unpacking, class bodies' calls, more than 255 values.
"""
import asyncio

import fingerprint_probe as probe

WIDE = "def wide():\n    return [" + ", ".join("(yield)" for _ in range(300)) + "]\n"
exec(WIDE)


class Manager:
    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return True


def f(*args, **kwargs):
    return args


def operators():
    x = [1, 2, 3]
    (yield) or (yield) and (yield)
    1 + ((yield 1) or 1) * (2 if (yield) else 3)
    x[(yield 0) or 0] = (yield 5)
    x[(yield 0) or 0:(yield 1) or 1]
    x[(yield 0) or 0:(yield 1) or 1] = [(yield)]
    1 < ((yield) or 2) < ((yield) or 3)
    f"{(yield)!r:{(yield) or 3}} {(yield)}"
    return [x, (yield), *((yield) or ()), {"a": (yield), **((yield) or {})}, {(yield), *((yield) or ())}]


def calls():
    f(1, 2, (yield), *((yield) or ()), k=(yield), **((yield) or {}))
    f(f(f((yield), (yield)), (yield)), a=(yield), b=f((yield)))
    "".join([str((yield)), str((yield))]).replace("a", str((yield)))

    def inner(a=(yield), *, b=(yield)) -> (yield):
        return a, b

    class C(f((yield)) and object, metaclass=(yield) or type):
        pass
    (lambda a=(yield): a)()
    assert (yield) or True, (yield)


def loops():
    for a in [1, (yield)]:
        for b, *c in [[1, 2, (yield)]]:
            while True:
                yield a
                break
            else:
                yield
            f(a, (yield b), [(yield), *c])
    [x for x in [(yield)] for y in [x]]


def handlers():
    for i in range(2):
        try:
            try:
                yield
                raise ValueError((yield))
            except (ValueError if (yield) is None else ValueError) as e:
                f(1, (yield e))
                raise KeyError from e
            finally:
                f(2, [(yield)])
        except KeyError:
            yield
        else:
            yield
        try:
            yield
        finally:
            for _ in [0]:
                yield
    try:
        raise ExceptionGroup("g", [ValueError(1), TypeError(2), OSError(3)])
    except* ValueError:
        yield
        for _ in [0]:
            yield
    except* (TypeError if (yield) is None else TypeError) as e:
        yield e
    except* OSError:
        yield


def managers():
    with Manager(), Manager() as m:
        yield
        with f((yield)) and m:
            for _ in [0]:
                yield
                raise ValueError((yield))


def matching():
    for subject in ([1, 2], {"a": 1}, 3, ValueError()):
        match subject:
            case [a, b] if (yield):
                yield a, b
            case [1, x] if not (yield):
                f(x, (yield))
            case {"a": x, **rest} if (yield) is None:
                f(x, rest, (yield))
            case int() | str():
                yield
            case _:
                yield


def delegating():
    f((yield from loops()), (yield from managers()))
    for _ in loops():
        f(1, (yield from operators()))


def walk(generator):
    probe.generator_depths([generator])
    for _ in generator:
        probe.generator_depths([generator])
        inner = generator.gi_yieldfrom
        while inner is not None and hasattr(inner, "gi_yieldfrom"):
            probe.generator_depths([inner])
            inner = inner.gi_yieldfrom


class AsyncManager:
    async def __aenter__(self):
        await asyncio.sleep(0)

    async def __aexit__(self, *exc_info):
        await asyncio.sleep(0)
        return True


async def numbers():
    for i in range(3):
        await asyncio.sleep(0)
        f(i, (yield i))


async def coroutine():
    async with AsyncManager(), AsyncManager():
        f(1, await asyncio.sleep(0), [await asyncio.sleep(0)])
        async for i in numbers():
            f(i, [x async for x in numbers() if await asyncio.sleep(0) or True])
            try:
                raise ValueError(await asyncio.sleep(0))
            except ValueError:
                await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
        async with AsyncManager():
            raise ValueError
    return {i: j async for i in numbers() for j in [await asyncio.sleep(0)]}


def walk_coroutine(made):
    probe.generator_depths([made])
    try:
        while True:
            made.send(None)
            inner = made
            while inner is not None:
                if hasattr(inner, "cr_await") or hasattr(inner, "gi_yieldfrom") or hasattr(inner, "ag_await"):
                    probe.generator_depths([inner])
                inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    except StopIteration:
        pass


for make in (operators, calls, loops, handlers, managers, matching, delegating, wide):  # noqa: F821
    walk(make())
walk_coroutine(coroutine())
compared, wrong, first = probe.depths()
assert not wrong, (wrong, first)
assert compared > 500, compared
print("ok")
