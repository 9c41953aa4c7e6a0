"""When instances die that C code has made of classes of the program: where they would unrecorded."""

import gc
import sqlite3
import threading
import weakref


class Content:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("content of", self.name, "is dead")


class Sum:
    """Knows of each instance whether it lives."""

    known = []

    def __init__(self):
        self.number = len(self.known)
        self.known.append(weakref.ref(self, self.dies))
        self.all = []
        self.content = Content(f"sum {self.number}")

    @staticmethod
    def dies(reference):
        print("a sum is dead:", Sum.living())

    @classmethod
    def living(cls):
        return [known() is not None for known in cls.known]

    def step(self, value):
        self.all.append(value)
        return self

    def inverse(self, value):
        self.all.remove(value)

    def value(self):
        return sum(self.all)

    finalize = value


class Plain:
    def __init__(self):
        self.all = []

    def step(self, value):
        self.all.append(value)
        return self if value % 2 else None

    def finalize(self):
        return len(self.all)


class Row:
    def __init__(self, cursor, values):
        self.values = values


class Handler:
    """Looks like one that C code has just made: it has no attributes yet."""

    def log(self, statement):
        self.count = getattr(self, "count", 0) + 1

    def __del__(self):
        print("a handler is dead:", self.count)


def local(count):
    class Product:
        def __init__(self):
            self.product = 1

        def step(self, value):
            self.product *= value

        def finalize(self):
            return self.product

    connection = sqlite3.connect(":memory:")
    connection.create_aggregate("product", 1, Product)
    connection.execute("create table t(a)")
    connection.executemany("insert into t values(?)", [(i + 1,) for i in range(count)])
    print(connection.execute("select product(a) from t").fetchone())
    connection.close()
    return weakref.ref(Product)


connection = sqlite3.connect(":memory:")
connection.execute("create table t(a)")
connection.executemany("insert into t values(?)", [(i,) for i in range(200)])
connection.create_aggregate("total", 1, Sum)
connection.create_aggregate("plain", 1, Plain)
print(connection.execute("select total(a) from t where a < 5").fetchone())
print(Sum.living())
print(connection.execute("select total(a) from t where a < 20 group by a % 3").fetchall())
print(Sum.living())
print(connection.execute("select plain(a) from t group by a % 100").fetchall()[:3])
print(sum(type(it) is Plain for it in gc.get_objects()))
if hasattr(connection, "create_window_function"):
    connection.create_window_function("running", 1, Sum)
    statement = "select running(a) over (order by a rows between 1 preceding and 1 following) from t where a < 6"
    rows = connection.execute(statement)
    print(next(rows), next(rows))
    print(Sum.living())
    print(list(rows))
    print(Sum.living())
    left = connection.execute(statement)
    print(next(left))
    del left
    print(Sum.living())
handler = Handler()
connection.set_trace_callback(handler.log)
connection.execute("select 1").fetchone()
print(handler.count > 0)
connection.set_trace_callback(None)
del handler
connection.row_factory = Row
rows = connection.execute("select a from t").fetchall()
known = [weakref.ref(row) for row in rows]
del rows[50:150]
print(sum(known() is not None for known in known), rows[-1].values)
del rows
print(sum(known() is not None for known in known))
connection.close()
classes = [local(3)]
thread = threading.Thread(target=lambda: classes.append(local(5)))
thread.start()
thread.join()
gc.collect()
print([known() for known in classes])
