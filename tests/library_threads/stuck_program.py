"""Goes on beside a library's thread that never lets it."""

import subprocess
import sys
import time

import stuck

if sys.argv[1] == "spins":
    stuck.start(0)
    time.sleep(0.05)
    print(sum(range(1000)))
    stuck.stop()
else:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    stuck.start(child.pid)
    time.sleep(0.05)
    print("still here")
    child.stdin.close()
    stuck.stop()
print("went on")
