"""What a debugger walks through: every way in and out of a frame, and a part that only computes."""

import asyncio
import contextlib


def squares(limit):
    for number in range(limit):
        yield number * number


def use_generator():
    total = 0
    for square in squares(4):
        total += square
    return total


async def answer(value):
    await asyncio.sleep(0)
    return value + 1


async def ask():
    first = await answer(1)
    second = await answer(first)
    return first, second


@contextlib.contextmanager
def managed(name):
    entered = name + "!"
    try:
        yield entered
    finally:
        left = entered
        assert left


def fail(depth):
    if depth == 0:
        raise ValueError("deep")
    fail(depth - 1)


def unwind():
    try:
        fail(3)
    except ValueError as error:
        return str(error)


class Counter:
    def __init__(self):
        self.count = 0

    def __enter__(self):
        self.count += 1
        return self

    def __exit__(self, *error):
        self.count -= 1
        return False

    @property
    def double(self):
        return self.count * 2


def comprehend():
    numbers = [number for number in range(5) if number % 2]
    table = {number: number * 2 for number in numbers}
    return sum(value for value in table.values())


def recurse(depth):
    if depth < 2:
        return 1
    return recurse(depth - 1) + recurse(depth - 2)


def compute(rounds):
    total = 0
    for number in range(rounds):
        if number % 3 == 0:
            total += step(number)
        else:
            total -= 1
    return total


def step(number):
    half = number // 2
    return half + 1


def closure():
    count = 0

    def add(amount):
        nonlocal count
        count += amount
        return count

    add(1)
    return add(2)


def main():
    results = []
    for turn in range(3):
        results.append(use_generator())
        results.append(asyncio.run(ask()))
        with managed("m") as entered, Counter() as counter:
            results.append((entered, counter.double))
        results.append(unwind())
        results.append(comprehend())
        results.append(recurse(6))
        results.append(compute(3_000))
        results.append(closure())
    print(results)
    return results


main()
