"""Nothing but Python: recursion, dicts, methods, comprehensions, exceptions. The argument is the number of rounds."""

import sys


class Account:
    def __init__(self):
        self.total = 0

    def add(self, amount):
        self.total += amount
        return self


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


account = Account()
words = {}
for n in range(int(sys.argv[1])):
    account.add(fib(n % 15))
    words[str(n % 97)] = words.get(str(n % 97), 0) + sum(x * x for x in range(20))
    try:
        [][n]
    except IndexError:
        account.add(1)
print(account.total, sum(words.values()), len(words))
