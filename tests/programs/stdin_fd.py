"""Reads its standard input as a descriptor, in pieces."""

import os
import sys

pieces = []
while piece := os.read(0, 7):
    pieces.append(piece)
total = b"".join(pieces)
print(len(total), total[:20], total[-20:], sum(total))
sys.stdout.write("\N{GREEK SMALL LETTER ALPHA} \N{GRINNING FACE}\n")
os.write(1, b"straight to the descriptor\n")
os.write(2, b"and to the other one\n")
os.writev(1, [b"in ", b"pieces\n"])
