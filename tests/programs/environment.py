"""What a program can ask about the process, the machine, the user and the terminal."""

import fcntl
import getpass
import grp
import locale
import os
import platform
import pwd
import resource
import shutil
import signal
import socket
import struct
import sys
import sysconfig
import termios

print("argv", sys.argv, sys.orig_argv[1:], sys.flags, sys.executable)
print("path", sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix)
for name, value in os.environ.items():
    print("environ", name, value)
print(os.environb.get(b"RETRACE_TEST_BYTES"), os.getenv("RETRACE_TEST_TEXT"), os.getenv("NOT_SET", "default"))
os.environ["ADDED"] = "by the program"
print(os.environ["ADDED"], os.environ.pop("ADDED"), "ADDED" in os.environ)
print(os.path.expanduser("~/x"), os.path.expandvars("$HOME/y"))

print("ids", os.getpid(), os.getppid(), os.getpgid(0), os.getpgrp(), os.getsid(0))
print(os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups(), os.getresuid(), os.getresgid())
print("machine", socket.gethostname(), os.uname(), platform.node(), platform.platform(), platform.python_build())
print(os.cpu_count(), sorted(os.sched_getaffinity(0)), os.getloadavg(), os.sysconf("SC_PAGE_SIZE"))
print(platform.uname(), platform.libc_ver(), sysconfig.get_platform())
print("user", getpass.getuser(), pwd.getpwuid(os.getuid()), pwd.getpwnam("root").pw_dir, len(pwd.getpwall()))
print(grp.getgrgid(os.getgid()), grp.getgrnam("root").gr_gid)
try:
    pwd.getpwnam("nobody-by-this-name")
except KeyError as error:
    print("KeyError", error)

print("cwd", os.getcwd(), os.getcwdb())
print("times", os.times(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0)
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getpagesize(), os.nice(0))
print("umask", os.umask(0o022), os.umask(0o022))

print("terminal", shutil.get_terminal_size(), [os.isatty(fd) for fd in range(3)], sys.stdout.isatty())
try:
    print(os.get_terminal_size())
except OSError as error:
    print("no terminal:", error)
master, slave = os.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
print(os.get_terminal_size(slave), os.isatty(slave), os.ttyname(slave))
print(termios.tcgetattr(slave)[:4], struct.unpack("HHHH", fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8)))
os.close(master)
os.close(slave)

print("locale", locale.getlocale(), locale.setlocale(locale.LC_ALL, ""), locale.localeconv()["decimal_point"])
print(sys.getfilesystemencoding(), sys.stdout.encoding, sys.getdefaultencoding(), locale.getpreferredencoding())
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getitimer(signal.ITIMER_REAL))
print(sys.version_info, sys.implementation.cache_tag, sys.hash_info, sys.thread_info)
