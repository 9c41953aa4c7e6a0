"""The shim's identity hashes and collector control, alone."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from probes import HANG, SHIM, builder, find_pythons, python_id

HERE = Path(__file__).resolve().parent
SOURCES = ["number_table", "free_watch", "heap_walk", "rehash", "identity_hash", "collector"]

# What of CPython's own tests looks at hashes, sets, deallocation, classes or the collector.
CPYTHON_TESTS = """test_abc test_asyncio.test_futures test_asyncio.test_locks test_builtin test_class test_collections
test_complex test_context test_contextlib test_copy test_coroutines test_dataclasses test_decimal test_defaultdict
test_deque test_descr test_dict test_dictviews test_enum test_exceptions test_fileio test_finalization test_float
test_functools test_gc test_generators test_genericalias test_hash test_memoryio test_json test_metaclass test_module
test_ordered_dict test_pickle test_set test_subclassinit test_super test_threading_local test_traceback test_types
test_typing test_weakref test_weakset test_xml_etree test_xml_etree_c""".split()


@pytest.fixture(scope="session")
def builds(tmp_path_factory):
    """build(python): a folder with identity_probe.so"""
    sources = [SHIM / f"{source}.c" for source in SOURCES]
    return builder(tmp_path_factory, HERE / "identity_probe.c", lambda minor: sources)


@pytest.fixture(params=find_pythons(), ids=python_id, scope="session")
def run(request, builds):
    """run("program.py", …): its standard output; the test fails with its standard error if it does."""
    python = request.param

    def run(program, *arguments, expect_success=True):
        environment = os.environ | {"PYTHONPATH": str(builds(python)), "PYTHONHASHSEED": "0"}
        done = subprocess.run([python, "-X", "faulthandler", HERE / program, *map(str, arguments)], env=environment,
                              capture_output=True, text=True, timeout=HANG)
        assert not expect_success or done.returncode == 0, done.stderr[-5000:]
        return done.stdout

    run.python = python
    return run


def test_sets_iterate_alike_in_every_process(run):
    first = run("iteration_order.py", 0)
    for variant in range(1, 6):
        assert run("iteration_order.py", variant).splitlines() == first.splitlines()


def test_numbers_of_what_existed_before_follow_from_names(run):
    first = json.loads(run("same_numbers.py", 0))
    assert len(first) > 3000
    for variant in range(1, 6):
        other = json.loads(run("same_numbers.py", variant))
        assert {name for name in first if other.get(name) != first[name]} == set()


def test_what_was_hashed_before_is_found_after(run):
    assert run("membership.py") == "ok\n"


def test_freed_objects_leave_no_trace_and_watching_does_not_show(run):
    assert run("lifetime.py") == "ok\n"


def test_other_interpreters_are_left_alone(run):
    assert run("subinterpreters.py") == "ok\n"


def test_collector_runs_where_it_is_told_to(run):
    assert run("collector.py") == "ok\n"


@pytest.mark.parametrize("name", CPYTHON_TESTS)
def test_cpython_tests_come_out_as_without(run, name):
    probe = subprocess.run([run.python, "-c", f"import test.support, test.{name}"], capture_output=True)
    assert probe.returncode == 0, f"this interpreter comes without its tests: {probe.stderr}"
    plain, installed = (run("run_cpython_tests.py", mode, f"test.{name}", expect_success=False).splitlines()[-1]
                        for mode in ("plain", "installed"))
    assert json.loads(installed) == json.loads(plain)
