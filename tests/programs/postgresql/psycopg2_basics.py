"""Connects, creates, inserts, selects, fails, rolls back: a first look at everything."""

import sys
import time

import psycopg2

connection = psycopg2.connect(sys.argv[1])
print(connection.server_version > 100000, connection.get_backend_pid(), connection.fileno(), connection.info.ssl_in_use)
cursor = connection.cursor()
cursor.execute("CREATE TEMPORARY TABLE people (id serial, name text, born timestamptz DEFAULT clock_timestamp())")
for name in ("Ada", "Grace", "O'Hara é"):
    cursor.execute("INSERT INTO people (name) VALUES (%s) RETURNING id, born", (name,))
    print(cursor.fetchone(), cursor.statusmessage, cursor.rowcount)
connection.commit()
cursor.execute("SELECT name, random(), txid_current() FROM people ORDER BY id")
for row in cursor:
    print(row)
print(cursor.description, cursor.query, cursor.mogrify("%s %s", (1, "x")))
try:
    cursor.execute("SELECT 1 / 0")
except psycopg2.Error as error:
    print(type(error), error.pgcode, repr(error.pgerror), time.time())
try:
    cursor.execute("SELECT 1")
except psycopg2.InternalError as error:
    print(type(error), error)
connection.rollback()
with connection, connection.cursor() as inner:
    inner.execute("SELECT count(*), now() FROM people")
    print(inner.fetchone())
print(connection.notices, connection.status, connection.closed)
connection.close()
print(connection.closed)
