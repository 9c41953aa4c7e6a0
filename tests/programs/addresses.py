"""Addresses as numbers: printed, sorted by, looked up, put into sets as text, and used again by later objects."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor, wait


class Node:
    def __init__(self, name):
        self.name = name
        self.others = []


def order():
    nodes = [Node(name) for name in "abcdefghij"]
    print("by address:", "".join(node.name for node in sorted(nodes, key=id)))
    print("as text:", *{f"{id(node)}-{node.name}" for node in nodes})
    print("types:", *{id(kind) for kind in (int, str, Node, threading.Thread)})
    registry = {id(node): node for node in nodes}
    print("found:", all(registry[id(node)] is node for node in nodes), id(nodes[0]))


def used_again():
    met = set()
    for i in range(1000):
        met.add(id(Node(i)))
    print("distinct:", len(met), sorted(met)[0])


def copies():
    first, second = Node("first"), Node("second")
    first.others = [second, first]
    second.others = [first] * 3
    copied = copy.deepcopy(first)
    print("copied:", copied.others[1] is copied, copied.others[0].others[2] is copied)


def pools():
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(pow, i, 2) for i in range(50)]
        done, _ = wait(futures)
        print("pool:", *(future.result() for future in sorted(done, key=id)))


order()
used_again()
copies()
pools()
try:
    id()
except TypeError as error:
    print(error)
print(id.__name__, id, id.__doc__.splitlines()[0])
