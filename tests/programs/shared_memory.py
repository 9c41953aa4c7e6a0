"""Memory that processes share: each sees at some point what the other has written, and says what it saw."""

import datetime
import mmap
import multiprocessing
import os
import time
from multiprocessing import shared_memory

TURNS = 60


def count(value, turns=TURNS):
    for _ in range(turns):
        with value.get_lock():
            value.value += 1
        time.sleep(0.0005)


def write(mine, theirs, array, block, anonymous):
    """The child: writes, and waits for its parent without any call."""
    for n in range(1, TURNS + 1):
        array[n % 10] = n / 4
        block.buf[n % 64] = n
        anonymous[n % 32] = n
        count(mine, 1)
    while theirs.value < TURNS:
        pass
    seen = [theirs.value, array[:], bytes(block.buf[:8])]
    os._exit(len(seen))


def watch(value, array, block, anonymous):
    seen = []
    while not seen or seen[-1][0] < TURNS:
        now = value.value, array[3], block.buf[7], anonymous[9]
        if not seen or seen[-1] != now:
            seen.append(now)
    return seen


def main():
    multiprocessing.set_start_method("fork")
    mine, theirs = multiprocessing.Value("i"), multiprocessing.Value("i")
    array = multiprocessing.Array("d", 10)
    block = shared_memory.SharedMemory(create=True, size=64)
    anonymous = mmap.mmap(-1, 32)
    child = multiprocessing.Process(target=write, args=(theirs, mine, array, block, anonymous))
    child.start()
    seen = watch(theirs, array, block, anonymous)
    print(len(seen), *seen)
    count(mine)
    child.join()
    print(child.exitcode, array[:], bytes(block.buf), anonymous[:], mine.value)
    block.close()
    block.unlink()
    print(datetime.datetime.now().year > 2000)


main()
