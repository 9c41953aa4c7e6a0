"""ctypes: the C library's clocks, numbers, descriptors, files, entropy; errno; callbacks; threads; other libraries."""

import ctypes
import ctypes.util
import os
from concurrent.futures import ThreadPoolExecutor

own = ctypes.CDLL(None, use_errno=True)
libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)


class TimeValue(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("microseconds", ctypes.c_long)]


def clocks_and_numbers():
    now = TimeValue()
    print(own.time(None), own.gettimeofday(ctypes.byref(now), None), now.seconds, now.microseconds)
    print(own.getpid(), libc.getppid(), libc.getuid())
    libc.getenv.restype = ctypes.c_char_p
    print(libc.getenv(b"HOME"), libc.getenv(b"NOT_SET"))
    name = ctypes.create_string_buffer(100)
    print(libc.gethostname(name, 100), name.value)


def descriptors():
    reader, writer = os.pipe()
    buffer = ctypes.create_string_buffer(64)
    os.write(writer, b"through a pipe")
    print(libc.read(reader, buffer, 64), buffer.value)
    print(libc.write(writer, b"and back", 8), os.read(reader, 10))
    print(libc.read(-1, buffer, 4), os.strerror(ctypes.get_errno()))
    print(libc.open(b"/nowhere/to/be/found", os.O_RDONLY), os.strerror(ctypes.get_errno()))
    print(libc.write(1, b"past Python\n", 12), flush=True)


def streams():
    with open("made.txt", "w") as file:
        print(os.getpid(), "wrote this", file=file)
    libc.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.fopen(b"made.txt", b"r"))
    line = ctypes.create_string_buffer(100)
    libc.fgets(line, 100, stream)
    print(line.value, libc.fclose(stream))


def callbacks():
    compared = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    def compare(one, other):
        compared.append((one[0], other[0], own.getpid()))
        return one[0] - other[0]

    numbers = (ctypes.c_int * 8)(5, 3, 8, 1, 9, 2, 7, 4)
    libc.qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), compare)
    print(list(numbers), compared)


def entropy(k):
    drawn = ctypes.create_string_buffer(8)
    for _ in range(20):
        libc.usleep(100)
        libc.getrandom(drawn, 8, 0)
    return k, drawn.raw.hex()


def threads():
    with ThreadPoolExecutor(4) as pool:
        for drawn in pool.map(entropy, range(4)):
            print(*drawn)


def other_libraries():
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.cos.restype, libm.cos.argtypes = ctypes.c_double, [ctypes.c_double]
    print(libm.cos(1.0))
    ctypes.pythonapi.PyLong_FromLong.restype = ctypes.py_object
    print(ctypes.pythonapi.PyLong_FromLong(40))


def waiting_for_the_clock():
    """As C code does that wants another time than the last (Modules/_testsinglephase.c)."""
    clock = ctypes.pythonapi._PyTime_GetMonotonicClock
    clock.restype = ctypes.c_int64
    begun = clock()
    while clock() == begun:
        pass
    print("it goes on")


for part in (clocks_and_numbers, descriptors, streams, callbacks, threads, other_libraries, waiting_for_the_clock):
    part()
