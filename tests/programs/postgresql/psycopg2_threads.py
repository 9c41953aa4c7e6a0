"""A pool that threads share, and one connection that they share: what waits for whom is the schedule's to say."""

import sys
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.pool

dsn = sys.argv[1]
pool = psycopg2.pool.ThreadedConnectionPool(1, 4, dsn)
gate = threading.Semaphore(4)
shared = psycopg2.connect(dsn)
shared.autocommit = True
order = []


def cast_slowly(text, cursor):
    total = 0
    for n in range(2000):
        total += n
    return int(text)


psycopg2.extensions.register_type(psycopg2.extensions.new_type((23,), "SLOW", cast_slowly))


def work(number):
    for step in range(12):
        with gate:
            connection = pool.getconn()
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute("SELECT %s::int, pg_backend_pid(), clock_timestamp()", (number * 100 + step,))
                    order.append(cursor.fetchone())
            finally:
                pool.putconn(connection)
        with shared.cursor() as cursor:
            cursor.execute("SELECT g, random() FROM generate_series(1, %s) g", (20 + number,))
            order.append((number, step, len(cursor.fetchall()), time.monotonic_ns()))


threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
pool.closeall()
shared.close()
print(len(order))
for line in order:
    print(line)
