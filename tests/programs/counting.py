"""Writes a numbered line with the time, forever or up to the first argument; then kills itself if asked to."""

import os
import signal
import sys
import time

limit = int(sys.argv[1]) if len(sys.argv) > 1 else None
number = 0
while number != limit:
    number += 1
    os.write(1, f"{number} {time.time_ns()}\n".encode())
if sys.argv[2:] == ["kill"]:
    os.kill(os.getpid(), signal.SIGKILL)
