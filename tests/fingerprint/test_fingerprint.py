"""The shim's fingerprints, alone."""
import json
import os
import subprocess
from pathlib import Path

import pytest

from probes import HANG, SHIM, builder, find_pythons, python_id

HERE = Path(__file__).resolve().parent

# What of CPython's own tests makes frames, generators and handlers of every kind, and takes a few seconds in all.
CPYTHON_TESTS = [f"test.test_{name}" for name in
                 "generators coroutines grammar contextlib with except_star list generator_stop".split()]

# Loops in which one level is not enough: their progress is in an object's attributes, or further away.
DEEP_ONLY = {"linked_list", "attribute", "attribute_in_dict", "slot", "delegated_generator", "through_c",
             "function_from_elsewhere", "global_table", "coroutines", "pair_of_iterators"}


@pytest.fixture(scope="session")
def builds(tmp_path_factory):
    """build(python): a folder with fingerprint_probe.so"""

    def sources(minor):
        return [*sorted(SHIM.glob("fingerprint*.c")), SHIM / f"version_{minor.replace('.', '_')}.c"]

    return builder(tmp_path_factory, HERE / "fingerprint_probe.c", sources)


@pytest.fixture(params=find_pythons(), ids=python_id, scope="session")
def run(request, builds):
    """run("program.py", …): the last line of its output; the test fails with its standard error if it does."""
    python = request.param

    def run(program, *arguments, malloc="default"):
        environment = os.environ | {"PYTHONPATH": str(builds(python)), "PYTHONHASHSEED": "0", "PYTHONMALLOC": malloc}
        done = subprocess.run([python, "-X", "faulthandler", "-W", "ignore", HERE / program, *map(str, arguments)],
                              env=environment, capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stdout.splitlines()[-1]

    run.python = python
    return run


def test_another_process_gets_the_same_fingerprints(run):
    first = json.loads(run("same_series.py", 0))
    for variant in (0, 3):
        other = json.loads(run("same_series.py", variant))
        assert other["address"] != first["address"], "addresses are not random here: nothing is tested"
        assert len(other["series"]) == len(first["series"]) > 2000
        differing = [i for i, (a, b) in enumerate(zip(first["series"], other["series"])) if a != b]
        assert not differing
    assert len(set(map(tuple, first["series"]))) == len(first["series"])


def test_progress_in_the_heap_shows(run):
    found = json.loads(run("heap_progress.py"))
    for name, (checks, shallow, triples) in found["loops"].items():
        assert checks > 90, name
        assert triples == checks, name
        assert (shallow < checks) == (name in DEEP_ONLY), name
    compared, wrong, first = found["depths"]
    assert compared > 10_000 and not wrong, first


def test_positions_of_iterators_and_values_show(run):
    found = json.loads(run("iterators.py"))
    for name, (taken, shallow, deep) in found["shallow"].items():
        assert shallow == deep == taken, name
    for name, (taken, _, deep) in found["deep"].items():
        assert deep == taken, name
    for name, (_, shallow, deep) in found["alike"].items():
        assert shallow == deep == 1, name


def test_stack_depths_are_the_real_ones(run):
    assert run("stack_depths.py") == "ok"


def test_nothing_that_is_gone_is_read(run):
    assert run("unwinding.py", malloc="debug") == "ok"


def test_cpython_tests_run_while_sampled_at_every_check(run):
    probe = subprocess.run([run.python, "-c", f"import test.support, {', '.join(CPYTHON_TESTS)}"], capture_output=True)
    assert probe.returncode == 0, f"this interpreter comes without its tests: {probe.stderr}"
    found = json.loads(run("suite.py", 16, *CPYTHON_TESTS, malloc="debug"))
    compared, wrong, first = found["depths"]
    assert found["tests"] > 400 and found["samples"] > 200_000
    assert compared > 1_000_000 and not wrong, first
