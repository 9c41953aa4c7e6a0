"""Objects that others of the outside refer to, and those that it has made and keeps no longer."""

import sqlite3
import ssl
import weakref


class Context(ssl.SSLContext):
    def __del__(self):
        print("the context is gone")


class Connection(sqlite3.Connection):
    def __del__(self):
        print("the connection is gone")


def wrapped(kind):
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")


stream = wrapped(ssl.SSLContext)
print(type(stream.context).__name__, stream.context.check_hostname)
stream.context = ssl.create_default_context()
print(stream.context.check_hostname)
stream = wrapped(Context)
print("has a stream")
del stream
print("has none")

connection = sqlite3.connect(":memory:", factory=Connection)
connection.execute("create table t(id integer primary key, b blob)")
connection.execute("insert into t values (1, x'00')")
blob = connection.blobopen("t", "b", 1)
connection.close()
del connection
print("has a blob")
del blob
print("has none")

rows = weakref.WeakSet()


class Row:
    def __init__(self, cursor, row):
        rows.add(self)
        self.row = row


class Last:
    def __del__(self):
        print("at the end")


connection = sqlite3.connect(":memory:")
connection.row_factory = Row
connection.execute("select 1 union select 2").fetchall()
print(len(rows))
kept = connection.execute("select 3").fetchone()
print(len(rows), kept.row)
last = Last()
