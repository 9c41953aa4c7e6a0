#!/usr/bin/env python3
"""CPython's own tests, recorded and unrecorded: the outcome of every single test must be the same.

    tests/cpython_suite.py                          all files, on every interpreter that has CPython's tests
    tests/cpython_suite.py --python 3.12 test_os    some files, on one
    tests/cpython_suite.py --jobs 2 --keep DIR      two files at a time; keeps traces and outputs of what differs

Ends with 0 only when nothing differs. A test that does not have the same outcome in two plain runs says nothing about
recording: each file that differs is run plain once more, and tests that changed on their own are listed as unstable.
"""

import argparse
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import HUNG, RETRACE, Interpreter, clean_environment, interpreters  # noqa: E402

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


@functools.cache
def is_installed(python: Path, name: str) -> bool:
    ask = [python, "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec('test.{name}') is None)"]
    return subprocess.run(ask, check=False).returncode == 0


def run_file(python: Path, name: str, folder: Path, trace: Path | None) -> Outcomes:
    """Runs `python -m test -v NAME`, recorded if there is a trace to write."""
    folder.mkdir(parents=True)
    report = folder / "report.xml"
    ignored = [part for pattern in IGNORED for part in ("--ignore", pattern)]
    tests = [name] if is_installed(python, name) else ["--testdir", STAND_INS, f"{name}.test_all"]
    command = [python, "-m", "test", "-v", "--junit-xml", report, *ignored, *tests]
    if trace:
        command = [RETRACE, "record", "-o", trace, "--", *command]
    log = folder / "output.txt"
    started = time.monotonic()
    env = clean_environment(folder / "home", folder / "tmp")
    with open(log, "wb") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        with subprocess.Popen(list(map(str, command)), cwd=folder, env=env, process_group=0, **streams) as program:
            try:
                code = program.wait(HANG)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
                code = HUNG
    tests = parse(report) if report.exists() else {}
    return Outcomes(code, tests, log, time.monotonic() - started)


def differences(plain: Outcomes, recorded: Outcomes) -> dict[str, tuple[str, str]]:
    if not recorded.tests:
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


def compare(interpreter: Interpreter, name: str, folder: Path) -> Comparison:
    folder = folder / f"{interpreter.name}-{name}"
    # Names of one length: a Unix socket's path may have 107 bytes, and tests that need more skip.
    plain = run_file(interpreter.path, name, folder / "plain", None)
    if not plain.tests:
        raise SystemExit(f"{interpreter.path} ran no test of {name}: see {plain.log}")
    trace = folder / "recorded.retrace"
    recorded = run_file(interpreter.path, name, folder / "taped", trace)
    differs = differences(plain, recorded)
    unstable: list[str] = []
    if differs:
        again = run_file(interpreter.path, name, folder / "again", None)
        unstable = [test for test in differences(plain, again) if test in differs]
        differs = {test: pair for test, pair in differs.items() if test not in unstable}
    if not differs:
        trace.unlink(missing_ok=True)
    return Comparison(interpreter, name, plain, recorded, differs, unstable)


def has_tests(interpreter: Interpreter) -> bool:
    ask = [interpreter.path, "-c", "import test.test_time, test.libregrtest"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def show(result: Comparison) -> None:
    passed = sum(outcome in ("passed", "completed") for outcome in result.plain.tests.values())
    verdict = "differs" if result.differs else "same"
    seconds = f"{result.plain.seconds:.0f} s plain, {result.recorded.seconds:.0f} s recorded"
    print(f"{result.interpreter.name:12} {result.name:16} {len(result.plain.tests):5} tests, {passed:5} passed: "
          f"{verdict} ({seconds})", flush=True)  # fmt: skip
    for test, (plain, recorded) in result.differs.items():
        print(f"    {test}: plain {plain}, recorded {recorded}")
    if result.differs:
        print(f"    see {result.recorded.log}")
    for test in result.unstable:
        print(f"    unstable, plain too: {test}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=FILES, metavar="NAME", help="test files [default: all]")
    parser.add_argument("--python", action="append", metavar="3.x", help="only this version (may be given twice)")
    parser.add_argument("--jobs", type=int, default=1, help="how many files at a time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where outputs go [default: a temporary folder]")
    arguments = parser.parse_args()

    found = [i for i in interpreters() if has_tests(i)]
    if arguments.python:
        found = [i for i in found if "{}.{}".format(*i.minor) in arguments.python]
    if not found:
        sys.exit("no interpreter with CPython's own tests was found")
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="retrace-cpython-suite-"))
    work = []
    for interpreter in found:
        for name in arguments.names:
            if is_installed(interpreter.path, name) or (STAND_INS / name).exists():
                work.append((interpreter, name))
            else:
                print(f"{interpreter.name:12} {name:16} is not part of this installation")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = []
        for result in pool.map(lambda item: compare(*item, folder), work):
            show(result)
            results.append(result)
    differing = [result for result in results if result.differs]
    total = sum(len(result.plain.tests) for result in results)
    print(f"{len(results)} files, {total} tests: {len(differing)} files differ; outputs are in {folder}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
