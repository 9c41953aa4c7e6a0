"""Logs to the standard streams by their names, as programs in containers do."""

import os
import time

for name in ("/dev/stdout", "/dev/stderr", "/proc/self/fd/1", f"/dev/fd/{os.dup(1)}"):
    with open(name, "w") as stream:
        print(name, "at", time.time(), file=stream)
