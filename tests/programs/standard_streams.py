"""What becomes of the standard streams where others are made on their descriptors, and what they say of themselves."""

import io
import os
import sys

print("seekable", sys.stdin.seekable(), sys.stdout.seekable(), sys.stderr.seekable())
sys.stdout.reconfigure(line_buffering=True)
sys.stderr.reconfigure(errors="replace")
print("one")
other = open(1, "w", closefd=False)
other.write("two\n")
other.close()
io.FileIO(1, "w", closefd=False).close()
print("three")
sys.stdout.write("four")
sys.stdout.reconfigure(newline="\n")
sys.stdout.write("\n")
reader, writer = os.pipe()
os.set_blocking(writer, False)
with open(writer, "wb", buffering=16384) as pipe, open(reader, "rb", buffering=0) as out:
    try:
        while True:
            pipe.write(b"x" * 9999)
    except BlockingIOError as error:
        print(type(error), error.errno, error.characters_written < 9999)
    while True:
        try:
            pipe.flush()
            break
        except BlockingIOError as error:
            print(error.errno, len(out.read(1 << 20)) > 0)
with open(os.dup(1), "w") as copy:
    copy.write("five\n")
print("six")
