"""sys.exit(5), with finally blocks and buffers that still hold output."""

import sys
import time

try:
    print("leaving at", time.time())
    sys.exit(5)
finally:
    print("finally", time.monotonic())
