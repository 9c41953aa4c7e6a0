"""A process that has locked a file keeps the lock while it maps the file, which is large and nearly empty."""

import fcntl
import mmap
import os
import subprocess
import sys
import tempfile

SIZE = 200 << 20

# Says whether the file can be locked by a process that is not recorded.
OTHER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except OSError:
        print("locked")
"""


def main(folder):
    with tempfile.TemporaryDirectory(dir=folder) as name, open(f"{name}/data", "w+b") as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), b"there", SIZE // 2)
        file.seek(7)
        fcntl.lockf(file, fcntl.LOCK_EX)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        plain = {key: value for key, value in os.environ.items() if "RETRACE" not in key and key != "LD_PRELOAD"}
        other = subprocess.run([sys.executable, "-c", OTHER, file.name], env=plain, capture_output=True, text=True)
        print(other.stdout.strip(), file.tell(), mapped[SIZE // 2 - 2 : SIZE // 2 + 7], mapped[SIZE - 1])


for folder in sys.argv[1:]:
    main(folder)
