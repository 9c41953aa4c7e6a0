"""The table in docs/compatibility.md that a run of the tests writes."""

from compatibility import DOCUMENT, FILES, rows_of, with_results
from harness import TESTS


def test_results_are_put_into_the_table():
    text = "before\n<!-- written by tests/run --write-compatibility -->\n<!-- end of what it writes -->\nafter\n"
    one, two = "test_sqlite.py::test_sqlite", "test_tools.py::test_pip_list"
    text = with_results(text, {(one, "3.11.7"): "replays", (two, "3.11.7"): "fails"})
    text = with_results(text, {(two, "3.11.7"): "replays", (two, "3.12.1"): "replays"})
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n") and text.count("<!--") == 2, text
    names, rows = rows_of(text)
    assert names == ["3.11.7", "3.12.1"], text
    assert rows == {
        one: {"3.11.7": "replays", "3.12.1": "not run"},
        two: {"3.11.7": "replays", "3.12.1": "replays"},
    }, text


def test_the_table_names_tests_that_there_are():
    names, rows = rows_of(DOCUMENT.read_text())
    assert names and {test.partition("::")[0] for test in rows} <= set(FILES), rows
    for test in rows:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (TESTS / file).read_text(), test
