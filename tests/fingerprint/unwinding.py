"""Python code that runs while an exception takes values off another frame's stack, or while an object is torn down.

Sampled at every check, with freed memory overwritten (PYTHONMALLOC=debug): reading a slot or a member that is gone
crashes.
"""
import sys

import fingerprint_probe as probe


def noop():
    pass


class Dies:
    def __init__(self, *kept):
        self.kept = kept

    def __del__(self):
        for _ in [None] * 3:
            noop()


class DyingIterator(Dies):
    def __iter__(self):
        return self

    def __next__(self):
        return self


def closing():
    try:
        while True:
            yield Dies()
    finally:
        for _ in [None] * 3:
            noop()


class Fresh:
    """An iterator of a size of its own, so that nothing else takes its memory at once."""
    __slots__ = tuple(f"slot{i}" for i in range(40))

    def __iter__(self):
        return self

    def __next__(self):
        return None


def raising():
    raise ValueError(Dies())


def without_handler(raiser):
    for _ in closing():
        for _ in Fresh():
            for _ in closing():
                for _ in Fresh():
                    [1, Dies(), raiser(), Dies()]


def within_loop(raiser):
    for _ in [None] * 2:
        for _ in DyingIterator():
            try:
                for _ in Fresh():
                    for _ in closing():
                        for _ in Fresh():
                            f = raiser()
                            noop(f)
            except ValueError:
                break


def reraising(raiser):
    for _ in closing():
        for _ in Fresh():
            try:
                for _ in closing():
                    for _ in Fresh():
                        raiser()
            finally:
                for _ in [None] * 3:
                    noop()


def bare_raise(raiser):
    for _ in closing():
        for _ in Fresh():
            try:
                raiser()
            except ValueError as error:
                error.__traceback__ = None
                raise


class Forgets:
    def __enter__(self):
        pass

    def __exit__(self, kind, error, traceback):
        error.__traceback__ = None


def without_traceback(raiser):
    for _ in closing():
        for _ in Fresh():
            with Forgets():
                for _ in closing():
                    for _ in Fresh():
                        f = raiser()
                        noop(f)


def exhausted():
    for _ in iter([Dies() for _ in range(3)]):
        noop()
    for _ in closing():
        break


class Error(ValueError):
    def __init__(self, *args):
        for _ in [None] * 3:
            noop()


def made_on_the_way():
    for _ in closing():
        for _ in Fresh():
            raise Error


def torn_down():
    nested = Dies()
    for _ in [None] * 300:
        nested = Dies([nested, Dies()], {1: Dies()}, (Dies(),), {Dies()})
    members = [Dies() for _ in range(20)]
    members.clear()
    members = dict.fromkeys(range(20), None) | {i: Dies() for i in range(20)}
    members.clear()
    del members, nested


def sorting():
    items = [Dies() for _ in range(10)]
    items.sort(key=lambda item: [noop(), id(items)][1])
    items.sort(key=lambda item: Dies() and 0)


def in_a_loop(function, *arguments):
    for _ in Fresh():
        for _ in [None] * 5:
            try:
                function(*arguments)
            except ValueError:
                noop()
        break


probe.start(False, 1)
for raiser in (raising, lambda: (lambda: raising())(), lambda: next(map(lambda _: raising(), [None]))):
    for function in (without_handler, within_loop, reraising, bare_raise, without_traceback):
        in_a_loop(function, raiser)
for function in (exhausted, made_on_the_way, torn_down, sorting):
    in_a_loop(function)
samples = probe.stop()
assert samples > 5000, samples
assert not probe.depths()[1], probe.depths()
sys.stdout.write("ok\n")
