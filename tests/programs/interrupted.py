"""Raises KeyboardInterrupt by SIGINT to itself and handles it; a handler of its own runs too."""

import os
import signal
import time


def handler(number, frame):
    print("handler", signal.Signals(number).name, frame.f_code.co_name, time.time())


signal.signal(signal.SIGUSR1, handler)
os.kill(os.getpid(), signal.SIGUSR1)
print("after the handler", time.time())
signal.raise_signal(signal.SIGUSR1)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", time.time())
signal.setitimer(signal.ITIMER_REAL, 0.02)
signal.signal(signal.SIGALRM, lambda number, frame: print("alarm", frame is not None))
signal.pause()
print("paused until", time.time())
