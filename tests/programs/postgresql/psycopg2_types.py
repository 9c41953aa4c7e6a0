"""Parameters and results of every type, both ways, with adapters and typecasters of the program's own."""

import datetime
import decimal
import ipaddress
import sys
import uuid

import psycopg2
import psycopg2.extensions
import psycopg2.extras

connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
cursor = connection.cursor()
psycopg2.extras.register_uuid()
psycopg2.extras.register_ipaddress()

zone = datetime.timezone(datetime.timedelta(hours=5, minutes=45))
values = [
    None,
    True,
    7,
    -(2**62),
    2**80,
    1.5,
    float("nan"),
    float("-inf"),
    decimal.Decimal("123.4500"),
    decimal.Decimal("NaN"),
    "text with 'quotes' and \\ and é and \N{SNOWMAN}",
    b"\x00\x01bytes\xff",
    bytearray(b"more"),
    memoryview(b"view"),
    datetime.date(2024, 2, 29),
    datetime.time(23, 59, 59, 999999),
    datetime.datetime(1999, 12, 31, 23, 59, 59, 5),
    datetime.datetime(2024, 6, 1, 12, 0, tzinfo=zone),
    datetime.timedelta(days=3, seconds=4, microseconds=5),
    [1, 2, 3],
    ["a", None, "c d"],
    [[1, 2], [3, 4]],
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    ipaddress.ip_interface("192.0.2.1/24"),
    psycopg2.extras.Json({"a": [1, 2.5, None], "b": "x"}),
    psycopg2.extras.NumericRange(1, 10, "[)"),
    psycopg2.extras.DateTimeTZRange(datetime.datetime(2024, 1, 1, tzinfo=zone), None),
]
for value in values:
    cursor.execute("SELECT %s", (value,))
    found = cursor.fetchone()[0]
    print(type(value).__name__, bytes(found) if isinstance(found, memoryview) else repr(found))

cursor.execute("SELECT '{1,2,NULL}'::int[], 'infinity'::timestamptz::text, '1 day 02:03:04'::interval, '{\"k\": [1]}'::jsonb")
print(cursor.fetchone())
cursor.execute("SELECT 1 WHERE 3 IN %s AND 'x' = ANY(%s)", ((1, 2, 3), ["x", "y"]))
print(cursor.fetchone())


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __repr__(self):
        return f"Point({self.x}, {self.y})"


adapted, cast = [], []


def adapt_point(point):
    adapted.append(point.x)
    return psycopg2.extensions.AsIs(f"'({point.x}, {point.y})'")


def cast_point(text, cursor):
    cast.append((text, cursor.rownumber))
    if text is None:
        return None
    x, y = text[1:-1].split(",")
    return Point(float(x), float(y))


psycopg2.extensions.register_adapter(Point, adapt_point)
cursor.execute("SELECT NULL::point")
oid = cursor.description[0][1]
psycopg2.extensions.register_type(psycopg2.extensions.new_type((oid,), "POINT", cast_point))
cursor.execute("SELECT %s::point, point(g, g + 1) FROM generate_series(1, 5) g", (Point(1, 2.5),))
print(cursor.fetchall(), adapted, cast)


def fail(text, cursor):
    raise LookupError(f"no {text} here")


broken = psycopg2.extensions.new_type((23,), "BROKEN", fail)
psycopg2.extensions.register_type(broken, cursor)
try:
    cursor.execute("SELECT 42")
    print(cursor.fetchone())
except LookupError as error:
    print(repr(error))
try:
    cursor.execute("SELECT %s", (object,))
except psycopg2.ProgrammingError as error:
    print(error)
connection.close()
