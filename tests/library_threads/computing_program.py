"""A library that could do I/O, and only computes without the GIL, beside a thread that runs Python."""

import threading
import time

import shared

computing = threading.Thread(target=shared.compute_for, args=(700,))
computing.start()
while computing.is_alive():
    time.sleep(0.01)
print("computed")
