"""Notices, notifications, select() on the connection, asynchronous connections, and errors with all their details."""

import select
import sys

import psycopg2
import psycopg2.extensions
from psycopg2 import errors

dsn = sys.argv[1]
listening = psycopg2.connect(dsn)
listening.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
cursor = listening.cursor()
cursor.execute("LISTEN news")
telling = psycopg2.connect(dsn)
telling.autocommit = True
with telling.cursor() as other:
    for n in range(3):
        other.execute("SELECT pg_notify('news', %s)", (f"message {n}",))
received = 0
while received < 3:
    print(select.select([listening], [], [], 10)[0] == [listening])
    listening.poll()
    while listening.notifies:
        notify = listening.notifies.pop(0)
        print(notify.pid, notify.channel, notify.payload)
        received += 1

cursor.execute("DO $$ BEGIN FOR i IN 1..60 LOOP RAISE NOTICE 'notice %', i; END LOOP; END $$")
print(len(listening.notices), listening.notices[0], listening.notices[-1])

cursor.execute("CREATE TEMPORARY TABLE checked (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0) NOT NULL)")
for statement in (
    "INSERT INTO checked VALUES (1, -1)",
    "INSERT INTO checked VALUES (2, NULL)",
    "INSERT INTO checked VALUES (1, 1), (1, 2)",
    "SELECT nothing FROM nowhere",
    "SELEC 1",
    "SELECT 'x'::int",
    "DO $$ BEGIN RAISE EXCEPTION 'own' USING DETAIL = 'the detail', HINT = 'the hint', ERRCODE = 'UE001'; END $$",
    "SET statement_timeout = 20; SELECT pg_sleep(10)",
):
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        details = {name: getattr(error.diag, name) for name in dir(error.diag) if not name.startswith("_")}
        print(type(error).__mro__[:3], error.pgcode, error.cursor is cursor, details)
print(errors.lookup("23505"), errors.UniqueViolation)

asynchronous = psycopg2.connect(dsn, async_=True)


def wait(connection):
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        if state == psycopg2.extensions.POLL_WRITE:
            select.select([], [connection.fileno()], [])
        elif state == psycopg2.extensions.POLL_READ:
            select.select([connection.fileno()], [], [])


wait(asynchronous)
cursor = asynchronous.cursor()
cursor.execute("SELECT pg_sleep(0.01), clock_timestamp()")
wait(asynchronous)
print(cursor.fetchone(), asynchronous.isexecuting())
asynchronous.close()
try:
    psycopg2.connect(dsn, user="nobody_of_that_name")
except psycopg2.OperationalError as error:
    print(error)
try:
    psycopg2.connect("host=127.0.0.1 port=1 dbname=x")
except psycopg2.OperationalError as error:
    print(error)
