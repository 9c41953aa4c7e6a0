"""What runs after the exception that nobody catches: finally clauses, a context's exit, an exit handler."""

import atexit


class Context:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.error = error[0]
        return False


def at_exit():
    last = "handler"
    print(last)


def divide(number):
    zero = number - number
    return number / zero


def main():
    cleaned = 0
    try:
        with Context():
            divide(7)
    finally:
        cleaned += 1
        print("cleaned", cleaned)


atexit.register(at_exit)
main()
