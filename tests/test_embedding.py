"""Programs of others that run Python by its C API: nobody says where their program begins, so they say that they are not
recorded. Only what runs CPython's own main is."""

import json
import subprocess

import pytest

from harness import RETRACE, run

HOST = """
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    PyConfig_SetBytesString(&config, &config.program_name, argv[1]);
    if (strcmp(argv[2], "main") == 0)
        PyConfig_SetBytesString(&config, &config.run_command, argv[3]);
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    if (strcmp(argv[2], "main") == 0)
        return Py_RunMain();
    int failed = PyRun_SimpleString(argv[3]);
    if (strcmp(argv[2], "leave") == 0) {
        fflush(stdout);
        _exit(3);
    }
    return Py_FinalizeEx() < 0 || failed;
}
"""
# The same without a call of CPython's main in it.
WITHOUT_MAIN = HOST.replace("return Py_RunMain();", "return 4;")
# One that is no Python when it begins.
LOADING = """
#include <dlfcn.h>

int main(int argc, char **argv)
{
    void *python = dlopen(argv[1], RTLD_NOW | (argv[2][0] == 'g' ? RTLD_GLOBAL : RTLD_LOCAL));
    if (!python)
        return 5;
    ((void (*)(int))dlsym(python, "Py_InitializeEx"))(0);
    int failed = ((int (*)(const char *))dlsym(python, "PyRun_SimpleString"))(argv[3]);
    return ((int (*)(void))dlsym(python, "Py_FinalizeEx"))() < 0 || failed;
}
"""
SAID = b"retrace: this program runs Python without CPython's own main"


@pytest.fixture
def host(trial):
    """host(source): the program that is made of it, with the arguments that it needs before others."""
    ask = (
        "import sysconfig as s; print(s.get_path('include'), s.get_config_var('LIBDIR'), s.get_config_var('LDVERSION'))"
    )
    include, libraries, version = subprocess.check_output([trial.python, "-c", ask], text=True).split()
    trial.prepare()

    def make(source):
        (trial.work / "host.c").write_text(source)
        path = [f"-I{include}", f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
        subprocess.run(["cc", "host.c", "-o", "host", *path, f"-lpython{version}"], check=True, cwd=trial.work)
        return ["./host", str(trial.python)]

    return make


def record(trial, command, **environment):
    command = [RETRACE, "record", "-o", trial.trace, "--", *command]
    return run(command, cwd=trial.work, env=trial.environment(**environment))


@pytest.fixture
def loading_host(trial):
    """The command of a program that loads libpython when it runs, without the last two arguments."""
    ask = "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME'), s.get_config_var('LDVERSION'))"
    libraries, name, version = subprocess.check_output([trial.python, "-c", ask], text=True).split()
    library = name if ".so" in name else f"libpython{version}.so.1.0"
    trial.prepare()
    (trial.work / "host.c").write_text(LOADING)
    subprocess.run(["cc", "host.c", "-o", "host", "-ldl"], check=True, cwd=trial.work)
    return ["./host", f"{libraries}/{library}"]


@pytest.mark.parametrize("how", ["global", "local"])
@pytest.mark.parametrize("seed", [{}, {"PYTHONHASHSEED": "5"}], ids=["secret", "seed"])
def test_a_host_that_loads_python_later(trial, loading_host, how, seed):
    """With a hash seed of its own, too, for which it draws nothing."""
    result = record(trial, [*loading_host, how, "print(1)"], **seed)
    assert (result.stdout, result.exit) == (b"1\n", 0), result
    assert result.stderr.startswith(SAID) and result.stderr.count(b"\n") == 1, result
    assert not trial.trace.exists()


def test_a_host_that_loads_python_later_and_that_a_recorded_program_starts(trial, loading_host):
    command = [*loading_host, "global", "print(1)"]
    program = f"import subprocess; print(subprocess.run({command!r}, capture_output=True))"
    recorded = trial.record(["-c", program])
    assert b"returncode=0, stdout=b'1\\n', stderr=b''" in recorded.stdout, recorded
    information = json.loads(trial.tool("info", "--json", trial.trace).stdout)
    assert (len(information["processes"]), information["unrecorded_programs"]) == (1, 1), information


@pytest.mark.parametrize(("how", "exit"), [("finalize", 0), ("leave", 3)])
def test_a_host_says_that_it_is_not_recorded(trial, host, how, exit):
    """At once, because it may never end; and once."""
    command = [*host(WITHOUT_MAIN), how, "import time, json; print(time.time() > 0, flush=True)"]
    result = record(trial, command)
    assert (result.stdout, result.exit) == (b"True\n", exit), result
    assert result.stderr.startswith(SAID) and result.stderr.count(b"\n") == 1, result
    assert not trial.trace.exists()


def test_a_host_that_could_have_called_main(trial, host):
    """It is said at the end."""
    result = record(trial, [*host(HOST), "finalize", "print(1)"])
    assert (result.stdout, result.exit) == (b"1\n", 0), result
    assert result.stderr.startswith(SAID) and result.stderr.count(b"\n") == 1, result


def test_a_host_that_runs_main_is_recorded(trial, host):
    result = record(trial, [*host(HOST), "main", "import time; print(time.time())"])
    assert (result.stderr, result.exit) == (b"", 0), result
    (process,) = json.loads(trial.tool("info", "--json", trial.trace).stdout)["processes"]
    assert process["ending"]["kind"] == "exited" and process["events"] > 1, process


def test_a_host_that_a_recorded_program_starts(trial, host):
    """Its stderr is its parent's to read: the trace says it."""
    command = [*host(WITHOUT_MAIN), "finalize", "print(1)"]
    program = f"import subprocess; print(subprocess.run({command!r}, capture_output=True))"
    recorded = trial.record(["-c", program])
    assert b"returncode=0, stdout=b'1\\n', stderr=b''" in recorded.stdout, recorded
    information = json.loads(trial.tool("info", "--json", trial.trace).stdout)
    assert (len(information["processes"]), information["unrecorded_programs"]) == (1, 1), information
    assert b"1 program was started that could not be recorded if" in trial.tool("info", trial.trace).stdout
