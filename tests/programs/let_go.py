"""What lets go of objects: the interpreter's end, finalizers of C types that have Python subclasses, and collections."""

import gc
import io
import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
import warnings
import weakref


class Told:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("deleted:", self.name)


class Raw(io.RawIOBase):
    """Says what it gets when it is closed: a buffered writer's last part."""

    def writable(self):
        return True

    def write(self, data):
        print("written:", bytes(data))
        return len(data)


def stop(number, frame):
    print("stopped by", number)


def handlers():
    """A handler is a function of this module, which keeps its globals."""
    global told, file
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, stop)
    signal.signal(signal.SIGUSR2, lambda number, frame: print("by a lambda"))
    assert signal.signal(signal.SIGUSR1, signal.SIG_DFL) is stop
    signal.raise_signal(signal.SIGUSR2)
    told = Told("a global")
    file = io.BufferedWriter(Raw())
    file.write(b"not flushed before the end")
    gc.collect()
    before = gc.get_count()[0]
    signal.signal(signal.SIGALRM, stop)
    print(gc.get_count()[0] - before, signal.getsignal(signal.SIGTERM) is stop)


class Socket(socket.socket):
    def close(self):
        print("close() of a subclass")
        super().close()


class File(io.FileIO):
    def _dealloc_warn(self, source):
        print("_dealloc_warn() of a subclass")
        super()._dealloc_warn(source)


def finalizers():
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_: print(message.__class__.__name__, str(message).split()[0])
    one = Socket()
    del one
    file = File("written.txt", "w")
    del file
    left, right = socket.socketpair()
    box = [left.makefile("rw"), left, right]
    box.append(box)
    del left, right, box
    print(gc.collect() > 0)


def clears():
    """The collector's clearing runs C code that gives the GIL up: of a statement, and of a log of keys."""
    cursors = [sqlite3.connect(":memory:").execute("select 1")]
    cursors.append(cursors)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.keylog_filename = "keys.log"
    context.me = context
    del cursors, context
    print(gc.collect() > 0)
    thread = threading.Thread(target=print, args=("in a thread",))
    thread.start()
    thread.join()
    print("joined")


def converters():
    """Functions that sqlite3's module keeps, which keep this module's globals."""
    global told, file
    sqlite3.register_converter("text", lambda value: value)
    sqlite3.register_adapter(Told, lambda value: value.name)
    told = Told("a global")
    print(sqlite3.connect(":memory:").execute("select ?", [told]).fetchone())
    file = io.BufferedWriter(Raw())
    file.write(b"not flushed before the end")


def again():
    """A module's types go with it, and others take their places."""
    kept = []
    for _ in range(5):
        sys.modules.pop("_random", None)
        import _random

        generator = _random.Random()
        kinds = weakref.ref(_random.Random)
        print(generator.random())
        del _random, generator
        sys.modules.pop("_random")
        gc.collect()
        kept += [type(f"T{k}", (), {"k": k}) for k in range(20)]
        print(kinds() is None, [kind().k for kind in kept][-1])


class Connection(sqlite3.Connection):
    def __del__(self):
        print("a connection is deleted")


def connections():
    """A connection and its cache of statements refer to each other; closed, it lets go of that and of its functions."""
    connection = sqlite3.connect(":memory:", factory=Connection)
    del connection
    print("by the collector")
    gc.collect()
    for setter, *arguments in (
        ("create_function", "f", 0),
        ("create_collation", "c"),
        ("set_authorizer",),
        ("set_trace_callback",),
        ("set_progress_handler",),
    ):
        connection = sqlite3.connect(":memory:", factory=Connection)
        function = lambda *_, connection=connection: 0  # noqa: E731
        more = [1] if setter == "set_progress_handler" else []
        getattr(connection, setter)(*arguments, function, *more)
        function = weakref.ref(function)
        print(setter, function() is not None)
        connection.close()
        print("closed", function() is not None)
        del connection


def connections_in_threads():
    """The collector closes connections while another thread opens some."""
    done = False

    def open_some():
        while not done:
            sqlite3.connect(":memory:").close()

    thread = threading.Thread(target=open_some)
    thread.start()
    for number in range(60):
        sqlite3.connect(":memory:")
        if number % 10 == 0:
            gc.collect()
    done = True
    thread.join()
    print("joined")


def known_weakly():
    """Weak references to what belongs to the outside call back when that goes."""

    def told(reference):
        # Of no global name, and crosses the boundary itself.
        print("gone:", reference() is None, os.getpid() > 0)

    connection = sqlite3.connect(":memory:")
    for make in (connection.cursor, lambda: sqlite3.Cursor(connection), socket.socket, lambda: open(os.devnull)):
        one = make()
        one.close()
        known = weakref.ref(one, told)
        finalizer = weakref.finalize(one, print, "finalized:", type(one).__name__)
        del one
        print(known(), finalizer.alive)
        box = [make()]
        box[0].close()
        box.append(box)
        known = weakref.ref(box[0], told)
        del box
        print(known() is None, gc.collect() > 0, known())
    cursor = sqlite3.Cursor(connection)
    known = weakref.ref(cursor, told)
    cursor.__init__(connection)
    del cursor
    print(known())
    connection.close()
    known = weakref.WeakSet()
    known.add(Socket())
    print(len(known))


def called_when_closed():
    """A connection calls a handler while it closes (with a transaction of its own in 3.12), and then lets go of it."""
    for kind in ("function", "method", "object"):
        told = Told(kind)

        class Handler:
            def __init__(self, told):
                self.told = told

            def log(self, statement):
                print("by a method:", statement)

            def __call__(self, statement):
                print("by an object:", statement)

        def log(statement, told=told):
            print("by a function:", statement)

        known = weakref.ref({"function": log, "method": Handler, "object": Handler}[kind])
        handler = {"function": log, "method": Handler(told).log, "object": Handler(told)}[kind]
        parameters = {"autocommit": False} if sys.version_info >= (3, 12) else {}
        connection = sqlite3.connect(":memory:", **parameters)
        connection.execute("create table t(a)")
        connection.set_trace_callback(handler)
        del told, log, Handler, handler
        print("closed", connection.close())
        gc.collect()
        print(known())


globals()[sys.argv[1]]()
