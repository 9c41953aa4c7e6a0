"""Computes until it is killed."""

print("begun", flush=True)
number = 0
while True:
    number += 1
