"""What a debugger walks through: every way in and out of a frame that Python has, with parts that only compute."""

import asyncio
import contextlib
import functools

import walked_module


def burn(rounds):
    total = 0
    for number in range(rounds):
        total += number % 7
    return total


# ---- generators ----


def squares(limit):
    for number in range(limit):
        yield number * number


def use_generator():
    total = 0
    for square in squares(4):
        total += square
    return total


def averages():
    total, count, average = 0, 0, None
    try:
        while True:
            value = yield average
            total += value
            count += 1
            average = total / count
    except KeyError as error:
        yield str(error)
    finally:
        total = -1


def delegate(*parts):
    for part in parts:
        last = yield from part
    return last


def count_down(number):
    while number:
        yield number
        number -= 1
    return "done"


def drive():
    sent = averages()
    next(sent)
    seen = [sent.send(value) for value in (1, 2, 6)]
    thrown = sent.throw(KeyError("thrown"))
    sent.close()
    left = squares(3)
    next(left)
    del left
    both = list(delegate(count_down(2), count_down(3)))
    pairs = list(zip(squares(3), count_down(3)))
    return seen, thrown, both, pairs


# ---- coroutines ----


async def answer(value):
    await asyncio.sleep(0)
    return value + 1


async def ask():
    first = await answer(1)
    burned = burn(400)
    second = await answer(first)
    return first, second, burned


async def numbers(limit):
    for number in range(limit):
        await asyncio.sleep(0)
        yield number


class Resource:
    def __init__(self, name):
        self.name = name

    async def __aenter__(self):
        await asyncio.sleep(0)
        return self.name

    async def __aexit__(self, *error):
        await asyncio.sleep(0)
        return True


async def worker(name, queue):
    got = []
    while True:
        item = await queue.get()
        if item is None:
            break
        got.append(item)
    return name, got


async def gathered():
    queue = asyncio.Queue()
    tasks = [asyncio.create_task(worker(name, queue)) for name in ("a", "b")]
    for item in (1, 2, 3, None, None):
        await queue.put(item)
    found = await asyncio.gather(*tasks)
    async with Resource("r") as resource:
        counted = [number async for number in numbers(3)]
        raise RuntimeError(resource)
    try:
        async with asyncio.timeout(10):
            await fails(2)
    except ValueError as error:
        text = str(error)
    return found, counted, text


async def fails(depth):
    if depth:
        await fails(depth - 1)
    await asyncio.sleep(0)
    raise ValueError("awaited")


# ---- with ----


@contextlib.contextmanager
def managed(name):
    entered = name + "!"
    try:
        yield entered
    finally:
        left = entered
        assert left


class Counter:
    def __init__(self):
        self.count = 0

    def __enter__(self):
        self.count += 1
        return self

    def __exit__(self, *error):
        self.count -= 1
        return error[0] is LookupError

    @property
    def double(self):
        return self.count * 2


def use_with():
    with managed("m") as entered, Counter() as counter:
        double = counter.double
    with Counter() as other:
        raise LookupError
    with contextlib.suppress(OSError):
        with managed("n"):
            raise OSError(5)
    return entered, double, other.count


# ---- exceptions ----


def fail(depth):
    if depth == 0:
        raise ValueError("deep")
    fail(depth - 1)


def unwind():
    try:
        fail(3)
    except ValueError as error:
        text = str(error)
    return text


def clean_up(how):
    steps = []
    for turn in range(3):
        try:
            steps.append(turn)
            if how == "return" and turn == 1:
                return steps
            if how == "raise" and turn == 2:
                raise KeyError(turn)
            if how == "continue":
                continue
        except KeyError:
            steps.append("caught")
        else:
            steps.append("else")
        finally:
            steps.append("finally")
    else:
        steps.append("loop's else")
    return steps


def group():
    caught = []
    try:
        raise ExceptionGroup("both", [ValueError(1), TypeError(2)])
    except* ValueError as errors:
        caught.append(len(errors.exceptions))
    except* TypeError as errors:
        caught.append(str(errors))
    return caught


def chained():
    try:
        try:
            unwind_more = {}["missing"]
        except KeyError as error:
            raise RuntimeError("chained") from error
    except RuntimeError as error:
        unwind_more = repr(error.__cause__)
    return unwind_more


# ---- functions and classes ----


def twice(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        first = function(*args, **kwargs)
        return first + function(*args, **kwargs)

    return call


def scaled(by):
    def decorate(function):
        return lambda value: function(value) * by

    return decorate


@twice
@scaled(3)
def decorated(value):
    half = value // 2
    return half + 1


class Named:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        return f"{owner.__name__}.{self.name}"


class Meta(type):
    def __new__(meta, name, bases, space, **options):
        made = super().__new__(meta, name, bases, space)
        made.options = options
        return made

    def __call__(cls, *args):
        made = super().__call__(*args)
        made.late = len(args)
        return made


def make_class(size):
    class Made(metaclass=Meta, option=size):
        table = [number * size for number in range(3)]
        first, *rest = table
        named = Named()
        for index in range(2):
            last = index
        del index

        def __init__(self, value):
            self.value = value

        def __del__(self):
            gone.append(self.value)

        def __lt__(self, other):
            return self.value < other.value

    least = min(Made(3), Made(1))
    return least.named, least.late, Made.rest, Made.options


gone = []


def comprehend():
    numbers = [number for number in range(5) if number % 2]
    table = {number: [inner * number for inner in range(number)] for number in numbers}
    total = sum(value for values in table.values() for value in values)
    ordered = sorted(numbers, key=lambda number: -number)
    unique = {number // 2 for number in numbers}
    raised = [1 // number for number in (2, 1)]
    try:
        raised = [1 // number for number in (1, 0)]
    except ZeroDivisionError:
        raised.append(len(unique))
    return table, total, ordered, raised


def recurse(depth):
    if depth < 2:
        return 1
    return recurse(depth - 1) + recurse(depth - 2)


def closure():
    count = 0

    def add(amount):
        nonlocal count
        count += amount
        return count

    add(1)
    return add(2)


def kind(value):
    match value:
        case {"name": str(name), **rest}:
            return name, rest
        case [first, *others] if others:
            return first, others
        case int() | float():
            return "number"
        case _:
            return "other"


def loops():
    found = []
    number = 0
    while number < 5:
        number += 1
        if number == 2:
            continue
        if number == 4:
            break
        found.append(number)
    else:
        found.append("never")
    if (size := len(found)) > 1: found.append(size)
    for a in range(2):
        for b in range(2): found.append(a + b)
    return found if found else None


def main():
    results = []
    for turn in range(2):
        results.append(use_generator())
        results.append(drive())
        results.append(burn(4_000))
        results.append(asyncio.run(ask()))
        results.append(asyncio.run(gathered(), debug=False)) if turn else None
        results.append(use_with())
        results.append(unwind())
        results.append([clean_up(how) for how in ("return", "raise", "continue")])
        results.append(group())
        results.append(chained())
        results.append(decorated(turn + 5))
        results.append(make_class(turn))
        results.append(burn(4_000))
        results.append(comprehend())
        results.append(recurse(4))
        results.append(closure())
        results.append([kind(value) for value in ({"name": "n", "more": 1}, [1, 2], 3, "text")])
        results.append(loops())
        results.append(walked_module.outside(turn))
    return results


if __name__ == "__main__":
    print(main())
    print(gone)
