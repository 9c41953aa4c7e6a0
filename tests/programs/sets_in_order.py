"""Sets iterate in an order that depends on addresses and on the hash secret."""

import enum
import weakref


class Plain:
    def __init__(self, number):
        self.number = number


class Slotted:
    __slots__ = ("number", "__weakref__")

    def __init__(self, number):
        self.number = number


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


def numbered(number):
    def function():
        return number

    return function


words = {f"word{n}" for n in range(200)}
print("strings", list(words))
print("bytes", list({b"%d" % n for n in range(50)}))
print("mixed", list({("tuple", n, str(n)) for n in range(50)}), list(frozenset("abcdefghijklmnop")))
print("objects", [o.number for o in {Plain(n) for n in range(300)}])
print("slotted", [o.number for o in {Slotted(n) for n in range(300)}])
print("classes", [c.__name__ for c in {type(f"Class{n}", (), {}) for n in range(100)}])
print("builtin classes", [c.__name__ for c in {int, str, list, dict, set, float, bytes, type, object, Plain, Colour}])
print("functions", [f() for f in {numbered(n) for n in range(200)}])
print("builtins", [f.__name__ for f in {len, print, repr, abs, iter, next, hash, id, vars, dir}])
print("methods", [m.__name__ for m in {[].append, {}.get, "".join, set().add}])
print("enum", list({Colour.RED, Colour.GREEN, Colour.BLUE}), list({None, Ellipsis, NotImplemented, True}).index(None))
print("bound", [m.__self__.number for m in {Plain(n).__init__ for n in range(60)}])

# Nothing keeps these: addresses are used again and again.
seen = set()
order = []
for n in range(2000):
    seen.add(Plain(n))
    if n % 7 == 0:
        order.append(seen.pop().number)
print("popped", order[-50:], len(seen), sum(order))
keys = {Plain(n): n for n in range(50)}
print("dict keys", list(keys.values()), [keys[k] for k in set(keys)])
weak = weakref.WeakSet()
alive = [Plain(n) for n in range(100)]
for item in alive:
    weak.add(item)
del alive[::3], item
print("weak", sorted(o.number for o in weak) == sorted(o.number for o in alive), [o.number for o in weak])
print("first", next(iter(words)), min(words, key=hash), max({Plain(n) for n in range(5)}, key=hash).number)
nan = float("nan")
print("nan", [str(x) for x in {nan, float("nan"), 1.0, 2.0}])
