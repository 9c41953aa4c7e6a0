"""The quick share of CPython's own tests, recorded and unrecorded. All of it: tests/cpython_suite.py."""

import pytest

from cpython_suite import compare, has_tests
from harness import interpreters

QUICK = ["test_time", "test_fileio", "test_random", "test_select", "test_types", "test_call", "test_file", "test_gc"]

# Debian's python3.11 comes without most of the test package.
WITH_TESTS = [interpreter for interpreter in interpreters() if has_tests(interpreter)]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("suite_python", WITH_TESTS, ids=lambda interpreter: interpreter.name)
def test_same_outcomes(suite_python, tmp_path, name):
    result = compare(suite_python, name, tmp_path)
    assert not result.differs, f"{result.differs}\nsee {result.recorded.log}"


def test_both_versions_are_compared():
    assert {interpreter.minor for interpreter in WITH_TESTS} == {(3, 11), (3, 12)}
