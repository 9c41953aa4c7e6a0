"""Lines that do several things."""


def double(n):
    return n * 2


def add(a, b):
    total = a + b
    return total


def run(n):
    é, text = "é", "ü"; first = double(n); second = double(first)
    nested = add(double(first), double(second))
    pairs = [double(i) for i in range(3)]; last = sorted(pairs, key=lambda v: double(-v))
    try:
        missing = last[9]
    except IndexError: missing = None
    return nested, pairs, last, missing, é + text


for turn in range(3):
    print(run(turn))
