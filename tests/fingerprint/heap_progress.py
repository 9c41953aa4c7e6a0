"""Loops whose progress is in the heap or on the value stack only: no two checks in one may have the same fingerprint.

Prints, for each loop, how many checks there were, how many different shallow fingerprints and how many different
triples, as JSON.
"""
import asyncio
import collections
import itertools
import json
import sys

import fingerprint_probe as probe


class Node:
    def __init__(self, next):
        self.next = next


class Box:
    pass


class Slotted:
    __slots__ = ("left",)


def noop():
    pass


def linked_list():
    node = None
    for _ in itertools.repeat(None, 100):
        node = Node(node)
    while node:
        node = node.next


def attribute():
    box = Box()
    box.left = 100
    while box.left > 0:
        box.left -= 1


def attribute_in_dict():
    box = Box()
    vars(box)["left"] = 100
    while box.left > 0:
        box.left -= 1


def slot():
    box = Slotted()
    box.left = 100
    while box.left > 0:
        box.left -= 1


def popped_list():
    stack = [None] * 100
    while stack:
        stack.pop()


def popped_dict():
    items = dict.fromkeys(map(str, itertools.repeat(None, 1))) | {str(i): None for i in itertools.islice(range(100), 100)}
    while items:
        items.popitem()


def rotated_deque():
    ring = collections.deque([None] * 10)
    for _ in itertools.repeat(None, 100):
        ring.rotate(1)
        noop()


def yielding():
    for _ in itertools.repeat(None, 50):
        yield


def generator():
    for _ in yielding():
        noop()


def delegating():
    yield from yielding()
    yield from yielding()


def delegated_generator():
    for _ in delegating():
        noop()


def generator_expression():
    sum(noop() is None for _ in [None] * 100)


def comprehension():
    [noop() for _ in [None] * 100]


def nested_comprehension():
    [[noop() for _ in [None] * 10] for _ in [None] * 10]


def nested_for():
    for _ in [None] * 10:
        for _ in (None,) * 10:
            noop()


def repeat():
    for _ in itertools.repeat(None, 100):
        noop()


def through_c():
    for _ in [None] * 10:
        for _ in map(lambda _: noop(), [None] * 10):
            noop()


def sorted_by_key():
    for _ in [None] * 5:
        sorted(list(range(20)), key=lambda i: noop() or 0)


def recursion(left=100):
    if left:
        recursion(left - 1)


def recursion_without_arguments(stack=[]):
    stack.append(None)
    if len(stack) % 100:
        recursion_without_arguments()
    noop()


def deep_in_a_loop():
    def dive(left):
        if left:
            dive(left - 1)

    for _ in [None] * 3:
        dive(300)


def closure():
    left = 100

    def step():
        nonlocal left
        left -= 1
        return left

    while step():
        noop()


def function_from_elsewhere():
    def make():
        left = 100

        def step():
            nonlocal left
            left -= 1
            return left
        return step

    step = make()
    while step():
        noop()


counter = 0


def global_counter():
    global counter
    counter = 0
    while counter < 100:
        counter += 1


table = {}


def global_table():
    table["left"] = [100]
    while table["left"][0]:
        table["left"][0] -= 1


def handlers():
    for _ in [None] * 20:
        try:
            for _ in [None] * 3:
                noop()
            raise ValueError
        except ValueError:
            for _ in [None] * 3:
                noop()
        finally:
            noop()


class Manager:
    def __enter__(self):
        noop()

    def __exit__(self, *exc_info):
        noop()
        return True


def managers():
    # `i`: the iterator alone is not enough here. While __exit__ runs, this frame may just as well be on its way out.
    for i in range(10):
        with Manager():
            for _ in [None] * 3:
                noop()
            raise ValueError(i)


async def awaiting():
    for _ in [None] * 10:
        await asyncio.sleep(0)
        noop()


def coroutines():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(awaiting())
    loop.close()


def bytes_consumed():
    data = bytearray(100)
    while data:
        del data[-1:]


def view_consumed():
    data = memoryview(bytes(100))
    while data:
        data = data[1:]


def unpacked_arguments():
    for _ in [None] * 10:
        noop(*[noop() for _ in [None] * 0])
        max(*[noop() or 0 for _ in [None] * 10])


def pair_of_iterators():
    for _ in zip([None] * 50, itertools.repeat(None)):
        noop()


LOOPS = [linked_list, attribute, attribute_in_dict, slot, popped_list, popped_dict, rotated_deque, generator,
         delegated_generator, generator_expression, comprehension, nested_comprehension, nested_for, repeat, through_c,
         sorted_by_key, recursion, recursion_without_arguments, deep_in_a_loop, closure, function_from_elsewhere,
         global_counter, global_table, handlers, managers, coroutines, bytes_consumed, view_consumed,
         unpacked_arguments, pair_of_iterators]

result = {}
for loop in LOOPS:
    probe.start(True, 1)
    loop()
    series = probe.stop()
    result[loop.__name__] = len(series), len({s for _, s, _ in series}), len(set(series))
    if len(set(series)) != len(series) and len(sys.argv) > 1:
        where = collections.Counter(series)
        print(loop.__name__, [(i, where[s]) for i, s in enumerate(series) if where[s] > 1][:20], file=sys.stderr)
json.dump({"loops": result, "depths": probe.depths()}, sys.stdout)
