"""A program with a bit of everything, sampled at every check. Prints where an object lies, then the fingerprints.

argv[1] is a variant: what a process did before must not show.
"""
import collections
import functools
import itertools
import json
import random
import re
import sys

import fingerprint_probe as probe

probe.kept = [[object() for _ in range(int(sys.argv[1]) * 1000)], bytearray(int(sys.argv[1]) * 100_000)]


class Account:
    total = 0

    def __init__(self, name):
        self.name = name
        self.left = 20
        self.log = []

    def spend(self, n):
        self.left -= n
        self.log.append((self.name, n, id(self.log), f"{self.name}:{id(self.log)}", repr(self)))
        Account.total += n
        return self.left


class Tree:
    __slots__ = ("left", "right", "value")

    def __init__(self, value):
        self.left = self.right = None
        self.value = value

    def add(self, value):
        side = "left" if value < self.value else "right"
        child = getattr(self, side)
        if child is None:
            setattr(self, side, Tree(value))
        else:
            child.add(value)

    def __iter__(self):
        if self.left is not None:
            yield from self.left
        yield self.value
        if self.right is not None:
            yield from self.right


@functools.lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def program():
    accounts = {name: Account(name) for name in ("ann", "bob", "cyn")}
    for account in itertools.cycle(accounts.values()):
        if account.spend(1) == 0:
            break
    numbers = random.Random(4)
    tree = Tree(500)
    for _ in range(60):
        tree.add(numbers.randrange(1000))
    ordered = list(tree)
    assert ordered == sorted(ordered)
    words = collections.Counter(re.findall(r"\w+", __doc__))
    longest = sorted(words, key=lambda word: (-len(word), word))[:5]
    text = json.dumps({"longest": longest, "fib": fib(30), "words": words}, indent=1)
    assert json.loads(text)["fib"] == 832040
    memo = {id(x): x for x in [[i] for i in range(20)]}
    names = {str(i) for i in range(40)}
    while names and memo:
        names.pop()
        memo.popitem()
    queue = collections.deque(range(30))
    while queue:
        queue.rotate(queue.popleft())
    for i in range(20):
        try:
            if i % 3 == 0:
                raise KeyError(i, object())
            [][i]
        except LookupError as error:
            accounts[i] = error
        finally:
            accounts.pop(i, None)
    namespace = {}
    exec("total = 0\nfor i in range(50):\n    total += i\n    class C:\n        for j in range(3):\n            k = j", namespace)
    return namespace["total"]


program()
probe.start(True, 1)
program()
series = probe.stop()
json.dump({"address": id(probe.kept), "series": series}, sys.stdout)
