"""Everything compiles for macOS, where nobody here could run it: with zig's cc, which carries the platform's headers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import ROOT, interpreters, shared_venv

SHIM = ROOT / "cshim"


@pytest.fixture(scope="session")
def zig():
    python = shared_venv(interpreters()[0], ("ziglang",))
    return [python, "-m", "ziglang", "cc", "-target", "aarch64-macos", "-std=gnu11"]


def compiles(command, **where):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **where)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_rust():
    """The library and the command line, with all warnings an error. The target's standard library comes by rustup."""
    venv = Path(shared_venv(interpreters()[0], ("ziglang", "cargo-zigbuild"))).parent
    environment = os.environ | {
        "PATH": os.pathsep.join([str(venv), str(Path.home() / ".cargo/bin"), os.environ["PATH"]]),
        "RUSTFLAGS": "-D warnings -C link-arg=-undefined -C link-arg=dynamic_lookup",
        "CARGO_TARGET_DIR": str(ROOT / "target/macos"),
        "PYO3_CROSS": "1",
    }
    if shutil.which("rustup", path=environment["PATH"]):
        command = ["rustup", "target", "add", "aarch64-apple-darwin"]
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    by_minor = {i.minor: i for i in reversed(interpreters())}
    for (major, minor), interpreter in by_minor.items():
        environment |= {"PYO3_CROSS_PYTHON_VERSION": f"{major}.{minor}", "PYO3_PYTHON": str(interpreter.path)}
        command = ["cargo-zigbuild", "check", "--quiet", "--target", "aarch64-apple-darwin", "-p", "retrace"]
        command += ["-p", "retrace-adapter"]
        compiles(command, cwd=ROOT, env=environment)


def test_preload(zig, tmp_path):
    source = SHIM / "preload.c"
    compiles([*zig, "-Wall", "-Werror", "-fvisibility=hidden", "-c", source, "-o", tmp_path / "preload.o"])


def headers(interpreter):
    script = "import sysconfig; print(sysconfig.get_path('include'))"
    return Path(subprocess.check_output([interpreter.path, "-I", "-c", script], text=True).strip())


def is_for_any_platform(include):
    """Debian's pyconfig.h only picks another one by the architecture, and knows its own architectures only."""
    return "multiarch" not in (include / "pyconfig.h").read_text()


def test_shim(zig, tmp_path):
    """With each version's headers: `pyconfig.h` is Linux's, the layouts are those of 64-bit platforms."""
    by_minor = {i.minor: headers(i) for i in reversed(interpreters()) if is_for_any_platform(headers(i))}
    assert by_minor
    for (major, minor), include in by_minor.items():
        layout = (ROOT / f"abi/src/layout_{major}_{minor}.rs").read_text()
        constants = re.findall(r"^pub const (\w+): usize = (\d+);$", layout, re.MULTILINE)
        assert constants
        flags = [f"-I{include}", f"-I{include}/internal", f"-I{SHIM}", "-DPy_BUILD_CORE", "-DPy_BUILD_CORE_MODULE", "-w"]
        flags += [f"-DLAYOUT_{name}={value}" for name, value in constants]
        sources = [
            source
            for source in sorted(SHIM.glob("*.c"))
            if source.name != "preload.c" and not re.fullmatch(rf"version_(?!{major}_{minor}\.).*", source.name)
        ]
        assert len(sources) > 5
        for source in sources:
            compiles([*zig, *flags, "-c", source, "-o", tmp_path / "object.o"])
