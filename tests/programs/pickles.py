"""What a program tells pickle is what counts: its own copyreg, functools and extension codes."""

import copyreg
import functools
import pickle
import re


class Coded:
    pass


class Registered:
    def __init__(self, value):
        self.value = value


class Keywords(int):
    def __reduce_ex__(self, protocol):
        return copyreg.__newobj_ex__, (Keywords, (5,), {}), None


def restore(value):
    return Registered(value)


copyreg.add_extension("__main__", "Coded", 7)
copyreg.pickle(Registered, lambda object: (restore, (object.value + 1,)))
print(pickle.dumps(Coded, 2))
print(pickle.loads(pickle.dumps(Registered(5))).value)
print(pickle.loads(pickle.dumps(Keywords(), 2)), pickle.dumps(functools.partial(int, base=2))[:40])
print(pickle.loads(pickle.dumps(re.compile("a+"))).pattern)
