"""Ends by a signal it sends to itself; the number is the first argument."""

import os
import signal
import sys
import time

print("before", time.time(), os.getpid(), flush=True)
os.kill(os.getpid(), signal.Signals[sys.argv[1]])
time.sleep(60)
