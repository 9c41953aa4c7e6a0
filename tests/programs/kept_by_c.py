"""What C code keeps of the program's objects, until the collector, C code or the interpreter lets it go.

kept_by_c.py PART
"""

import faulthandler
import functools
import gc
import signal
import sqlite3
import ssl
import sys
import tempfile
import time
import weakref


class Database:
    """Kept by its own connection."""

    def __init__(self, number, setter):
        self.number = number
        self.connection = sqlite3.connect(":memory:")
        getattr(self.connection, setter)(*([self.called, 1] if setter == "set_progress_handler" else [self.called]))

    def called(self, *arguments):
        return 0

    def __del__(self):
        print("database", self.number, time.time())


class Server:
    """Kept by a context, which the function that the context calls keeps."""

    def __init__(self, number):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = lambda connection, name, context: self.number
        self.number = number

    def __del__(self):
        print("server", self.number, time.time())


def cycles():
    gc.disable()
    for number, setter in enumerate(("set_trace_callback", "set_authorizer", "set_progress_handler")):
        Database(number, setter)
    one = Database(3, "set_trace_callback")
    one.connection.execute("select 1").fetchone()
    watched = weakref.ref(one, lambda reference: print("gone", time.time()))
    del one
    for number in range(3):
        Server(number)
    print("collects", time.time())
    print(gc.collect() > 0, watched(), gc.collect())
    one = Database(4, "set_trace_callback")
    one.connection.set_trace_callback(None)
    del one
    print("ends", time.time())


class Tracer:
    """Nobody but C code and a local variable knows it."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:")
        self.seen = []

    def trace(self, statement):
        self.seen.append((statement, time.time()))

    def double(self, number):
        self.seen.append(number)
        return number * 2


def methods():
    tracer = Tracer()
    counted = []

    def count(number):
        counted.append(number)
        return len(counted)

    connection = tracer.connection
    connection.set_trace_callback(tracer.trace)
    connection.create_function("double", 1, tracer.double)
    connection.create_function("partly", 1, functools.partial(tracer.double))
    connection.create_function("counting", 1, count)
    for number in range(3):
        print(connection.execute("select double(?), partly(?), counting(?)", (number,) * 3).fetchall())
    print(tracer.seen, counted)


def unraisable():
    """A hook that C code calls with something that no module has."""

    class Told:
        def hook(self, unraisable):
            hook(unraisable)

    def hook(unraisable):
        frames = []
        traceback = unraisable.exc_traceback
        while traceback:
            frames.append((traceback.tb_frame.f_code.co_name, traceback.tb_lineno))
            traceback = traceback.tb_next
        same = unraisable.exc_value.__traceback__ is unraisable.exc_traceback
        print(type(unraisable).__name__, unraisable.exc_type, unraisable.exc_value, same, frames, time.time())

    def fails(number):
        raise ValueError(number)

    sys.unraisablehook = Told().hook
    sys.addaudithook(lambda event, arguments: event == "sys.unraisablehook" and print(event, len(arguments)))
    sqlite3.enable_callback_tracebacks(True)
    connection = sqlite3.connect(":memory:")
    connection.create_function("fails", 1, fails)
    answers = [1 << 100]
    connection.set_authorizer(lambda *arguments: answers.pop() if answers else 0)
    try:
        # The exception is C's: its traceback begins here.
        connection.execute("select 0")
    except sqlite3.DatabaseError as error:
        print(error)
    connection.set_progress_handler(lambda: 1 / 0 if ended else 0, 1)
    connection.row_factory = lambda cursor, row: (time.time(), *row)
    ended = False
    for number in range(2):
        try:
            connection.execute("select fails(?)", (number,)).fetchall()
        except sqlite3.OperationalError as error:
            print(error)
    print(connection.execute("select 1").fetchall())
    ended = True
    try:
        print(connection.execute("select 2").fetchall())
    except sqlite3.OperationalError as error:
        print(error)


def files():
    """A file that nobody else keeps: it is closed when the module goes that keeps it."""
    file = tempfile.TemporaryFile("w+")
    faulthandler.enable(file)
    faulthandler.dump_traceback_later(1000, file=file)
    faulthandler.register(signal.SIGUSR1, file=file)
    del file
    print("ends", time.time())


globals()[sys.argv[1]]()
