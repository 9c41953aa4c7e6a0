"""Arguments that the program's own classes have a say in: what is asked of them, how often, and what for."""

import collections
import os
import sqlite3
import sys
from unittest import mock


class Claims(list):
    """Has, for who asks it, what the list has not."""

    def __init__(self, items):
        super().__init__()
        self.items = items
        self.asked = 0

    def __len__(self):
        self.asked += 1
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


readable, writable = os.pipe()
buffers = [bytearray(2) for _ in range(500)]
os.write(writable, b"abcdef")
claims = Claims(buffers)
print(os.readv(readable, claims), buffers[:4], claims.asked)
for make in (collections.deque, collections.UserList, tuple):
    os.write(writable, b"ghijkl")
    buffers = [bytearray(2), bytearray(2)]
    print(os.readv(readable, make(buffers)), buffers, os.read(readable, 9))
claims = Claims([b"one\n", b"two\n"])
sys.stdout.flush()
print(os.writev(1, claims), os.writev(1, collections.deque([b"three\n"])), claims.asked)
try:
    os.readv(readable, iter([bytearray(1)]))
except TypeError as error:
    print(error)

both = mock.MagicMock()
both.__fspath__.return_value = "."
both.__index__.return_value = 0
os.stat(both)
print(both.mock_calls)


def make():
    """Methods that have another function's name, of a class that no name leads to."""

    def hook(function):
        def named_so(self, *arguments):
            return function(self, *arguments)

        return named_so

    class Parameters:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

        __len__ = hook(lambda self: 1)
        __getitem__ = hook(lambda self, i: 5)

    return Parameters()


asked = []
print(sqlite3.connect(":memory:").execute("select ?", make()).fetchone(), asked)

if sys.version_info >= (3, 12):

    class Memory:
        def __init__(self):
            self.bytes, self.asked = bytearray(b"----\n"), 0

        def __buffer__(self, flags):
            self.asked += 1
            return memoryview(self.bytes)

    memory = Memory()
    os.write(writable, b"xyz")
    with open(readable, "rb", buffering=0, closefd=False) as file:
        print(file.readinto(memory), memory.asked, memory.bytes)
    os.write(1, memory)
    print(memory.asked)
