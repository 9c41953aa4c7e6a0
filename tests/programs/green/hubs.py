"""A hub of gevent's in each of several threads, which wake each other; nothing is patched."""

import queue
import threading
import time

import gevent
import gevent.event
import gevent.threadpool


def run(number, results):
    def sleep(k):
        for _ in range(5):
            gevent.sleep(0.001 * (k % 3))
        return k

    sleeping = [gevent.spawn(sleep, k) for k in range(5)]
    gevent.joinall(sleeping)
    results.put((number, [each.value for each in sleeping], time.time()))
    gevent.get_hub().destroy()


results = queue.Queue()
threads = [threading.Thread(target=run, args=(number, results)) for number in range(4)]
for thread in threads:
    thread.start()


def pause(n):
    time.sleep(0.002)
    return n, time.time()


pool = gevent.threadpool.ThreadPool(3)
print([result.get() for result in [pool.spawn(pause, n) for n in range(9)]])

awaited = gevent.event.Event()
watcher = gevent.get_hub().loop.async_()
watcher.start(awaited.set)
threading.Timer(0.01, watcher.send).start()
print("woken", awaited.wait())
for thread in threads:
    thread.join()
while not results.empty():
    print(*results.get())
