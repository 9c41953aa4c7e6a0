"""A call waits in the kernel, and signal handlers do meanwhile what the process has not done before: import, start a
thread, start a program, fork."""

import os
import signal
import socket
import subprocess
import sys
import threading

left, right = socket.socketpair()


def importing():
    import colorsys
    import wave

    print("imported", colorsys.rgb_to_hls(0.5, 0.25, 0.125), wave.__name__)


def starting():
    thread = threading.Thread(target=lambda: print("in a thread", right.fileno() == left.fileno()))
    thread.start()
    thread.join()


def running():
    print("a program", subprocess.run([sys.executable, "-c", "print('ran')"], capture_output=True).stdout)


def forking():
    if os.fork() == 0:
        os._exit(3)
    print("a child", os.waitstatus_to_exitcode(os.wait()[1]))


def ending():
    left.send(b"the end")


def handler(number, frame):
    actions.pop(0)()
    if actions:
        signal.setitimer(signal.ITIMER_REAL, 0.02)


actions = [importing, starting, running, importing, forking, starting, ending]
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02)
print(right.recv(64))
for size in (1, 15, 16, 17, 100, 127, 128, 600, 5000, 20_000):
    left.sendall(bytes(range(256)) * (size // 256) + bytes(size % 256))
    print(size, sum(right.recv(size, socket.MSG_WAITALL)), len(actions))
