"""What threads do besides racing: they start threads, fail, end the program, outlive it, and free objects.

threads.py PART
"""

import atexit
import bz2
import concurrent.futures
import gc
import hashlib
import os
import queue
import sys
import threading
import time
import traceback
import weakref
import zlib

log = []


def together(body, count):
    threads = [threading.Thread(target=body, args=(k,), name=f"{body.__name__}-{k}") for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def digest(what):
    return hashlib.md5(repr(what).encode()).hexdigest()


def spin(rounds):
    for k in range(rounds):
        log.append((threading.current_thread().name, k))


def started_by_threads():
    """A tree of threads, five deep, in which each waits for its own."""

    def grow(depth, path):
        log.append(path)
        if depth:
            children = [threading.Thread(target=grow, args=(depth - 1, path + str(k))) for k in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
        log.append((path, threading.current_thread().name))

    grow(5, "")
    print(len(log), digest(log), threading.active_count(), sorted(map(str, log))[:5])
    print(log[-20:])


def left_running():
    """Threads that are no daemons and that nobody joins: the interpreter's end waits for them."""

    def last(k):
        time.sleep(0.002 * k)
        for _ in range(3000):
            log.append(k)
        print("thread", k, len(log))

    atexit.register(lambda: print("atexit", threading.active_count(), len(log), digest(log)))
    for k in range(4):
        threading.Thread(target=last, args=(k,)).start()
    print("the main thread ends", len(log))


def daemons():
    """Daemon threads are alive at the end: one works, one sleeps, one waits for a lock, one in a queue."""

    def working():
        while True:
            log.append(len(log) % 7)

    def sleeping():
        while True:
            time.sleep(0.0001)
            log.append("slept")

    lock = threading.Lock()
    lock.acquire()
    bodies = [working, sleeping, lock.acquire, queue.SimpleQueue().get]
    for body in bodies:
        threading.Thread(target=body, daemon=True).start()
    atexit.register(lambda: print("atexit", len(log), log.count("slept"), digest(log)))
    time.sleep(0.05)
    print("ends", len(log), threading.active_count())


def daemons_in_calls():
    """Daemon threads are within external calls of every kind when the interpreter goes: it ends them there."""
    busy = set()

    def body(k):
        while True:
            with open(__file__, "rb") as file:
                log.append(len(file.read(200 + k)))
            busy.add(k)

    for k in range(30):
        threading.Thread(target=body, args=(k,), daemon=True).start()
    while len(busy) < 30:
        time.sleep(0.001)
    print("ends", digest(log))


def preempted_where_traced():
    """Threads under sys.settrace, of calls only and of lines, and under sys.setprofile: preempted where functions begin."""
    sys.setswitchinterval(0.0002)
    seen = []

    def calls(frame, event, argument):
        seen.append(event)

    def lines(frame, event, argument):
        seen.append(event)
        return lines

    def step(n):
        return n + 1

    def body(k):
        for n in range(1500):
            log.append((k, step(n)))

    for install, function in [(threading.settrace, calls), (threading.settrace, lines), (threading.setprofile, calls)]:
        install(function)
        together(body, 3)
        install(None)
        print(function.__name__, len(seen), digest(seen), digest(log))


def ended_by_thread():
    """os._exit in a thread while the others work."""

    def end():
        time.sleep(0.02)
        print("ends the process", len(log), digest(log), flush=True)
        os._exit(9)

    threading.Thread(target=end).start()
    together(lambda _: spin(10**9), 2)


def ended_by_main():
    """sys.exit in a thread ends the thread; in the main thread, the program."""

    def leave(k):
        print("leaves", k)
        sys.exit(k + 5)

    together(leave, 3)
    sys.exit(4)


def unhandled():
    """Exceptions that nobody catches, on stderr. One at a time: writes of several threads to one descriptor come out in an
    order that no lock of Python's decides."""

    def inner(k):
        raise LookupError(k, time.time())

    def fails(k):
        try:
            inner(k)
        except LookupError as error:
            raise ValueError("from a thread", time.monotonic_ns()) from error

    busy = threading.Thread(target=spin, args=(200000,))
    busy.start()
    for k in range(3):
        failing = threading.Thread(target=fails, args=(k,))
        failing.start()
        failing.join()
    busy.join()
    print("goes on", threading.active_count())


def excepthook():
    """threading.excepthook of the program's own, one that fails, and the original."""
    original = threading.excepthook

    def hook(args):
        depth = len(traceback.extract_tb(args.exc_traceback))
        log.append((args.exc_type.__name__, args.thread.name, str(args.exc_value), depth))

    def bad_hook(args):
        raise KeyError("the hook itself")

    def fails(k):
        spin(2000)
        raise ValueError(k, time.time_ns())

    threading.excepthook = hook
    together(fails, 3)
    print([line for line in log if len(line) == 4])
    threading.excepthook = bad_hook
    together(fails, 1)
    threading.excepthook = original
    together(fails, 1)
    print(digest(log))


def local_storage():
    """threading.local, whose values go with their thread, and say so."""
    local = threading.local()

    class Value:
        def __init__(self, number):
            self.number = number
            self.me = self if number % 2 else None

        def __del__(self):
            log.append(("gone", self.number, threading.current_thread().name, time.monotonic_ns()))

    class Own(threading.local):
        def __init__(self, first):
            self.first = (first, threading.current_thread().name)

    own = Own(time.time())

    def body(k):
        for n in range(200):
            local.value = Value(1000 * k + n)
            log.append((local.value.number, own.first))
        log.append(hasattr(local, "other"))

    together(body, 4)
    print(len(log), hasattr(local, "value"))
    gc.collect()
    print(len(log), digest(log), log[-5:])


def idents():
    """The numbers of threads, which the system gives out again."""

    def body(k):
        me = threading.current_thread()
        log.append((k, threading.get_ident(), threading.get_native_id(), me.ident, me.native_id, repr(me)))

    together(body, 5)
    for k in range(4):
        together(body, 1)
    for line in log:
        print(*line)
    print(threading.get_ident(), threading.get_native_id(), threading.main_thread(), os.getpid())
    print(sorted(sys._current_frames()) == [threading.get_ident()])


def recursion():
    """Deep in Python and deep in C, on a stack of 64 MiB."""
    sys.setrecursionlimit(20000)

    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)

    def down_in_c(n):
        return 0 if n == 0 else 1 + max(map(down_in_c, [n - 1]))

    class Equal:
        def __eq__(self, other):
            return self == other

    def body(k):
        print(k, down(19000 - k))
        print(k, down_in_c(150))
        try:
            Equal() == 1
        except RecursionError as error:
            print(k, str(error)[:30])

    print(threading.stack_size(64 << 20), threading.stack_size())
    for k in range(3):
        together(body, 1)
    threading.stack_size(0)
    together(lambda k: log.append(down(5000)), 2)
    print(log)


def many():
    """200 threads at once, by a barrier, and again after they have ended."""
    barrier = threading.Barrier(200)

    def body(k):
        log.append(("before", k))
        place = barrier.wait()
        log.append(("after", k, place))

    for _ in range(2):
        together(body, 200)
    print(len(log), digest(log), log[198:206], threading.active_count())


def finalizers():
    """Objects die in another thread than the one that made them."""

    class Noisy:
        def __init__(self, number):
            self.number = number

        def __del__(self):
            log.append((self.number, threading.current_thread().name, len(log)))

    def finalized(number):
        log.append(("finalize", number, threading.current_thread().name, time.perf_counter_ns()))

    channel, made = queue.Queue(), []

    def consume(k):
        while (item := channel.get()) is not None:
            del item
            if k == 0:
                cycle = Noisy(-len(log))
                cycle.me = cycle
        channel.put(None)

    consumers = [threading.Thread(target=consume, args=(k,), name=f"consumer-{k}") for k in range(3)]
    for consumer in consumers:
        consumer.start()
    for number in range(600):
        item = Noisy(number)
        weakref.finalize(item, finalized, number)
        made.append(weakref.ref(item, lambda _, n=number: log.append((n, "by", threading.current_thread().name))))
        channel.put(item)
        del item
    channel.put(None)
    for consumer in consumers:
        consumer.join()
    print(len(log), digest(log), gc.collect(), [reference() for reference in made].count(None))
    print({line[2] for line in log if line[0] == "finalize"} <= {"MainThread", *(c.name for c in consumers)})
    print(log[-8:])


def tiny_interval():
    """sys.setswitchinterval(1e-6): a switch wherever one can be."""
    sys.setswitchinterval(1e-6)
    print(sys.getswitchinterval())
    together(lambda _: spin(3000), 3)
    print(len(log), sum(a[0] != b[0] for a, b in zip(log, log[1:], strict=False)) < len(log), digest(log))


def traced():
    """threading.settrace and setprofile: a Python function is called for each thread's calls and lines."""
    calls = []

    def trace(frame, event, argument):
        if frame.f_code.co_name in ("work", "step"):
            calls.append((threading.current_thread().name, event, frame.f_lineno - frame.f_code.co_firstlineno))
            return trace
        return None

    def profile(frame, event, argument):
        if frame.f_code.co_name == "step":
            calls.append((threading.current_thread().name, "profile", event))

    def step(k):
        return k * 2

    def work(_):
        for k in range(500):
            step(k)

    threading.settrace(trace)
    threading.setprofile(profile)
    together(work, 3)
    threading.settrace(None)
    threading.setprofile(None)
    print(len(calls), digest(calls))


def pool_at_exit():
    """A pool that is never shut down: its threads end at the interpreter's end, with work left."""
    pool = concurrent.futures.ThreadPoolExecutor(3)
    futures = [pool.submit(lambda n=n: (spin(500), time.sleep(0.0005), n)[-1]) for n in range(12)]
    concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
    print("done", [future.done() for future in futures], len(log))
    for future in futures:
        future.add_done_callback(lambda f: print("later", f.result(), threading.current_thread().name))


def writes():
    """To two descriptors at once, in several ways; the kernel's order is not that of the GIL."""

    def write(k):
        for n in range(400):
            os.write(1 + n % 2, b"%d %d\n" % (k, n))
            os.writev(1, [b"%d" % k, b" parts %d\n" % n])
            sys.stderr.write(f"{k} text {n}\n")

    together(write, 4)


def writes_by_duplicates():
    """To one file by three descriptors, one of them opened anew."""
    again, anew = os.dup(1), os.open("/dev/stdout", os.O_WRONLY | os.O_APPEND)

    def write(k):
        for n in range(300):
            os.write([1, again, anew][(n + k) % 3], b"%d %d\n" % (k, n))

    together(write, 4)


def shared_objects():
    """Objects of C that give the GIL up before they wait for a lock of their own, or while they have it."""
    digests = hashlib.sha256(bytes(5000)), hashlib.blake2b()
    compressors = zlib.compressobj(), bz2.BZ2Compressor(1)

    def use(k):
        data = b"%d" % k * 30000
        for n in range(60):
            for shared in digests:
                shared.update(data[n:])
                if n % 7 == k:
                    log.append(shared.hexdigest())
            for shared in compressors:
                log.append(shared.compress(data[: 3000 + n]))

    sys.setswitchinterval(0.00005)
    together(use, 3)
    print(len(log), digest(log), [shared.hexdigest() for shared in digests])
    print([digest(shared.flush()) for shared in compressors])


def connections():
    """External objects that the collector frees, which let others go on while they are closed."""
    import sqlite3

    class Connection(sqlite3.Connection):
        pass

    def use(k):
        for n in range(8):
            connection = Connection(":memory:", check_same_thread=False)
            connection.me = connection
            connection.execute("create table numbers (n)")
            connection.execute("insert into numbers values (?)", (n,))
            log.append((k, n, connection.execute("select n from numbers").fetchone()))
            del connection
            if n % 4 == 3:
                gc.collect()
            with lock:
                log.append(("with", k, n))

    lock = threading.Lock()
    use(-1)
    together(use, 3)
    print(len(log), digest(log))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
