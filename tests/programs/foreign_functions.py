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


class User(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("password", ctypes.c_char_p), ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32)]


class Protocol(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("aliases", ctypes.POINTER(ctypes.c_char_p)), ("number", ctypes.c_int)]


class Host(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("aliases", ctypes.POINTER(ctypes.c_char_p)),
        ("kind", ctypes.c_int),
        ("length", ctypes.c_int),
        ("addresses", ctypes.POINTER(ctypes.c_void_p)),
    ]


def databases():
    own.getpwent.restype = ctypes.POINTER(User)
    own.setpwent()
    while user := own.getpwent():
        print(user[0].name, user[0].uid, user[0].gid)
    own.endpwent()
    for find, what in ((own.getprotobyname, b"udp"), (own.getprotobynumber, 6), (own.getprotobyname, b"none such")):
        find.restype = ctypes.POINTER(Protocol)
        found = find(what)
        print(found and (found[0].name, found[0].number, found[0].aliases[0]))
    own.gethostbyaddr.restype = ctypes.POINTER(Host)
    found = own.gethostbyaddr(bytes((127, 0, 0, 1)), 4, 2)
    print(found and (found[0].name, found[0].kind, ctypes.string_at(found[0].addresses[0], found[0].length)))
    room, result, failure = ctypes.create_string_buffer(4096), ctypes.c_void_p(), ctypes.c_int()
    host = Host()
    found = own.gethostbyname_r(
        b"localhost", ctypes.byref(host), room, ctypes.c_size_t(4096), ctypes.byref(result), ctypes.byref(failure)
    )
    print(found, result.value == ctypes.addressof(host), host.name, host.length)


class Words(ctypes.Structure):
    _fields_ = [("count", ctypes.c_size_t), ("words", ctypes.POINTER(ctypes.c_char_p)), ("offset", ctypes.c_size_t)]


def words():
    os.makedirs("words")
    for name in ("b", "a"):
        open(f"words/{name}", "w").close()
    found = Words(offset=2)
    print(own.wordexp(b"words/* $(date +%N)", ctypes.byref(found), 1), own.wordexp(b"'and more'", ctypes.byref(found), 3))
    print(found.words[0], found.words[: found.count + 3][2:])
    own.wordfree(ctypes.byref(found))
    print(own.wordexp(b"(", ctypes.byref(Words()), 0))


def in_folders():
    folder = os.open("words", os.O_RDONLY)
    times = (ctypes.c_long * 4)(1, 2, 3, 4)
    target, size = ctypes.create_string_buffer(20), ctypes.c_size_t
    print(own.mkdirat(folder, b"inner", 0o700), own.symlinkat(b"to", folder, b"link"))
    print(own.readlinkat(folder, b"link", target, size(20)), target.value)
    print(own.renameat(folder, b"a", folder, b"inner/c"), own.linkat(folder, b"b", folder, b"d", 0))
    print(own.utimensat(folder, b"b", times, 0), own.unlinkat(folder, b"d", 0), own.unlinkat(folder, b"none", 0))
    print(os.strerror(ctypes.get_errno()), sorted(os.listdir(folder)), os.stat("words/b").st_mtime_ns)
    print(own.fchmodat(folder, b"b", 0o600, 0), oct(os.stat("words/b").st_mode))
    source, other = os.open("words/b", os.O_RDWR), os.open("words/e", os.O_RDWR | os.O_CREAT)
    os.write(source, b"from file to file")
    own.copy_file_range.restype = ctypes.c_ssize_t
    offset = ctypes.c_int64(5)
    print(own.copy_file_range(source, ctypes.byref(offset), other, None, size(4), 0), offset.value, os.pread(other, 9, 0))
    read = ctypes.create_string_buffer(20)
    if hasattr(own, "__pread_chk"):  # as fortified code does
        print(own["__pread_chk"](source, read, size(4), ctypes.c_int64(5), size(20)), read.value)
    print(own.futimens(other, None), own.posix_fallocate(other, ctypes.c_int64(0), ctypes.c_int64(99)))
    print(own.setxattr(b"words/b", b"user.k", b"value", size(5), 0) in (0, -1))
    for descriptor in (folder, source, other):
        os.close(descriptor)


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
    databases,
    words,
    in_folders,
    callbacks,
    threads,
    other_libraries,
    waiting_for_the_clock,
):
    part()
