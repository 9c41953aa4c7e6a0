#!/usr/bin/env python3
"""CPython's own tests, recorded and unrecorded: the outcome of every single test must be the same.

    tests/cpython_suite.py                          the chosen files, on every interpreter that has CPython's tests
    tests/cpython_suite.py --all --replay           the whole of `python -m test`, and each recording replayed
    tests/cpython_suite.py --python 3.12 test_os    some files, on one
    tests/cpython_suite.py --jobs 2 --keep DIR      two files at a time; where results and what differs are kept
    tests/cpython_suite.py --write-docs             puts the kept results into docs/compatibility.md, and runs nothing

Ends with 0 only when nothing differs. A test that does not have the same outcome in two plain runs says nothing about
recording: each file that differs is run plain once more, and tests that changed on their own are listed as unstable.

What came of a file is kept in the folder, and with --all only files without a result are run: who stops this and starts
it again goes on. A replay is the same when it ends with the recorded exit code and prints what was recorded, but for
what children printed themselves, which is in their own replays.
"""

import argparse
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import HUNG, RETRACE, ROOT, Interpreter, as_shell, clean_environment, interpreters  # noqa: E402

FILES = (
    "test_time test_posix test_os test_io test_fileio test_file test_socket test_select test_selectors test_ssl "
    "test_random test_datetime test_uuid test_tempfile test_shutil test_pathlib test_mmap test_descr test_inspect "
    "test_pickle test_types test_builtin test_call test_gc test_weakref"
).split()
# Threads, signals, processes.
FILES += (
    "test_threading test_thread test_threadedtempfile test_threadsignals test_queue test_concurrent_futures "
    "test_signal test_fork1 test_subprocess test_multiprocessing_fork test_multiprocessing_spawn test_asyncio"
).split()

# CPython's `make install` leaves out some test packages (3.11.7 and 3.12.1: test_concurrent_futures and
# test_multiprocessing_*). Those that are only a way into an installed module are here.
STAND_INS = Path(__file__).resolve().parent / "cpython"

# Tests that hang unrecorded, too: where a virtual machine has VM sockets but nobody at the other end; now and then, where
# a recursion swallows the interrupt that shall end it.
IGNORED = ["*ThreadedVSOCKSocketStreamTest*", "*test_print_exception_gh_102056"]

# Against a hang only.
HANG = 900

DOCUMENT = ROOT / "docs" / "compatibility.md"
# What is generated of it stands between these lines.
BEGIN, END = "<!-- begin: tests/cpython_suite.py --write-docs -->\n", "<!-- end -->\n"


@dataclass
class Outcomes:
    """What one run of a test file said: the outcome of each test, and how the process ended."""

    exit: int
    tests: dict[str, str] = field(default_factory=dict)
    log: Path | None = None
    seconds: float = 0.0


def outcome(case: ElementTree.Element) -> str:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return kind
    return case.get("result", "passed")


def parse(report: Path) -> dict[str, str]:
    tests: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "?")
        # Subtests and repeated names are told apart by their number.
        number = 1
        while f"{name} #{number}" in tests:
            number += 1
        tests[f"{name} #{number}"] = outcome(case)
    return tests


def qualified(name: str) -> str:
    """`python -m test --list-tests` gives the tests within some packages with the package's full name."""
    return name if name.startswith("test.") else f"test.{name}"


@functools.cache
def is_installed(python: Path, name: str) -> bool:
    ask = [python, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{qualified(name)}') is None)"]
    return subprocess.run(ask, check=False, capture_output=True).returncode == 0


def all_files(python: Path) -> list[str]:
    listed = subprocess.run([python, "-m", "test", "--list-tests"], check=True, capture_output=True, text=True)
    return listed.stdout.split() + sorted(path.name for path in STAND_INS.iterdir())


def run_to(log: Path, command, folder: Path, limit: float) -> tuple[int, float]:
    """Runs with all output into the log; returns the exit code (HUNG after so many seconds) and how long it took."""
    started = time.monotonic()
    env = clean_environment(folder / "home", folder / "tmp")
    with open(log, "wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        with subprocess.Popen(list(map(str, command)), cwd=folder, env=env, process_group=0, **streams) as program:
            try:
                code = program.wait(limit)
            except BaseException as error:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                code = HUNG
    return code, time.monotonic() - started


def run_file(python: Path, name: str, folder: Path, trace: Path | None, limit: float = HANG) -> Outcomes:
    """Runs `python -m test -v NAME`, recorded if there is a trace to write."""
    folder.mkdir(parents=True)
    report = folder / "report.xml"
    ignored = [part for pattern in IGNORED for part in ("--ignore", pattern)]
    tests = [name] if is_installed(python, name) else ["--testdir", STAND_INS, f"{name}.test_all"]
    command = [python, "-m", "test", "-v", "--junit-xml", report, *ignored, *tests]
    if trace:
        command = [RETRACE, "record", "-o", trace, "--", *command]
    log = folder / "output.txt"
    code, seconds = run_to(log, command, folder, limit)
    tests = parse(report) if report.exists() else {}
    return Outcomes(code, tests, log, seconds)


def differences(plain: Outcomes, recorded: Outcomes) -> dict[str, tuple[str, str]]:
    if plain.tests and not recorded.tests:
        return {"(all tests)": (f"exit code {plain.exit}", f"no report, exit code {recorded.exit}")}
    found = {
        name: (plain.tests.get(name, "absent"), recorded.tests.get(name, "absent"))
        for name in sorted(plain.tests.keys() | recorded.tests.keys())
        if plain.tests.get(name) != recorded.tests.get(name)
    }
    if plain.exit != recorded.exit:
        found["(exit code)"] = (str(plain.exit), str(recorded.exit))
    return found


@dataclass
class Comparison:
    interpreter: Interpreter
    name: str
    plain: Outcomes
    recorded: Outcomes
    differs: dict[str, tuple[str, str]]
    unstable: list[str]
    trace: Path


def compare(interpreter: Interpreter, name: str, folder: Path, limit: float = HANG) -> Comparison:
    folder = folder / f"{interpreter.name}-{name}"
    # Names of one length: a Unix socket's path may have 107 bytes, and tests that need more skip.
    plain = run_file(interpreter.path, name, folder / "plain", None, limit)
    trace = folder / "recorded.retrace"
    if plain.exit == HUNG:
        return Comparison(interpreter, name, plain, plain, {}, [], trace)
    recorded = run_file(interpreter.path, name, folder / "taped", trace, 120 + 10 * plain.seconds)
    differs = differences(plain, recorded)
    unstable: list[str] = []
    if differs:
        again = run_file(interpreter.path, name, folder / "again", None, HANG)
        unstable = [test for test in differences(plain, again) if test in differs]
        differs = {test: pair for test, pair in differs.items() if test not in unstable}
    return Comparison(interpreter, name, plain, recorded, differs, unstable, trace)


def is_subsequence(some: list[bytes], words: list[bytes]) -> bool:
    rest = iter(words)
    return all(word in rest for word in some)


def divergence(written: str) -> str | None:
    """Where a replay left its recording, in a line that is the same from run to run as far as that is possible."""
    said = re.search(r"retrace: the replay left the recording.*\n  expected: (.*)\n  met: +(.*)\n", written)
    if said is None:
        return None
    expected, met = said.groups()
    # "met: the call: what is wrong with it", or another call altogether.
    call, _, wrong = met.partition(": ")
    text = f"{call.split('(')[0]}: {wrong}" if wrong else f"expected {expected}, met {met}"
    text = re.sub(r"/tmp/suite-\w+|@test_\d+_tmp|0x[0-9a-f]+|\d{5,}", "…", text)
    return text if len(text) <= 160 else text[:159] + "…"


def replay(result: Comparison) -> str:
    """Replays the recording of the file's own process: "same", or what differed."""
    folder = result.trace.parent / "again2"
    folder.mkdir()
    limit = 60 + 10 * result.recorded.seconds
    code, _ = run_to(folder / "output.txt", [RETRACE, "replay", result.trace], folder, limit)
    written = (folder / "output.txt").read_bytes()
    said = [line.decode(errors="replace") for line in written.splitlines() if b"retrace: " in line]
    # Words, because what children print cuts lines in two.
    words = re.sub(rb"(?m)^retrace: .*\n", b"", written).split()
    if code == HUNG:
        return "no end in ten times as long"
    if as_shell(code) != as_shell(result.recorded.exit):
        return divergence(written.decode(errors="replace")) or f"exit code {code}: {said[:1]}"
    if not is_subsequence(words, result.recorded.log.read_bytes().split()):
        return "other output"
    return "same"


@dataclass
class Kept:
    """What came of a file, as it is kept."""

    interpreter: str
    name: str
    tests: int
    passed: int
    plain_seconds: float
    recorded_seconds: float
    differs: dict[str, tuple[str, str]]
    unstable: list[str]
    too_long: bool = False
    replayed: str | None = None

    def __str__(self) -> str:
        start = f"{self.interpreter:12} {self.name:28} {self.tests:5} tests, {self.passed:5} passed: "
        if self.too_long:
            return f"{start}passed over, longer than {self.plain_seconds:.0f} s unrecorded"
        lines = [start + ("differs" if self.differs else "same")]
        lines[0] += f" ({self.plain_seconds:.0f} s plain, {self.recorded_seconds:.0f} s recorded)"
        lines += [f"    {test}: plain {pair[0]}, recorded {pair[1]}" for test, pair in self.differs.items()]
        lines += [f"    unstable, plain too: {test}" for test in self.unstable]
        if self.replayed:
            lines.append(f"    replay: {self.replayed}")
        return "\n".join(lines)


def run_and_keep(interpreter: Interpreter, name: str, keep: Path, limit: float, replayed: bool) -> Kept:
    # The folder of the run has a short name, for the sake of Unix sockets.
    folder = Path(tempfile.mkdtemp(prefix="suite-"))
    try:
        result = compare(interpreter, name, folder, limit)
        passed = sum(outcome in ("passed", "completed") for outcome in result.plain.tests.values())
        seconds = result.plain.seconds, result.recorded.seconds
        kept = Kept(interpreter.name, name, len(result.plain.tests), passed, *seconds, result.differs, result.unstable)
        kept.too_long = result.plain.exit == HUNG
        if replayed and not kept.too_long:
            kept.replayed = replay(result)
        place = keep / interpreter.name / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if kept.differs or kept.replayed not in ("same", None):
            for log in folder.rglob("output.txt"):
                shutil.copy(log, place / f"{log.parent.name}.txt")
            shutil.move(result.trace, place / "recorded.retrace")
        (place / "result.json").write_text(json.dumps(asdict(kept), indent=1))
        return kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def kept_result(keep: Path, interpreter: Interpreter, name: str) -> Kept | None:
    path = keep / interpreter.name / name / "result.json"
    return Kept(**json.loads(path.read_text())) if path.exists() else None


def kept_results(keep: Path, interpreter: Interpreter) -> list[Kept]:
    paths = sorted((keep / interpreter.name).glob("*/result.json"))
    return [Kept(**json.loads(path.read_text())) for path in paths]


def in_table(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def table(rows: dict[str, dict[str, str]], versions: list[str], run: dict[str, set[str]]) -> str:
    """What differs, by file and version; `run` says which files have a result."""

    def cell(row: dict[str, str], name: str, version: str) -> str:
        return in_table(row.get(version) or ("same" if name in run[version] else "not run"))

    lines = [f"| file | {' | '.join(versions)} |", "|---" * (1 + len(versions)) + "|"]
    lines += [
        f"| {name.removeprefix('test.')} | {' | '.join(cell(row, name, v) for v in versions)} |"
        for name, row in sorted(rows.items())
    ]
    return "\n".join(lines) + "\n"


def described(differs: dict[str, tuple[str, str]]) -> str:
    tests = [name.rsplit(" #", 1)[0].rsplit(".", 1)[-1] for name in differs if name != "(exit code)"]
    return ", ".join(sorted(set(tests))) or "the exit code"


def document(found: dict[str, list[Kept]]) -> str:
    """What is generated of docs/compatibility.md."""
    versions = list(found)
    counts = []
    recorded: dict[str, dict[str, str]] = {}
    replayed: dict[str, dict[str, str]] = {}
    long: dict[str, list[str]] = {}
    for version, results in found.items():
        whole = [result for result in results if not result.too_long]
        replays = [result.replayed for result in whole if result.replayed]
        differ = sum(bool(result.differs) for result in whole)
        counts.append(
            f"- {version}: {len(whole)} files, {sum(r.tests for r in whole)} tests; {len(whole) - differ} files come out "
            f"the same recorded. {replays.count('same')} of {len(replays)} recordings replay to the same result."
        )
        for result in results:
            if result.too_long:
                long.setdefault(result.name, []).append(version)
            if result.differs:
                recorded.setdefault(result.name, {})[version] = described(result.differs)
            if result.replayed not in ("same", None):
                replayed.setdefault(result.name, {})[version] = result.replayed
    run = {version: {r.name for r in results if not r.too_long} for version, results in found.items()}
    parts = ["\n".join(counts) + "\n"]
    if long:
        names = (f"{name.removeprefix('test.')} ({', '.join(of)})" for name, of in sorted(long.items()))
        parts.append(f"Passed over, because they took too long unrecorded: {', '.join(names)}.\n")
    if recorded:
        parts.append("Tests that differ recorded:\n\n" + table(recorded, versions, run))
    if replayed:
        parts.append("Files that do not replay to the same result:\n\n" + table(replayed, versions, run))
    return "\n".join(parts)


def write_document(found: dict[str, list[Kept]]) -> None:
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{document(found)}\n{END}{after}")


def has_tests(interpreter: Interpreter) -> bool:
    ask = [interpreter.path, "-c", "import test.test_time, test.libregrtest"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="test files [default: the chosen ones]")
    parser.add_argument("--all", action="store_true", help="all files of `python -m test` that have no result yet")
    parser.add_argument("--replay", action="store_true", help="replay each recording, too")
    parser.add_argument("--limit", type=float, default=HANG, help="pass over what runs longer, unrecorded, in seconds")
    parser.add_argument("--python", action="append", metavar="3.x", help="only this version (may be given twice)")
    parser.add_argument("--jobs", type=int, default=1, help="how many files at a time")
    parser.add_argument("--keep", type=Path, metavar="DIR", default=ROOT / "target" / "cpython-suite",
                        help="where results, and logs and traces of what differs, go [%(default)s]")  # fmt: skip
    parser.add_argument("--write-docs", action="store_true", help="write the kept results into the documentation")
    arguments = parser.parse_args()

    found = [i for i in interpreters() if has_tests(i)]
    if arguments.python:
        found = [i for i in found if "{}.{}".format(*i.minor) in arguments.python]
    if not found:
        sys.exit("no interpreter with CPython's own tests was found")
    if arguments.write_docs:
        kept = {interpreter.version: kept_results(arguments.keep, interpreter) for interpreter in found}
        write_document({version: results for version, results in kept.items() if results})
        return 0
    work, results = [], []
    for interpreter in found:
        for name in arguments.names or (all_files(interpreter.path) if arguments.all else FILES):
            before = kept_result(arguments.keep, interpreter, name) if arguments.all else None
            if before:
                results.append(before)
            elif is_installed(interpreter.path, name) or (STAND_INS / name).exists():
                work.append((interpreter, name))
            else:
                print(f"{interpreter.name:12} {name:28} is not part of this installation")
    for result in results:
        print(result)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        run = functools.partial(run_and_keep, keep=arguments.keep, limit=arguments.limit, replayed=arguments.replay)
        for result in pool.map(lambda item: run(*item), work):
            print(result, flush=True)
            results.append(result)
    differing = sum(bool(result.differs) for result in results)
    total = sum(result.tests for result in results)
    print(f"{len(results)} files, {total} tests: {differing} files differ, "
          f"{sum(result.too_long for result in results)} took too long; results are in {arguments.keep}")  # fmt: skip
    if arguments.replay:
        replays = [result.replayed for result in results if result.replayed]
        print(f"{replays.count('same')} of {len(replays)} recordings replay to the same result")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
