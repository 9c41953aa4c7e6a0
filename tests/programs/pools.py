"""multiprocessing and ProcessPoolExecutor. Each line begins with its process's number.

pools.py METHOD
"""

import multiprocessing
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def say(*what):
    print(f"[{os.getpid()}]", *what, flush=True)


def square(n):
    time.sleep(0.001 * (n % 3))
    say("square", n, random.random())
    return n * n


def send(queue, lock, k):
    with lock:
        say("send", k, time.time_ns())
    queue.put((k, os.getpid(), random.random()))
    sys.exit(k)


def answer(connection):
    while (message := connection.recv()) is not None:
        say("received", message)
        connection.send(message * 2)


def fail():
    raise ValueError(os.getpid(), time.time())


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(3) as pool:
        say(pool.map(square, range(10), chunksize=1))
        say(sorted(pool.imap_unordered(square, range(6))))
    queue, lock = context.Queue(), context.Lock()
    processes = [context.Process(target=send, args=(queue, lock, k)) for k in range(3)]
    for process in processes:
        process.start()
    say(sorted(queue.get() for _ in processes))
    for process in processes:
        process.join()
        say("ended", process.pid, process.exitcode)
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs,))
    process.start()
    for message in ("text", [1, 2], None):
        ours.send(message)
    say(ours.recv(), ours.recv())
    process.join()
    say("ended", process.pid, process.exitcode)
    process = context.Process(target=fail)
    process.start()
    process.join()
    say("ended", process.pid, process.exitcode)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        say(list(executor.map(square, [1, 2, 3])), executor.submit(os.getpid).result() > 0)
        try:
            executor.submit(fail).result()
        except ValueError as error:
            say(type(error).__name__, error)
