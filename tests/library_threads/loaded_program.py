"""A library's threads that call Python by ctypes, and Python's that wait for one another in the library."""

import ctypes
import threading

library = ctypes.CDLL("./loaded.so")
library.start.restype, library.finish.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
library.get.restype = library.finish.restype = ctypes.c_long
seen = []


@ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long)
def called(number, drawn):
    seen.append((threading.get_ident(), number, drawn))
    return drawn


running = [library.start(called, 20) for _ in range(3)]
totals = [library.finish(caller) for caller in running]
print("called", len(seen), "in", len({ident for ident, _, _ in seen}), "threads")
print(totals, [(number, drawn) for _, number, drawn in seen])

got = []


def work(number):
    while item := library.get():
        got.append((number, item))
        library.put(item - 1) if item % 3 == 0 else None


threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for item in range(1, 40):
    library.put(item)
for thread in threads:
    library.put(0)
for thread in threads:
    thread.join()
print(got)
