"""What signals a library's threads block is each one's own, and its own maker's at first."""

import signal
import time

import masks

print(*masks.look())
print(*masks.look())


def alarm(number, frame):
    print("alarm", flush=True)


signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.3)
