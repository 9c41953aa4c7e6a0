"""What perf/debugger/run debugs: program.py LINES executes about that many lines and ends with an exception.

Four fifths are one CPU-bound call; the rest is the work of three threads that hand each other parts of it. Everything
lies inside one call, between the line that is hit once and the crash.
"""

import queue
import sys
import threading

ROUND = 21  # lines


def digit_sum(number):
    total = 0
    while number:
        total += number % 10
        number //= 10
    return total


def compute(rounds, seed):
    seen = {}
    best = 0
    for k in range(rounds):
        value = 1000 + (k * 7919 + seed) % 9000
        found = digit_sum(value)
        if found > best:
            best = found
        seen[found] = k
    return best, len(seen)


def work(parts, results):
    while True:
        part = parts.get()
        if part is None:
            break
        rounds, seed = part
        best, kinds = compute(rounds, seed)
        results.append((seed, best, kinds))


def threaded(rounds, seed):
    parts = queue.Queue()
    results = []
    threads = [threading.Thread(target=work, args=(parts, results)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for part in range(12):
        parts.put((rounds // 12, seed + part))
    for _ in threads:
        parts.put(None)
    for thread in threads:
        thread.join()
    return sorted(results)


def run(rounds, seed):
    alone = compute(rounds * 4 // 5, seed)
    shared = threaded(rounds // 5, seed)
    return alone, shared


def check(result, seed):
    alone, shared = result
    wanted = {"best": 0, "shares": 0}
    wanted["best"] = max(best for _, best, _ in shared)
    wanted["shares"] = len(shared)
    if wanted["shares"]:
        raise ValueError(f"seed {seed}: {wanted['best']} at most, beside {alone[0]}")


def main(lines):
    seed = lines % 97
    seed += 1  # the only hit
    result = run(lines // ROUND, seed)
    check(result, seed)


main(int(sys.argv[1]))
