"""Prints nanoseconds per operation and the milliseconds of an install, as JSON. argv[1]: plain or installed."""
import gc
import json
import sys
import time

import identity_probe

installed = sys.argv[1] == "installed"
result = {"objects": len(gc.get_objects())}
if installed:
    start = time.perf_counter()
    identity_probe.install()
    result["install_ms"] = (time.perf_counter() - start) * 1e3


class Hashed:
    pass


class NeverHashed:
    pass


COUNT = 200_000
objects = [Hashed() for _ in range(1000)]
members = set(objects)


def lookup():
    for _ in range(COUNT // 1000):
        for x in objects:
            x in members


def type_key(table={int: 1, str: 2}):
    for _ in range(COUNT):
        table[int]


def make_and_hash():
    for _ in range(COUNT):
        hash(Hashed())


def make_never_hashed():
    for _ in range(COUNT):
        NeverHashed()


def make_of_hashed_class():
    for _ in range(COUNT):
        Hashed()


def make_function():
    for _ in range(COUNT):
        lambda: 0


def hash_float(x=1.5):
    for _ in range(COUNT):
        hash(x)


for operation in (lookup, type_key, make_and_hash, make_never_hashed, make_of_hashed_class, make_function, hash_float):
    best = None
    for _ in range(9):
        start = time.perf_counter()
        operation()
        elapsed = (time.perf_counter() - start) / COUNT * 1e9
        best = elapsed if best is None else min(best, elapsed)
    result[operation.__name__] = round(best, 1)
json.dump(result, sys.stdout)
