"""The documents name files and folders that exist, and nothing of the machine they were written on; what the compiler can't
tell of how the sources fit together."""

import re
import subprocess

import pytest

from harness import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
# A code span that is a path: it has a slash, or an extension we use.
PATH = re.compile(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*/?)`")
EXTENSIONS = (".rs", ".py", ".c", ".h", ".md", ".toml", ".sh", ".txt")
FIRST = {"abi", "adapter", "cshim", "docs", "examples", "perf", "python", "replay", "src", "tests", ".ci"}


def named_paths(document):
    for name in PATH.findall(document.read_text()):
        if name.split("/")[0] in FIRST and ("/" in name or name.endswith(EXTENSIONS)):
            yield name


def test_architecture_names_paths():
    """Else the next test would check nothing."""
    assert len(set(named_paths(ROOT / "docs" / "architecture.md"))) > 20


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_exist(document):
    missing = [name for name in named_paths(document) if not (ROOT / name).exists()]
    assert not missing, f"{document.relative_to(ROOT)} names {missing}"


def test_readme_has_a_line_for_each_folder():
    readme = (ROOT / "README.md").read_text()
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    folders = {line.split("/")[0] for line in listed.splitlines() if "/" in line and not line.startswith(".")}
    missing = sorted(folder for folder in folders if not re.search(rf"^\| `{re.escape(folder)}/?` \|", readme, re.M))
    assert not missing


def test_nothing_names_the_machine_it_was_written_on():
    """No home folder, no private registry host in any file of the repository."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT).split(b"\0")
    forbidden = re.compile(rb"/(?:root|home/\w+)/(?:\.pyenv|\.cargo|work)|/opt/wheels|index-url|registry\s*=\s*\"http")
    found = []
    for name in filter(None, listed):
        path = ROOT / name.decode()
        if path.is_file() and path.name != "test_architecture.py" and forbidden.search(path.read_bytes()):
            found.append(name.decode())
    assert not found


# What only a thread with the turn does.
TURN = re.compile(r"\bin_turn\(\)|\bturns::(?:has|take|without|leave|wait_at|wake)\(")


def hooks_with_turns(source):
    """Name and text of the functions that C code calls in place of another one, and that ask for the turn."""
    for found in re.finditer(r'^(?:pub )?unsafe extern "C" fn (\w+)[^{]*\{(.*?)^\}', source, re.M | re.S):
        if TURN.search(found[2]):
            yield found[1], found[2]


def test_hooks_enter_before_they_ask_for_the_turn():
    """The turn may have been taken away while a library computed (`turns::enter`): who doesn't ask would go on without."""
    hooks = [
        (path.name, name, body)
        for path in sorted((ROOT / "src").glob("library_*.rs"))
        for name, body in hooks_with_turns(path.read_text())
    ]
    assert len(hooks) > 20, [name for _, name, _ in hooks]
    late = [
        f"{file}: {name}"
        for file, name, body in hooks
        if "turns::enter()" not in body or body.index("turns::enter()") > TURN.search(body).start()
    ]
    assert not late
