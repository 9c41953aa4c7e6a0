"""Processes on pseudo-terminals of their own, by os.forkpty and pty. Each line begins with its process's number.

terminals.py PART
"""

import os
import pty
import random
import resource
import sys
import threading
import time


def say(*what):
    os.write(1, (" ".join(map(str, [f"[{os.getpid()}]", *what])) + "\n").encode())


def read_all(terminal):
    """Until nobody has the other end open, which Linux says with an error and macOS with an end of file."""
    said = b""
    while True:
        try:
            some = os.read(terminal, 1000)
        except OSError:
            break
        if not some:
            break
        said += some
    os.close(terminal)
    return said


def pass_on(pid, terminal):
    """What the child said, line by line, for the test to find the child's own lines in."""
    for line in read_all(terminal).splitlines():
        say("of", pid, line)


def wait(pid):
    say("ended", pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def forkpty():
    os.register_at_fork(
        before=lambda: say("before", random.random()),
        after_in_child=lambda: say("after, in the child", os.getppid()),
        after_in_parent=lambda: say("after, in the parent"),
    )
    pid, terminal = os.forkpty()
    if pid == 0:
        say("child", terminal, os.isatty(0), random.random(), time.time(), os.read(0, 100))
        os._exit(5)
    os.write(terminal, b"typed\n")
    say("has", os.isatty(terminal), terminal > 2)
    pass_on(pid, terminal)
    wait(pid)


def nested():
    """A child on a terminal forks, and has a child on a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        second = os.fork()
        if second == 0:
            say("grandchild", random.random(), time.monotonic_ns())
            os._exit(2)
        wait(second)
        third, inner = pty.fork()
        if third == 0:
            say("on a terminal of its own", os.urandom(4).hex())
            os._exit(3)
        pass_on(third, inner)
        wait(third)
        sys.exit(4)
    pass_on(pid, terminal)
    wait(pid)


def in_thread():
    """The thread that forks is not the main one, and others work meanwhile."""
    stop = threading.Event()

    def work():
        n = 0
        while not stop.is_set():
            n += 1

    def fork():
        pid, terminal = os.forkpty()
        if pid == 0:
            say("child", threading.active_count(), time.time_ns())
            os._exit(6)
        pass_on(pid, terminal)
        wait(pid)

    threads = [threading.Thread(target=work), threading.Thread(target=fork)]
    for thread in threads:
        thread.start()
    threads[1].join()
    stop.set()
    threads[0].join()


def fails():
    """There is no descriptor left for a terminal; then there is."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        os.forkpty()
    except OSError as error:
        say(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    forkpty()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
