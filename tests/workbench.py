"""The extension for VS Code: installs what building it needs, and builds it.

What is installed is kept in target/workbench from one run of the tests to the next.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT

EXTENSION = ROOT / "adapter" / "vscode"
TOOLS = ROOT / "target" / "workbench"

NODE = "24.21.0"
# Its install script brings Node itself.
NPM_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--foreground-scripts"]
NODE_PACKAGES = {"npm": ["nodejs", "npm"]}


@dataclass(frozen=True)
class Node:
    program: Path
    headers: Path

    @property
    def path(self) -> str:
        """With this Node first."""
        return f"{self.program.parent}:{os.environ['PATH']}"


@contextlib.contextmanager
def locked(name: str):
    TOOLS.mkdir(parents=True, exist_ok=True)
    with open(TOOLS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command, folder: Path, **env: str) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=os.environ | env, capture_output=True, text=True
    )
    assert done.returncode == 0, f"$ {' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def install_debian(wanted: dict[str, list[str]]) -> None:
    """The packages of what is missing: a program, or a file if it is a path."""
    missing = [
        name
        for what, names in wanted.items()
        if not (Path(what).exists() if what.startswith("/") else shutil.which(what))
        for name in names
    ]
    if missing:
        run(["apt-get", "update", "-qq"], ROOT)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        run([*install, *missing], ROOT, DEBIAN_FRONTEND="noninteractive")


@contextlib.contextmanager
def installing(name: str, manifest: str):
    """A folder for the packages of this manifest: kept, or empty but for the manifest and to be filled."""
    folder = TOOLS / f"{name}-{hashlib.sha256(manifest.encode()).hexdigest()[:12]}"
    with locked(folder.name):
        complete = folder / "complete"
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text(manifest)
        yield folder, complete.exists()
        complete.touch()


def install_node() -> Node:
    install_debian(NODE_PACKAGES)
    manifest = json.dumps({"private": True, "dependencies": {"node": NODE}})
    with installing("node", manifest) as (folder, is_there):
        if not is_there:
            run(NPM_INSTALL, folder)
    package = folder / "node_modules" / "node"
    # The package of this machine's kind, with the headers.
    (include,) = package.glob("node_modules/node-*/include")
    return Node(package / "bin" / "node", include.parent)


def build_extension(node: Node) -> Path:
    """Checks, tests and packs the extension, as its README says."""
    package = EXTENSION / "retrace.vsix"
    with locked("extension"):
        package.unlink(missing_ok=True)
        run(["npm", "ci"], EXTENSION, PATH=node.path)
        run(["npm", "run", "package"], EXTENSION, PATH=node.path)
    return package
