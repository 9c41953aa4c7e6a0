"""The extension for VS Code is built, and passes its own checks and unit tests."""

import json
import zipfile

import pytest

from workbench import build_extension, install_node


@pytest.fixture(scope="session")
def node():
    return install_node()


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
