"""Threads that contend for the GIL, and locks that nobody contends for: prints figures as JSON. Run by perf/run.

contention.py throughput SECONDS    rounds of CPU-bound work that four threads did; the longest wait of a fifth
contention.py lock COUNT            nanoseconds for an uncontended acquire and release
"""

import json
import statistics
import sys
import threading
import time


def throughput(seconds):
    rounds = [0] * 4
    waits = []
    stop = threading.Event()

    def work(me):
        while not stop.is_set():
            total = 0
            for k in range(2000):
                total += k % 7
            rounds[me] += 1

    def wait():
        # Gives the GIL up, and measures how long it takes to get it back.
        while not stop.is_set():
            before = time.perf_counter()
            time.sleep(0.001)
            waits.append(time.perf_counter() - before - 0.001)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)] + [threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    waits.sort()
    return {"rounds": sum(rounds), "median_ms": 1000 * statistics.median(waits), "longest_ms": 1000 * waits[-1]}


def lock(count):
    one = threading.Lock()
    acquire, release = one.acquire, one.release
    batches = []
    for _ in range(count // 1000):
        before = time.perf_counter_ns()
        for _ in range(1000):
            acquire()
            release()
        batches.append((time.perf_counter_ns() - before) / 1000)
    return {"ns": statistics.median(batches)}


print(json.dumps(throughput(float(sys.argv[2])) if sys.argv[1] == "throughput" else lock(int(sys.argv[2]))))
