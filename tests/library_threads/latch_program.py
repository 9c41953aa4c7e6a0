"""Threads that ask a library's threads, which answer into the asking thread's own variables."""

import threading

import latch

answers = {}


def ask(number):
    answers[number] = [latch.ask() for _ in range(20)]


ask(0)
for begin in range(1, 9, 4):
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(begin, begin + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print([[times for _, times in answers[number]] == list(range(1, 21)) for number in sorted(answers)])
print(answers)
