"""The PEP 517 backend: maturin, and what maturin has no setting for.

The library that is loaded into Python is named by Python version (`retrace/lib/libretrace-3.11.so`): the preload
library, the command line and `_start.py` look for it by that name, in the wheel as in target/dist. maturin names an
extension module after its platform. So the wheel it builds is written again with that one file renamed.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import maturin
from maturin import (  # noqa: F401 (hooks that need nothing more)
    build_sdist,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

ROOT = Path(__file__).resolve().parents[1]
LIB = ROOT / "python" / "retrace" / "lib"
BUILT = "retrace/_library."
VERSION = "{}.{}".format(*sys.version_info[:2])


def stage_programs():
    """Builds the command line and the preload library and puts them where maturin includes them from."""
    subprocess.run([ROOT / "build", "--programs"], check=True, stdout=sys.stderr)
    shutil.rmtree(LIB, ignore_errors=True)
    LIB.mkdir()
    for name in ("retrace", "libretrace-preload.so"):
        shutil.copy2(ROOT / "target" / "dist" / name, LIB / name)


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def rename_library(wheel):
    """Rewrites the wheel with the extension module under its own name and a RECORD that agrees."""
    renamed = f"retrace/lib/libretrace-{VERSION}.so"
    draft = wheel.with_suffix(".draft")
    found = False
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as new:
        records = []
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                record = item
                continue
            if item.filename.startswith(BUILT):
                item.filename, found = renamed, True
            new.writestr(item, data)
            records.append(record_line(item.filename, data))
        new.writestr(record, "".join([*records, f"{record.filename},,\n"]))
    if not found:
        raise RuntimeError(f"{wheel} has no {BUILT}*: did maturin build the library?")
    os.replace(draft, wheel)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    # One target folder per Python version, shared with ./build: switching versions would build everything again.
    os.environ.setdefault("CARGO_TARGET_DIR", str(ROOT / "target" / f"py{VERSION}"))
    stage_programs()
    try:
        name = maturin.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        shutil.rmtree(LIB, ignore_errors=True)
    rename_library(Path(wheel_directory) / name)
    return name
