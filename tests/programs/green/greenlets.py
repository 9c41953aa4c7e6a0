"""Greenlets in several threads at once: switches, exceptions thrown into them, some that are never ended."""

import queue
import threading
import time

import greenlet


class Noted:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        ended.append(self.name)


ended = []


def add_up(first):
    main, total = greenlet.getcurrent().parent, first
    while (more := main.switch(total)) is not None:
        total += more
    return total


def work(number, results):
    adders = [greenlet.greenlet(add_up) for _ in range(5)]
    for adder in adders:
        adder.switch(number)
    for i in range(300):
        for k, adder in enumerate(adders):
            adder.switch(i * k)
        if i % 50 == 0:
            time.sleep(0.001)
    results.put((number, [adder.switch(None) for adder in adders]))


def throw(results):
    def waits():
        try:
            greenlet.getcurrent().parent.switch("waits")
        except ValueError as error:
            results.put((-1, [f"caught {error}"]))
        greenlet.getcurrent().parent.switch("goes on")

    waiting = greenlet.greenlet(waits)
    waiting.switch()
    waiting.throw(ValueError("thrown"))


def leave(number):
    """A greenlet that its thread leaves behind: the library has another thread end it."""
    note = Noted(number)

    def waits():
        kept = note  # noqa: F841
        greenlet.getcurrent().parent.switch()

    left = greenlet.greenlet(waits)
    left.switch()


results = queue.Queue()
threads = [threading.Thread(target=work, args=(number, results)) for number in range(4)]
threads.append(threading.Thread(target=throw, args=(results,)))
threads += [threading.Thread(target=leave, args=(number,)) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
work(9, results)
while not results.empty():
    print(*results.get())
print("ended", ended)
