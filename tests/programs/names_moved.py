"""Types and functions whose names find something else after they were used, and find them again."""

import codecs
import datetime
import os
import time


def show(kind, value):
    print(kind, type(value).__name__, isinstance(value, TIMES[kind]), type(value) is TIMES[kind])


TIMES = {"local": time.struct_time, "moment": datetime.datetime, "file": os.stat_result}


def read_all():
    show("local", time.localtime())
    show("moment", datetime.datetime.now())
    show("file", os.stat("."))


read_all()
read_all()


# The name has another type for a while, and the real one, which C code makes, is under another name.
class Stopped(datetime.datetime):
    pass


datetime.datetime, datetime.real = Stopped, datetime.datetime
show("moment", datetime.datetime.now())
show("local", time.localtime())
datetime.datetime = datetime.real
read_all()

# A type with another name of its own, and one that is where the old one was.
Moved = TIMES["moment"]


class Renamed(datetime.datetime):
    pass


for _ in range(2):
    print(Renamed.now().__class__.__name__, Renamed.now() > Renamed(2020, 1, 1))
Renamed.__qualname__ = Renamed.__name__ = "Other"
Other = Renamed
for _ in range(2):
    print(Renamed.now().__class__.__name__, Renamed.now() > Renamed(2020, 1, 1))


# Functions that external code calls: by a name, by one that another function has now, and of a class.
def plus(value):
    return value + 1


import sqlite3  # noqa: E402

connection = sqlite3.connect(":memory:")


class Functions:
    @staticmethod
    def times(value):
        return value * 10

    def minus(value):
        return value - 1


def answers(*names):
    return [connection.execute(f"SELECT {name}(5)").fetchone()[0] for name in names]


connection.create_function("plus", 1, plus)
connection.create_function("times", 1, Functions.times)
connection.create_function("minus", 1, Functions.minus)
print(answers("plus", "plus", "times", "times", "minus", "minus"))
old = plus


def plus(value):
    return value + 100


print(answers("plus", "plus"))
connection.create_function("more", 1, plus)
print(answers("plus", "more", "plus", "more"))
old_minus, Functions.minus = Functions.minus, lambda value: value
print(answers("minus", "times"))
Functions.minus = old_minus
print(answers("minus"))
plus = old
print(answers("plus", "more"))


def search(name):
    return codecs.lookup("utf-8") if name == "names_moved" else None


codecs.register(search)
print("é".encode("names_moved"))
connection.close()
