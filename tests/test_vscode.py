"""The extension in the real VS Code workbench: a user debugs the main job's crash backwards."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from harness import RETRACE, ROOT, Trial, interpreters, shared_venv
from workbench import SCREENSHOTS, SCRIPTS, build_extension, install_code_server, serve

SERVICE = ROOT / "examples" / "flaky_api"

LAUNCH = {
    "version": "0.2.0",
    "configurations": [
        {"name": "The crash", "type": "retrace", "request": "launch", "recording": "${workspaceFolder}/service.retrace"}
    ],
}


@pytest.fixture(scope="session")
def extension(node):
    return build_extension(node)


def test_package(extension):
    """Its own checks and unit tests have passed, else there is none; it has what it is made of and no more."""
    with zipfile.ZipFile(extension) as package:
        names = {name.removeprefix("extension/") for name in package.namelist() if name.startswith("extension/")}
        manifest = json.loads(package.read("extension/package.json"))
    for needed in (manifest["main"].removeprefix("./"), "dist/timeline.js", "media/timeline.css", "LICENSE.txt"):
        assert needed in names
    assert not [name for name in names if name.startswith(("src/", "test/", "node_modules/")) or name.endswith(".map")]
    icons = [icon for command in manifest["contributes"]["commands"] for icon in icons_of(command)]
    assert icons and not set(icons) - names


def icons_of(command) -> list[str]:
    icon = command.get("icon", "")
    return list(icon.values()) if isinstance(icon, dict) else []


def record_crash(trial: Trial) -> str:
    """Records the service until it crashes; returns the answer it could not parse."""
    trial.use(shared_venv(trial.interpreter, ("requests",))).prepare(inputs=False)
    shutil.copy(SERVICE / "service.py", trial.work)
    api = subprocess.Popen([sys.executable, SERVICE / "server.py"], stdout=subprocess.PIPE, text=True)
    try:
        recorded = trial.record(["service.py", api.stdout.readline().strip()], trace=trial.work / "service.retrace")
    finally:
        api.terminate()
        api.communicate()
    if recorded.exit != 1:
        trial.fail("the service should have crashed", recorded)
    (said,) = [line for line in recorded.stderr.decode().splitlines() if line.startswith("the API answered with ")]
    return said.removeprefix("the API answered with ").strip("'")


def line_of(text: str) -> int:
    (number,) = [i for i, line in enumerate((SERVICE / "service.py").read_text().splitlines(), 1) if text in line]
    return number


@pytest.mark.stacks
def test_crash_debugged_backwards(tmp_path, node, extension):
    # With one interpreter: what differs by Python version is the adapter's, and tested there.
    newest = max(interpreters(), key=lambda interpreter: interpreter.minor)
    trial = Trial(newest, tmp_path, "crash-debugged-backwards")
    answer = record_crash(trial)
    (trial.work / ".vscode").mkdir()
    (trial.work / ".vscode" / "launch.json").write_text(json.dumps(LAUNCH))
    broken = trial.work / "broken.retrace"
    broken.write_bytes(b"no recording")
    complaint = subprocess.run([RETRACE, "info", broken], capture_output=True, text=True).stderr
    complaint = complaint.strip().removeprefix("retrace: ")
    assert str(broken) in complaint

    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    lines = {
        "parse": line_of("json.loads(text)"),
        "call": line_of("price = latest_price("),
        "loop": line_of("for number in"),
    }
    packages = install_code_server(node)
    with serve(node, packages, extension, trial.folder / "server") as address:
        given = {
            "packages": str(packages),
            "browser": shutil.which("chromium"),
            "address": address,
            "folder": str(trial.work),
            "screenshots": str(SCREENSHOTS),
            "lines": lines,
            "answer": answer,
            "complaint": complaint,
        }
        command = [node.program, SCRIPTS / "scenario.mjs", json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": node.path})
    if done.returncode != 0:
        raise AssertionError(f"{done.stdout}{done.stderr}\nscreenshots: {SCREENSHOTS}")
