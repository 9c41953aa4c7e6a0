"""Parts of the shim alone: each built into a small extension, no Rust, no trace.

Interpreters: RETRACE_TEST_PYTHONS (separated by colons), else pyenv's 3.11 and 3.12 and Debian's. There is one build
per minor version, made with the headers of the first interpreter of it, and used with all.
"""

import glob
import os
import subprocess
from functools import cache
from pathlib import Path

SHIM = Path(__file__).resolve().parents[1] / "cshim"
HANG = 600  # against a hang only


def find_pythons():
    named = os.environ.get("RETRACE_TEST_PYTHONS")
    if named:
        return named.split(":")
    pyenv = [
        python
        for minor in ("3.11", "3.12")
        for python in sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{minor}.*/bin/python")))
    ]
    return pyenv + [python for python in ("/usr/bin/python3.11",) if os.path.exists(python)]


def python_id(python):
    return "-".join(Path(python).parts[-3:])


@cache
def minor_and_include(python):
    script = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_path('include'))"
    return subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout.split()


def builder(tmp_path_factory, probe, sources):
    """build(python): the folder with the extension that `probe` and the shim's `sources` (of a minor version) make."""
    folders = {}
    warnings = ["-Wall", "-Wextra", "-Werror"]
    core = ["-DPy_BUILD_CORE", "-DPy_BUILD_CORE_MODULE"]

    def build(python):
        minor, include = minor_and_include(python)
        if minor not in folders:
            folders[minor] = tmp_path_factory.mktemp(f"{probe.stem}-{minor}")
            includes = [f"-I{include}", f"-I{include}/internal", f"-I{SHIM}"]
            output = folders[minor] / f"{probe.stem}.so"
            flags = ["-std=gnu11", "-O2", *warnings, "-shared", "-fPIC", "-fvisibility=hidden", *core, *includes]
            subprocess.run(["cc", *flags, "-o", output, probe, *sources(minor)], check=True)
        return folders[minor]

    return build
