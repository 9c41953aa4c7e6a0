"""A child that computes."""

import os


def child(part):
    answer = part * 2
    return answer


def main():
    part = 21
    pid = os.fork()
    if pid == 0:
        result = child(part)
        os._exit(0 if result == 42 else 1)
    os.waitpid(pid, 0)


main()
