"""Children that write to the standard streams they inherited, between lines of the program's own."""

import os
import subprocess
import sys
import time

print("before", time.time(), flush=True)
subprocess.run(["echo", "child: to stdout"], check=True)
subprocess.run("echo child: to stderr >&2", shell=True, check=True)
print("between", time.time(), flush=True)
print("status", os.system("echo child: by os.system; exit 3"), file=sys.stderr)
print("after", time.time())
