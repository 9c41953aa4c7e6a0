"""The quick share of CPython's own tests, recorded and unrecorded. All of it: tests/cpython_suite.py."""

import pytest

from cpython_suite import Kept, compare, divergence, document, has_tests
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


LEFT = """\
... retrace: the replay left the recording at event 703
  expected: posix.stat('/tmp/suite-abc_12/x') at +30 -> <os.stat_result>
  met:      posix.stat('/tmp/suite-abc_12/x') at +30: a value of type os.stat_result was not stored
  where (most recent call last):
"""


def test_a_reason_is_the_same_from_run_to_run():
    assert divergence(LEFT) == "posix.stat: a value of type os.stat_result was not stored"
    other = LEFT.replace(
        "met:      posix.stat('/tmp/suite-abc_12/x') at +30: a value", "met:      posix.chdir('/tmp/suite-1/y')\n"
    )
    assert divergence(other) == "expected posix.stat('…/x') at +30 -> <os.stat_result>, met posix.chdir('…/y')"
    assert divergence("no such line") is None


def test_the_document_is_made_of_the_results():
    same = Kept("3.12", "test_a", 3, 3, 1.0, 1.0, {}, [], replayed="same")
    differs = Kept("3.12", "test_b", 2, 2, 1.0, 1.0, {"test.test_b.B.test_x #1": ("passed", "failure")}, [])
    differs.replayed = "a|b: *why*"
    long = Kept("3.12", "test.test_c.test_d", 0, 0, 60.0, 60.0, {}, [], too_long=True)
    text = document({"3.11.7": [same], "3.12.1": [same, differs, long]})
    assert "- 3.12.1: 2 files, 5 tests; 1 files come out the same recorded. 1 of 2 recordings replay" in text
    assert "too long unrecorded: test_c.test_d (3.12.1)." in text
    assert "| test_b | not run | test\\_x |" in text
    assert "| test_b | not run | a\\|b: \\*why\\* |" in text
    assert "test_a" not in text
