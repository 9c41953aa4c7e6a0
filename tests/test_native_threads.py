"""What C and C++ code of extension modules learns of threads from the C library, and what becomes of their values."""

import json
import subprocess

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


READERS = r"""
#include <Python.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
static char found[4][17];
static void *reads(void *place)
{
    int descriptor = open("/proc/sys/kernel/random/uuid", O_RDONLY);
    if (descriptor < 0 || read(descriptor, place, 16) != 16)
        ((char *)place)[0] = '?';
    close(descriptor);
    return NULL;
}
static PyObject *show(PyObject *self, PyObject *none)
{
    pthread_t threads[4];
    Py_BEGIN_ALLOW_THREADS
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, reads, found[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("(ssss)", found[0], found[1], found[2], found[3]);
}
static PyMethodDef methods[] = {{"show", show, METH_NOARGS, NULL}, {NULL}};
"""


def test_a_modules_threads_that_read_files(trial):
    """By its imports it only computes; it is named, and the user may say that its threads take turns."""
    trial.prepare()
    compile_extension(trial, trial.work / "native", READERS + MODULE)
    (trial.work / "program.py").write_text("import native\nprint(native.show(), native.show())\n")
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b"") and b"?" not in recorded.stdout, recorded
    replayed = trial.replay(recorded.trace)
    assert replayed.exit == 70 and b"a thread that a library made for itself calls open" in replayed.stderr, replayed
    shown = trial.tool("info", recorded.trace).stdout.decode()
    said = next(line for line in shown.splitlines() if "what such threads do is not recorded" in line)
    advice = 'module = "native", treatment = "libc", threads = "turns", why = "…"'
    assert "a thread that native made for itself called" in said and advice in said, said
    (process,) = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert process["by_threads"]["modules"] == ["native"] and process["unrecorded"] == [], process
    assert {"read", "close"} <= set(process["by_threads"]["functions"]), process

    boundary = trial.folder / "mine.toml"
    boundary.write_text(advice.replace(", ", "\n"))
    recorded = trial.record(["program.py"], env={"RETRACE_BOUNDARY": str(boundary)})
    boundary.unlink()
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    (process,) = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert process["by_threads"] is None, process


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


DRAWS = r"""
#include <Python.h>
#include <exception>
#include <random>
#include <string>
static PyObject *draw(PyObject *, PyObject *args)
{
    const char *name;
    unsigned int one, other;
    if (!PyArg_ParseTuple(args, "s", &name)) return NULL;
    try {
        std::random_device device{std::string(name)};
        one = device();
        other = device();
    } catch (const std::exception &) {
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(II)", one, other);
}
static PyMethodDef methods[] = {{"draw", draw, METH_VARARGS, NULL}, {NULL}};
"""

DRAWN = """
import native
for name in ("default", "rdrand", "rdseed", "/dev/urandom", "no device"):
    print(name, native.draw(name), native.draw("default"))
"""


def test_what_the_processor_draws_for_libstdcxx(trial):
    """The system draws it instead. A device that is a file is read as ever, and one that is not there throws."""
    recorded = assert_replays(trial, DRAWS, DRAWN, language="c++")
    drawn = recorded.stdout.splitlines()
    assert len(set(drawn)) == len(drawn) and drawn[-1].startswith(b"no device None ("), recorded


BACK = r"""
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread;
static int fd, taken, order[400];
static void (*back)(int);
static void *work(void *nothing)
{
    struct timespec pause = {0, 100000};
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&mutex);
        back(i);
        order[taken++] = 1;
        pthread_mutex_unlock(&mutex);
        if (i % 4 == 0)
            nanosleep(&pause, NULL);
    }
    eventfd_write(fd, 1);
    return NULL;
}
static PyObject *start(PyObject *self, PyObject *address)
{
    back = PyLong_AsVoidPtr(address);
    fd = eventfd(0, 0);
    pthread_create(&thread, NULL, work, NULL);
    Py_RETURN_NONE;
}
static PyObject *take(PyObject *self, PyObject *nothing)
{
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&mutex);
    order[taken++] = 0;
    pthread_mutex_unlock(&mutex);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(taken);
}
static PyObject *join(PyObject *self, PyObject *nothing)
{
    eventfd_t value;
    Py_BEGIN_ALLOW_THREADS
    eventfd_read(fd, &value);
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    close(fd);
    PyObject *all = PyList_New(0);
    for (int i = 0; i < taken; i++)
        PyList_Append(all, PyLong_FromLong(order[i]));
    return all;
}
static PyMethodDef methods[] = {{"start", start, METH_O, NULL}, {"take", take, METH_NOARGS, NULL},
                                {"join", join, METH_NOARGS, NULL}, {NULL}};
"""
# As cffi: the module that calls Python is another one than the library that has the thread.
CALLS = r"""
#include <Python.h>
static PyObject *function;
static void back(int number)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunction(function, "i", number);
    Py_XDECREF(result);
    PyGILState_Release(state);
}
static PyObject *pointer(PyObject *self, PyObject *wanted)
{
    function = Py_NewRef(wanted);
    return PyLong_FromVoidPtr(back);
}
static PyMethodDef methods[] = {{"pointer", pointer, METH_O, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "calls", NULL, 0, methods};
PyMODINIT_FUNC PyInit_calls(void) { return PyModule_Create(&definition); }
"""
CALLED_BACK = """
import calls, native
log = []
native.start(calls.pointer(log.append))
for _ in range(200):
    log.append(-native.take())
print(native.join(), log)
"""


def test_threads_that_call_back_by_another_module(trial):
    """What a library's thread does after a callback is in its turn again: it lets its mutex go."""
    trial.prepare()
    compile_extension(trial, trial.work / "calls", CALLS)
    compile_extension(trial, trial.work / "native", BACK + MODULE)
    (trial.work / "program.py").write_text(CALLED_BACK)
    for _ in range(4):
        recorded = trial.record(["program.py"])
        assert (recorded.exit, recorded.stderr) == (0, b""), recorded
        trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


SWAPS = r"""
#include <Python.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int wanted, done, taken, order[4000], fd;
static void take(int who)
{
    pthread_mutex_lock(&mutex);
    order[taken++] = who;
    pthread_mutex_unlock(&mutex);
}
static void *work(void *nothing)
{
    struct timespec now;
    for (int i = 0; i < 40; i++) {
        pthread_mutex_lock(&mutex);
        while (wanted <= i)
            pthread_cond_wait(&changed, &mutex);
        pthread_mutex_unlock(&mutex);
        for (int k = 0; k < 20; k++) {
            take(1);
            clock_gettime(CLOCK_REALTIME, &now);
            for (volatile long n = now.tv_nsec % 20000; n > 0; n--) {}
        }
        pthread_mutex_lock(&mutex);
        done++;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&mutex);
    }
    eventfd_write(fd, 1);
    return NULL;
}
/* The GIL is given up by taking the state away, as duckdb does. */
static PyObject *run(PyObject *self, PyObject *nothing)
{
    if (!fd) {
        fd = eventfd(0, 0);
        pthread_create(&thread, NULL, work, NULL);
    }
    PyThreadState *state = PyThreadState_Swap(NULL);
    pthread_mutex_lock(&mutex);
    wanted++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    for (int k = 0; k < 20; k++)
        take(0);
    pthread_mutex_lock(&mutex);
    while (done < wanted)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    PyThreadState_Swap(state);
    return PyLong_FromLong(taken);
}
static PyObject *join(PyObject *self, PyObject *nothing)
{
    pthread_join(thread, NULL);
    PyObject *all = PyList_New(0);
    for (int i = 0; i < taken; i++)
        PyList_Append(all, PyLong_FromLong(order[i]));
    return all;
}
static PyMethodDef methods[] = {{"run", run, METH_NOARGS, NULL}, {"join", join, METH_NOARGS, NULL}, {NULL}};
"""
SWAPPED = """
import native
for _ in range(40):
    print(native.run())
print(native.join())
"""


def test_threads_beside_one_that_gave_the_gil_up_by_its_state(trial):
    """It keeps its turn, as one that calls `PyEval_SaveThread` does."""
    for _ in range(3):
        assert_replays(trial, SWAPS, SWAPPED)


FIRST = r"""
#include <Python.h>
#include <time.h>
static PyObject *now(PyObject *self, PyObject *nothing)
{
    struct timespec now;
    Py_BEGIN_ALLOW_THREADS
    clock_gettime(CLOCK_REALTIME, &now);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(now.tv_nsec);
}
static PyMethodDef methods[] = {{"now", now, METH_NOARGS, NULL}, {NULL}};
"""


def test_what_a_module_calls_first_without_the_gil(trial):
    """The log says between the two which functions there are since it was imported: replay reads the call ahead of that."""
    assert_replays(trial, FIRST, "import native\nnow = native.now()\nprint(now)\n")


# A library that makes threads, and nothing else that shows what they do: FFmpeg's.
WORKERS = r"""
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int wanted, done, waits;
static char found[33];
static void *work(void *nothing)
{
    for (int i = 0;; i++) {
        pthread_mutex_lock(&mutex);
        while (wanted <= i)
            pthread_cond_wait(&changed, &mutex);
        pthread_mutex_unlock(&mutex);
        int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
        if (read(fd, found, 32) != 32)
            found[0] = '?';
        close(fd);
        pthread_mutex_lock(&mutex);
        done++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return nothing;
}
const char *job(int *waited)
{
    static pthread_t thread;
    if (!thread)
        pthread_create(&thread, NULL, work, NULL);
    pthread_mutex_lock(&mutex);
    wanted++;
    pthread_cond_broadcast(&changed);
    while (done < wanted) {
        waits++;
        pthread_cond_wait(&changed, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    *waited = waits;
    return found;
}
"""
GIVES_JOBS = r"""
#include <Python.h>
#include <sys/socket.h>
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
const char *job(int *);
static PyObject *give(PyObject *self, PyObject *nothing)
{
    int pair[2], waited;
    const char *found;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&mutex);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || socket(AF_UNIX, SOCK_STREAM, 0) < 0)
        abort();
    found = job(&waited);
    pthread_mutex_unlock(&mutex);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("si", found, waited);
}
static PyMethodDef methods[] = {{"give", give, METH_NOARGS, NULL}, {NULL}};
"""
GIVEN = """
import native
for _ in range(50):
    print(native.give())
"""


def linked_with(trial, source, *options, language="c"):
    """A library, and how a module is linked with it."""
    compiler = {"c": "cc", "c++": "c++"}[language]
    command = [compiler, "-shared", "-fPIC", "-pthread", *options, "-x", language, "-", "-o", trial.folder / "libown.so"]
    subprocess.run(command, input=source.encode(), check=True)
    return ["-Wl,--no-as-needed", f"-L{trial.folder}", "-l:libown.so", f"-Wl,-rpath,{trial.folder}"]


def test_threads_of_a_library_that_a_module_with_turns_brings(trial):
    """Who has the turn waits for them."""
    assert_replays(trial, GIVES_JOBS, GIVEN, *linked_with(trial, WORKERS))


RUNNER = r"""
#include <functional>
#include <thread>
#include <vector>
void run_all(std::function<void(int)> what, int count)
{
    std::vector<std::thread> threads;
    for (int i = 0; i < count; i++)
        threads.emplace_back(what, i);
    for (auto &thread : threads)
        thread.join();
}
"""
HAS_RUN = r"""
#include <Python.h>
#include <functional>
void run_all(std::function<void(int)>, int);
static PyObject *call(PyObject *, PyObject *function)
{
    auto what = [&](int number) {
        PyGILState_STATE state = PyGILState_Ensure();
        Py_XDECREF(PyObject_CallFunction(function, "i", number));
        PyGILState_Release(state);
    };
    Py_BEGIN_ALLOW_THREADS
    run_all(what, 4);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"call", call, METH_O, NULL}, {NULL}};
"""
COLLECTS = """
import time, native
seen = []
def called(number):
    seen.append((number, time.monotonic_ns()))
for _ in range(20):
    native.call(called)
print(seen)
"""


def test_threads_of_another_library_that_call_python(trial):
    """C++'s may run any function. The module that takes the GIL in it makes none itself: OR-Tools."""
    linked = linked_with(trial, RUNNER, language="c++")
    assert_replays(trial, HAS_RUN, COLLECTS, *linked, language="c++")


C11 = r"""
#include <Python.h>
#include <sys/eventfd.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
enum { WORKERS = 4, ROUNDS = 50 };
static mtx_t mutex, twice;
static cnd_t changed;
static tss_t own;
static once_flag flag = ONCE_FLAG_INIT;
static int order[WORKERS * ROUNDS], taken, begun, ended, fd;
static void first(void) { begun++; }
static void leaves(void *value) { mtx_lock(&mutex); ended += (int)(long)value; mtx_unlock(&mutex); }
static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_nsec;
}
static int work(void *argument)
{
    long number = (long)argument;
    struct timespec pause = {0, 1000 * (now() % 50)};
    call_once(&flag, first);
    tss_set(own, argument);
    for (int i = 0; i < ROUNDS; i++) {
        mtx_lock(&twice);
        mtx_lock(&twice);
        mtx_lock(&mutex);
        order[taken++] = number;
        cnd_broadcast(&changed);
        mtx_unlock(&mutex);
        mtx_unlock(&twice);
        mtx_unlock(&twice);
        if (i % 8 == number % 8)
            thrd_sleep(&pause, NULL);
        else if (i % 3 == 0)
            thrd_yield();
    }
    if (number == 2)
        thrd_exit((int)(long)tss_get(own) * 10);
    return (int)(long)tss_get(own) * 100;
}
static PyObject *run(PyObject *self, PyObject *nothing)
{
    thrd_t threads[WORKERS];
    int results[WORKERS], late = 0, same, busy;
    struct timespec until;
    fd = eventfd(0, 0);
    mtx_init(&mutex, mtx_timed);
    mtx_init(&twice, mtx_plain | mtx_recursive);
    cnd_init(&changed);
    tss_create(&own, leaves);
    Py_BEGIN_ALLOW_THREADS
    for (long i = 0; i < WORKERS; i++)
        thrd_create(&threads[i], work, (void *)(i + 1));
    mtx_lock(&mutex);
    while (taken < WORKERS * ROUNDS)
        cnd_wait(&changed, &mutex);
    timespec_get(&until, TIME_UTC);
    until.tv_nsec += 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    late = cnd_timedwait(&changed, &mutex, &until);
    mtx_unlock(&mutex);
    for (int i = 0; i < WORKERS; i++)
        thrd_join(threads[i], &results[i]);
    same = thrd_equal(thrd_current(), thrd_current());
    busy = mtx_trylock(&mutex);
    mtx_unlock(&mutex);
    Py_END_ALLOW_THREADS
    PyObject *all = PyList_New(0);
    for (int i = 0; i < taken; i++)
        PyList_Append(all, PyLong_FromLong(order[i]));
    mtx_destroy(&mutex);
    mtx_destroy(&twice);
    cnd_destroy(&changed);
    close(fd);
    return Py_BuildValue("(N(iiii)iiiii)", all, results[0], results[1], results[2], results[3],
        late == thrd_timedout, same, busy == thrd_success, begun, ended);
}
static PyMethodDef methods[] = {{"run", run, METH_NOARGS, NULL}, {NULL}};
"""


def test_c11_threads(trial):
    """`thrd_create` and what goes with it: who was there when, and what threads return."""
    recorded = assert_replays(trial, C11, "import native\nprint(native.run())\n")
    order, results, *rest = eval(recorded.stdout)
    assert sorted(order) == sorted([1, 2, 3, 4] * 50)
    assert (results, rest) == ((100, 20, 300, 400), [1, 1, 1, 1, 10])


CLOCKS = r"""
#include <Python.h>
#include <time.h>
SIGN
/* Asks as often as an address says, as an allocator does that draws a number from it. */
static PyObject *allocate(PyObject *self, PyObject *unused)
{
    char here;
    struct timespec now;
    for (unsigned k = 0; k < 1 + ((unsigned long)&here >> 5) % 61; k++) clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    Py_RETURN_NONE;
}
static PyObject *ask(PyObject *self, PyObject *unused)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return PyFloat_FromDouble(now.tv_sec + now.tv_nsec / 1e9);
}
static PyMethodDef methods[] = {
    {"allocate", allocate, METH_NOARGS, NULL}, {"ask", ask, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL},
};
"""


def test_the_coarse_clock_of_an_allocator_is_not_the_programs(trial):
    """How often jemalloc asks it differs in each run."""
    sign = """const char *retrace_test_says = "<jemalloc>: Error in munmap()";"""
    program = "import native, time\nfor _ in range(20): native.allocate(); print(time.monotonic())\n"
    assert_replays(trial, CLOCKS.replace("SIGN", sign), program)
    assert b"clock_gettime" not in trial.tool("events", trial.trace).stdout


def test_the_coarse_clock_of_other_libraries_is_recorded(trial):
    assert_replays(trial, CLOCKS.replace("SIGN", ""), "import native\nprint([native.ask() for _ in range(20)])\n")


LATE = r"""
#include <Python.h>
#include <mutex>
#include <time.h>
static std::mutex mutex;
static void take(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    std::lock_guard<std::mutex> guard(mutex);
}
struct Late {
    int used;
    ~Late()
    {
        volatile long n = 0;
        for (long i = 0; i < 500000000; i++)
            n = n + 1;
        std::lock_guard<std::mutex> guard(mutex);
    }
};
static thread_local Late late;
static PyObject *use(PyObject *, PyObject *)
{
    late.used = 1;
    take();
    Py_RETURN_NONE;
}
static PyObject *lock(PyObject *, PyObject *)
{
    take();
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"use", use, METH_NOARGS, ""}, {"lock", lock, METH_NOARGS, ""}, {NULL}};
"""
USES_LATE = """
import threading, native
thread = threading.Thread(target=native.use)
thread.start()
thread.join()
native.lock()
native.lock()
print("end")
"""


def test_a_thread_whose_end_comes_after_the_recording_s(trial):
    """It takes a mutex then, which the main thread takes before; nothing in the log says when the thread did."""
    assert_replays(trial, LATE, USES_LATE, language="c++")


# As an allocator's: it is made when the library is loaded, and nothing may interrupt it.
UNINTERRUPTED = r"""
#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
static void *run(void *unused)
{
    struct timespec now;
    for (int i = 0; i < 1000; i++)
        clock_gettime(CLOCK_MONOTONIC, &now);
#ifdef __x86_64__
    for (int i = 0; i < 1000; i++)
        __builtin_ia32_rdtsc();
#endif
    return unused;
}
__attribute__((constructor)) static void begin(void)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_join(thread, NULL);
}
static PyMethodDef methods[] = {{NULL}};
"""
LOADS_LATER = """
import asyncio
import uvloop

async def main():
    print(await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2]))

uvloop.run(main())
import native
print("end")
"""


def test_a_thread_that_blocks_all_signals_and_asks_for_the_time(trial, venv):
    """It is loaded when library threads take turns, and replay answers for the processor's counter."""
    trial.use(venv("uvloop"))
    assert_replays(trial, UNINTERRUPTED, LOADS_LATER)
