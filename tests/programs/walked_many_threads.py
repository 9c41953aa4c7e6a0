"""Threads that begin and end all the time, so that in every window of the timeline some do."""

import sys
import threading

sys.setswitchinterval(0.0002)


def burn(rounds):
    sum(range(40_000))
    total = 0
    for number in range(rounds):
        total += number
    return total


def work(number):
    first = burn(200)
    second = burn(3_000)
    done.append(first + second + number)


done = []
for group in range(10):
    threads = [threading.Thread(target=work, args=(group * 10 + number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    burn(20_000)
    for thread in threads:
        thread.join()
print(len(done))
