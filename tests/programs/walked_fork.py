"""A child with all its own ways in and out of frames, and a parent that waits for it."""

import os


def burn(rounds):
    total = 0
    for number in range(rounds):
        total += number % 3
    return total


def halves(number):
    while number:
        yield number
        number //= 2


def fail(number):
    burned = burn(number)
    raise ValueError(burned)


def child(part):
    found = []
    for half in halves(part):
        found.append(half)
    try:
        fail(900)
    except ValueError as error:
        found.append(str(error))
    finally:
        found.append(burn(2_000))
    return [each for each in found if each]


def main():
    part = burn(60)
    pid = os.fork()
    if pid == 0:
        result = child(part)
        left = len(result) - 8
        os._exit(left)
    _, status = os.waitpid(pid, 0)
    more = burn(500)
    return status, more


if __name__ == "__main__":
    print(main())
