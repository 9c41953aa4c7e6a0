"""Threads that compute at once, so that they preempt each other, in each way in and out of a frame."""

import sys
import threading

sys.setswitchinterval(0.0001)


def burn(rounds):
    # One line that takes longer than a thread's turn.
    total = sum(range(40_000)) % 10
    for number in range(rounds):
        total += number % 5
    return total


def parts(limit):
    for number in range(limit):
        yield number, burn(number * 40)


def fail(depth):
    burn(60)
    if depth == 0:
        raise ValueError(depth)
    fail(depth - 1)


class Block:
    def __enter__(self):
        self.entered = burn(50)
        return self

    def __exit__(self, *error):
        return error[0] is ValueError


def work(number):
    results = []
    for turn in range(3):
        for part, total in parts(5):
            results.append((part, total))
        with Block() as block:
            fail(2)
        squares = [burn(value * 30) for value in range(4)]
        try:
            fail(1)
        except ValueError:
            results = results[-2:]
        finally:
            results.append((turn, number))
    return results


def run(number, into):
    into[number] = work(number)


class Results(dict):
    """What all threads share: its text depends on how far they are."""


def main():
    into = Results()
    threads = [threading.Thread(target=run, args=(number, into), name=f"worker-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
    own = work(9)
    for thread in threads:
        thread.join()
    return own, sorted(into)


if __name__ == "__main__":
    print(main())
