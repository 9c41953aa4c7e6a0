"""`python -m retrace install | uninstall`, and every command of the `retrace` program."""

import os
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Sorts before other packages' lines, so that what they do is recorded too.
PTH = "00-retrace.pth"

USAGE = """\
usage: python -m retrace install      activate -X retrace=FILE and RETRACE_RECORDING=FILE for this interpreter
       python -m retrace uninstall    undo that
       python -m retrace COMMAND …    the same as `retrace COMMAND …` (see `python -m retrace --help`)
"""


def pth_file():
    return Path(sysconfig.get_path("purelib")) / PTH


def pth_line():
    """One line of Python that site executes at start-up. Where nobody asks for a recording, it looks and is done."""
    start = ascii(str(FOLDER / "_start.py"))
    variables = "RETRACE_RECORDING", "RETRACE_PARENT"
    wanted = f'("retrace" in sys._xoptions or any(map(os.environ.get, {variables})))'
    run = f'exec(compile(open({start}, "rb").read(), {start}, "exec"), {{"FOLDER": {ascii(str(FOLDER))}}})'
    return f"import os, sys; {wanted} and {run}\n"


def install():
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        sys.exit(
            f"retrace: Python 3.11 and 3.12 are supported, this is {sys.version.split()[0]}: nothing was installed"
        )
    path = pth_file()
    try:
        path.write_text(pth_line())
    except OSError as error:
        sys.exit(f"retrace: cannot write {path}: {error.strerror}")
    print(f"{path} is in place: python -X retrace=FILE and RETRACE_RECORDING=FILE record")


def uninstall():
    path = pth_file()
    try:
        path.unlink()
        print(f"{path} is removed")
    except FileNotFoundError:
        print(f"{path} is not there: nothing to do")
    except OSError as error:
        sys.exit(f"retrace: cannot remove {path}: {error.strerror}")


def command_line():
    """The `retrace` program: in the wheel beside us, or in the checkout's build."""
    for place in (FOLDER / "lib", FOLDER.parent.parent / "target" / "dist"):
        program = place / "retrace"
        if program.is_file():
            return program
    sys.exit("retrace: the command line program is missing from this installation: install the package again")


def main():
    match sys.argv[1:]:
        case ["install"]:
            install()
        case ["uninstall"]:
            uninstall()
        case []:
            sys.stderr.write(USAGE)
            sys.exit(2)
        case arguments:
            program = command_line()
            sys.stdout.flush()
            os.execv(program, [str(program), *arguments])


if __name__ == "__main__":
    main()
