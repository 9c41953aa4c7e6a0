"""Processes by os.fork: with pipes, nested, in threads, ended in every way. Each line begins with its process's number.

forks.py PART
"""

import _thread
import os
import random
import signal
import sys
import threading
import time
import warnings


def say(*what):
    """One write: threads print at the same time, and one that forks may not meet sys.stdout's lock held by another."""
    os.write(1, (" ".join(map(str, [f"[{os.getpid()}]", *what])) + "\n").encode())


def say_ended(pid, status):
    """Says how a child ended, for the test to compare its replay with."""
    say("ended", pid, os.waitstatus_to_exitcode(status))


def wait(pid):
    say_ended(*os.waitpid(pid, 0))


def pipes():
    """A child, which answers by a pipe, and a grandchild; with functions registered for forks."""
    os.register_at_fork(
        before=lambda: say("before"),
        after_in_child=lambda: say("after, in the child", os.getppid()),
        after_in_parent=lambda: say("after, in the parent"),
    )
    readable, writable = os.pipe()
    say("begins", random.random(), time.time())
    pid = os.fork()
    if pid == 0:
        say("child", random.random(), time.time_ns(), os.urandom(4).hex())
        os.write(writable, b"%d %f" % (os.getpid(), time.time()))
        second = os.fork()
        if second == 0:
            say("grandchild", random.random(), os.getppid())
            os._exit(7)
        wait(second)
        sys.exit(3)
    say("read", os.read(readable, 100), pid)
    wait(pid)


def many():
    """Five levels of forks; every process goes on from where it was made."""
    path = []
    for level in range(4):
        for k in range(2):
            pid = os.fork()
            if pid == 0:
                path.append((level, k, random.randrange(1000)))
                break
            wait(pid)
        else:
            say("path", path, time.monotonic_ns())
            return
    say("deepest", path)


def buffered():
    """What is in a buffer at the fork is written by both."""
    sys.stdout.write(f"in the buffer of {os.getpid()}\n")
    pid = os.fork()
    if pid == 0:
        sys.stdout.write(f"[{os.getpid()}] child\n")
        return
    os.waitpid(pid, 0)
    sys.stdout.write(f"[{os.getpid()}] parent {pid}\n")


def in_threads():
    """Forks in threads while others work: in the child only the thread that forked goes on."""
    work, stop, ended = [], threading.Event(), []
    local = threading.local()

    def spin(k):
        while not stop.is_set():
            for _ in range(200):
                work.append(k)
            del work[2000:]

    def fork(k):
        local.value = k
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                names = [thread.name for thread in threading.enumerate()]
                say("child", k, len(work), names, threading.main_thread().name, local.value, threading.get_ident())
                own = threading.Thread(target=lambda: work.append("own"), name="own")
                own.start()
                own.join()
                say("child", work[-1], len(work), threading.active_count())
                os._exit(k)
            ended.append(os.waitpid(pid, 0))

    spinning = [threading.Thread(target=spin, args=(k,), name=f"spin-{k}") for k in range(2)]
    forking = [threading.Thread(target=fork, args=(k,), name=f"fork-{k}") for k in range(3)]
    for thread in spinning + forking:
        thread.start()
    for thread in forking:
        thread.join()
    stop.set()
    for thread in spinning:
        thread.join()
    for pid, status in ended:
        say_ended(pid, status)
    say("all", len(work), threading.active_count())


def beside_threads():
    """CPython 3.12 warns of forks in a process with other threads, as the system counts them: `threading` does not know
    one, and those that were joined may still be there."""
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, category, *_: say("warned", category.__name__, message)

    def fork():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        wait(pid)

    unknown = threading.Lock()
    unknown.acquire()
    _thread.start_new_thread(unknown.acquire, ())
    fork()
    unknown.release()
    for _ in range(6):
        joined = threading.Thread(target=random.random)
        joined.start()
        joined.join()
        fork()


def locks_held():
    """A child of a thread, in which locks that others held stay held."""
    lock, ready = threading.Lock(), threading.Event()

    def hold():
        with lock:
            ready.set()
            time.sleep(0.02)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    pid = os.fork()
    if pid == 0:
        say("child", lock.acquire(timeout=0.01), lock.locked(), threading.active_count())
        raise LookupError("the child's last word", time.time())
    wait(pid)
    holder.join()
    say("parent", lock.acquire(timeout=1))


def endings():
    """Children that end by an exception, os._exit, os.abort, a signal to themselves and one of their parent's."""

    def fail():
        raise ValueError(time.time())

    readable, writable = os.pipe()

    def killed():
        os.write(writable, b".")
        signal.pause()

    def handles():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(11))
        signal.raise_signal(signal.SIGTERM)

    for end in (fail, lambda: os._exit(5), lambda: os.kill(os.getpid(), signal.SIGUSR1), handles, sys.exit, killed):
        pid = os.fork()
        if pid == 0:
            say("child", time.time())
            end()
            sys.exit(12)
        if end is killed:
            os.read(readable, 1)
            os.kill(pid, signal.SIGKILL)
        wait(pid)


def with_exec():
    """fork and exec, by hand: the child of a child is another program."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        say("becomes another program", time.time())
        os.dup2(writable, 1)
        os.execvp("echo", ["echo", "hello"])
    os.close(writable)
    say(os.read(readable, 100))
    os.waitpid(pid, 0)


def garbage():
    """Cycles with finalizers, on both sides of a fork."""
    import gc

    log = []

    class Noisy:
        def __init__(self, number):
            self.number, self.me = number, self

        def __del__(self):
            log.append((self.number, len(log)))

    def work():
        for number in range(12000):
            Noisy(number)

    work()
    gc.freeze()
    pid = os.fork()
    work()
    say("worked", len(log), sum(a * b % 97 for a, b in log), log[-1:])
    if pid:
        wait(pid)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
