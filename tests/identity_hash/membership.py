"""Everything that was in a container before the install is found in it afterwards, by old and by fresh keys."""
import asyncio
import collections
import contextvars
import decimal
import enum
import functools
import json
import logging
import re
import sys
import typing
import weakref

import identity_probe


class Plain:
    pass


class Custom:
    """Hashes by what it holds, in Python."""

    def __init__(self, *parts):
        self.parts = parts

    def __hash__(self):
        return hash(self.parts)

    def __eq__(self, other):
        return self.parts == other.parts


class Color(enum.Enum):
    RED = 1
    BLUE = 2


plains = [Plain() for _ in range(100)]
nan = float("nan")
# Each of these makes an equal key anew.
makers = [lambda x=x: x for x in (int, str, len, None, ..., NotImplemented, json, re, Color, Color.RED, nan, plains[0],
                                  json.dumps, Plain.__init__, object.__hash__, vars(str)["join"], logging.root, 1.5,
                                  decimal.Decimal(3), "text", 12, b"bytes", type(None), json.dumps.__code__)]
makers += [
    lambda: (int, (str, None)), lambda: frozenset([int, frozenset([str, len])]), lambda: plains[1].__init__,
    lambda: plains[2].__str__, lambda: Custom(int, plains[3]), lambda: Custom(Custom(len), frozenset([Custom(re)])),
    lambda: typing.List[int], lambda: typing.Optional[Plain], lambda: typing.Literal[Color.RED], lambda: list[Plain],
    lambda: int | Plain, lambda: weakref.ref(Plain), lambda: weakref.ref(plains[4]), lambda: logging.root.info,
    lambda: "".join, lambda: sys.exit, lambda: functools.partial,
]
as_dict = {make(): i for i, make in enumerate(makers)}
as_set = {make() for make in makers}
as_frozenset = frozenset(as_set)
big_dict = {p: i for i, p in enumerate(plains)} | {(p, i): i for i, p in enumerate(plains * 10)}
with_gaps = dict(big_dict)
for p in plains[::3]:
    del with_gaps[p]
nested = {as_frozenset: "nested", frozenset([as_frozenset]): "twice"}
ordered = collections.OrderedDict((p, i) for i, p in enumerate(plains))
defaults = collections.defaultdict(list, {p: [i] for i, p in enumerate(plains)})
weak_set = weakref.WeakSet(plains)
weak_keys = weakref.WeakKeyDictionary((p, i) for i, p in enumerate(plains))
weak_values = weakref.WeakValueDictionary(((Plain, i), p) for i, p in enumerate(plains))
order_before = list(big_dict)
dying = [Plain() for _ in range(3)]
dead = {weakref.ref(p) for p in dying}
del dying
doomed_object = Plain()
doomed = weakref.ref(doomed_object, lambda r: registry.discard(r))
registry = {doomed}
calls = []


@functools.lru_cache(maxsize=60)
def cached(*key):
    calls.append(key)
    return key


@functools.lru_cache(maxsize=None)
def cached_forever(key):
    calls.append(key)
    return key


for p in plains[:50]:
    cached(p)
    cached(p, int)
    cached_forever(p)
for t in (int, str, len):
    cached_forever(t)
hashed_seq = {functools._make_key((plains[5], int), {}, False): "seq"}


@functools.singledispatch
def dispatch(x):
    return "object"


dispatch.register(Plain, lambda x: "plain")
dispatch.register(int, lambda x: "int")
assert dispatch(plains[0]) == "plain" and dispatch(1) == "int" and dispatch("") == "object"
variables = [contextvars.ContextVar("v%d" % i) for i in range(200)]
for i, v in enumerate(variables):
    v.set(i)
context = contextvars.copy_context()
context_size = len(context)
token = variables[0].set("later")
attribute_of_class = {Plain: {"x": 1}}
loop_before = asyncio.new_event_loop()
asyncio.set_event_loop(loop_before)
future_before = loop_before.create_future()
callbacks = {future_before: 1}

identity_probe.install()
before = identity_probe.stats()
calls.clear()

for i, make in enumerate(makers):
    key = make()
    assert as_dict[key] == i, key
    assert key in as_set and key in as_frozenset, key
    assert hash(key) == hash(make()), key
assert len(as_dict) == len(as_set) == len(makers)
assert set(as_dict) == as_set == as_frozenset
assert list(big_dict) == order_before
for i, p in enumerate(plains):
    assert big_dict[p] == i and big_dict[p, i] == i and ordered[p] == i and defaults[p] == [i]
    assert (p in with_gaps) == (i % 3 != 0)
    assert p in weak_set and weak_keys[p] == i and weak_values[Plain, i] is p
for i, p in enumerate(plains[::3]):
    with_gaps[p] = i
assert len(with_gaps) == len(big_dict)
assert nested[frozenset(make() for make in makers)] == "nested"
assert nested[frozenset([frozenset(make() for make in makers)])] == "twice"
assert hash(as_frozenset) == hash(frozenset(as_set))
assert len(dead) == 3 and all(r in dead for r in dead)
del doomed_object
assert not registry
for p in plains[40:50]:
    cached(p), cached(p, int)
assert not calls
for p in plains:  # evicts by the stored hashes
    cached(p, str)
assert cached.cache_info().currsize == 60 and len(calls) == 100
calls.clear()
for p in plains[:50]:
    cached_forever(p)
cached_forever(int), cached_forever(len)
assert not calls
assert hashed_seq[functools._make_key((plains[5], int), {}, False)] == "seq"
assert dispatch(plains[0]) == "plain" and dispatch(True) == "int" and dispatch("") == "object"
assert variables[0].get() == "later" and all(v.get() == i for i, v in enumerate(variables) if i)
assert all(context[v] == i for i, v in enumerate(variables)) and len(context) == context_size
assert context.run(lambda: [v.get() for v in variables]) == list(range(200))
variables[0].reset(token)
assert variables[0].get() == 0
assert attribute_of_class[Plain] == {"x": 1}
assert callbacks[future_before] == 1
ordered.move_to_end(plains[0])
assert ordered.popitem()[0] is plains[0] and ordered.popitem(last=False)[0] is plains[1]
weak_set.discard(plains[7])
del plains[7:]
del p, big_dict, with_gaps, ordered, defaults, as_dict, order_before, context
calls.clear()
cached.cache_clear(), cached_forever.cache_clear()
import gc

gc.collect()
assert len(weak_set) == len(weak_keys) == len(weak_values) == 7, (len(weak_set), len(weak_keys), len(weak_values))
for name in list(sys.modules):
    assert name in sys.modules
assert issubclass(dict, collections.abc.Mapping) and isinstance([], collections.abc.Sequence)
assert not issubclass(list, collections.abc.Mapping)
assert before["rehash_errors"] == 0 and before["program_numbers"] == 0, before
print("ok")
