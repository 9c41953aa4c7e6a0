"""Cursors of every kind: server-side ones, dictionaries, named tuples, callproc, executemany, scrolling."""

import sys

import psycopg2
import psycopg2.extras

connection = psycopg2.connect(sys.argv[1])
cursor = connection.cursor()
cursor.execute("CREATE TEMPORARY TABLE numbers (n int, square int, at timestamptz)")
rows = [(n, n * n) for n in range(500)]
psycopg2.extras.execute_values(
    cursor, "INSERT INTO numbers VALUES %s", rows, template="(%s, %s, clock_timestamp())", page_size=100
)
psycopg2.extras.execute_batch(cursor, "UPDATE numbers SET square = square + %s WHERE n = %s", [(1, 3), (1, 4)])
cursor.executemany("DELETE FROM numbers WHERE n = %s", [(7,), (8,)])
print(cursor.rowcount)

with connection.cursor("on the server") as named:
    named.itersize = 50
    named.execute("SELECT n, square, at FROM numbers ORDER BY n")
    print(named.fetchone(), named.fetchmany(3))
    print(sum(row[1] for row in named))
with connection.cursor("scrolling", scrollable=True) as named:
    named.execute("SELECT n FROM numbers ORDER BY n")
    named.scroll(100)
    print(named.fetchone())
    named.scroll(-50)
    print(named.fetchone(), named.name, named.scrollable)

for factory in (psycopg2.extras.DictCursor, psycopg2.extras.RealDictCursor, psycopg2.extras.NamedTupleCursor):
    with connection.cursor(cursor_factory=factory) as special:
        special.execute("SELECT n, square, at FROM numbers WHERE n < %(limit)s ORDER BY n", {"limit": 3})
        print(factory.__name__, special.fetchall())

cursor.callproc("generate_series", (1, 4))
print(cursor.fetchall())
cursor.execute("SELECT n FROM numbers ORDER BY n")
cursor.scroll(10, "absolute")
print(cursor.fetchmany(2), cursor.rownumber, cursor.arraysize)


class Own(psycopg2.extensions.cursor):
    def execute(self, query, parameters=None):
        print("about to execute", query)
        return super().execute(query, parameters)


with connection.cursor(cursor_factory=Own) as own:
    own.execute("SELECT version() IS NOT NULL, pg_postmaster_start_time()")
    print(own.fetchone())
connection.close()
