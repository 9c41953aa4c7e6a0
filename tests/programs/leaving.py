"""Exceptions that leave the program's own code for a library's, or do not, in as many ways as there are."""

import _thread
import asyncio
import concurrent.futures
import contextlib
import functools
import io
import json
import re
import sys
import threading
import unittest


def fail(what):
    raise ValueError(what)


def directly(what):
    raise ValueError(f"directly {what}")


def by_finally(what):
    try:
        fail("finally")
    finally:
        step = 1
        step = 2


class Quiet:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.left = True


def by_with(what):
    with Quiet():
        fail("with")


def by_with_of_c(what):
    with threading.Lock():
        fail("lock")


def by_bare_raise(what):
    try:
        fail("bare")
    except ValueError:
        note = 1
        raise


def by_named_raise(what):
    try:
        fail("named")
    except ValueError as error:
        raise error


def raise_again():
    raise


def by_another_function(what):
    try:
        fail("another function")
    except ValueError:
        raise_again()


def by_no_match(what):
    try:
        fail("no match")
    except KeyError:
        pass


def by_finally_with_another(what):
    try:
        fail("another")
    finally:
        try:
            {}["handled"]
        except KeyError: pass  # fmt: skip


def by_finally_that_raises(what):
    try:
        fail("first")
    finally:
        fail("second")


def changed(what):
    try:
        fail("to be changed")
    except ValueError as error:
        raise KeyError("new") from error


def through_a_library(what):
    json.loads('{"b": 1}', object_hook=by_finally)


def caught_behind_a_library(what):
    try:
        json.loads('{"b": 1}', object_hook=by_bare_raise)
    except ValueError:
        return {}


def handled(what):
    try:
        fail("handled")
    except ValueError:
        return {}


def missing(*_):
    try:
        return {}["missing"]
    finally:
        step = 1


def missing_directly(*_):
    return {}["missing directly"]


def numbers():
    try:
        yield 1
        fail("generator")
    finally:
        step = 1


@contextlib.contextmanager
def context():
    try:
        yield
    finally:
        step = 1


async def task():
    try:
        fail("task")
    finally:
        await asyncio.sleep(0)


async def inner():
    with Quiet():
        await task()


async def handled_task():
    try:
        await inner()
    except ValueError:
        return 1


class Steps:
    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        raise KeyError("step")


async def steps():
    async for _ in Steps():
        pass


async def forever():
    try:
        await asyncio.sleep(1000)
    finally:
        step = 1


async def main():
    last = asyncio.ensure_future(forever())
    for coroutine in (task(), inner(), handled_task(), steps()):
        await asyncio.gather(coroutine, return_exceptions=True)
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)


class Cases(unittest.TestCase):
    def test_error(self):
        by_finally(1)

    def test_failure(self):
        self.assertEqual(1, 2)

    def test_expected(self):
        with self.assertRaises(ValueError):
            fail("expected")


def cached(what):
    return functools.lru_cache(by_finally)(what)


for hook in (
    directly,
    by_finally,
    by_with,
    by_with_of_c,
    by_bare_raise,
    by_named_raise,
    by_another_function,
    by_no_match,
    by_finally_with_another,
    by_finally_that_raises,
    changed,
    through_a_library,
    caught_behind_a_library,
    handled,
    missing,
    missing_directly,
):
    try:
        json.loads('{"a": 1}', object_hook=hook)
    except (ValueError, KeyError):
        pass
for call in (
    lambda: sorted([2, 1], key=by_finally),
    lambda: functools.reduce(lambda *_: by_finally(1), [1, 2]),
    lambda: cached(1),
    lambda: re.sub("a", by_finally, "a"),
    lambda: json.dumps(object(), default=by_finally),
    lambda: concurrent.futures.ThreadPoolExecutor(1).submit(missing).result(),
    lambda: concurrent.futures.ThreadPoolExecutor(1).submit(missing_directly).result(),
    lambda: concurrent.futures.ThreadPoolExecutor(1).submit(sys.exit, 3).result(),
    lambda: list(json.encoder.JSONEncoder(default=lambda _: list(numbers())).iterencode(object())),
    lambda: asyncio.run(main()),
):
    try:
        call()
    except (ValueError, KeyError, AttributeError, TypeError, SystemExit):
        pass
try:
    with context():
        fail("in a context")
except ValueError:
    pass
threading.excepthook = lambda _: None
for target in (by_finally, missing):
    thread = threading.Thread(target=target, args=(1,))
    thread.start()
    thread.join()
ended = _thread.allocate_lock()
ended.acquire()
sys.unraisablehook = lambda _: ended.release()


def to_nobody(what):
    try:
        fail("nobody")
    finally:
        step = 1


_thread.start_new_thread(to_nobody, (1,))
ended.acquire()
unittest.TextTestRunner(stream=io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromTestCase(Cases))
print("done")
