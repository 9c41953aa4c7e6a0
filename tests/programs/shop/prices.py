import random


def price(item):
    return f"{item} costs {random.random():.12f}"


def fail():
    raise LookupError("no price for", random.getrandbits(40))
