"""Calls whose arguments and results have every size at which recording goes another way, and fill a log's window."""

import hashlib
import os
import random
import socket

# Around the widths of copies, of a varint's byte, and of what an event may hold.
SIZES = [*range(70), 79, 80, 81, 127, 128, 129, 255, 256, 257, 511, 512, 513, 3500, 3628, 3629, 3630, 4095, 4096, 4097]
SIZES += [16383, 16384, 16385, 70000]

source = random.Random(7)
inlet, outlet = os.pipe()
left, right = socket.socketpair()
for end in (left, right):
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
seen = hashlib.sha256()
for size in SIZES:
    data = source.randbytes(size)
    # A pipe and a socket buffer hold 64 KiB at least.
    for start in range(0, size, 60000):
        part = data[start : start + 60000]
        print(size, os.write(outlet, part), left.send(part))
        for received in (os.read(inlet, len(part)), right.recv(len(part))):
            assert received == part
            seen.update(received)
# Numbers of every width: positions in a file, negative ones as a call's arguments.
descriptor = os.memfd_create("numbers")
for width in (0, 1, 7, 8, 15, 16, 29, 30, 31, 32, 40):
    for number in ((1 << width) - 1, 1 << width):
        os.ftruncate(descriptor, number)
        print(number, os.lseek(descriptor, 0, os.SEEK_END), os.lseek(descriptor, -number, os.SEEK_END))
# More than the window that the log is written through at a time, in events that end anywhere in it.
for i in range(6000):
    left.send(bytes([i % 256]) * (i % 66))
    seen.update(right.recv(100) if i % 66 else b"")
    seen.update(str(os.getpid()).encode())
print(seen.hexdigest())
