"""The sources are in the trace: a replay shows what was recorded after the files were edited, moved or deleted."""

import shutil

import pytest
from harness import make_venv


def recorded_package(trial):
    trial.prepare("shop", "unhandled.py")
    main = trial.work / "main.py"
    main.write_text("import shop.prices\nprint(shop.prices.price('plum'), __file__)\nshop.prices.fail()\n")
    return trial.record(["main.py"])


def delete(work):
    shutil.rmtree(work)


def edit(work):
    for path in work.rglob("*.py"):
        path.write_text("# edited\nraise SystemExit('this is another program')\n")


def shift_lines(work):
    for path in work.rglob("*.py"):
        path.write_text("\n\n\n" + path.read_text())


def make_unreadable(work):
    for path in work.rglob("*.py"):
        path.write_bytes(b"\xff\xfe\x00 not a source")


def replace_by_folders(work):
    for path in list(work.rglob("*.py")):
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("change", [delete, edit, shift_lines, make_unreadable, replace_by_folders])
def test_program_changed_before_the_replay(trial, change):
    recorded = recorded_package(trial)
    assert recorded.exit == 1 and b'raise LookupError("no price for"' in recorded.stderr, recorded
    change(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_the_sources_can_be_listed_and_printed(trial):
    recorded = recorded_package(trial)
    main = (trial.work / "main.py").read_text()
    prices = (trial.work / "shop" / "prices.py").read_text()
    delete(trial.work)
    listing = trial.tool("sources", recorded.trace)
    paths = listing.stdout.decode().splitlines()
    assert listing.exit == 0 and any("shop/prices.py" in line for line in paths), listing
    for name, text in (("main.py", main), ("shop/prices.py", prices)):
        printed = trial.tool("sources", recorded.trace, trial.work / name)
        assert printed.exit == 0 and printed.stdout.decode() == text, printed


def test_a_source_that_changes_while_the_program_runs(trial):
    """Each import sees, and the trace keeps, what the file held at that moment."""
    trial.prepare()
    (trial.work / "main.py").write_text(
        """\
import importlib, pathlib, sys, time
sys.dont_write_bytecode = True
path = pathlib.Path(__file__).with_name("changing.py")
for number in range(3):
    path.write_text(f"VALUE = {number}\\n" + "#" * number)
    importlib.invalidate_caches()
    sys.modules.pop("changing", None)
    import changing
    print(changing.VALUE, time.time())
path.write_text("VALUE = 7 + 7\\n")
print(importlib.reload(changing).VALUE)
""",
    )
    recorded = trial.record(["main.py"])
    assert recorded.exit == 0 and recorded.stdout.splitlines()[-1] == b"14", recorded
    delete(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_source_that_is_not_utf8(trial):
    trial.prepare()
    (trial.work / "latin.py").write_bytes(
        b"# -*- coding: latin-1 -*-\nimport time\nprint('caf\xe9', time.time())\n[].caf\xe9\n"
    )
    recorded = trial.record(["latin.py"])
    assert recorded.exit == 1 and "café".encode() in recorded.stdout, recorded
    delete(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_code_made_at_run_time(trial):
    """exec, compile, a module made by hand, linecache's own entries."""
    trial.prepare()
    (trial.work / "main.py").write_text(
        """\
import linecache, types, time, traceback
text = f"import time\\ndef f():\\n    raise ValueError({time.time_ns()})\\n"
linecache.cache["<made>"] = (len(text), None, text.splitlines(True), "<made>")
module = types.ModuleType("made")
exec(compile(text, "<made>", "exec"), module.__dict__)
try:
    module.f()
except ValueError:
    traceback.print_exc()
print(eval("time.time()"))
""",
    )
    recorded = trial.record(["main.py"])
    assert b"raise ValueError(" in recorded.stderr, recorded
    delete(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))


def test_another_environment(trial):
    """Recorded in one virtual environment; replayed in another at another path, when the first and the sources are gone."""
    packages = ("jinja2", "markupsafe")
    first, second = trial.folder / "first", trial.folder / "elsewhere" / "second"
    trial.use(make_venv(trial.interpreter, first, packages)).prepare("shop")
    main = "import jinja2, markupsafe._speedups, time\nfrom shop.prices import price\n"
    main += (
        "print(jinja2.Template('{{ fruit|e }} {{ now }}').render(fruit='<plum>', now=time.time_ns()), price('plum'))\n"
    )
    (trial.work / "main.py").write_text(main)
    recorded = trial.record(["main.py"])
    assert recorded.stdout.startswith(b"&lt;plum&gt; "), recorded
    other = make_venv(trial.interpreter, second)
    # The very same build: pip may make another from the sources.
    shutil.copytree(first / "lib", second / "lib", dirs_exist_ok=True)
    delete(trial.work)
    delete(first)
    trial.same(recorded, trial.replay(recorded.trace, "--python", other), ("recorded", "replayed"))
