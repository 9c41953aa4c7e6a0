"""Each iterator's position shows in the fingerprint, though nothing but the iterator changes.

Prints, as JSON, for each how many positions were taken, how many different shallow and how many different deep
fingerprints came out. What varies is hidden in a module, whose contents are no part of a fingerprint; the loop is C's.
"""
import array
import collections
import datetime
import decimal
import io
import itertools
import json
import queue
import random
import struct
import sys
import types

import fingerprint_probe as probe

hidden = types.ModuleType("hidden")
SAME = [None] * 8


class Sequence:
    def __getitem__(self, index):
        if index == 8:
            raise IndexError

    def __len__(self):
        return 8


class PythonIterator(itertools.repeat):
    pass


def generator():
    for _ in SAME:
        yield


async def async_generator():
    for _ in SAME:
        yield


class Awaiting:
    def __await__(self):
        for _ in SAME:
            yield


async def coroutine():
    await Awaiting()


class Coroutine:
    def __init__(self):
        self.coroutine = coroutine()

    def __iter__(self):
        return self

    def __next__(self):
        return self.coroutine.send(None)


def random_source():
    source = random.Random(1)
    return source, source.random


def memory_file():
    file = io.BytesIO(b"a" * 8)
    return file, lambda: file.read(1)


def text_file():
    file = io.StringIO("a" * 8)
    return file, lambda: file.read(1)


def simple_queue():
    items = queue.SimpleQueue()
    collections.deque(map(items.put, SAME), maxlen=0)
    return items, items.get


def counting_bytes():
    data = bytearray(8)

    def step():
        data[0] += 1
    return data, step


def counting_array():
    data = array.array("q", [0])

    def step():
        data[0] += 1
    return data, step


BIG = 1 << 70
SHALLOW = {
    "range": lambda: iter(range(8)),
    "long range": lambda: iter(range(BIG, BIG + 8)),
    "list": lambda: iter(SAME),
    "reversed list": lambda: reversed(SAME),
    "tuple": lambda: iter(tuple(SAME)),
    "reversed tuple": lambda: reversed(tuple(SAME)),
    "ascii": lambda: iter("aaaaaaaa"),
    "text": lambda: iter("\u1234" * 8),
    "bytes": lambda: iter(bytes(8)),
    "bytearray": lambda: iter(bytearray(8)),
    "array": lambda: iter(array.array("b", bytes(8))),
    "sequence": lambda: iter(Sequence()),
    "reversed sequence": lambda: reversed(Sequence()),
    "enumerate": lambda: enumerate(itertools.repeat(None)),
    "enumerate from big": lambda: enumerate(itertools.repeat(None), BIG),
    "dict": lambda: iter(dict.fromkeys("abcdefgh")),
    "dict values": lambda: iter(dict.fromkeys("abcdefgh").values()),
    "dict items": lambda: iter(dict.fromkeys("abcdefgh").items()),
    "reversed dict": lambda: reversed(dict.fromkeys("abcdefgh")),
    "reversed dict values": lambda: reversed(dict.fromkeys("abcdefgh").values()),
    "reversed dict items": lambda: reversed(dict.fromkeys("abcdefgh").items()),
    "set": lambda: iter({1, 2, 3, 4, 5, 6, 7, 8}),
    "frozenset": lambda: iter(frozenset({1, 2, 3, 4, 5, 6, 7, 8})),
    "deque": lambda: iter(collections.deque(SAME)),
    "reversed deque": lambda: reversed(collections.deque(SAME)),
    "count": itertools.count,
    "count by fractions": lambda: itertools.count(0, 0.5),
    "islice": lambda: itertools.islice(itertools.repeat(None), 8),
    "repeat": lambda: itertools.repeat(None, 8),
    "subclass of repeat": lambda: PythonIterator(None, 8),
    "tee": lambda: itertools.tee(SAME)[0],
    "product": lambda: itertools.product((None, None), repeat=3),
    "combinations": lambda: itertools.combinations(SAME, 5),
    "combinations with replacement": lambda: itertools.combinations_with_replacement(SAME, 3),
    "permutations": lambda: itertools.permutations(SAME, 3),
    "struct": lambda: struct.iter_unpack("b", bytes(8)),
    "generator": generator,
    "random": random_source,
    "memory file": memory_file,
    "text file": text_file,
    "bytearray counter": counting_bytes,
    "array counter": counting_array,
}
DEEP = {
    "cycle": lambda: itertools.cycle(SAME),
    "accumulate": lambda: itertools.accumulate(itertools.repeat(1)),
    "chain": lambda: itertools.chain(SAME, SAME),
    "zip": lambda: zip(SAME, SAME),
    "map": lambda: map(bool, SAME),
    "filter": lambda: filter(lambda x: True, SAME),
    "compress": lambda: itertools.compress(SAME, itertools.repeat(1)),
    "starmap": lambda: itertools.starmap(lambda: None, [()] * 8),
    "zip_longest": lambda: itertools.zip_longest(SAME, [None]),
    "takewhile": lambda: itertools.takewhile(lambda x: True, SAME),
    "dropwhile": lambda: itertools.dropwhile(lambda x: False, SAME),
    "pairwise": lambda: itertools.pairwise(SAME + SAME),
    "groupby": lambda: itertools.groupby(range(8)),
    "memoryview": lambda: iter(memoryview(bytes(8))),
    "coroutine": Coroutine,
    "simple queue": simple_queue,
    "generator expression": lambda: (x for x in SAME),
}
VALUES = {
    "int": lambda n: n,
    "big int": lambda n: BIG + n,
    "negative int": lambda n: n - 4,
    "float": lambda n: n / 3,
    "complex": lambda n: complex(0, n),
    "text object": lambda n: str(n),
    "wide text": lambda n: "\u1234" * 300 + str(n),
    "bytes object": lambda n: bytes([n]),
    "decimal": lambda n: decimal.Decimal(n),
    "decimal exponent": lambda n: decimal.Decimal((0, (1,), n)),
    "date": lambda n: datetime.date(2000, 1, 1 + n),
    "time": lambda n: datetime.time(n),
    "datetime": lambda n: datetime.datetime(2000, 1, 1, n),
    "timedelta": lambda n: datetime.timedelta(0, n),
    "range object": lambda n: range(n),
    "type object": lambda n: [int, str, list, dict, set, tuple, float, bytes][n],
    "function object": lambda n: [generator, coroutine, random_source, memory_file, text_file, simple_queue, counting_bytes,
                           counting_array][n],
    "builtin object": lambda n: [len, abs, min, max, sum, any, all, iter][n],
    "set object": lambda n: set(range(n)),
    "list object": lambda n: [None] * n,
    "tuple object": lambda n: (None,) * n,
    "dict object": lambda n: dict.fromkeys(range(n)),
    "deque object": lambda n: collections.deque([None] * n),
    "memoryview object": lambda n: memoryview(bytes(n)),
}
# Different objects that a replay may not tell apart.
ALIKE = {
    "nothing": lambda n: None,
    "address": lambda n: id([]) + n * 64,
    "repr": lambda n: repr(object()) + str(n),
    "new object": lambda n: object(),
}


def advance(made):
    thing, step = made if isinstance(made, tuple) else (made, made.__next__)
    hidden.kept = thing, step
    for _ in range(hidden.position):
        step()
    return thing


def with_in_hand(_):
    return probe.shallow(), probe.deep()


def measure_iterator(_):
    result = with_in_hand(advance(hidden.make()))
    hidden.position += 1
    return result


def measure_value(_):
    result = with_in_hand(hidden.make(hidden.position))
    hidden.position += 1
    return result


def measure_all(measure, table):
    def one(make):
        hidden.position, hidden.make = 0, make
        fingerprints = list(map(measure, SAME[:7]))
        return [7, len({s for s, _ in fingerprints}), len({d for _, d in fingerprints})]
    return {name: one(make) for name, make in table.items()}


sys.stdout.write(json.dumps({
    "shallow": measure_all(measure_iterator, SHALLOW) | measure_all(measure_value, VALUES),
    "deep": measure_all(measure_iterator, DEEP),
    "alike": measure_all(measure_value, ALIKE),
}))
