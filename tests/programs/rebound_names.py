"""Calls that rebind names of their module, and of the Python module that shows them."""

import curses
import fcntl
import os
import pty
import struct
import termios
import time

for zone in ("EST+05EDT,M4.1.0,M10.5.0", "UTC+0", "AEST-10AEDT-11,M10.5.0,M3.5.0"):
    os.environ["TZ"] = zone
    time.tzset()
    print(time.tzname, time.timezone, time.altzone, time.daylight)

leader, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
os.environ["TERM"] = "xterm"
stdout = os.dup(1)
os.dup2(terminal, 1)
curses.initscr()
curses.start_color()
size = curses.LINES, curses.COLS
curses.resizeterm(20, 70)
resized = curses.LINES, curses.COLS
curses.endwin()
os.dup2(stdout, 1)
print(size, resized, curses.COLORS, curses.COLOR_PAIRS, curses.ACS_HLINE)
