"""subprocess.run, Popen with pipes and a time-out, os.system, os.popen, exit codes and signals of children."""

import os
import signal
import subprocess
import sys
import time

print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True))
print(subprocess.check_output(["date", "+%s.%N"]), subprocess.getoutput("echo $$ $PPID"))
print(subprocess.run([sys.executable, "-c", "import time, os; print(time.time(), os.getpid())"], capture_output=True))

child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
print(child.communicate(b"through the pipe\n" * 20000)[0][:34], child.returncode, child.pid, child)
with subprocess.Popen(["sort", "-r"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
    print("b\na\nc", file=child.stdin)
    child.stdin.close()
    print([line for line in child.stdout], child.wait(), child.poll())

try:
    subprocess.run(["sleep", "60"], timeout=0.1)
except subprocess.TimeoutExpired as error:
    print(error)
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
try:
    child.wait(timeout=0.05)
except subprocess.TimeoutExpired as error:
    print(error, child.poll())
child.send_signal(signal.SIGTERM)
print(child.wait(), child.returncode == -signal.SIGTERM)

try:
    subprocess.run(["sh", "-c", "kill -9 $$"], check=True)
except subprocess.CalledProcessError as error:
    print(error)
try:
    subprocess.Popen(["no-such-program-anywhere"])
except FileNotFoundError as error:
    print(error, error.filename)
try:
    subprocess.Popen(["true"], cwd="no-such-folder")
except OSError as error:
    print(error)

print(os.system("exit 4"), os.waitstatus_to_exitcode(os.system("exit 4")))
with os.popen("uname -s; date +%N") as pipe:
    print(pipe.read())
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], os.environ)
print(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), time.monotonic())
reader, writer = os.pipe()
with subprocess.Popen(["sh", "-c", f"echo passed >&{writer}"], pass_fds=[writer]):
    os.close(writer)
    with open(reader) as source:
        print(source.read())
