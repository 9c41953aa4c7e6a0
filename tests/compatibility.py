"""The table of `docs/compatibility.md` that a run of the tests writes: `tests/run … --write-compatibility`.

A row is a test, with what it is given besides the interpreter; a column an interpreter. What this run has not run keeps what
an earlier one found.
"""

from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- written by tests/run --write-compatibility -->", "<!-- end of what it writes -->"
# The tests with real packages and servers.
FILES = (
    "test_packages.py",
    "test_http_clients.py",
    "test_web_servers.py",
    "test_services.py",
    "test_postgresql.py",
    "test_sqlite.py",
    "test_tools.py",
    "test_extensions.py",
)
WORDS = {"passed": "replays", "failed": "fails", "skipped": "skipped"}


def rows_of(text: str) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The interpreters and the rows of the document's table."""
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if len(cells) < 2:
        return [], {}
    names = cells[0][1:]
    return names, {row[0].strip("`"): dict(zip(names, row[1:], strict=True)) for row in cells[2:]}


def with_results(text: str, results: dict[tuple[str, str], str]) -> str:
    """The document with these results, by test and interpreter, in its table."""
    names, rows = rows_of(text)
    names = sorted({*names, *(interpreter for _, interpreter in results)})
    for (test, interpreter), word in results.items():
        rows.setdefault(test, {})[interpreter] = word
    lines = ["| test | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for test in sorted(rows, key=lambda test: (FILES.index(test.partition("::")[0]), test)):
        found = [rows[test].get(name) or "not run" for name in names]
        lines.append(f"| `{test}` | " + " | ".join(found) + " |")
    before, _, rest = text.partition(BEGIN)
    return before + "\n".join([BEGIN, *lines, END]) + rest.partition(END)[2]


class Results:
    """A plugin that collects the outcomes and writes them when the run is over."""

    def __init__(self):
        self.tests = {}
        self.found = {}

    def pytest_collection_finish(self, session):
        for item in session.items:
            given = dict(item.callspec.params) if hasattr(item, "callspec") else {}
            interpreter = given.pop("interpreter", None)
            if item.path.name in FILES and interpreter is not None:
                test = f"{item.path.name}::{item.originalname}"
                if rest := item.callspec.id.replace(interpreter.name, "", 1).strip("-"):
                    test += f"[{rest}]"
                debian = "Debian's " if interpreter.name.startswith("debian") else ""
                self.tests[item.nodeid] = test.replace("|", "/"), debian + interpreter.version

    def pytest_runtest_logreport(self, report):
        # What the fixtures do counts where it fails.
        if report.nodeid in self.tests and (report.when == "call" or report.failed):
            self.found.setdefault(self.tests[report.nodeid], set()).add(WORDS[report.outcome])

    def pytest_sessionfinish(self):
        words = {key: "fails" if "fails" in words else min(words) for key, words in self.found.items()}
        if words:
            DOCUMENT.write_text(with_results(DOCUMENT.read_text(), words))
