"""Plain file work: write, read, append, seek, iterate, raw and buffered, text and bytes. Reads `inputs/`."""

import io
import os
import sys

with open("inputs/poem.txt", encoding="utf-8") as poem:
    for number, line in enumerate(poem):
        print(number, line.rstrip())
    print("at the end", poem.tell(), poem.read() == "", poem.name, poem.mode, poem.encoding)

with open("out.txt", "w", encoding="utf-8", newline="\n") as out:
    print(out.write("first\n"), out.write("sec\N{LATIN SMALL LETTER O WITH DIAERESIS}nd\n"), out.tell())
    out.writelines(f"line {n}\n" for n in range(5000))
print(os.path.getsize("out.txt"), os.stat("out.txt").st_size)

with open("out.txt", "a+", encoding="utf-8") as both:
    both.write("appended\n")
    both.seek(0)
    print(repr(both.readline()), repr(both.read(4)), both.seek(0, io.SEEK_END))
with open("out.txt", "rb") as raw:
    print(raw.seek(-10, os.SEEK_END), raw.read(), raw.peek(1), raw.readline(), raw.seekable(), raw.fileno() > 2)
with open("out.txt", "r+b") as update:
    update.seek(6)
    update.write(b"S")
    update.truncate(20)
    print(update.tell(), update.seek(0), update.read())

buffer = bytearray(8)
with open("inputs/poem.txt", "rb", buffering=0) as unbuffered:
    print(type(unbuffered), unbuffered.readinto(buffer), bytes(buffer), unbuffered.readall()[:6])
    print(unbuffered.closefd, unbuffered.closed, unbuffered.mode, unbuffered.isatty(), unbuffered.readable())
with open("inputs/poem.txt", "rb") as buffered:
    view = memoryview(bytearray(12))
    print(buffered.readinto(view[2:10]), bytes(view), buffered.readinto1(view), buffered.read1(3))
print(unbuffered, repr(unbuffered), buffered.closed)

fd = os.open("raw.bin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
print(os.write(fd, b"0123456789"), os.lseek(fd, 2, os.SEEK_SET), os.read(fd, 3), os.pread(fd, 4, 6))
print(os.pwrite(fd, b"xy", 0), os.fstat(fd).st_size, os.fstat(fd).st_mode, os.ftruncate(fd, 5))
print(os.preadv(fd, [buffer, bytearray(2)], 0), bytes(buffer), os.fsync(fd))
copy = os.dup(fd)
print(os.lseek(copy, 0, os.SEEK_CUR), os.get_inheritable(copy), os.get_blocking(copy))
with os.fdopen(copy, "rb") as again:
    print(again.read(), again.name == copy)
os.close(fd)

for path, mode in [("missing.txt", "r"), ("inputs", "r"), ("raw.bin", "x"), ("inputs/poem.txt/x", "w")]:
    try:
        open(path, mode)
    except OSError as error:
        print(type(error).__name__, error.errno, error.strerror, error.filename, error)
try:
    unbuffered.read()
except ValueError as error:
    print(error)
try:
    os.close(9999)
except OSError as error:
    print(error)

print(sorted(os.listdir(".")), os.path.exists("out.txt"), os.access("out.txt", os.W_OK))
os.rename("out.txt", "renamed.txt")
os.replace("renamed.txt", "replaced.txt")
os.link("replaced.txt", "linked.txt")
os.symlink("linked.txt", "symbolic.txt")
print(os.readlink("symbolic.txt"), os.path.realpath("symbolic.txt").endswith("linked.txt"), os.lstat("symbolic.txt").st_size)
os.chmod("linked.txt", 0o600)
os.utime("linked.txt", (1_000_000_000, 1_100_000_000))
print(oct(os.stat("linked.txt").st_mode), os.stat("linked.txt").st_mtime, os.stat("linked.txt").st_nlink)
for name in ("replaced.txt", "linked.txt", "symbolic.txt", "raw.bin"):
    os.remove(name)

sys.stdout.flush()
print(sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.buffer.raw.mode, file=sys.stderr)
with open(1, "w", closefd=False) as same_stdout:
    same_stdout.write("through a second file object on stdout\n")
with os.fdopen(os.dup(2), "w") as same_stderr:
    same_stderr.write("through a duplicate of stderr\n")
