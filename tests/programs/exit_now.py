"""os._exit skips the handlers and the buffers."""

import atexit
import os
import sys

atexit.register(print, "never printed")
print("flushed", os.getpid(), flush=True)
sys.stdout.write("lost in the buffer")
os._exit(3)
