"""A wait for a lock that ends with it, and one that times out after that, with nothing recorded in between."""

import threading
import time

lock, log = threading.Lock(), []


def later(timeout):
    log.append(lock.acquire(timeout=timeout))
    own = threading.Lock()
    own.acquire()
    log.append(own.acquire(timeout=0.01))
    log.append(threading.Event().wait(0.01))
    lock.release()


for timeout in (-1, 5, -1):
    lock.acquire()
    threads = [threading.Thread(target=later, args=(timeout,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    lock.release()
    for thread in threads:
        thread.join()
print(log)
