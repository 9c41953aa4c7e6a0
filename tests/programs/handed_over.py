"""Threads that give the GIL up where they wait, and ask for it for longer than the test may take: a thread that isn't woken
when it may go on is waited for in vain."""

import os
import select
import sys
import threading
import warnings

sys.setswitchinterval(10_000)
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in programs with threads


def pass_on(source, target, rounds):
    for _ in range(rounds):
        byte = os.read(source, 1)
        sum(range(100))
        os.write(target, byte)


def ring(threads, rounds):
    pipes = [os.pipe() for _ in range(threads)]
    ends = [(pipes[i][0], pipes[(i + 1) % threads][1]) for i in range(threads)]
    workers = [threading.Thread(target=pass_on, args=(*end, rounds)) for end in ends]
    for worker in workers:
        worker.start()
    for _, target in pipes[: threads // 2]:
        os.write(target, b"x")
    for worker in workers:
        worker.join()
    return [os.read(source, 1) for source, _ in pipes if select.select([source], [], [], 0)[0]]


def fork_while_others_wait():
    child = os.fork()
    if child == 0:
        os._exit(len(ring(4, 50)))
    forked.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


forked, done = [], threading.Event()
forking = threading.Thread(target=fork_while_others_wait)
print("parent", len(ring(6, 200)))
others = [threading.Thread(target=done.wait) for _ in range(3)]
for thread in (*others, forking):
    thread.start()
print("beside", len(ring(4, 100)))
forking.join()
done.set()
for thread in others:
    thread.join()
print("forked", forked)
for _ in range(200):  # who ends hands the GIL over, too
    thread = threading.Thread(target=sum, args=(range(10),))
    thread.start()
    thread.join()
print("end")
