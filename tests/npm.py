"""Packages from npm, and a Node for them. What is installed is kept in target/npm from one run of the tests to the next."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT, locked

TOOLS = ROOT / "target" / "npm"

# VS Code's requirement as a server, newer than most systems' Node.
NODE = "24.21.0"
# The install scripts bring Node itself, and compile native modules.
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


def installed(name: str, manifest: str, **env: str) -> Path:
    """The folder that has what the manifest names, as its packages."""
    folder = TOOLS / f"{name}-{hashlib.sha256(manifest.encode()).hexdigest()[:12]}"
    with locked(folder):
        complete = folder / "complete"
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text(manifest)
            run(NPM_INSTALL, folder, **env)
            complete.touch()
    return folder


def install_node() -> Node:
    install_debian(NODE_PACKAGES)
    package = installed("node", json.dumps({"private": True, "dependencies": {"node": NODE}})) / "node_modules" / "node"
    # The package of this machine's kind, with the headers.
    (include,) = package.glob("node_modules/node-*/include")
    return Node(package / "bin" / "node", include.parent)


def installed_for(scripts: Path, node: Node) -> Path:
    """The packages of a folder of scripts that this Node runs."""
    manifest = (scripts / "package.json").read_text()
    return installed(scripts.name, manifest, PATH=node.path, npm_config_nodedir=str(node.headers))
