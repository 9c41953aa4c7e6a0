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


class Entry(ctypes.Structure):
    _fields_ = [
        ("number", ctypes.c_uint64),
        ("place", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    ]


def folders():
    for function in (libc.opendir, libc.fdopendir):
        function.restype = ctypes.c_void_p
    for function in (libc.readdir64, libc.readdir):
        function.restype, function.argtypes = ctypes.POINTER(Entry), [ctypes.c_void_p]
    for function in (libc.closedir, libc.dirfd, libc.rewinddir):
        function.argtypes = [ctypes.c_void_p]
    libc.readdir64_r.argtypes = [ctypes.c_void_p, ctypes.POINTER(Entry), ctypes.POINTER(ctypes.c_void_p)]
    os.makedirs("some/folder")
    for name in ("one", "another", "third"):
        open(f"some/{name}", "w").close()
    folder = libc.opendir(b"some")
    while found := libc.readdir64(folder):
        print(found[0].name, found[0].number, found[0].kind, found[0].length)
    libc.rewinddir(folder)
    entry, result = Entry(), ctypes.c_void_p()
    while libc.readdir64_r(folder, ctypes.byref(entry), ctypes.byref(result)) == 0 and result:
        print(entry.name, entry.number, result.value == ctypes.addressof(entry))
    print(libc.dirfd(folder) > 2, libc.closedir(folder))
    print(libc.opendir(b"nowhere"), os.strerror(ctypes.get_errno()))
    folder = libc.fdopendir(os.open("some/folder", os.O_RDONLY))
    ctypes.set_errno(0)
    print(sorted((libc.readdir(folder)[0].name, libc.readdir(folder)[0].name)))
    print(bool(libc.readdir(folder)), ctypes.get_errno(), libc.closedir(folder))


def temporary():
    name = ctypes.create_string_buffer(b"some/XXXXXX")
    descriptor = libc.mkstemp(name)
    print(descriptor, name.value, os.write(descriptor, b"text"), os.path.getsize(name.value))
    suffixed = ctypes.create_string_buffer(b"some/XXXXXX.txt")
    print(libc.mkostemps(suffixed, 4, os.O_CLOEXEC), suffixed.value)
    libc.mkdtemp.restype = ctypes.c_char_p
    print(os.path.isdir(libc.mkdtemp(ctypes.create_string_buffer(b"some/folderXXXXXX"))))
    libc.tmpfile.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.tmpfile())
    print(libc.fputs(b"a line", stream) >= 0, libc.ftell(stream), libc.fclose(stream))


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


def system_calls():
    """By number, as Rust's and Go's libraries make some (x86-64's numbers)."""
    if os.uname().machine != "x86_64":
        return
    own.syscall.restype = ctypes.c_long
    drawn, now = ctypes.create_string_buffer(8), (ctypes.c_long * 2)()
    print(own.syscall(318, drawn, ctypes.c_size_t(8), 0), drawn.raw.hex())
    print(own.syscall(228, 1, now), list(now), own.syscall(39), own.syscall(186) == own.syscall(39))
    print(own.syscall(3, -1), os.strerror(ctypes.get_errno()))


def priorities():
    own.getlogin.restype = ctypes.c_char_p
    loads = (ctypes.c_double * 3)()
    print(own.getpriority(0, 0), own.nice(1), own.getpriority(0, 0), own.getloadavg(loads, 3), list(loads))
    print(oct(own.umask(0o27)), own.getpgid(0), own.getlogin())


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


for part in (
    clocks_and_numbers,
    descriptors,
    streams,
    folders,
    temporary,
    system_calls,
    priorities,
    callbacks,
    threads,
    other_libraries,
    waiting_for_the_clock,
):
    part()
