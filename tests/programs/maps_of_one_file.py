"""One file mapped more than once in a process: what is written through one map is read through the others."""

import mmap
import os
import struct
import tempfile
from multiprocessing import heap, shared_memory

PAGE = mmap.ALLOCATIONGRANULARITY


def by_name():
    one = shared_memory.SharedMemory(create=True, size=100)
    two = shared_memory.SharedMemory(name=one.name)
    one.buf[3] = 7
    struct.pack_into("i", two.buf, 8, 12345)
    print(two.buf[3], struct.unpack_from("i", one.buf, 8), bytes(one.buf[:12]) == bytes(two.buf[:12]))
    two.close()
    print(one.buf[3], bytes(one.buf[:12]))
    three = shared_memory.SharedMemory(name=one.name)
    print(three.buf[3], bytes(three.buf[:12]))
    three.close()
    one.close()
    one.unlink()


def by_descriptor():
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * PAGE)
        file.flush()
        whole = mmap.mmap(file.fileno(), 0)
        copy = os.dup(file.fileno())
        last = mmap.mmap(copy, PAGE, offset=2 * PAGE)
        seen = mmap.mmap(copy, 0, access=mmap.ACCESS_READ)
        mine = mmap.mmap(copy, 0, access=mmap.ACCESS_COPY)
        os.close(copy)
        last[:5] = b"hello"
        whole[2 * PAGE + 5 : 2 * PAGE + 9] = b", he"
        mine[PAGE : PAGE + 4] = b"mine"
        print(last[:9], whole[2 * PAGE : 2 * PAGE + 9], seen[2 * PAGE : 2 * PAGE + 9], whole[PAGE : PAGE + 4])
        print(last, mine[PAGE : PAGE + 4], seen.find(b"hello"))
        seen.close()
        last.resize(2 * PAGE)
        last[PAGE:] = b"x" * PAGE
        print(os.fstat(file.fileno()).st_size, len(last), last[PAGE : PAGE + 3])
        again = mmap.mmap(file.fileno(), 0)
        print(len(again), again[3 * PAGE : 3 * PAGE + 3], again[2 * PAGE : 2 * PAGE + 4])
        again[3 * PAGE] = ord("y")
        print(last[PAGE : PAGE + 3])
        del whole, last
        print(again[2 * PAGE : 2 * PAGE + 9])


def an_arena():
    arena = heap.Arena(PAGE, fd=-1)
    other = mmap.mmap(arena.fd, arena.size)
    struct.pack_into("d", arena.buffer, 16, 2.5)
    view = memoryview(other)[16:24].cast("d")
    print(view[0])
    view[0] = -1.25
    print(struct.unpack_from("d", arena.buffer, 16))


def with_holes():
    with tempfile.TemporaryFile() as file:
        file.seek(5 << 30)
        file.write(b"the end")
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as large:
            print(len(large), large[-7:], large[1 << 30 : (1 << 30) + 4])


def of_other_files():
    """Numbers of files are used again; what is in them isn't."""
    for n in range(5):
        with tempfile.TemporaryFile() as file:
            file.write(bytes([n]) * (n + 1) if n % 2 else b"\0" * 3)
            file.flush()
            one, two = mmap.mmap(file.fileno(), 0), mmap.mmap(file.fileno(), 0)
            print(one[:], two[:])
            one[0] = 99
            print(two[:])
            two.close()
            one.close()


by_name()
by_descriptor()
an_arena()
with_holes()
of_other_files()
