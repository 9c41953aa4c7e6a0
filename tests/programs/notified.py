"""Folders watched by foreign functions, as watchdog does: what they return is read by the interpreter."""

import ctypes
import os
import struct
import sys

if sys.platform != "linux":
    sys.exit("there is no inotify here")
libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("watched")
fd = libc.inotify_init()
watch = libc.inotify_add_watch(fd, b"watched", 0x100 | 0x200)
print("watch", fd >= 0, watch)
print("none", libc.inotify_add_watch(fd, b"missing", 0x100), ctypes.get_errno())
for name in ("one", "two"):
    open(f"watched/{name}", "w").close()
os.remove("watched/one")
data = os.read(fd, 4096)
while data:
    number, mask, _, length = struct.unpack_from("iIII", data)
    print(number, hex(mask), data[16 : 16 + length].rstrip(b"\0"))
    data = data[16 + length :]
print("removed", libc.inotify_rm_watch(fd, watch))
os.close(fd)
