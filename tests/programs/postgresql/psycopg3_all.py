"""psycopg 3, in C: parameters both ways, binary too, rows, COPY, pipelines, notifications, errors, asyncio, threads."""

import asyncio
import datetime
import decimal
import sys
import threading
import uuid

import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.json import Jsonb

dsn = sys.argv[1]
print(psycopg.pq.__impl__, psycopg.pq.version() > 100000)
values = [
    None,
    True,
    5,
    2**70,
    1.25,
    decimal.Decimal("1.50"),
    "text é",
    b"\x00bytes",
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 6, 1, 12, tzinfo=datetime.UTC),
    datetime.timedelta(days=1, seconds=2),
    uuid.UUID(int=77),
    [1, 2, None],
    ["a", "b"],
    Jsonb({"k": [1, None]}),
]
with psycopg.connect(dsn) as connection:
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        for value in values:
            print(cursor.execute("SELECT %s", (value,)).fetchone())
    connection.execute("CREATE TEMPORARY TABLE items (n int, word text, at timestamptz DEFAULT clock_timestamp())")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO items VALUES (%s, %s)", [(n, f"word {n}") for n in range(100)])
        with cursor.copy("COPY items (n, word) FROM STDIN") as copy:
            for n in range(100, 130):
                copy.write_row((n, "copied"))
        with cursor.copy("COPY (SELECT * FROM items WHERE n > 125 ORDER BY n) TO STDOUT") as copy:
            for row in copy.rows():
                print(row)
    for factory in (dict_row, namedtuple_row):
        with connection.cursor(row_factory=factory) as cursor:
            print(cursor.execute("SELECT * FROM items ORDER BY n LIMIT 2").fetchall())
    with connection.cursor(name="server side") as cursor:
        cursor.execute("SELECT n, random() FROM items ORDER BY n")
        print(cursor.fetchmany(3), sum(row[0] for row in cursor))
    with connection.pipeline():
        first = connection.execute("SELECT now()")
        second = connection.execute("SELECT pg_backend_pid()")
    print(first.fetchone(), second.fetchone())
    try:
        with connection.transaction():
            connection.execute("SELECT 1 / 0")
    except psycopg.Error as error:
        print(type(error), error.sqlstate, error.diag.message_primary, error.diag.source_function)

    class Upper(Loader):
        def load(self, data):
            return bytes(data).decode().upper()

    class Shout(Dumper):
        oid = psycopg.adapters.types["text"].oid

        def dump(self, value):
            return f"{value.text}!".encode()

    class Word:
        def __init__(self, text):
            self.text = text

    connection.adapters.register_loader("text", Upper)
    connection.adapters.register_dumper(Word, Shout)
    print(connection.execute("SELECT word, %s FROM items LIMIT 1", (Word("hey"),)).fetchone())

with psycopg.connect(dsn, autocommit=True) as listening:
    listening.execute("LISTEN news")
    listening.add_notice_handler(lambda notice: print("notice", notice.severity, notice.message_primary))
    listening.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    with psycopg.connect(dsn, autocommit=True) as telling:
        telling.execute("SELECT pg_notify('news', 'first')")
    for notify in listening.notifies(stop_after=1):
        print(notify)


async def together(number):
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute("SELECT %s, pg_sleep(0.005), clock_timestamp()", (number,))
        return await cursor.fetchone()


async def main():
    for row in await asyncio.gather(*(together(n) for n in range(4))):
        print(row)


asyncio.run(main())

lines = []


def work(number):
    with psycopg.connect(dsn) as connection:
        for step in range(10):
            lines.append(connection.execute("SELECT %s, %s, random()", (number, step)).fetchone())


threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(lines)
