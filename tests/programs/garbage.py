"""Collections that CPython begins by itself, in code that crosses no boundary: finalizers, callbacks and counts.

garbage.py PART
"""

import gc
import hashlib
import sys
import threading
import weakref

log = []


class Noisy:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        log.append((self.number, len(log)))


def cycle(number):
    one, other = Noisy(number), Noisy(-number)
    one.other, other.other = other, one


def work(k=0, rounds=8000):
    for i in range(rounds):
        cycle(i * 10 + k)
        lists = [[] for _ in range(3)]


def in_threads(body, count=3):
    threads = [threading.Thread(target=body, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def report(*what):
    print(*what, len(log), hashlib.md5(repr(log).encode()).hexdigest(), log[-2:])


def cycles():
    work()
    report("cycles")


def cycles_in_threads():
    sys.setswitchinterval(0.0002)
    in_threads(work)
    report("cycles in threads")


def callbacks():
    """gc.callbacks that log, with and without the numbers."""

    def note(phase, info):
        log.append((phase, sorted(info.items()), len(log)))

    gc.callbacks.append(note)
    work()
    report("callbacks")
    in_threads(lambda k: work(k, 2000))
    gc.collect(1)
    gc.callbacks.remove(note)
    report("in threads")
    for line in [line for line in log if line[0] in ("start", "stop")][:30]:
        print(line)


def callbacks_that_fail():
    def fail(phase, info):
        raise ValueError(phase, info["generation"])

    # The default hook would print the function's address.
    sys.unraisablehook = lambda info: print(repr(info.exc_value), info.object is fail, len(log), file=sys.stderr)
    gc.callbacks.append(fail)
    work(rounds=12000)
    gc.callbacks.clear()
    report("after failures")


def counts():
    """gc.get_count() and gc.get_stats() wherever the program looks."""
    for k in range(3000):
        cycle(k)
        if k % 37 == 0:
            log.append(gc.get_count())
    print(gc.get_count(), gc.get_count())
    print(gc.get_stats())
    report("counts")


def counts_in_threads():
    def body(k):
        for i in range(1500):
            cycle(i)
            if i % 37 == 0:
                log.append((k, gc.get_count()))

    in_threads(body)
    report("counts in threads", gc.get_stats())


def thresholds():
    for threshold in ((50,), (7, 2), (1, 1, 1), (2000, 3, 3), (0,)):
        gc.set_threshold(*threshold)
        work(rounds=400)
        report(threshold, gc.get_threshold(), gc.isenabled(), gc.get_count()[0])
    gc.set_threshold(700, 10, 10)
    work(rounds=400)
    print(gc.collect(), gc.get_count())
    report("at last")


def small_thresholds():
    """As small for all generations: objects go between the allocation that asks for a collection and the check that
    begins one, which is of an older generation then."""

    class Node:
        def __init__(self):
            self.me = self

    for kind, entry in ((weakref.WeakKeyDictionary, lambda node: (node, 1)),
                        (weakref.WeakValueDictionary, lambda node: (1, node))):
        for threshold in range(1, 60):
            gc.collect(0)
            gc.set_threshold(threshold, threshold, threshold)
            nodes = [Node() for _ in range(20)]
            made = kind(entry(node) for node in nodes)
            del nodes
            items = made.items()
            next(items, None)
            sizes = [len(made)]
            del items
            sizes.append(len(made))
            print(threshold, *sizes)


def freezing():
    work(rounds=500)
    gc.freeze()
    print(gc.get_freeze_count() > 0)
    work(rounds=2000)
    report("frozen")
    gc.unfreeze()
    print(gc.get_freeze_count())
    work(rounds=2000)
    report("unfrozen", gc.collect())


def disabling():
    gc.disable()
    work(rounds=3000)
    report("disabled", gc.isenabled(), gc.get_count()[0])
    gc.enable()
    work(rounds=3000)
    report("enabled", gc.isenabled())

    def off_and_on(k):
        for i in range(1500):
            (gc.disable if i % 100 == k else gc.enable)()
            cycle(i)

    in_threads(off_and_on)
    report("off and on")


def weak_references():
    class Node:
        pass

    references = []
    for k in range(4000):
        node = Node()
        node.me = node
        references.append(weakref.ref(node, lambda _, k=k: log.append((k, len(log)))))
        if k % 3 == 0:
            weakref.finalize(node, log.append, ("finalized", k))
    alive = [k for k, reference in enumerate(references) if reference() is not None]
    report("weak references", len(alive), alive[:3])
    cache = weakref.WeakValueDictionary()
    sizes = []
    for k in range(3000):
        node = cache[k] = Node()
        node.me = node
        sizes.append(len(cache))
    report("cache", max(sizes), hashlib.md5(repr(sizes).encode()).hexdigest())


def resurrected():
    """Objects that come back once, generators with `finally`, and a __del__ that makes garbage itself."""
    back = []

    class Phoenix:
        def __init__(self, number):
            self.number, self.me = number, self

        def __del__(self):
            log.append(("burns", self.number, len(log)))
            if self.number % 50 == 0:
                back.append(self)
            cycle(self.number)

    def generator(k):
        holder = [None]
        try:
            holder[0] = yield k
        finally:
            log.append(("closed", k, len(log)))

    for k in range(3000):
        Phoenix(k)
        if k % 5 == 0:
            running = generator(k)
            next(running)
            try:
                running.send(running)
            except StopIteration:
                pass
            kept = generator(-k)
            next(kept)
            pair = [kept]
            pair.append(pair)
    report("resurrected", len(back), [phoenix.number for phoenix in back[:5]])


def in_handlers():
    """Collections inside callbacks of C code: sort keys, re substitutions, and inside __del__."""
    import re

    class Key:
        def __init__(self, value):
            self.value = value

        def __lt__(self, other):
            cycle(self.value)
            return self.value < other.value

    for _ in range(20):
        sorted(Key(k * 7 % 31) for k in range(60))
        re.sub("a", lambda match: cycle(match.start()) or "b", "a" * 60)
    report("in handlers")


def picklers():
    """A pickler in reach, whose memo is a hash table of addresses."""
    import io
    import pickle

    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump([(number, str(number)) for number in range(2000)])
    work()
    report("picklers", type(pickler).__name__)


def at_once():
    """With so small a threshold a collection comes with the next objects, here while a generator is resumed."""

    def callback(phase, info):
        gc.callbacks.remove(callback)
        seen.append(sys._getframe(1).f_code.co_name)
        seen.append(phase)

    def numbers():
        while True:
            yield

    def trace(frame, event, arg):
        pass

    for threshold in 1, 2, 5, 16:
        seen = []
        gc.disable()
        generator = numbers()
        next(generator)
        gc.collect()
        gc.set_threshold(threshold, 0, 0)
        sys.settrace(trace)
        gc.callbacks.append(callback)
        gc.enable()
        next(generator)
        seen.append("resumed")
        kept = [[] for _ in range(threshold + 10)]
        sys.settrace(None)
        gc.set_threshold(700, 10, 10)
        print(threshold, len(kept), *seen)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
