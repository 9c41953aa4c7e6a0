"""Builds the wheel as a user's pip would: through pyproject.toml, with maturin from PyPI."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from harness import ROOT, VENVS, Interpreter, interpreters, is_of_this_run, locked, set_of_this_run, shared_venv

WHEELS = ROOT / "target" / "wheels"
MATURIN = "maturin>=1.16,<2"


def wheel_for(interpreter: Interpreter) -> Path:
    """Debian's 3.11 and another 3.11 share a wheel, as users' do."""
    return build_wheel(next(i for i in interpreters() if i.minor == interpreter.minor))


@functools.cache
def build_wheel(interpreter: Interpreter) -> Path:
    """pip's isolated environment is made by us, so that it is cached."""
    python = shared_venv(interpreter, ("pip", MATURIN))
    folder = WHEELS / "{}.{}".format(*interpreter.minor)
    folder.mkdir(parents=True, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RETRACE", "LD_PRELOAD", "VIRTUAL_ENV"))}
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    pip = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    # Both versions stage the same files in python/retrace/lib.
    with locked(VENVS / "wheel"):
        if not is_of_this_run(folder):
            for old in folder.glob("*.whl"):
                old.unlink()
            subprocess.run(pip, check=True, env=env, stdout=sys.stderr)
            set_of_this_run(folder)
    (wheel,) = folder.glob("*.whl")
    return wheel
