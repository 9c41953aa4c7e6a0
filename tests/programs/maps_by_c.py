"""C code maps files: what it finds there, what it writes through descriptors and maps, and maps that can't be made."""

import ctypes
import mmap
import os
import random
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
libc.write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
PAGE = mmap.PAGESIZE
FIXED = 0x10
READ, BOTH = mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE


def map_file(fd, size, access=READ, flags=mmap.MAP_SHARED, offset=0, address=None):
    place = libc.mmap(address, size, access, flags, fd, offset)
    if place == ctypes.c_void_p(-1).value:
        print("not mapped:", os.strerror(ctypes.get_errno()))
        return None
    return place


def show(place, at=0, size=24):
    print(ctypes.string_at(place + at, size))


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "data")
    with open(path, "wb") as file:
        file.write(b"%.17f" % random.random() + bytes(PAGE) + b"%.17f" % random.random() + bytes(2 * PAGE))
    fd = os.open(path, os.O_RDWR)
    whole = map_file(fd, 3 * PAGE)
    show(whole)
    show(whole, PAGE + 19)
    # What is written through a descriptor is in the map, and in another of the same file.
    second = map_file(fd, PAGE, BOTH, offset=PAGE)
    print(libc.pwrite(fd, b"%f" % random.random(), 8, PAGE), libc.write(fd, b"%f" % random.random(), 8))
    show(whole, PAGE)
    show(second)
    show(whole)
    # What is written through a map, too; and in that of Python's.
    ctypes.memmove(second + 100, b"through the map", 15)
    show(whole, PAGE + 100)
    with mmap.mmap(fd, 2 * PAGE) as third:
        print(third[PAGE + 100 : PAGE + 115])
    # A private one does not write into the file.
    own = map_file(fd, PAGE, BOTH, mmap.MAP_PRIVATE)
    ctypes.memmove(own, b"mine", 4)
    show(own)
    show(whole)
    print(libc.munmap(second, PAGE), libc.munmap(own, PAGE))
    show(whole, PAGE + 100)
    # In the place of memory that was kept free.
    room = map_file(-1, 4 * PAGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    fixed = map_file(fd, PAGE, READ, mmap.MAP_SHARED | FIXED, address=room + PAGE)
    print(fixed == room + PAGE)
    show(fixed)
    # A part is given back, then the rest.
    print(libc.munmap(whole + 2 * PAGE, PAGE))
    show(whole)
    print(libc.munmap(whole, 2 * PAGE))
    # It has an end, and not all of it is there.
    end = map_file(fd, 64 * PAGE)
    show(end)
    # What can't be mapped.
    map_file(fd, PAGE, offset=1)
    map_file(999, PAGE)
    null = os.open("/dev/zero", os.O_RDWR)
    if "device" in sys.argv:
        show(map_file(null, PAGE, BOTH, mmap.MAP_PRIVATE))
    large = os.open(os.path.join(folder, "large"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(large, 1 << 30)
    os.pwrite(large, b"far away", 1 << 29)
    show(map_file(large, 1 << 30), 1 << 29)
    if "large" in sys.argv:
        for part in range(0, 65 << 20, 1 << 20):
            os.pwrite(large, bytes(1 << 20), part)
        map_file(large, 65 << 20)
