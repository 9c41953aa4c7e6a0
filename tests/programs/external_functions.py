"""Functions that the program declares external: methods, errors, callbacks, threads and children inside, in all threads."""

import gc
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from retrace import external


@dataclass
class Answer:
    text: str
    at: float
    of: int


class Refused(Exception):
    def __init__(self, reason, code):
        super().__init__(reason, code)
        self.code = code


@external
def ask(prompt, *more, temperature=0.5, **options):
    """Answers a prompt."""
    time.sleep(0.001)
    with open("answers.txt", "a") as file:
        file.write(f"{prompt}\n")
    cycle = []
    cycle.append(cycle)
    return Answer(f"{prompt} {more} {temperature} {options}", time.time(), os.getpid())


class Model:
    made = 0

    def __init__(self, name):
        self.name = name

    @external
    def complete(self, text):
        return f"{self.name}: {text} {time.perf_counter_ns()}"

    @classmethod
    @external
    def build(cls, name):
        return cls.__name__, name, time.time_ns()

    @external
    @classmethod
    def version(cls):
        return cls.__qualname__, os.urandom(4).hex()

    @staticmethod
    @external
    def limit():
        return os.urandom(2)

    @property
    @external
    def load(self):
        return time.process_time()

    @external
    def __call__(self, text):
        return text, time.monotonic()


@external
def refuse(reason):
    def inner():
        raise Refused(reason, time.time_ns())

    inner()


@external
def refuse_because(reason):
    try:
        try:
            {}[reason]
        except KeyError as error:
            raise Refused("looked up", 1) from error
    except Refused:
        int(reason)


@external
def stream(prompt, on_token, *, tokens=3):
    heard = []
    for i in range(tokens):
        heard.append(on_token(f"{prompt}-{i}", at=time.time()))
    return heard


@external
def consume(items, into):
    for item in items:
        into(item + time.time_ns() % 7)
    return time.time_ns()


@external
def visit(visitor, times):
    return [visitor(n, time.time_ns()) for n in range(times)]


@external
def with_threads(n):
    def work(i):
        time.sleep(0.001)
        return i, threading.get_ident(), sum(range(5000))

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, range(n * 3)))


@external
def with_child():
    child = os.fork()
    if child == 0:
        os.write(1, b"")
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), child


@external
def compute(seconds):
    end = time.perf_counter() + seconds
    turns = 0
    while time.perf_counter() < end:
        turns += 1
        [[] for _ in range(50)]
    return turns


@external
def same(thing):
    return thing


@external
def opened():
    return open("answers.txt", "rb", buffering=0)


class Visitor:
    def __init__(self):
        self.seen = []

    def __call__(self, number, at):
        self.seen.append((number, at, time.time()))
        return len(self.seen)

    def method(self, token, at):
        print("token", token, at, time.time_ns())
        self.seen.append(token)
        if len(self.seen) > 4:
            raise Refused("enough", at)
        return len(self.seen)


def values():
    for i in range(40):
        print("value", i, time.time_ns())
        yield i


def plain():
    print(ask("one"), ask("two", 2, temperature=0.1, top=3))
    model = Model("m")
    print(model.complete("x"), Model.build("y"), Model.version(), model.version(), Model.limit(), model.load)
    print(model("z"), same(model) is model, Model.complete(model, text="k"))
    print(ask.__name__, ask.__doc__, ask.__module__, type(ask).__name__)
    try:
        ask()
    except TypeError as error:
        print(error)
    file = opened()
    print(file.readline(), file.name, file.fileno() > 2)
    file.close()
    os.remove("answers.txt")


def errors():
    try:
        refuse("no")
    except Refused as error:
        print(error, error.code, error.args)
        print(traceback.format_exc())
        try:
            refuse_because("why")
        except ValueError as chained:
            print(chained.__context__.__context__.__context__ is error, chained.__context__.__cause__)
            traceback.print_exc()
    try:
        refuse_because("once more")
    except ValueError as error:
        print(error.__context__.__context__.__context__, error.__suppress_context__)


def callbacks():
    def on_token(token, at):
        print("heard", token, at, time.time_ns())
        return len(token), time.time()

    visitor = Visitor()
    print(stream("p", on_token), stream("q", visitor.method))
    try:
        stream("r", visitor.method)
    except Refused as error:
        print("refused", error, visitor.seen)
    received = []
    print(consume(values(), received.append), received)
    print(visit(visitor, 3), visitor.seen)


def in_threads():
    print(with_threads(3))
    print(with_child()[0])
    counted = []
    lock = threading.Lock()

    def worker(name):
        for i in range(20):
            answer = Model(name).complete(str(i))
            with lock:
                counted.append((name, answer, time.time_ns()))

    threads = [threading.Thread(target=worker, args=(f"w{i}",)) for i in range(4)]
    busy = threading.Thread(target=lambda: counted.append(compute(0.05)))
    for thread in [*threads, busy]:
        thread.start()
    for thread in [*threads, busy]:
        thread.join()
    print(counted)


def main():
    plain()
    errors()
    callbacks()
    in_threads()
    print(gc.collect() >= 0, sum(range(10)))
    sys.stdout.flush()


main()
