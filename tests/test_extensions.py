"""Extension modules that nobody listed: what they are is told by what they import, or by the user's own file."""

import json
import os
import platform
import shutil
import subprocess

import pytest

from harness import compile_extension, record_extension, run

PSYCOPG2 = "psycopg2-binary"


def treatments(trial, trace):
    (process,) = json.loads(trial.tool("info", "--json", trace).stdout)["processes"]
    return {module["name"]: module for module in process["treatments"]}


def record(trial, code, **env):
    trial.prepare()
    (trial.work / "program.py").write_text(code)
    return trial.record(["program.py"], env=env)


def test_info_says_what_a_module_is_and_why(trial, venv):
    trial.use(venv(PSYCOPG2))
    recorded = record(trial, "import psycopg2, _heapq, zlib\n")
    found = treatments(trial, recorded.trace)
    driver = found["psycopg2._psycopg"]
    assert driver["treatment"] == "libc", found
    assert {"connect", "getaddrinfo", "clock_gettime", "poll"} <= set(driver["imports"].split()), found
    assert "psycopg2._psycopg does I/O of its own" in trial.tool("info", recorded.trace).stdout.decode()
    assert recorded.stderr == b"", recorded


def test_doctor_says_it_before_anything_is_recorded(trial, venv):
    shown = trial.tool("doctor", "--python", venv(PSYCOPG2, "orjson", "MarkupSafe")).stdout.decode()
    sections = {part.splitlines()[0]: part for part in shown.split("\n\n")}
    (own_io,) = [part for heading, part in sections.items() if "I/O of their own" in heading]
    (internal,) = [part for heading, part in sections.items() if "deterministic" in heading]
    assert "psycopg2._psycopg " in own_io and "getaddrinfo" in own_io and "RETRACE_BOUNDARY" in own_io, shown
    assert "markupsafe._speedups " in internal, shown


def test_calls_into_a_driver_are_listed(trial, venv, database):
    trial.use(venv(PSYCOPG2)).prepare("postgresql")
    recorded = trial.record(["postgresql/psycopg2_basics.py", database.dsn()])
    command = ["events", "--json", "--function", "psycopg2.*", recorded.trace]
    listed = [json.loads(line) for line in trial.tool(*command).stdout.splitlines()]
    statements = [event["arguments"][0] for event in listed if event["function"].endswith("cursor.execute")]
    # What never reaches the server is not one.
    assert [event["function"] for event in listed][0] == "psycopg2._psycopg._connect", listed
    assert "SELECT 1 / 0" in statements and not any(event["function"].endswith("mogrify") for event in listed), listed
    failed = next(event for event in listed if event["arguments"][:1] == ["SELECT 1 / 0"])
    assert "DivisionByZero" in str(failed["raised"]), failed


LISTS_FOLDERS = r"""
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <ftw.h>
#include <sys/shm.h>
static long found;
static int one(const char *path, const struct stat *status, int kind, struct FTW *level)
{
    found += level->level == 1;
    return 0;
}
static PyObject *count(PyObject *self, PyObject *folder)
{
    found = 0;
    nftw(PyUnicode_AsUTF8(folder), one, 8, FTW_PHYS);
    return PyLong_FromLong(found);
}
static PyObject *share(PyObject *self, PyObject *size)
{
    return PyLong_FromLong(shmget(IPC_PRIVATE, PyLong_AsLong(size), 0));
}
static PyMethodDef methods[] = {{"count", count, METH_O, NULL}, {"share", share, METH_O, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lister", NULL, 0, methods};
PyMODINIT_FUNC PyInit_lister(void) { return PyModule_Create(&definition); }
"""
COUNTS = """
import os, sys
sys.path.insert(0, os.environ["WHERE"])
import lister
print(lister.count(os.environ["WHERE"] + "/folders") if "count" in sys.argv else 2, flush=True)
if pid := os.fork():
    os.waitpid(pid, 0)
else:
    print(lister.count(os.environ["WHERE"] + "/folders"), flush=True)
    os._exit(0)
"""


def test_what_an_extension_calls_and_is_not_recorded_is_said(trial):
    """By name: what it called, not what it might call; in `retrace info`, and at the end to who looks on."""
    trial.prepare()
    compile_extension(trial, trial.folder / "lister", LISTS_FOLDERS)
    (trial.work / "program.py").write_text(COUNTS)
    for name in ("one", "two"):
        (trial.folder / "folders" / name).mkdir(parents=True)
    where = {"WHERE": str(trial.folder)}
    recorded = trial.record(["program.py", "count"], env=where)
    assert (recorded.exit, recorded.stdout, recorded.stderr) == (0, b"2\n2\n", b""), recorded
    for process in ("0", "1"):
        replayed = trial.replay(recorded.trace, "--process", process)
        assert (replayed.exit, replayed.stderr) == (0, b"") and replayed.stdout.startswith(b"2\n"), replayed
    shown = trial.tool("info", recorded.trace).stdout.decode()
    lines = [line for line in shown.splitlines() if "which is not recorded" in line]
    assert len(lines) == 2 and all("lister called nftw64, which" in line for line in lines), shown
    assert all('module = "lister"' in line and "RETRACE_BOUNDARY" in line for line in lines), shown
    processes = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert [process["unrecorded"] for process in processes] == [["nftw64"], ["nftw64"]], processes

    # What the parent has not called: its child has.
    recorded = trial.record(["program.py"], env=where)
    processes = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert [process["unrecorded"] for process in processes] == [[], ["nftw64"]], processes

    terminal, side = os.openpty()
    command, more = trial.record_command(["program.py", "count"], "cli", trial.trace)
    subprocess.run(command, cwd=trial.work, env=trial.environment(**where) | more, stderr=side, check=True)
    os.close(side)
    told = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert told.startswith("retrace: lister called nftw64, which is not recorded") and told.count("\n") == 1, told


CALLS = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <glob.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define PY_SSIZE_T_CLEAN
#include <Python.h>
extern char **environ;
static PyObject *globbed(PyObject *self, PyObject *args)
{
    const char *first, *second;
    PyObject *list = PyList_New(0);
    glob_t found;
    memset(&found, 0x55, sizeof found);
    if (!PyArg_ParseTuple(args, "ss", &first, &second)) return NULL;
    found.gl_offs = 2;
    int one = glob(first, GLOB_DOOFFS, NULL, &found);
    int other = glob(second, GLOB_DOOFFS | GLOB_APPEND, NULL, &found);
    for (size_t i = 0; found.gl_pathv && i < found.gl_pathc; i++)
        PyList_Append(list, PyUnicode_FromString(found.gl_pathv[found.gl_offs + i]));
    int ended = found.gl_pathv && found.gl_pathv[0] == NULL && found.gl_pathv[2 + found.gl_pathc] == NULL;
    globfree(&found);
    return Py_BuildValue("iiiN", one, other, ended, list);
}
static long seen;
static int has_no_dot(const struct dirent *entry) { return seen++, entry->d_name[0] != '.'; }
static PyObject *scanned(PyObject *self, PyObject *path)
{
    struct dirent **entries;
    PyObject *list = PyList_New(0);
    seen = 0;
    int count = scandir(PyUnicode_AsUTF8(path), &entries, has_no_dot, alphasort);
    if (count < 0) return PyErr_SetFromErrno(PyExc_OSError);
    for (int i = 0; i < count; i++) {
        PyList_Append(list, PyUnicode_FromString(entries[i]->d_name));
        PyList_Append(list, PyLong_FromLong(entries[i]->d_type == DT_DIR));
        free(entries[i]);
    }
    free(entries);
    PyList_Append(list, PyLong_FromLong(seen));
    return list;
}
static PyObject *spawned(PyObject *self, PyObject *command)
{
    char *argv[] = {"sh", "-c", (char *)PyUnicode_AsUTF8(command), NULL};
    pid_t pid = 0, other = 0;
    int status = 0, error = posix_spawnp(&pid, "sh", NULL, NULL, argv, environ);
    waitpid(pid, &status, 0);
    return Py_BuildValue("iiii", error, pid, WEXITSTATUS(status),
                         posix_spawn(&other, "/no/such/program", NULL, NULL, argv, environ));
}
static PyObject *messages(PyObject *self, PyObject *nothing)
{
    int pair[2];
    char text[3][16] = {"one", "three", ""}, got[3][4];
    struct iovec out[3], in[3];
    struct mmsghdr send[3], receive[3];
    struct timespec now;
    memset(send, 0, sizeof send);
    memset(receive, 0, sizeof receive);
    memset(got, 0, sizeof got);
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(text[2], sizeof text[2], "%ld", now.tv_nsec);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    for (int i = 0; i < 3; i++) {
        out[i] = (struct iovec){text[i], strlen(text[i])};
        in[i] = (struct iovec){got[i], sizeof got[i]};
        send[i].msg_hdr.msg_iov = &out[i];
        receive[i].msg_hdr.msg_iov = &in[i];
        send[i].msg_hdr.msg_iovlen = receive[i].msg_hdr.msg_iovlen = 1;
    }
    int sent = sendmmsg(pair[0], send, 3, 0), received = recvmmsg(pair[1], receive, 3, MSG_DONTWAIT, NULL);
    int none = recvmmsg(pair[1], receive, 3, MSG_DONTWAIT, NULL);
    PyObject *result = Py_BuildValue("iiiIIIy#y#i", sent, received, none, send[1].msg_len, receive[0].msg_len,
                                     receive[1].msg_len, got[0], (Py_ssize_t)receive[0].msg_len, got[2], (Py_ssize_t)4,
                                     receive[1].msg_hdr.msg_flags & MSG_TRUNC);
    close(pair[0]);
    close(pair[1]);
    return result;
}
static PyObject *piped(PyObject *self, PyObject *args)
{
    const char *from, *to;
    char line[32];
    PyObject *list = PyList_New(0);
    if (!PyArg_ParseTuple(args, "ss", &from, &to)) return NULL;
    FILE *reads = popen(from, "re"), *writes = popen(to, "w");
    PyList_Append(list, PyBool_FromLong(fileno(reads) > 2 && fileno(reads) != fileno(writes)));
    while (fgets(line, sizeof line, reads)) {
        PyList_Append(list, PyUnicode_FromString(line));
        fputs(line, writes);
    }
    PyList_Append(list, PyBool_FromLong(feof(reads)));
    PyList_Append(list, PyLong_FromLong(WEXITSTATUS(pclose(reads))));
    PyList_Append(list, PyLong_FromLong(WEXITSTATUS(pclose(writes))));
    return list;
}
static PyObject *streamed(PyObject *self, PyObject *path)
{
    unsigned char random[16];
    char line[64] = "";
    int pair[2];
    FILE *device = fopen("/dev/urandom", "rb");
    size_t count = fread(random, 1, sizeof random, device);
    int ended = feof(device), closed = fclose(device);
    pipe(pair);
    FILE *writes = fdopen(pair[1], "w"), *reads = fdopen(pair[0], "r");
    fprintf(writes, "a line of %d\n", fileno(writes) == pair[1]);
    closed |= fclose(writes);
    char *got = fgets(line, sizeof line, reads), *none = fgets(line + 40, 20, reads);
    closed |= fclose(reads);
    FILE *file = fopen(PyUnicode_AsUTF8(path), "r");
    char text[8] = "";
    fread(text, 1, 7, file);
    closed |= fclose(file);
    return Py_BuildValue("ny#isOsi", count, random, (Py_ssize_t)sizeof random, ended, got, none ? Py_True : Py_False, text,
                         closed);
}
static PyMethodDef methods[] = {
    {"piped", piped, METH_VARARGS, NULL}, {"streamed", streamed, METH_O, NULL},
    {"globbed", globbed, METH_VARARGS, NULL}, {"scanned", scanned, METH_O, NULL}, {"spawned", spawned, METH_O, NULL},
    {"messages", messages, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "caller", NULL, 0, methods};
PyMODINIT_FUNC PyInit_caller(void) { return PyModule_Create(&definition); }
"""
CALLING = """
import os, sys
sys.path.insert(0, os.environ["WHERE"])
import caller

folder = os.environ["WHERE"] + "/folder"
print(caller.globbed(folder + "/*.txt", folder + "/s*"), caller.globbed("/no/such/*", "/no/such/?"))
print(caller.globbed("/no/such/*", folder + "/a.*"))
print(caller.scanned(folder))
try:
    caller.scanned("/no/such")
except OSError as error:
    print(error)
print(caller.spawned("echo x >> $WHERE/spawned; exit 3"), flush=True)
print(caller.messages())
print(caller.piped("echo one; date +%s%N; exit 5", "cat >> $WHERE/piped; exit 6"))
print(caller.streamed(folder + "/a.txt"))
"""


def test_calls_of_lists_programs_and_messages_replay(trial):
    trial.prepare()
    compile_extension(trial, trial.folder / "caller", CALLS)
    (trial.work / "program.py").write_text(CALLING)
    folder = trial.folder / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.txt", "a.txt", ".hidden"):
        (folder / name).touch()
    (folder / "a.txt").write_text("in file")
    recorded = trial.record(["program.py"], env={"WHERE": str(trial.folder)})
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    lines = recorded.stdout.decode().splitlines()
    found = [f"{folder}/{name}" for name in ("a.txt", "b.txt", "sub")]
    assert lines[0].startswith(f"(0, 0, 1, {found})"), recorded
    assert lines[1] == f"(3, 0, 1, {found[:1]})" and lines[2] == "['a.txt', 0, 'b.txt', 0, 'sub', 1, 6]", recorded
    assert lines[4].startswith("(0, ") and lines[4].endswith(", 3, 2)"), recorded
    assert lines[5].startswith("(3, 3, -1, 5, 3, 4, b'one', b'"), recorded
    first, *middle, ended, read_status, written_status = eval(lines[6])
    assert (first, middle[0], ended, read_status, written_status) == (True, "one\n", True, 5, 6), recorded
    assert (trial.folder / "piped").read_text() == "".join(middle), recorded
    count, random, *rest = eval(lines[7])
    assert (count, len(random), rest) == (16, 16, [0, "a line of 1\n", False, "in file", 0]), recorded
    shutil.rmtree(folder)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    assert (trial.folder / "spawned").read_text() == "x\n"
    assert (trial.folder / "piped").read_text() == "".join(middle)
    (process,) = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert process["unrecorded"] == [], process


LOOKS_UP = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <time.h>
static PyObject *list(char **items)
{
    PyObject *result = PyList_New(0);
    while (items && *items) PyList_Append(result, PyUnicode_FromString(*items++));
    return result;
}
static PyObject *look(PyObject *self, PyObject *number)
{
    struct passwd *user = getpwuid(PyLong_AsLong(number)), *nobody = getpwnam("no such user");
    PyObject *first = Py_BuildValue("ziizzzO", user->pw_name, user->pw_uid, user->pw_gid, user->pw_gecos, user->pw_dir,
                                    user->pw_shell, nobody ? Py_True : Py_False);
    struct group *group = getgrgid(PyLong_AsLong(number)), here, *found = NULL, *none = &here;
    char room[4096];
    PyObject *second = Py_BuildValue("ziN", group->gr_name, group->gr_gid, list(group->gr_mem));
    int error = getgrnam_r(group->gr_name, &here, room, sizeof room, &found);
    PyObject *third = Py_BuildValue("iiziN", error, found == &here, found->gr_name, found->gr_gid, list(found->gr_mem));
    int other = getgrnam_r("no such group", &here, room, sizeof room, &none);
    struct servent *service = getservbyname("https", "tcp");
    PyObject *fourth = service ? Py_BuildValue("ziNz", service->s_name, ntohs(service->s_port),
                                               list(service->s_aliases), service->s_proto) : Py_NewRef(Py_None);
    struct hostent *host = gethostbyname("localhost");
    PyObject *fifth = Py_BuildValue("ziz", host->h_name, host->h_length,
                                    inet_ntoa(*(struct in_addr *)host->h_addr_list[0]));
    return Py_BuildValue("NNNiiNNl", first, second, third, other, none == NULL, fourth, fifth, (long)time(NULL));
}
static PyMethodDef methods[] = {{"look", look, METH_O, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "looker", NULL, 0, methods};
PyMODINIT_FUNC PyInit_looker(void) { return PyModule_Create(&definition); }
"""


def test_users_groups_services_and_hosts_that_c_code_looks_up_are_recorded(trial):
    trial.prepare()
    compile_extension(trial, trial.work / "looker", LOOKS_UP)
    (trial.work / "program.py").write_text("import looker\nprint(looker.look(0), looker.look(0))\n")
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b"") and b"('root', 0, 0," in recorded.stdout, recorded
    assert b"'127.0.0.1'" in recorded.stdout, recorded
    listed = trial.tool("events", "--function", "libc.get*", recorded.trace).stdout.decode()
    for name in ("getpwuid", "getpwnam", "getgrgid", "getgrnam_r", "getservbyname", "gethostbyname"):
        assert listed.count(f"libc.{name}(") >= 2, listed
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


ASKS = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static int run(void *callback)
{
    PyObject *result = PyObject_CallNoArgs(callback);
    Py_DECREF((PyObject *)callback);
    if (result == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(result);
    return 0;
}
static int run_or_fail(void *callback)
{
    PyObject *result = PyObject_CallNoArgs(callback);
    Py_DECREF((PyObject *)callback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
static PyObject *add(int (*function)(void *), PyObject *callback)
{
    int failed;
    Py_INCREF(callback);
    Py_BEGIN_ALLOW_THREADS
    failed = Py_AddPendingCall(function, callback);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(!failed);
}
static PyObject *ask(PyObject *self, PyObject *callback) { return add(run, callback); }
static PyObject *ask_failing(PyObject *self, PyObject *callback) { return add(run_or_fail, callback); }
static PyMethodDef methods[] = {{"ask", ask, METH_O, NULL}, {"ask_failing", ask_failing, METH_O, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "asker", NULL, 0, methods};
PyMODINIT_FUNC PyInit_asker(void) { return PyModule_Create(&definition); }
"""
ASKING = """
import os, sys, threading, time
sys.path.insert(0, os.environ["WHERE"])
import asker

count, seen, asked = 0, [], []
def note():
    seen.append((count, threading.current_thread() is threading.main_thread()))
def work():
    while len({count for count, _ in seen}) < 12:
        asked.append(asker.ask(note))
        time.sleep(0.0005)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads) or len(seen) < sum(asked):
    count += 1
print(seen)
def by_hand():
    for i in range(3):
        seen.append(i)
        asker.ask(note)
        for _ in range(100):
            pass
by_hand()
print(len(seen))
asker.ask(lambda: print("at the end", flush=True))
"""


def test_a_call_that_c_code_asks_for_is_made_at_its_place(trial):
    """By whichever thread, between any two instructions; and by an interpreter that ends."""
    recorded = record_extension(trial, "asker", ASKS, ASKING)
    assert recorded.stdout.endswith(b"at the end\n"), recorded
    assert len({count for count, _ in eval(recorded.stdout.splitlines()[0])}) > 10, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


# A driver by what it imports, whose calls from Python are annotated. It tries a mutex as the last thing of its own making.
TRIES = r"""
#include <Python.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static PyObject *now(PyObject *self, PyObject *nothing)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return PyLong_FromLong(time.tv_nsec);
}
static PyObject *reach(PyObject *self, PyObject *nothing)
{
    return PyLong_FromLong(connect(-1, NULL, 0));
}
static PyMethodDef methods[] = {{"now", now, METH_NOARGS, NULL}, {"reach", reach, METH_NOARGS, NULL}, {NULL}};
static int fill(PyObject *module)
{
    PyObject *made = now(NULL, NULL);
    if (PyModule_AddFunctions(module, methods) != 0 || PyModule_AddObject(module, "made", made) != 0) return -1;
    if (pthread_mutex_trylock(&mutex) != 0) return -1;
    return pthread_mutex_unlock(&mutex);
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "tries", NULL, 0, NULL, slots};
PyMODINIT_FUNC PyInit_tries(void) { return PyModuleDef_Init(&definition); }
"""


def test_a_module_that_tries_a_lock_while_it_is_made(trial):
    """The names of its functions are read for that, before they are hooked."""
    trial.prepare()
    compile_extension(trial, trial.work / "tries", TRIES)
    (trial.work / "program.py").write_text("import tries\nprint(tries.made, tries.now(), tries.reach())\n")
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    assert b"in C: tries.now" in trial.tool("events", recorded.trace).stdout


@pytest.mark.parametrize(
    ("program", "requirements"),
    [
        ("numpy_files", ["numpy"]),
        ("documents", ["lxml", "orjson", "pydantic"]),
        ("calls", ["grpcio"]),
        ("machine", ["psutil", "watchfiles"]),
        pytest.param("frames", ["pandas"], marks=pytest.mark.stacks),
        pytest.param("keys", ["cryptography"], marks=pytest.mark.stacks),
    ],
)
def test_extensions_replay(trial, venv, program, requirements):
    trial.use(venv(*requirements))
    trial.assert_replays([f"extensions/{program}.py"], programs=["extensions"])


def test_a_library_that_ctypes_loads_is_recorded(trial):
    """It asks for the time and for entropy itself, and through a library that it looks up by name."""
    folder = trial.folder / "libraries"
    folder.mkdir()
    inner, outer = folder / "libinner.so", folder / "libouter.so"
    sources = {
        inner: "#include <sys/random.h>\nlong draw(void) { long n = 0; getrandom(&n, 7, 0); return n; }\n",
        outer: """
            #include <dlfcn.h>
            #include <time.h>
            long now(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_nsec; }
            long call(const char *file, const char *name) {
                long (*found)(void) = (long (*)(void))dlsym(file ? dlopen(file, RTLD_NOW) : RTLD_DEFAULT, name);
                return found ? found() : -1;
            }
        """,
    }
    for library, source in sources.items():
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library, "-ldl"]
        subprocess.run(command, input=source.encode(), check=True)
    trial.prepare()
    (trial.work / "program.py").write_text(f"""
import ctypes
outer = ctypes.CDLL({str(outer)!r})
outer.now.restype = outer.call.restype = ctypes.c_long
print(outer.now(), outer.call({bytes(inner)!r}, b"draw"), outer.call(None, b"getpid"), outer.call(None, b"lacking"))
""")
    recorded = trial.record(["program.py"])
    assert recorded.stdout.split()[3] == b"-1" and b"-1" not in recorded.stdout.split()[:3], recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


FROM_FOLDER = r"""
#include <pthread.h>
#include <time.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long all;
long add(long number)
{
    pthread_mutex_lock(&mutex);
    all = all * 31 % 1000003 + number;
    usleep(100);
    long result = all;
    pthread_mutex_unlock(&mutex);
    return result;
}
static void *sums(void *into)
{
    for (long k = 0; k < 100000; k++) *(long *)into += k;
    return NULL;
}
long computed(void)
{
    pthread_t thread;
    long sum = 0;
    pthread_create(&thread, NULL, sums, &sum);
    pthread_join(thread, NULL);
    return sum;
}
long later(const char *unused) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_nsec; }
"""


def test_a_library_by_a_path_from_the_current_folder(trial):
    """A replay has another one; the program may have changed it. Threads share the library."""
    folder = trial.folder / "elsewhere" / "libraries"
    folder.mkdir(parents=True)
    command = ["cc", "-shared", "-fPIC", "-pthread", "-x", "c", "-", "-o", folder / "libshared.so"]
    subprocess.run(command, input=FROM_FOLDER.encode(), check=True)
    trial.prepare()
    (trial.work / "program.py").write_text(f"""
import ctypes, os, threading
try:
    ctypes.CDLL("./libraries/libshared.so")
except OSError as error:
    print(str(error).endswith("No such file or directory"))
os.chdir({str(folder.parent)!r})
shared = ctypes.CDLL("./libraries/libshared.so")
held = ctypes.PyDLL("libraries/libshared.so")
order = []
def work(number):
    for _ in range(20):
        order.append((number, shared.add(number)))
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
shared.computed.restype = held.computed.restype = held.later.restype = ctypes.c_long
print(order, shared.computed(), held.computed(), held.later(None), held.add(1))
""")
    recorded = trial.record(["program.py"])
    assert recorded.exit == 0 and recorded.stdout.startswith(b"True\n[("), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


RAISES = """
import os, sys, threading, time
sys.path.insert(0, os.environ["WHERE"])
import asker

class Failed(Exception):
    pass
count, asked, raised = 0, [], []
def fail():
    raise Failed(count)
def work():
    for i in range(10):
        while len(asked) <= i:
            time.sleep(0.0005)
        asker.ask_failing(fail)
        while len(raised) <= i:
            time.sleep(0.0005)
thread = threading.Thread(target=work)
thread.start()
for _ in range(10):
    try:
        asked.append(count)
        while True:
            count += 1
    except Failed as error:
        raised.append((count, error.args))
thread.join()
print(raised)
for i in range(3):
    try:
        asker.ask_failing(fail)
        while True:
            count += 1
    except Failed as error:
        print(i, count, error.__traceback__.tb_lineno, error.__traceback__.tb_next.tb_frame.f_code.co_name)
"""


def test_what_such_a_call_raises_is_raised_there(trial):
    recorded = record_extension(trial, "asker", ASKS, RAISES)
    assert len({count for count, _ in eval(recorded.stdout.splitlines()[0])}) > 5, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


HANDLES = r"""
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static volatile sig_atomic_t handled;
static int null;
static void handle(int number)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    write(null, &now, sizeof now);
    handled = number;
}
int install(int fd)
{
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    null = fd;
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, &before);
    sigaction(SIGALRM, NULL, &action);
    return (before.sa_handler == SIG_DFL) + 2 * (action.sa_handler == handle);
}
"""
INTERRUPTED = """
import ctypes, os, signal, time
library = ctypes.CDLL({library!r})
print(library.install(os.open("/dev/null", os.O_WRONLY)), flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
begin, total = time.monotonic(), 0
while time.monotonic() - begin < 0.2:
    total += len(os.getcwd()) + time.time_ns() % 7
signal.setitimer(signal.ITIMER_REAL, 0)
print(total)
"""


def test_a_handler_in_c_does_not_harm_the_log(trial):
    """It interrupts Python code that is being recorded, and calls what is redirected."""
    library = trial.folder / "libhandles.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(command, input=HANDLES.encode(), check=True)
    trial.prepare()
    (trial.work / "program.py").write_text(INTERRUPTED.format(library=str(library)))
    recorded = trial.record(["program.py"])
    assert recorded.exit == 0 and recorded.stdout.startswith(b"3\n"), recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


@pytest.mark.parametrize(
    ("line", "treatment"), [("libc", "libc"), ("internal", "internal"), ("pass", "internal"), ("record", "record")]
)
def test_the_users_file_decides(trial, venv, line, treatment):
    trial.use(venv("MarkupSafe"))
    trial.prepare()
    boundary = trial.folder / "mine.toml"
    boundary.write_text(f'module = "markupsafe._speedups"\ntreatment = "{line}"\nwhy = "a test"\n')
    code = "import markupsafe\nprint(markupsafe.escape('<a & b>'), markupsafe._native.__name__)\n"
    recorded = record(trial, code, RETRACE_BOUNDARY=str(boundary))
    found = treatments(trial, recorded.trace)
    assert found["markupsafe._speedups"]["treatment"] == treatment, found
    boundary.unlink()
    replayed = trial.replay(recorded.trace)
    trial.same(recorded, replayed, ("recorded", "replayed"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'module = "x"\ntreatment = "maybe"\n',
            ':2: treatment: found "maybe", expected one of "record", "libc", "internal"',
        ),
        ('module = "x"\n\ntreatmant = "libc"\n', ":3: treatmant: found an unknown key, expected one of the keys"),
        ('module = "x"\ntreatment = "libc"\n', ":2: why: found nothing, expected a string"),
        ("module = x\n", ":1: not valid TOML"),
    ],
)
def test_a_bad_file_is_named_and_the_program_runs_unrecorded(trial, text, said):
    trial.prepare()
    boundary = trial.folder / "mine.toml"
    boundary.write_text(text)
    (trial.work / "program.py").write_text("print('it ran')\n")
    command, extra = trial.record_command(["program.py"], "cli", trial.trace)
    env = trial.environment(RETRACE_BOUNDARY=str(boundary)) | extra
    result = run(command, cwd=trial.work, env=env)
    assert (result.stdout, result.exit) == (b"it ran\n", 0), result
    assert f"{boundary}{said}" in result.stderr.decode() and b"the program runs unrecorded" in result.stderr, result


def test_a_file_in_memory_that_c_code_makes(trial):
    """`memfd_create`, by its name and by its number: its descriptor is the recorded one, and what was in it too."""
    trial.prepare(inputs=False)
    (trial.work / "program.py").write_text(
        "import ctypes, os, platform\n"
        "libc = ctypes.CDLL(None)\n"
        "number = {'x86_64': 319, 'aarch64': 279}[platform.machine()]\n"
        "for make in (lambda: libc.memfd_create(b'name', 1), lambda: libc.syscall(number, b'name', 1)):\n"
        "    fd = make()\n"
        "    print(fd, os.write(fd, b'hello'), os.pread(fd, 5, 0), os.fstat(fd).st_size)\n"
        "    os.close(fd)\n"
    )
    recorded = trial.record(["program.py"])
    assert recorded.exit == 0 and b"b'hello' 5" in recorded.stdout, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


# As tokio: what is watched is added by a duplicate of the descriptor that is waited for, and named by an address.
WATCHER = r"""
#define _GNU_SOURCE
#include <Python.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
struct watched { int fd; };
static int duplicate(int epoll, int how)
{
    switch (how) {
    case 0: return epoll;
    case 1: return dup(epoll);
    case 2: return fcntl(epoll, F_DUPFD_CLOEXEC, 3);
    case 3: return dup3(epoll, 60, O_CLOEXEC);
    default: return syscall(SYS_dup, epoll);
    }
}
static PyObject *watch(PyObject *self, PyObject *args)
{
    int waits = epoll_create1(0), other = epoll_create1(0), how, closes;
    struct epoll_event met[4];
    PyObject *all = PyList_New(0);
    if (!PyArg_ParseTuple(args, "ii", &how, &closes)) return NULL;
    int adds = duplicate(waits, how);
    /* The number is another one's then. */
    int epoll = closes ? adds : waits;
    if (closes && adds != waits) { close(waits); dup(other); }
    for (int i = 0; i < 3; i++) {
        struct watched *watched = malloc(sizeof *watched);
        struct epoll_event event = {EPOLLIN, {watched}};
        watched->fd = eventfd(i != 1, EFD_NONBLOCK);
        if (epoll_ctl(adds, EPOLL_CTL_ADD, watched->fd, &event)) abort();
        /* By the same name elsewhere. */
        if (epoll_ctl(other, EPOLL_CTL_ADD, watched->fd, &event)) abort();
    }
    int count = epoll_wait(epoll, met, 4, 1000);
    for (int i = 0; i < count; i++) {
        struct watched *watched = met[i].data.ptr;
        eventfd_t value = 0;
        read(watched->fd, &value, sizeof value);
        PyList_Append(all, Py_BuildValue("ii", watched->fd, (int)value));
        epoll_ctl(adds, EPOLL_CTL_DEL, watched->fd, NULL);
    }
    return all;
}
static PyMethodDef methods[] = {{"watch", watch, METH_VARARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "watcher", NULL, 0, methods};
PyMODINIT_FUNC PyInit_watcher(void) { return PyModule_Create(&definition); }
"""


def test_what_is_watched_by_a_duplicate_of_an_epoll_descriptor(trial):
    trial.prepare()
    compile_extension(trial, trial.work / "watcher", WATCHER)
    (trial.work / "program.py").write_text(
        "import watcher\nfor how in range(5):\n    print(watcher.watch(how, 0), watcher.watch(how, 1))\n"
    )
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert recorded.stdout.count(b", 1), (") == 10, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


RAW = r"""
#include <Python.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
/* The number first, arguments behind it, as compilers make it of Rust's `asm!`. */
__attribute__((noinline)) static long makes(const char *path)
{
    register long result __asm__("rax");
    __asm__ volatile("movl %1, %%eax; movl $-100, %%edi; movq %2, %%rsi; movl $448, %%edx; syscall"
                     : "=&a"(result) : "i"(SYS_mkdirat), "r"(path) : "rdi", "rsi", "rdx", "rcx", "r11", "memory");
    return result;
}
/* What lies below the stack, in vectors and in the flags stays. */
__attribute__((noinline)) static long renames(const char *old, const char *new, long *kept)
{
    register long result __asm__("rax");
    register long to __asm__("r10") = (long)new;
    unsigned char carried;
    double one = 1.5, vector;
    long below;
    __asm__ volatile("movq $4711, -120(%%rsp); movsd %[one], %%xmm9; stc; movl %[number], %%eax; movl $-100, %%edi;"
                     "movl %%edi, %%edx; syscall; setc %[carried]; movsd %%xmm9, %[vector]; movq -120(%%rsp), %[below]"
                     : "=&a"(result), [carried] "=&r"(carried), [vector] "=m"(vector), [below] "=&r"(below), "+r"(to)
                     : [number] "i"(SYS_renameat), "S"(old), [one] "m"(one)
                     : "rdi", "rdx", "rcx", "r11", "xmm9", "memory");
    *kept = below == 4711 && vector == 1.5 && carried;
    return result;
}
/* A number that is not in the code at the call is none of ours. */
__attribute__((noinline)) static long owner(long number)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}
static PyObject *work(PyObject *self, PyObject *nothing)
{
    char name[17] = {0};
    long kept[2];
    /* By the C library: what makes the module one that is recorded. */
    int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
    if (read(fd, name, 16) != 16) Py_RETURN_NONE;
    close(fd);
    long made = makes(name), again = makes(name);
    long renamed = renames(name, "folder", kept), missing = renames(name, "folder", kept + 1);
    return Py_BuildValue("(sllllllO)", name, made, again, renamed, missing, kept[0], kept[1],
                         PyBool_FromLong(owner(SYS_getuid) == getuid()));
}
static PyMethodDef methods[] = {{"work", work, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "raw", NULL, 0, methods};
PyMODINIT_FUNC PyInit_raw(void) { return PyModule_Create(&definition); }
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the calls are in its assembler")
def test_system_calls_that_c_code_makes_itself(trial):
    """Without the C library. Replay makes no folder; registers, flags and what lies below the stack are left alone."""
    trial.prepare()
    compile_extension(trial, trial.work / "raw", RAW)
    (trial.work / "program.py").write_text("import os, raw\nprint(*raw.work()[1:])\nprint(sorted(os.listdir()))\n")
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert recorded.stdout.startswith(b"0 -17 0 -2 1 1 True\n") and b"'folder'" in recorded.stdout, recorded
    os.rmdir(trial.work / "folder")
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    assert not (trial.work / "folder").exists()


STAMPS = r"""
#include <Python.h>
#include <fcntl.h>
#include <unistd.h>
/* As compilers make it. */
__attribute__((noinline)) static unsigned long stamp(void)
{
    unsigned long low, high;
    __asm__ volatile("rdtsc; shlq $32, %%rdx; movl %%eax, %%eax" : "=a"(low), "=d"(high));
    return high | low;
}
/* What is not the counter's stays: other registers, the flags, vectors, and what lies below the stack. */
__attribute__((noinline)) static unsigned long beside(int *kept)
{
    unsigned long low, high, rcx = 1, r11 = 2, below;
    unsigned char carried;
    double one = 1.5, vector;
    register unsigned long eighth __asm__("r8") = 3;
    __asm__ volatile("movq $4711, -120(%%rsp); movsd %[one], %%xmm9; movq $1, %%rcx; movq $2, %%r11; stc; rdtsc;"
                     "movl %%eax, %%eax; movl %%edx, %%edx; setc %[carried]; movsd %%xmm9, %[vector];"
                     "movq -120(%%rsp), %[below]; movq %%rcx, %[rcx]; movq %%r11, %[r11]"
                     : "=&a"(low), "=&d"(high), [carried] "=&r"(carried), [vector] "=m"(vector), [below] "=&r"(below),
                       [rcx] "=m"(rcx), [r11] "=m"(r11), "+r"(eighth)
                     : [one] "m"(one)
                     : "rcx", "r11", "xmm9", "memory");
    *kept = below == 4711 && vector == 1.5 && carried && rcx == 1 && r11 == 2 && eighth == 3 && high >> 32 == 0;
    return high << 32 | low;
}
/* Here a jump leads behind the instruction: it is left alone. */
__attribute__((noinline)) static unsigned long looped(int times)
{
    unsigned long low, high;
    __asm__ volatile("1: rdtsc; 2: movl %%eax, %%eax; decl %2; jg 2b; movl %%edx, %%edx"
                     : "=&a"(low), "=&d"(high), "+r"(times));
    return high << 32 | low;
}
static PyObject *work(PyObject *self, PyObject *nothing)
{
    char random[8];
    int kept;
    /* By the C library: what makes the module one that is recorded. */
    int fd = open("/dev/urandom", O_RDONLY);
    if (read(fd, random, 8) != 8) Py_RETURN_NONE;
    close(fd);
    unsigned long first = stamp(), second = beside(&kept), third = stamp();
    return Py_BuildValue("(kkOOi)", first, third, PyBool_FromLong(first < second && second < third),
                         PyBool_FromLong(looped(3) != 0), kept);
}
static PyMethodDef methods[] = {{"work", work, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "stamps", NULL, 0, methods};
PyMODINIT_FUNC PyInit_stamps(void) { return PyModule_Create(&definition); }
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the counter is that processor's")
def test_time_stamps_that_c_code_reads(trial):
    """Of the processor: replay reads what was recorded; registers, flags and what lies below the stack are left alone."""
    trial.prepare()
    compile_extension(trial, trial.work / "stamps", STAMPS)
    (trial.work / "program.py").write_text("import stamps\nfor _ in range(3):\n    print(*stamps.work())\n")
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert recorded.stdout.count(b" True True 1\n") == 3, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


NUMBERED = r"""
#include <Python.h>
#include <fcntl.h>
#include <unistd.h>
static void *known[16];
static char drawn[16][17];
/* Reckoned from the same pointer. */
static __thread long own __attribute__((tls_model("initial-exec")));
static int is_mine(void *other)
{
    register void *kept __asm__("r9") = other;
    unsigned char same;
    __asm__("cmpq %2, %%fs:0; sete %0; xorq %%fs:0, %1" : "=q"(same), "+r"(kept) : "r"(other) : "cc");
    return same && kept == NULL;
}
static PyObject *work(PyObject *self, PyObject *nothing)
{
    int at = 0;
    unsigned char carried;
    long below, *calls = &own;
    ++*calls;
    while (known[at] != NULL && !is_mine(known[at])) at++;
    if (known[at] == NULL) {
        int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
        if (read(fd, drawn[at], 16) != 16) Py_RETURN_NONE;
        close(fd);
        /* What lies below the stack stays, and the flags do. */
        __asm__ volatile("movq $4711, -120(%%rsp); stc; movq %%fs:0, %0; setc %1; movq -120(%%rsp), %2"
                         : "=&r"(known[at]), "=&q"(carried), "=&r"(below) : : "cc", "memory");
        if (below != 4711 || !carried) Py_RETURN_NONE;
    }
    return Py_BuildValue("isl", at, drawn[at], *calls);
}
static PyMethodDef methods[] = {{"work", work, METH_NOARGS, NULL}, {NULL}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "numbered", NULL, 0, methods};
PyMODINIT_FUNC PyInit_numbered(void) { return PyModule_Create(&definition); }
"""
NUMBERING = """
import threading
import numbered

all_run = threading.Barrier(4)
def run():
    first = numbered.work()
    all_run.wait()
    second = numbered.work()
    all_run.wait()
    print(f"{first} {second}\\n", end="", flush=True)
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
run()
for thread in threads:
    thread.join()
print(numbered.work())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the pointer is asked for in its assembler")
def test_the_thread_pointer_is_a_number(trial):
    """Of each thread another one on replay, too. What is reckoned from it, flags and what lies below the stack are left alone."""
    trial.prepare()
    compile_extension(trial, trial.work / "numbered", NUMBERED, "-O2")
    (trial.work / "program.py").write_text(NUMBERING)
    recorded = trial.record(["program.py"])
    assert (recorded.exit, recorded.stderr) == (0, b""), recorded
    assert {line.split(b",")[0] for line in recorded.stdout.splitlines()} == {b"(0", b"(1", b"(2", b"(3"}, recorded
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
