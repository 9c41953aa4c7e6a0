"""The collector runs where it is told to, and the program sees its own settings."""
import gc
import sys
import weakref

import identity_probe

assert identity_probe.due() == -1
hash_before = hash(gc.get_threshold), hash(gc.set_threshold)
threshold = gc.get_threshold()
identity_probe.install()
hash_before = hash(gc.get_threshold), hash(gc.set_threshold)
assert identity_probe.collector_install() == 0
assert (hash(gc.get_threshold), hash(gc.set_threshold)) == hash_before
assert gc.get_threshold is sys.modules["gc"].get_threshold and gc.get_threshold == gc.get_threshold
assert identity_probe.raw_threshold() == 2**31 - 1
assert gc.get_threshold() == threshold
assert repr(gc.set_threshold) == "<built-in function set_threshold>"

# What the program sets is what it gets, errors included.
gc.set_threshold(300, 5, 6)
assert gc.get_threshold() == (300, 5, 6) and identity_probe.raw_threshold() == 2**31 - 1
gc.set_threshold(200)
assert gc.get_threshold() == (200, 5, 6)
for bad in ((), ("x",), (1, 2, 3, 4), (111, "x")):
    try:
        gc.set_threshold(*bad)
    except TypeError:
        pass
    else:
        raise AssertionError(bad)
assert gc.get_threshold() == (111, 5, 6)  # CPython stores argument by argument
assert identity_probe.raw_threshold() == 2**31 - 1


class Node:
    pass


def garbage(n):
    references = []
    for _ in range(n):
        node = Node()
        node.me = node
        references.append(weakref.ref(node))
    return references


# Nothing is collected until we say so.
gc.collect()
generations = []
gc.callbacks.append(lambda phase, info: generations.append((phase, info["generation"], info["collected"])))
references = garbage(5000)
assert not generations and all(r() for r in references)
assert gc.get_count()[0] > 5000
assert identity_probe.due() == 0
stats = gc.get_stats()[0]
assert identity_probe.collect(0) >= 5000
assert not any(r() for r in references)
assert generations == [("start", 0, 0), ("stop", 0, generations[1][2])] and generations[1][2] >= 5000
assert gc.get_stats()[0]["collections"] == stats["collections"] + 1
assert identity_probe.due() == -1

# Disabled, threshold 0, an exception that is set, a nested collection.
del references
references = garbage(1000)
gc.disable()
assert identity_probe.due() == -1
gc.enable()
assert identity_probe.due() == 0
gc.set_threshold(0)
assert gc.get_threshold()[0] == 0 and identity_probe.due() == -1
gc.set_threshold(700)
assert identity_probe.due() == 0
assert identity_probe.collect_while_raising(0)
assert not any(r() for r in references)
nested = []
gc.callbacks[:] = [lambda phase, info: nested.append((identity_probe.due(), identity_probe.collect(0)))]
del references
references = garbage(1000)
identity_probe.collect(2)
assert nested == [(-1, 0)] * 2, nested
gc.callbacks.clear()
gc.freeze()
assert gc.get_freeze_count() > 0
gc.unfreeze()

# Given back, automatic collection is what it was.
gc.set_threshold(150, 10, 10)
identity_probe.collector_uninstall()
assert gc.get_threshold() == (150, 10, 10) and identity_probe.raw_threshold() == 150
references = garbage(5000)
assert sum(1 for r in references if r()) < 500
assert identity_probe.due() == -1

# Asked at every step, it follows CPython's own rule: the same sequence of generations.


def run(ask):
    gc.collect()
    gc.collect()
    seen = []
    gc.callbacks[:] = [lambda phase, info: phase == "start" and seen.append(info["generation"])]
    kept = []
    for i in range(60_000):
        kept.append([])
        if i % 20_000 == 0:
            kept.clear()
        if ask:
            generation = identity_probe.due()
            if generation >= 0:
                identity_probe.collect(generation)
    gc.callbacks.clear()
    del kept
    return seen


gc.set_threshold(100, 3, 3)
native = run(False)
assert identity_probe.collector_install() == 0
ours = run(True)
assert native == ours and len(native) > 400 and set(native) == {0, 1, 2}, (len(native), len(ours))
print("ok")
