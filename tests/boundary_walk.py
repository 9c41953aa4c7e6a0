"""Walks the standard library and compares what it finds with `abi/boundary/*.toml`.

    python tests/boundary_walk.py [INTERPRETER ...]      walk; exit code 1 and a list of what is missing
    python tests/boundary_walk.py --write-docs           write docs/boundary.md from the tables
    pytest tests/boundary_walk.py                        the same tests; RETRACE_PYTHONS=A:B chooses interpreters

Every C function of every extension or built-in module, and every C type (hidden ones too), must be classified by a
table; every entry of a table must exist in one of the interpreters. Needs Python 3.11 for itself (tomllib), and one of
each version for the second half. `boundary_inventory.py` says what is left out, and why.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "abi" / "boundary"
DOCS = ROOT / "docs" / "boundary.md"
INVENTORY = ROOT / "tests" / "boundary_inventory.py"
VERSIONS = ("3.11", "3.12")
PLATFORM = {"Linux": "linux", "Darwin": "macos"}[platform.system()]
# What an extension module imports from libc or libpython if it sees the outside: files, sockets, processes, clocks,
# time zones, entropy, the environment, the locale.
OUTSIDE = re.compile(
    r"_*(f?open(at)?|creat|p?readv?|p?writev?|fread|fgets|getc|getchar|[fl]?stat|access|unlink|rename|mkdir|rmdir|"
    r"opendir|readdir|close|dup[23]?|pipe2?|fcntl|ioctl|mmap|msync|ftruncate|shm_open|sem_open|socket|connect|"
    r"accept4?|bind|listen|recv(from|msg)?|send(to|msg)?|p?select|p?poll|epoll_.*|getaddrinfo|gethost.*|v?fork|"
    r"exec.*|wait.*|kill|getp?pid|get(pw|gr|sp).*|time|gettimeofday|clock_.*|localtime.*|gmtime.*|mktime|strftime|"
    r"tzset|nanosleep|u?sleep|getrandom|getentropy|s?rand(om)?|getenv|setlocale|localeconv|nl_langinfo|strcoll|"
    r"strxfrm|syscall|sysconf|getrusage|PyTime_Get.*|PyTime_localtime|PyOS_URandom.*|PyOS_Readline.*|"
    r"Py_(fopen_obj|open|open_noraise|read|write|write_noraise|w?stat|fstat|fstat_noraise|dup|GetLocale.*))"
    r"(64)?(_chk)?"
)
# Such imports of modules of which nothing is recorded, and why that is right.
HARMLESS_IMPORTS = {
    ("_asyncio", "getpid"): "3.11: see _asyncio.toml",
    ("_decimal", "localeconv"): "format code `n`: setlocale is live in replay",
    ("pyexpat", "getpid"): "expat's own hash salt, used only where ours is 0",
    ("pyexpat", "gettimeofday"): "as getpid",
    ("pyexpat", "getrandom"): "as getpid",
    ("pyexpat", "getenv"): "debug switches of expat",
}

NOT_OPTIONS = ("methods", "name", "treatment", "why")


def interpreters():
    """The interpreters to walk: the arguments, RETRACE_PYTHONS, or those of the project's machine that exist."""
    arguments = [a for a in sys.argv[1:] if not a.startswith("-")] if __name__ == "__main__" else []
    if arguments:
        return arguments
    if "RETRACE_PYTHONS" in os.environ:
        return os.environ["RETRACE_PYTHONS"].split(":")
    pyenv = Path.home() / ".pyenv" / "versions"
    known = [str(p) for v in VERSIONS for p in sorted(pyenv.glob(v + ".*/bin/python"))]
    known += [p for p in ("/usr/bin/python3.11", "/usr/bin/python3.12") if os.path.exists(p)]
    assert known, "no Python 3.11 or 3.12 found: set RETRACE_PYTHONS"
    return known


@cache
def inventories():
    found = []
    for interpreter in interpreters():
        # Isolated, so that nothing but the standard library is walked.
        run = subprocess.run([interpreter, "-I", "-S", str(INVENTORY)], capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, f"{interpreter}: the inventory failed:\n{run.stderr}"
        inventory = json.loads(run.stdout)
        assert inventory["version"] in VERSIONS, f"{interpreter} is Python {inventory['version']}"
        inventory["interpreter"] = interpreter
        found.append(inventory)
    return found


def describe(options):
    """Options as the documentation shows them."""
    return ", ".join(
        key if value is True else f"{key}: {' '.join(value) if isinstance(value, list) else value}"
        for key, value in options.items()
    )


class Entry:
    """A function, method or type of a table, with the versions and platforms that hold for it."""

    def __init__(self, value, outer=None, file=None):
        table = value if isinstance(value, dict) else {"treatment": value}
        self.table = table
        self.treatment = table.get("treatment")
        self.why = table.get("why", "")
        self.file = file or outer.file
        self.versions = [v for v in table.get("versions", VERSIONS) if outer is None or v in outer.versions]
        here = table.get("platforms", [PLATFORM])
        self.elsewhere = PLATFORM not in here or (outer is not None and outer.elsewhere)
        self.optional = bool(table.get("optional")) or (outer is not None and outer.optional)

    def options(self):
        return describe({k: v for k, v in self.table.items() if k not in NOT_OPTIONS})


class Module:
    """One module of the tables: those of a [[groups]] have nothing listed by name."""

    def __init__(self, name, entry, faces=()):
        self.name = name
        self.entry = entry
        self.whole = entry.treatment is not None
        self.faces = (name, *faces)
        self.default = entry.table.get("default", {})
        self.functions = {k: Entry(v, entry) for k, v in entry.table.get("functions", {}).items()}
        self.types = {n: (Entry("internal", entry), {}) for n in entry.table.get("internal_types", [])}
        for key, table in entry.table.get("types", {}).items():
            outer = Entry(table, entry)
            methods = {k: Entry(v, outer) for k, v in table.get("methods", {}).items()}
            self.types[table.get("name", f"{name}.{key}")] = (outer, methods)


@cache
def tables():
    modules = {}
    for file in sorted(TABLES.glob("*.toml")):
        document = tomllib.loads(file.read_text())
        found = []
        for group in document.get("groups", []):
            found += [Module(name, Entry(group, file=file.name), group.get("faces", ())) for name in group["modules"]]
        if "module" in document:
            found.append(Module(document["module"], Entry(document, file=file.name)))
        for module in found:
            assert module.name not in modules, f"{file.name}: {module.name} is listed twice"
            modules[module.name] = module
    return modules


def is_classified(entry, version):
    return entry is not None and version in entry.versions and not entry.elsewhere


def unclassified(inventory):
    """What the interpreter has and no table classifies, as lines."""
    version = inventory["version"]
    by_face = {face: m for m in tables().values() for face in m.faces if m.whole}
    types = {name: entry for m in tables().values() for name, (entry, _) in m.types.items()}
    for name, found in sorted(inventory["modules"].items()):
        module = tables().get(name)
        if module is None or not is_classified(module.entry, version):
            yield f"module {name} ({found['kind']})"
            continue
        for function in found["functions"]:
            listed = is_classified(module.functions.get(function), version)
            if not listed and not module.whole and "functions" not in module.default:
                yield f"function {name}.{function}"
    for name, found in sorted(inventory["types"].items()):
        face = by_face.get(name.rpartition(".")[0])
        if not is_classified(types.get(name), version) and (face is None or not is_classified(face.entry, version)):
            yield f"type {name} ({', '.join(found['methods'] + found['getset']) or 'no methods'})"


def dead_entries(found):
    """Entries that exist in no interpreter of a version that they are for, as lines."""
    walked = {inventory["version"] for inventory in found}

    def is_dead(entry, exists):
        if entry.elsewhere or not set(entry.versions) <= walked:
            return False
        return not any(exists(i) for i in found if i["version"] in entry.versions)

    for module in tables().values():
        entry = module.entry
        if is_dead(entry, lambda i: module.name in i["modules"]):
            if not entry.optional:
                yield f"{entry.file}: module {module.name}"
            continue
        for name, function in module.functions.items():
            if is_dead(function, lambda i: name in i["modules"].get(module.name, {"functions": []})["functions"]):
                yield f"{entry.file}: function {module.name}.{name}"
        for type_name, (outer, methods) in module.types.items():
            if is_dead(outer, lambda i: type_name in i["types"]):
                yield f"{entry.file}: type {type_name}"
                continue
            for name, method in methods.items():
                if is_dead(method, lambda i: has_attribute(i["types"].get(type_name), name)):
                    yield f"{entry.file}: method {type_name}.{name}"
        for name in entry.table.get("data", ()):
            if not any(name in i["modules"].get(module.name, {"attributes": []})["attributes"] for i in found):
                yield f"{entry.file}: data {module.name}.{name}"
    for module in tables().values():
        for face in module.faces[1:]:
            if not any(name.startswith(face + ".") for i in found for name in i["types"]):
                yield f"{module.entry.file}: face {face}"


def records_nothing(module):
    """Whether the module, whatever it is asked, never gets an answer from the log."""
    methods = [m for _, methods in module.types.values() for m in methods.values()]
    external = any(entry.treatment == "external" for entry, _ in module.types.values())
    return not external and all(e.treatment != "record" for e in [*module.functions.values(), *methods])


def imports(file):
    """The symbols that a shared object leaves undefined."""
    run = subprocess.run(["nm", "-D", "--undefined-only", file], capture_output=True, text=True, check=True)
    return {line.split()[-1].partition("@")[0] for line in run.stdout.splitlines()}


def has_attribute(found, name):
    return found is not None and any(name in found[kind] for kind in ("methods", "getset", "slots"))


def rows(entries):
    """Rows of a table: entries with something to say by themselves, the others one row for each treatment."""
    plain = defaultdict(list)
    for name, entry in sorted(entries.items()):
        if entry.why or entry.options():
            yield f"| `{name}` | {entry.treatment} | {entry.options()} | {entry.why} |"
        else:
            plain[entry.treatment].append(f"`{name}`")
    for treatment, names in plain.items():
        yield f"| {', '.join(names)} | {treatment} | | |"


def documentation():
    yield "# The boundary"
    yield ""
    yield "Generated from `abi/boundary/*.toml` by `python tests/boundary_walk.py --write-docs`: do not edit. What"
    yield "the words mean is in [`abi/boundary/README.md`](../abi/boundary/README.md). Of an external type, methods,"
    yield "getters and slots that are not listed are recorded; of an internal one they pass."
    groups = defaultdict(list)
    for name, module in sorted(tables().items()):
        document = module.entry.table
        if "module" not in document:
            groups[(module.entry.treatment, module.entry.why, tuple(module.entry.versions))].append(name)
            continue
        yield f"\n## {name}\n"
        marks = describe({k: v for k, v in document.items() if k in ("platforms", "versions")})
        yield document["about"] + (f" ({marks})" if marks else "")
        if module.whole:
            yield f"\nAll of it: **{module.entry.treatment}**. {module.entry.why}"
        if module.functions:
            yield "\n| function | treatment | options | why |\n|---|---|---|---|"
            yield from rows(module.functions)
        internal = []
        for type_name, (entry, methods) in sorted(module.types.items()):
            if not methods and not entry.why and entry.treatment == "internal":
                internal.append(f"`{type_name}`")
                continue
            options = entry.options()
            marks = f" ({options})" if options else ""
            yield f"\n### {type_name}\n\n**{entry.treatment}**{marks}. {entry.why}".rstrip()
            if methods:
                yield "\n| method | treatment | options | why |\n|---|---|---|---|"
                yield from rows(methods)
        if internal:
            yield f"\nInternal types: {', '.join(internal)}."
    yield "\n## Modules treated as a whole\n"
    yield "| modules | treatment | why |\n|---|---|---|"
    for (treatment, why, versions), names in sorted(groups.items(), key=lambda item: -len(item[1])):
        only = "" if versions == VERSIONS else f" ({', '.join(versions)} only)"
        yield f"| {', '.join(f'`{n}`' for n in names)}{only} | {treatment} | {why} |"


def documentation_text():
    return "\n".join(documentation()) + "\n"


def test_every_module_imports():
    for inventory in inventories():
        assert not inventory["failed"], f"{inventory['interpreter']}: {inventory['failed']}"


def test_hidden_types_are_found():
    hidden = {"posix.ScandirIterator", "select.poll", "_ssl._SSLSocket", "_socket.socket", "sqlite3.Statement"}
    for inventory in inventories():
        assert hidden <= set(inventory["types"]), f"{inventory['interpreter']}: {hidden - set(inventory['types'])}"


def test_everything_is_classified():
    missing = [f"{i['interpreter']}: {line}" for i in inventories() for line in unclassified(i)]
    assert not missing, f"{len(missing)} without a table entry:\n" + "\n".join(missing)


def test_every_entry_exists():
    dead = list(dead_entries(inventories()))
    assert not dead, f"{len(dead)} entries of what no interpreter has:\n" + "\n".join(dead)


def test_internal_modules_import_nothing_of_the_outside():
    """An independent witness for "never touches the outside": what the shared object imports."""
    assert shutil.which("nm"), "binutils' nm is missing"
    looked_at, found = 0, set()
    for inventory in inventories():
        for name, module in inventory["modules"].items():
            # What has no table at all is the business of test_everything_is_classified.
            if module["kind"] == "dynload" and name in tables() and records_nothing(tables()[name]):
                looked_at += 1
                found |= {(name, symbol) for symbol in imports(module["file"]) if OUTSIDE.fullmatch(symbol)}
    assert looked_at > 60, f"only {looked_at} modules looked at"
    assert not found - set(HARMLESS_IMPORTS), sorted(found - set(HARMLESS_IMPORTS))
    # The pattern does find what it should in a module that is recorded.
    recorded = inventories()[0]["modules"]["_ssl"]["file"]
    assert any(OUTSIDE.fullmatch(symbol) for symbol in imports(recorded))


def test_the_walk_would_notice():
    """The walk itself: an unknown function, type or module is reported, a misspelt entry too."""
    strange = json.loads(json.dumps(inventories()[0]))
    strange["modules"]["time"]["functions"].append("warp")
    strange["modules"]["_stranger"] = {"kind": "dynload", "functions": []}
    strange["types"]["_socket.Stranger"] = {"methods": ["peek"], "getset": [], "members": [], "slots": []}
    lines = list(unclassified(strange))
    assert lines == ["module _stranger (dynload)", "function time.warp", "type _socket.Stranger (peek)"], lines
    walked = [json.loads(json.dumps(i)) for i in inventories()]
    for inventory in walked:
        inventory["modules"]["time"]["functions"].remove("sleep")
        inventory["types"]["_io.FileIO"]["methods"].remove("close")
        del inventory["types"]["_ssl.MemoryBIO"]
    if {i["version"] for i in walked} == set(VERSIONS):
        lines = sorted(dead_entries(walked))
        assert lines == [
            "_io.toml: method _io.FileIO.close",
            "_ssl.toml: type _ssl.MemoryBIO",
            "time.toml: function time.sleep",
        ], lines


def test_docs_are_current():
    current = DOCS.read_text() if DOCS.exists() else ""
    assert current == documentation_text(), "docs/boundary.md is stale: python tests/boundary_walk.py --write-docs"


def main():
    if "--write-docs" in sys.argv:
        DOCS.write_text(documentation_text())
        print(f"wrote {DOCS}")
        return 0
    failed = 0
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            try:
                test()
                print(f"{name}: passed")
            except AssertionError as error:
                failed += 1
                print(f"{name}: FAILED: {error}")
    for inventory in inventories():
        functions = sum(len(m["functions"]) for m in inventory["modules"].values())
        print(
            f"{inventory['interpreter']} ({inventory['release']}): {len(inventory['modules'])} modules,"
            f" {functions} functions, {len(inventory['types'])} types"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
