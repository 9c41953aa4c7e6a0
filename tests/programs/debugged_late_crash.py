"""Ends by an exception that was raised long before, behind many that were caught."""


def parse(text):
    try:
        return int(text)
    except ValueError:
        return None


def fail(attempt, zero):
    return attempt / zero


def work(count):
    total = 0
    for k in range(count):
        total += k % 7
    return total


def main():
    for attempt in range(1, 4):
        for n in range(1500):
            parse(f"no number {n}")
        try:
            fail(attempt, 0)
        except ZeroDivisionError as error:
            last = error
    for k in range(20):
        print(k, work(100_000), flush=True)
    raise last


main()
