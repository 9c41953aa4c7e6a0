"""VS Code as a server, with the extension in it: builds the extension, starts the server."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

from harness import RETRACE, ROOT, TESTS, clean_environment, locked
from npm import TOOLS, Node, install_debian, installed_for, run

EXTENSION = ROOT / "adapter" / "vscode"
SCRIPTS = TESTS / "workbench"
SCREENSHOTS = ROOT / "target" / "workbench" / "screenshots"

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


def build_extension(node: Node) -> Path:
    """Checks, tests and packs the extension, as its README says."""
    package = EXTENSION / "retrace.vsix"
    with locked(TOOLS / "extension"):
        package.unlink(missing_ok=True)
        run(["npm", "ci"], EXTENSION, PATH=node.path)
        run(["npm", "run", "package"], EXTENSION, PATH=node.path)
    return package


def install_code_server(node: Node) -> Path:
    """The folder that has VS Code as a server, and what drives a browser, as its packages."""
    install_debian(SERVER_PACKAGES)
    return installed_for(SCRIPTS, node)


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
