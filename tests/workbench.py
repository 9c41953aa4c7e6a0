"""VS Code as a server, with the extension in it: installs what that needs, builds the extension, starts the server.

What is installed is kept in target/workbench from one run of the tests to the next.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import RETRACE, ROOT, TESTS, clean_environment

EXTENSION = ROOT / "adapter" / "vscode"
SCRIPTS = TESTS / "workbench"
TOOLS = ROOT / "target" / "workbench"

# The server's requirement, newer than most systems' Node.
NODE = "24.21.0"
# The install scripts bring Node itself and compile the server's native modules.
NPM_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--foreground-scripts"]
NODE_PACKAGES = {"npm": ["nodejs", "npm"]}
SERVER_PACKAGES = {
    "chromium": ["chromium"],
    "g++": ["g++"],
    "make": ["make"],
    "/usr/include/gssapi/gssapi.h": ["libkrb5-dev"],
}

# What is the machine's and not the user's is read from another file.
MACHINE_SETTINGS = {"retrace.executable": str(RETRACE)}
SETTINGS = {
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.colorTheme": "Default Dark Modern",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "chat.disableAIFeatures": True,
    "extensions.autoCheckUpdates": False,
    "telemetry.telemetryLevel": "off",
    "git.enabled": False,
    "remote.autoForwardPorts": False,
    # A view that scrolls by itself can't be clicked at.
    "workbench.list.smoothScrolling": False,
    "editor.minimap.enabled": False,
}


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


def install_code_server(node: Node) -> Path:
    """The folder that has VS Code as a server, and what drives a browser, as its packages."""
    install_debian(SERVER_PACKAGES)
    manifest = (SCRIPTS / "package.json").read_text()
    with installing("code-server", manifest) as (folder, is_there):
        if not is_there:
            run(NPM_INSTALL, folder, PATH=node.path, npm_config_nodedir=str(node.headers))
    return folder


@contextlib.contextmanager
def serve(node: Node, packages: Path, extension: Path, folder: Path):
    """A server of its own for a test, with the extension installed; yields its address."""
    for of, settings in (("User", SETTINGS), ("Machine", MACHINE_SETTINGS)):
        file = folder / "user" / of / "settings.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))
    code_server = [node.program, packages / "node_modules" / "code-server" / "out" / "node" / "entry.js"]
    places = ["--user-data-dir", folder / "user", "--extensions-dir", folder / "extensions"]
    env = clean_environment(folder / "home", folder / "scratch")
    env |= {"PATH": f"{node.program.parent}:{env['PATH']}"}
    env |= {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data")}
    subprocess.run([*code_server, *places, "--install-extension", extension], env=env, check=True, stdout=sys.stderr)
    log = folder / "server.log"
    with open(log, "w") as output:
        options = ["--auth", "none", "--bind-addr", "127.0.0.1:0", "--disable-workspace-trust"]
        options += ["--disable-telemetry", "--disable-update-check", "--disable-getting-started-override"]
        command = [*code_server, *places, *options]
        running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=output, text=True)
        try:
            address = next(
                filter(None, (re.search(r"listening on (http://\S+?)/?$", line) for line in running.stdout)), None
            )
            assert address, f"the server did not start: {log.read_text()}"
            yield address[1]
        finally:
            # It ends its own processes, when it is asked to.
            running.terminate()
            running.communicate()
