"""Python code that C calls while it is outside: openers, audit hooks, path objects, warnings, filters."""

import io
import os
import pathlib
import select
import signal
import socket
import sys
import time
import warnings


class Named:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        print("asked for the path at", time.time_ns())
        return self.path


class Numbered:
    """Has a descriptor number."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        print("asked for the number", time.time_ns())
        return self.number


class Index:
    def __index__(self):
        print("asked for the index", time.time_ns())
        return 3


def opener(path, flags):
    print("opener", path, flags & os.O_ACCMODE, time.time_ns())
    return os.open(path, flags, dir_fd=folder)


folder = os.open("inputs", os.O_RDONLY)
with open("poem.txt", opener=opener) as poem:
    print(poem.readline(), poem.name)
with open(Named("inputs/poem.txt")) as poem:
    print(poem.read(4))
print(os.stat(Named("inputs")).st_size, os.listdir(Named("inputs")), os.path.exists(Named("nowhere")))
print(len(os.read(Index() and folder and os.open(Named("inputs/poem.txt"), os.O_RDONLY), Index())))


def failing(path, flags):
    raise LookupError(path, time.time_ns())


def silly(path, flags):
    return -1


for wrong in (failing, silly, lambda path, flags: "text"):
    try:
        open("inputs/poem.txt", opener=wrong)
    except Exception as error:
        print(type(error).__name__, error.args)


class Refuses:
    def __fspath__(self):
        raise PermissionError("not telling", time.time_ns())


class Wrong:
    def __fspath__(self):
        return 5


for path in (Refuses(), Wrong(), object()):
    try:
        os.stat(path)
    except Exception as error:
        print(type(error).__name__, str(error).split(" object at ")[0])

reader, writer = os.pipe()
os.write(writer, b"ready")
print(select.select([Numbered(reader)], [Numbered(writer)], [], 0)[0][0].number == reader)
poll = select.poll()
poll.register(Numbered(reader), select.POLLIN)
print(poll.poll(0) == [(reader, select.POLLIN)], os.read(reader, 5))
os.close(reader)
os.close(writer)

heard = []


def hook(event, arguments):
    if event in ("open", "os.listdir", "socket.bind", "os.remove", "time.sleep"):
        heard.append((event, str(arguments[0]), time.monotonic_ns() > 0))


def nameless():
    listed = []

    def hook(event, arguments):
        if event == "os.listdir":
            listed.append((arguments, time.monotonic_ns()))

    return hook, listed


sys.addaudithook(hook)
hook_without_name, listed = nameless()
sys.addaudithook(hook_without_name)
open("inputs/poem.txt").close()
os.listdir("inputs")
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
print([(event, what) for event, what, _ in heard if "poem" in what or event != "open"][:2], len(heard), listed)


def shown(message, category, filename, lineno, file=None, line=None):
    print("warning", category.__name__, str(message).split(" at 0x")[0].split("fd=")[0], lineno, time.time_ns())


warnings.simplefilter("always")
warnings.showwarning = shown


def leak():
    open("inputs/poem.txt")
    io.FileIO("inputs/poem.txt")
    socket.socket()


leak()
print("leaked at", time.time_ns())


class Raw(io.RawIOBase):
    """A stream written in Python under the buffered layers written in C."""

    def readable(self):
        return True

    def readinto(self, buffer):
        data = os.urandom(min(4, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


print(io.BufferedReader(Raw(), buffer_size=8).read(20))


class Logged(io.FileIO):
    """A subclass of an external type with methods of its own."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reads = 0

    def readinto(self, buffer):
        self.reads += 1
        print("readinto", len(buffer) > 0, time.time_ns())
        return super().readinto(buffer)

    def close(self):
        print("close", self.closed)
        super().close()


with io.TextIOWrapper(io.BufferedReader(Logged("inputs/poem.txt"))) as text:
    print(text.readline(), text.buffer.raw.reads)
print(pathlib.Path(Named("inputs")).is_dir(), signal.getsignal(signal.SIGUSR2))
os.close(folder)
sys.excepthook = lambda kind, value, trace: print("excepthook", kind.__name__, value, time.time_ns())
sys.unraisablehook = lambda info: print("unraisable", info.exc_value, time.time_ns())


class Breaks:
    def __del__(self):
        raise RuntimeError("in __del__", time.time_ns())


Breaks()
raise SystemError("the last word", time.time_ns())
