"""What C and C++ code of extension modules learns of threads from the C library, and what becomes of their values."""

from harness import compile_extension

MODULE = """
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "native", NULL, 0, methods};
PyMODINIT_FUNC PyInit_native(void) { return PyModule_Create(&definition); }
"""


def assert_replays(trial, source, program, *options, language="c"):
    """A program with the extension module `native`."""
    trial.prepare()
    compile_extension(trial, trial.work / "native", source + MODULE, *options, language=language)
    (trial.work / "program.py").write_text(program)
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    return recorded


LOCALES = r"""
#include <Python.h>
#include <locale>
#include <mutex>
#include <sstream>
#include <time.h>
static std::mutex mutex;
static PyObject *show(PyObject *, PyObject *)
{
    std::ostringstream out;
    Py_BEGIN_ALLOW_THREADS
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    std::lock_guard<std::mutex> guard(mutex);
    out.imbue(std::locale::classic());
    out << std::locale().name() << ' ' << now.tv_nsec;
    Py_END_ALLOW_THREADS
    return PyUnicode_FromString(out.str().c_str());
}
static PyMethodDef methods[] = {{"show", show, METH_NOARGS, NULL}, {NULL}};
"""
IN_THREADS = """
import threading, time
import native

shown = []
def work():
    for _ in range(50):
        shown.append(native.show())
        time.sleep(0)
end = threading.Event()
waits = threading.Thread(target=end.wait)
waits.start()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
end.set()
print(shown)
"""


def test_what_libstdcxx_does_once_does_not_depend_on_how_many_threads_there_are(trial):
    """It asks a byte of the C library's whether there are several, which a replay never has."""
    assert_replays(trial, LOCALES, IN_THREADS, language="c++")


KEYS = r"""
#include <Python.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>
static pthread_key_t key;
static void destroy(void *value)
{
    char line[32];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    write(STDOUT_FILENO, line, snprintf(line, sizeof line, "%ld\n", now.tv_nsec));
    write((int)(long)value, "x", 1);
}
__attribute__((constructor)) static void loaded(void) { pthread_key_create(&key, destroy); }
static PyObject *keep(PyObject *self, PyObject *fd)
{
    pthread_setspecific(key, (void *)PyLong_AsLong(fd));
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"keep", keep, METH_O, NULL}, {NULL}};
"""
KEPT = """
import os, threading
import native

def work(fd):
    native.keep(fd)
for _ in range(3):
    reads, writes = os.pipe()
    thread = threading.Thread(target=work, args=(writes,))
    thread.start()
    thread.join()
    print(os.read(reads, 1), flush=True)
    # What it did since it left Python is in the log when it has gone.
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        pass
"""


def test_values_of_keys_made_while_a_library_is_loaded_are_destroyed(trial):
    """That is before anybody could see that they are made."""
    recorded = assert_replays(trial, KEYS, KEPT)
    assert recorded.stdout.splitlines()[1::2] == [b"b'x'"] * 3, recorded


STACKS = r"""
#define _GNU_SOURCE
#include <Python.h>
#include <pthread.h>
#include <unistd.h>
/* As the crate `stacker` and others do before they recurse. */
static PyObject *room(PyObject *self, PyObject *nothing)
{
    pthread_attr_t attributes;
    void *lowest;
    size_t size, left;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &lowest, &size);
    pthread_attr_destroy(&attributes);
    left = (char *)&left - (char *)lowest;
    return Py_BuildValue("kNN", (unsigned long)((size + (64 << 10)) >> 20), PyBool_FromLong(left < size),
                         left < size - (256 << 10) ? PyLong_FromLong(getpid()) : Py_NewRef(Py_None));
}
static PyMethodDef methods[] = {{"room", room, METH_NOARGS, NULL}, {NULL}};
"""
ROOMY = """
import threading
import native

print(native.room()[1])
for size in (1 << 20, 4 << 20, 64 << 20):
    threading.stack_size(size)
    thread = threading.Thread(target=lambda: print(native.room(), native.room()[2]))
    thread.start()
    thread.join()
"""


def test_a_thread_is_told_where_its_own_stack_is(trial):
    recorded = assert_replays(trial, STACKS, ROOMY)
    lines = [eval(line.rsplit(")", 1)[0] + ")") for line in recorded.stdout.decode().splitlines()[1:]]
    assert [line[:2] for line in lines] == [(1, True), (4, True), (64, True)], recorded


THROWS = r"""
#include <Python.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <system_error>
#include <thread>
#include <time.h>
#include <unistd.h>
static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_nsec;
}
/* No room for a stack, and none is left of another thread: std::thread throws. */
static PyObject *throws(PyObject *, PyObject *)
{
    struct rlimit room, none = {0, 0};
    int threw = 0;
    getrlimit(RLIMIT_AS, &room);
    none.rlim_max = room.rlim_max;
    setrlimit(RLIMIT_AS, &none);
    try {
        std::thread([] { now(); }).join();
    } catch (const std::system_error &) {
        threw = 1;
    }
    setrlimit(RLIMIT_AS, &room);
    return PyBool_FromLong(threw);
}
static PyObject *works(PyObject *, PyObject *)
{
    int fd = eventfd(0, 0);
    long began = 0;
    Py_BEGIN_ALLOW_THREADS
    std::thread([&] { began = now(); eventfd_write(fd, 1); }).join();
    Py_END_ALLOW_THREADS
    close(fd);
    return PyLong_FromLong(began);
}
static PyMethodDef methods[] = {{"throws", throws, METH_NOARGS, NULL}, {"works", works, METH_NOARGS, NULL}, {NULL}};
"""
THROWN = """
import native
print(native.throws(), native.works(), native.works())
"""


def test_threads_that_libstdcxx_makes(trial):
    """A module that has it make them need not import `pthread_create` itself. One that can't be made throws."""
    recorded = assert_replays(trial, THROWS, THROWN, language="c++")
    assert recorded.stdout.split()[0] == b"True", recorded
