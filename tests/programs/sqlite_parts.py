"""sqlite3 with everything that calls back, in Python and in C, and what it hands out."""

import functools
import operator
import sqlite3
import threading
import time

con = sqlite3.connect(":memory:")
con.execute("create table t (a integer, b text)")
con.executemany("insert into t values (?, ?)", ((k, f"n{k}") for k in range(20)))
con.commit()


def functions():
    con.create_function("twice", 1, lambda x: x * 2)
    con.create_function("now", 0, time.time_ns)
    con.create_function("plus", 2, operator.add)
    con.create_function("five_more", 1, functools.partial(operator.add, 5))
    con.create_function("length_of", 1, len)

    @functools.lru_cache
    def cached(x):
        print("computed", x)
        return x * 3

    con.create_function("cached", 1, cached)
    print(con.execute("select twice(4), now() > 0, plus(1, 2), five_more(3), length_of('abc')").fetchone())
    print(con.execute("select cached(4), cached(4), cached(5)").fetchone(), cached.cache_info().misses)

    def fails(x):
        raise ValueError(x)

    con.create_function("fails", 1, fails)
    try:
        con.execute("select fails(1)").fetchall()
    except sqlite3.OperationalError as error:
        print(error, error.sqlite_errorname)


def aggregates():
    class Sum:
        """Has what can't be pickled, and is known to the program."""

        made = []

        def __init__(self):
            self.lock = threading.Lock()
            self.values = []
            self.made.append(self)

        def step(self, value):
            with self.lock:
                self.values.append(value)

        def inverse(self, value):
            self.values.remove(value)

        def value(self):
            return sum(self.values)

        finalize = value

    class Last:
        def step(self, value):
            self.last = value

        def finalize(self):
            return self.last

    con.create_aggregate("total_of", 1, Sum)
    con.create_aggregate("last_of", 1, Last)
    con.create_window_function("moving", 1, Sum)
    print(con.execute("select total_of(a), last_of(b) from t group by a % 3").fetchall(), len(Sum.made))
    over = "over (order by a rows between 1 preceding and 1 following)"
    print(con.execute(f"select a, moving(a) {over} from t").fetchall())
    print(len(Sum.made), sorted(sum(one.values) for one in Sum.made), len(set(Sum.made)))


def collations():
    con.create_collation("backwards", lambda x, y: (x < y) - (x > y))
    print(con.execute("select b from t order by b collate backwards limit 5").fetchall())
    con.create_collation("backwards", None)


def watchers():
    traced, steps = [], []
    con.set_trace_callback(traced.append)
    con.execute("select 1")
    con.set_trace_callback(print)
    con.execute("select 2")
    con.set_trace_callback(None)
    con.set_progress_handler(lambda: steps.append(time.monotonic_ns()), 10)
    con.execute("select count(*) from t a, t b").fetchall()
    con.set_progress_handler(None, 0)
    asked = []
    con.set_authorizer(lambda *what: asked.append(what) or sqlite3.SQLITE_OK)
    con.execute("select a from t limit 1").fetchall()
    con.set_authorizer(None)
    print(traced, len(steps) > 5, asked)


def rows():
    con.row_factory = sqlite3.Row
    row, other = con.execute("select * from t limit 2").fetchall()
    print(row.keys(), row["a"], tuple(row), row == other, len(row), row[-1], hash(row) == hash(row))
    con.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row)}
    print(con.execute("select * from t limit 2").fetchall())
    con.row_factory = None
    for factory in (bytes, bytearray, lambda text: text.decode() + "!"):
        con.text_factory = factory
        print(con.execute("select b from t limit 2").fetchall())
    con.text_factory = str

    class Cursor(sqlite3.Cursor):
        pass

    cursor = con.cursor(Cursor)
    print(type(cursor).__name__, cursor.connection is con, list(cursor.execute("select 1 union select 2")))
    print(cursor.description, cursor.rowcount, cursor.lastrowid)
    # Each has the memory of the one before, which has just died.
    cursor = con.cursor()
    for name in ("first", "second", "third"):
        cursor.execute(f"select 1 as {name}")
        print(cursor.description)


def types():
    sqlite3.register_adapter(complex, lambda number: f"{number.real};{number.imag}")
    sqlite3.register_converter("complex", lambda text: complex(*map(float, text.split(b";"))))

    class Point:
        def __conform__(self, protocol):
            return "a point" if protocol is sqlite3.PrepareProtocol else None

    typed = sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)
    typed.execute("create table z (c complex)")
    typed.executemany("insert into z values (?)", [(1 + 2j,), (3j,)])
    print(typed.execute("select c from z").fetchall(), typed.execute("select ?", (Point(),)).fetchall())
    typed.close()


def iterators():
    class Numbers:
        def __iter__(self):
            return iter([(1, "x"), (2, "y")])

    left = iter([(1, "p"), (2, "q"), (3, "r")])
    for items in (zip(range(5), map(str, range(5))), left, Numbers(), iter([{"a": 1, "b": "named"}])):
        names = ":a, :b" if not isinstance(items, (zip, Numbers)) and items is not left else "?, ?"
        print(con.executemany(f"insert into t values ({names})", items).rowcount, next(left, "nothing left"))
    con.commit()


def blobs_and_backups():
    con.execute("create table blobs (d blob)")
    con.execute("insert into blobs values (zeroblob(20))")
    with con.blobopen("blobs", "d", 1) as blob:
        blob.write(b"hello")
        blob[5], blob[6:8] = 65, b"xy"
        blob.seek(0)
        print(blob.read(3), len(blob), blob[1], blob[0:4], blob.tell(), blob.read())
    con.commit()
    target = sqlite3.connect("copy.db")
    con.backup(target, pages=1, progress=lambda status, left, total: print("progress", status, left, total))
    print(target.execute("select count(*) from t").fetchone(), len(con.serialize()), list(con.iterdump())[:3])
    target.close()


def exceptions():
    """Attributes that a connection has when it is made: a callback was given it before that."""
    names = "Error DataError InterfaceError OperationalError Warning".split()
    for made in con, sqlite3.Connection(":memory:"), sqlite3.connect(":memory:", factory=type("C", (sqlite3.Connection,), {})):
        print([getattr(made, name) is getattr(sqlite3, name) for name in names])


for part in (functions, aggregates, collations, watchers, rows, types, iterators, blobs_and_backups, exceptions):
    print(part.__name__)
    part()
con.close()
try:
    con.execute("select 1")
except sqlite3.ProgrammingError as error:
    print(error)
