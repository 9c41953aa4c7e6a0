"""Imported by walked.py: lines of a module's own body, and of another file."""

LIMIT = 3
values = [value for value in range(LIMIT)]

for value in values:
    doubled = value * 2


def outside(value):
    result = value + doubled
    return result
