"""Ends with an exception nobody catches, raised from another one, after output on both streams."""

import sys
import time


class OutOfStock(Exception):
    def __init__(self, item, at):
        super().__init__(f"{item} at {at}")
        self.item = item


def find(item):
    try:
        return {}[item]
    except KeyError as error:
        raise OutOfStock(item, time.time_ns()) from error


print("looking")
print("a warning", file=sys.stderr)
sys.stdout.write("no newline at the end")
find("apples")
