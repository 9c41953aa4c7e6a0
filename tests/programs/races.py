"""Threads that race without locks: what comes out depends on where each was preempted.

races.py SHAPE THREADS INTERVAL [SCALE]
"""

import hashlib
import itertools
import sys
import threading
import zlib

shape, count, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
scale = int(sys.argv[4]) if len(sys.argv) > 4 else 1
sys.setswitchinterval(interval)
order = []
total = 0


class Node:
    __slots__ = ("next", "value")


class Box:
    pass


def chain(length):
    head = None
    for _ in range(length):
        node = Node()
        node.next, node.value = head, 1
        head = node
    return head


def counter(me, rounds):
    global total
    for k in range(rounds):
        order.append(me)
        before = total
        noise = k * k % 7
        total = before + 1 + noise - noise


def recursion(me, rounds):
    def fib(n):
        if n % 5 == 0:
            order.append(me)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    for _ in range(max(1, rounds // 8000)):
        fib(17)


def equal_nodes(me, rounds):
    node = chain(rounds)
    while node is not None:
        order.append(me)
        node = node.next


def heap_while(me, rounds):
    box = Box()
    box.left = rounds
    while box.left > 0:
        box.left -= 1
        order.append(me)


def popping(me, rounds):
    stack = [None] * rounds
    while stack:
        stack.pop()
        order.append(me)


def generators(me, rounds):
    def numbers():
        for _ in range(rounds):
            yield me

    for value in numbers():
        order.append(value)


def comprehensions(me, rounds):
    for _ in range(rounds // 50):
        order.extend([me for _ in range(20)])
        order.extend({me: k for k in range(10)})
        order.extend(x for x in [me] * 20)


def repeated(me, rounds):
    for _ in itertools.repeat(None, rounds):
        order.append(me)
    for _ in [None] * rounds:
        order.append(me)


def compression(me, rounds):
    data = bytes(range(256)) * 40
    for k in range(rounds // 400):
        order.append(me)
        order.append(len(zlib.compress(data)) % 251)
        order.append(hashlib.sha256(data).digest()[k % 32])


def dictionaries(me, rounds):
    shared = tables[me % 3]
    for k in range(rounds // 2):
        key = (me, k % 13)
        shared[key] = shared.get(key, 0) + len(shared)
        order.append(len(shared) % 256)


def exceptions(me, rounds):
    for k in range(rounds // 3):
        try:
            try:
                if k % 3 == 0:
                    raise ValueError(k)
                order.append(me)
            finally:
                order.append(me)
        except ValueError as error:
            order.append(error.args[0] % 256)


def sorting(me, rounds):
    class Key:
        def __init__(self, value):
            self.value = value

        def __lt__(self, other):
            order.append(me)
            return self.value < other.value

    for k in range(rounds // 400):
        sorted([Key((i * 7 + k) % 31) for i in range(30)])


tables = [{}, {}, {}]
shapes = {
    function.__name__: function
    for function in (
        counter, recursion, equal_nodes, heap_while, popping, generators, comprehensions, repeated, compression,
        dictionaries, exceptions, sorting,
    )
}  # fmt: skip
rounds = 24000 * scale // count
if shape == "mixed":
    jobs = list(itertools.islice(itertools.cycle(shapes.values()), count))
else:
    jobs = [shapes[shape]] * count
threads = [threading.Thread(target=job, args=(me, rounds)) for me, job in enumerate(jobs)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
switches = sum(1 for a, b in zip(order, order[1:], strict=False) if a != b)
print(shape, len(order), switches, total, hashlib.md5(bytes(n % 256 for n in order)).hexdigest())
