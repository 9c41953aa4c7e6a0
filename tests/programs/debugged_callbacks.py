"""Exceptions that leave the program's own code for a library's, and one that ends a thread."""

import json
import threading


class Broken(Exception):
    pass


def hook(pairs):
    if "bad" in pairs:
        raise Broken("bad pair")
    return pairs


def work(number):
    quotient = 10 // number
    return quotient


def later(pairs):
    try:
        return hook(pairs)
    except Broken:
        return None


for text in ('{"a": 1}', '{"bad": 2}'):
    try:
        print(json.loads(text, object_hook=hook))
    except Broken as error:
        print("caught", error)
print(json.loads('{"bad": 3}', object_hook=later))
threads = [threading.Thread(target=work, args=(number,), name=f"worker-{number}") for number in (5, 0, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
