"""Goes on beside a library's thread that never lets it."""

import subprocess
import time

import stuck

child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
stuck.start(child.pid)
time.sleep(0.05)
print("still here")
child.stdin.close()
stuck.stop()
print("went on")
