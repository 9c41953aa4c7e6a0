"""Threads that get in each other's way as often as can be, in C code and out of it.

storms.py PART
"""

import asyncio
import bz2
import contextlib
import contextvars
import ctypes
import functools
import gc
import hashlib
import io
import itertools
import logging
import lzma
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
import zlib

log = []


def digest(what=None):
    return hashlib.md5(repr(log if what is None else what).encode()).hexdigest()


def together(body, count):
    threads = [threading.Thread(target=body, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def without_gil():
    """C functions that give the GIL up, around a counter that nobody locks."""
    total = 0
    blob = random.randbytes(30000)
    work = [
        lambda: zlib.compress(blob, 1),
        lambda: hashlib.sha256(blob).digest(),
        lambda: bz2.compress(blob[:3000], 1),
        lambda: lzma.compress(blob[:2000], preset=0),
    ]

    def body(k):
        nonlocal total
        for n in range(60):
            before = total
            work[n % len(work)]()
            total = before + 1
            log.append((k, n, before))

    together(body, 5)
    print(total, len(log), digest())


def waits():
    """Locks with and without time-outs, a reentrant one and an event, of six threads."""
    lock, again, event = threading.Lock(), threading.RLock(), threading.Event()

    def body(k):
        for n in range(100):
            got = lock.acquire(timeout=0.0005 if n % 3 else -1)
            log.append((k, n, got))
            if got:
                with again, again:
                    log.append((k, "twice"))
                lock.release()
            if lock.acquire(False):
                lock.release()
            if n % 40 == 0:
                log.append((k, event.wait(0.001)))
            if n == 70 and k == 2:
                event.set()

    together(body, 6)
    print(len(log), digest())


def late_queues():
    """The C queue's time is over while a thread is on its way back to it, where another one took what woke it."""
    simple, found = queue.SimpleQueue(), []

    def get(_):
        for n in range(3000):
            try:
                found.append(simple.get(timeout=0.0002) and n)
            except queue.Empty:
                found.append(None)

    def put(_):
        for n in itertools.count():  # where it is, is told by this
            if len(found) >= 3000:
                break
            sum(range(random.randrange(8000)))
            simple.put(n)
            # Not always: it waits for ever where its time was over, as below.
            if random.random() < 0.5:
                with contextlib.suppress(queue.Empty):
                    simple.get_nowait()

    together(lambda k: (put, get)[k](k), 2)
    print(found.count(None), digest(found))


def queues():
    """The C queue, the Python ones, and time-outs of a tenth of a millisecond."""
    simple, bounded, ordered = queue.SimpleQueue(), queue.Queue(3), queue.PriorityQueue()

    def put(k):
        for n in range(100):
            simple.put((k, n))
            bounded.put((k, n))
            ordered.put((random.random(), k))

    def take():
        while True:
            try:
                if item := simple.get(timeout=1):
                    return item
            except queue.Empty:
                log.append("late")

    def get(k):
        for _ in range(100):
            log.extend([take(), bounded.get(), ordered.get()])
            try:
                if item := simple.get(timeout=0.0001):
                    simple.put(item)
            except queue.Empty:
                log.append((k, "empty"))

    # CPython's C queue waits for ever where its time is over when it finds that another one took what woke it (the rest of
    # the time is negative then), unrecorded too. Whatever is put there ends that.
    ended = threading.Event()

    def wake():
        while not ended.wait(0.5):
            simple.put(None)

    waking = threading.Thread(target=wake)
    waking.start()
    together(lambda k: (put, get)[k % 2](k), 6)
    ended.set()
    waking.join()
    print(len(log), digest())


def timers():
    """Timers, every fifth of them cancelled."""
    made = [threading.Timer(random.random() * 0.02, lambda k=k: log.append((k, time.time()))) for k in range(25)]
    for timer in made:
        timer.start()
    for timer in made[::5]:
        timer.cancel()
    for timer in made:
        timer.join()
    print(log)


def family():
    """Threads started by threads, some of which wait for theirs."""

    def body(depth, path):
        log.append((depth, path))
        if depth:
            children = [threading.Thread(target=body, args=(depth - 1, (*path, k))) for k in range(2)]
            for child in children:
                child.start()
            if path and path[-1]:
                for child in children:
                    child.join()
            log.append(("end", path))

    body(5, ())
    while threading.active_count() > 1:
        time.sleep(0.001)
    print(len(log), digest())


def weak_references():
    """Weak dictionaries and sets, and finalizers, of objects with and without cycles."""

    class Referred:
        pass

    values, objects = weakref.WeakValueDictionary(), weakref.WeakSet()

    def body(k):
        for n in range(250):
            made = Referred()
            values[n % 37] = made
            objects.add(made)
            weakref.finalize(made, log.append, (k, n))
            made.me = made if n % 5 == 0 else None
            try:
                log.append((len(values), sum(1 for _ in objects)))
            except RuntimeError as error:
                log.append(str(error))

    together(body, 4)
    gc.collect()
    print(len(log), digest())


def changed_while_used():
    """Dictionaries, sets, a generator and a cache in the hands of six threads: what fails for one of them fails again."""
    shared, numbers = {}, set()
    counting = (n for n in itertools.count())

    @functools.lru_cache(16)
    def cached(n):
        log.append(("missed", n))
        return sum(range(n % 50))

    def body(k):
        chance = random.Random(k)
        for n in range(600):
            try:
                shared[chance.randrange(100)] = n
                if n % 7 == 0:
                    shared.pop(chance.randrange(100), None)
                if n % 11 == 0:
                    log.append(sum(value for value in shared.values()))
                numbers.add(chance.randrange(50))
                if n % 13 == 0:
                    log.append(sum(number for number in numbers if number % 3))
                numbers.discard(chance.randrange(50))
                log.append(next(counting))
            except (RuntimeError, ValueError) as error:
                log.append((k, type(error).__name__, str(error)))
            cached(chance.randrange(60))

    together(body, 6)
    print(len(log), len(shared), cached.cache_info(), digest())


def thrown_into():
    """PyThreadState_SetAsyncExc into threads that compute."""
    ended = []

    def body(k):
        n = 0
        try:
            while True:
                n += 1
                if n % 100 == 0:
                    log.append(n)
        except KeyError as error:
            ended.append((k, type(error).__name__, n))

    threads = [threading.Thread(target=body, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        time.sleep(0.003)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyError))
    for thread in threads:
        thread.join()
    print(ended, len(log), digest())


def thrown_into_again():
    """The same into threads that catch it and go on."""
    caught = []

    def body(k):
        n = mine = 0
        while mine < 4:
            try:
                while True:
                    n += 1
            except KeyError:
                mine += 1
                caught.append((k, n))

    threads = [threading.Thread(target=body, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    while living := [thread for thread in threads if thread.is_alive()]:
        thread = random.choice(living)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyError))
        time.sleep(random.random() * 0.003)
    print(caught)


def written():
    """One stdout, one logger: their locks are contended, and flushes come in between."""
    kept = io.StringIO()
    logger = logging.getLogger()
    for handler in (logging.StreamHandler(kept), logging.StreamHandler(sys.stderr)):
        handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(thread)d %(message)s"))
        logger.addHandler(handler)

    def body(k):
        for n in range(60):
            print(k, n, "x" * (n % 40))
            logger.warning("%d %d", k, n)
            if n % 20 == 0:
                sys.stdout.flush()

    together(body, 5)
    print(digest(kept.getvalue()))


def own_values():
    """threading.local with finalizers, context variables, and what every thread's frame is."""
    own = threading.local()
    variable = contextvars.ContextVar("variable", default=0)

    class Noted:
        def __init__(self, *what):
            self.what = what

        def __del__(self):
            log.append(("gone", *self.what, len(log)))

    def body(k):
        for n in range(100):
            own.value = Noted(k, n)
            variable.set(n)
            log.append((k, variable.get(), own.value.what))
            if n % 20 == 0:
                log.append(sorted(frame.f_lineno for frame in sys._current_frames().values()))

    together(body, 5)
    print(len(log), digest())


def processes_of_threads():
    """subprocess in threads, with what is to be read and with a time-out."""

    def body(k):
        for n in range(2):
            done = subprocess.run(["cat"], input=b"x" * (k * 1000 + n), capture_output=True, check=True)
            log.append((k, n, len(done.stdout)))
            try:
                subprocess.run(["sleep", "5"], timeout=0.01, check=True)
            except subprocess.TimeoutExpired:
                log.append((k, "timed out"))

    together(body, 3)
    print(len(log), digest())


def children_that_end():
    """SIGCHLD while the main thread computes, and another one."""
    seen = []

    def note(number, frame):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            seen.append(os.waitstatus_to_exitcode(status))

    def compute():
        n = 0
        while len(seen) < 10:
            n += 1
        return n

    signal.signal(signal.SIGCHLD, note)
    for k in range(10):
        if os.fork() == 0:
            time.sleep(0.001 * (k % 4))
            os._exit(k)
    busy = threading.Thread(target=lambda: log.append(compute()))
    busy.start()
    print(compute())
    busy.join()
    print(seen, log)


def loop_with_ticks():
    """An event loop with a pool of threads, a child, and a signal every two milliseconds."""

    def work(n):
        total = 0
        for i in range(n * 300):
            total += i
        log.append(n)
        return total

    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGALRM, lambda: log.append("tick"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
        results = await asyncio.gather(*(loop.run_in_executor(None, work, n) for n in range(40)))
        child = await asyncio.create_subprocess_exec("echo", "said", stdout=subprocess.PIPE)
        log.append((await child.communicate())[0])
        signal.setitimer(signal.ITIMER_REAL, 0)
        return sum(results)

    print(asyncio.run(main()), len(log), digest())


if __name__ == "__main__":
    sys.setswitchinterval(0.00001)
    globals()[sys.argv[1]]()
