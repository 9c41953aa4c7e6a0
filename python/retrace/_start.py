"""Run by the `.pth` line when a recording is asked for: by -X retrace=FILE, by RETRACE_RECORDING, or by RETRACE_PARENT,
with which a recorded program starts its children. Loads the recorder and arms it.

The line executes this file's text in a namespace of its own. It is not imported, so no module, no path entry and no
byte code of it is left for the program to see. It may not raise: a program that can't be recorded runs unrecorded.
"""

# As src/start.rs knows them: the program sees none of them.
VARIABLES = ("ARGUMENTS", "BOUNDARY", "ID", "LIBRARY_DIR", "MAX_SIZE", "PARENT", "RECORDING")


def _say(text):
    import os
    import sys

    if "RETRACE_PARENT" in os.environ:
        # What a child writes to stderr is for its parent to read.
        return _forget()
    # site reads the .pth files of a virtual environment twice, first in its function `venv`: say it the second time.
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "venv" and frame.f_globals.get("__name__") == "site":
            return
        frame = frame.f_back
    if sys.stderr is not None:
        print(f"retrace: {text}; the program runs unrecorded", file=sys.stderr, flush=True)


def _forget():
    import os
    import sys

    for name in VARIABLES:
        os.environ.pop("RETRACE_" + name, None)
    sys._xoptions.pop("retrace", None)


def _library(folder, version):
    """Where the library for this Python version is: in the wheel beside us, or in the checkout's build."""
    import os

    name = f"libretrace-{version}.{'dylib' if os.uname().sysname == 'Darwin' else 'so'}"
    for place in (os.path.join(folder, "lib"), os.path.join(folder, "..", "..", "target", "dist")):
        path = os.path.abspath(os.path.join(place, name))
        if os.path.isfile(path):
            return path
    return None


def _loaded_already(version):
    """True when LD_PRELOAD brought the library: it records, or replays, without us. A second copy may not be loaded."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            return f"/libretrace-{version}.".encode() in maps.read()
    except OSError:
        return False


def _start(folder):
    import os
    import sys

    option = sys._xoptions.get("retrace")
    version = "{}.{}".format(*sys.version_info[:2])
    if _loaded_already(version):
        return _forget()
    if option is True:
        return _say("-X retrace needs a file name: -X retrace=FILE")
    library = _library(folder, version)
    if library is None:
        return _say(f"Python 3.11 and 3.12 are supported, this is {sys.version.split()[0]}")
    if hasattr(sys, "gettotalrefcount"):
        return _say("debug builds of Python are not supported")
    import _imp

    # What importlib does for an extension module, without the entry in sys.modules.
    spec = type(sys.__spec__)("retrace", None, origin=library)
    before = sys.modules.get("retrace")
    module = _imp.create_dynamic(spec)
    _imp.exec_dynamic(module)
    if before is None:
        sys.modules.pop("retrace", None)
    module.start(option and os.path.abspath(option))
    _forget()


try:
    _start(FOLDER)  # noqa: F821 (given by the .pth line)
except Exception as error:
    _say(f"{type(error).__name__}: {error}")
