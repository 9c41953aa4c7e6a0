"""Reads its standard input through every door: input(), iteration, readline, read, os.read, the buffer."""

import os
import sys

print("name?", end=" ", flush=True)
print("first", repr(input()))
print("second", repr(input("prompt> ")))
print("third", repr(sys.stdin.readline()))
for line in sys.stdin:
    print("line", repr(line))
    if line == "stop here\n":
        break
print("buffered", sys.stdin.buffer.read(5), sys.stdin.buffer.readline())
print("rest", repr(sys.stdin.read()))
print("nothing more", os.read(0, 10), sys.stdin.fileno(), sys.stdin.isatty())
try:
    input()
except EOFError as error:
    print("EOFError", error)
