"""When what callbacks return, and what they have, dies: where it would unrecorded, and before much of it has piled up."""

import resource
import sqlite3
import time


class Told:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        print("del", self.number, time.time() > 0)

    def __conform__(self, protocol):
        return self.number


class Rows:
    """What `executemany` takes one after the other."""

    def __init__(self):
        self.number = 10

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        print("next", self.number)
        if self.number > 17:
            raise StopIteration
        return [Told(self.number)]


class Sum:
    def __init__(self):
        self.all = []

    def step(self, value):
        self.all.append(value)
        return Told(value)

    def finalize(self):
        print("finalize")
        return sum(self.all)

    def __del__(self):
        print("the sum is dead")


def has_local(value):
    told = Told(value)
    return str(told.number)


def raises(value):
    told = Told(value)
    raise ValueError(told.number)


connection = sqlite3.connect(":memory:")
connection.execute("create table t(a)")
connection.executemany("insert into t values (?)", Rows())
print("many")
connection.row_factory = lambda cursor, row: Told(row[0] + 100)
print(len(connection.execute("select a from t").fetchall()))
for row in connection.execute("select a from t"):
    print(row.number)
del row
connection.row_factory = None
connection.create_function("has_local", 1, has_local)
connection.create_function("raises", 1, raises)
connection.create_aggregate("total", 1, Sum)
print(connection.execute("select sum(has_local(a)) from t").fetchone())
print(connection.execute("select total(a) from t").fetchone())
for _ in range(2):
    try:
        connection.execute("select raises(a) from t").fetchone()
    except sqlite3.Error as error:
        print(error)

# One object again and again, and many that are all there at the end.
same = Told(0)
connection.row_factory = lambda cursor, row: same
print(all(row is same for row in connection.execute("select a from t").fetchall()))
numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?) select i from n"
connection.row_factory = lambda cursor, row: [row[0]]
rows = connection.execute(numbers, [3000]).fetchall()
print(len({id(row) for row in rows}), rows[-1], sum(row[0] for row in rows))
connection.row_factory = None

# What the outside lets go of in a call of its own, or with what has it.
told = Told(1)
connection.set_trace_callback(lambda statement, told=told: None)
del told
print("replaced")
connection.set_trace_callback(None)
print("and gone")
for number, name in ((2, "one"), (3, "other"), (4, "one")):
    connection.create_function(name, 0, lambda told=Told(number): told.number)
    print("made", name)
print(connection.execute("select one(), other()").fetchone())
connection.create_function("one", 0, None)
print("unmade")

connection.create_function("long", 1, lambda value: "y" * 500 + str(value))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
numbers = numbers.replace("select i from n", "select sum(length(long(i))) from n")
print(connection.execute(numbers, [150_000]).fetchone())
print("grown by", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 // 40 * 40, "MiB")
