"""What the recorder's own thread costs a program that has one: nothing while it waits (replay/src/alone.rs)."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the flag is glibc's")

# C code that looks the byte up gets one of Retrace's, so the C library's own is found by how far it is from a function.
PLACE = """
import ctypes

library = ctypes.CDLL(None)
function = ctypes.cast(library.gnu_get_libc_version, ctypes.c_void_p).value
print(ctypes.addressof(ctypes.c_char.in_dll(library, "__libc_single_threaded")) - function)
"""
PROGRAM = """
import ctypes, os, sys, threading, time

function = ctypes.cast(ctypes.CDLL(None).gnu_get_libc_version, ctypes.c_void_p).value
flag = ctypes.c_char.from_address(function + int(sys.argv[1]))

def is_single(rounds):
    for _ in range(rounds):
        for _ in range(2000):
            time.time()
        if flag.value == b"\\1":
            return True
        time.sleep(0.001)
    return False

print("alone", is_single(2000))
end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
print("with a thread", is_single(200))
end.set()
thread.join()
import decimal, email.message, json, sqlite3
print("again", is_single(2000), flush=True)
if os.fork() == 0:
    print("child", is_single(2000), flush=True)
    os._exit(0)
os.wait()
print("after the fork", is_single(2000))
"""


def test_the_c_library_counts_one_thread_while_the_helper_waits(trial):
    """And only where nobody but the program's first thread does anything. What the program reads is its own memory, so it
    is not replayed."""
    (trial.prepare() / "program.py").write_text(PROGRAM)
    place = trial.plain(["-c", PLACE]).stdout.decode().strip()
    recorded = trial.record(["program.py", place])
    expected = ["alone True", "with a thread False", "again True", "child True", "after the fork True"]
    if (recorded.stdout.decode().splitlines(), recorded.exit) != (expected, 0):
        trial.fail("the flag is not what it should be", recorded)
