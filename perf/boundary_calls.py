"""Prints the nanoseconds a boundary call takes: `boundary_calls.py CALL COUNT`. perf/run runs it both ways.

The calls are made in batches; the median batch counts, so that a collection, an interrupt or the growth of the log in
one of them does not. What has to happen between calls (filling and draining sockets) is not timed.
"""

import os
import socket
import statistics
import sys
import time
from itertools import repeat

BATCH = 1000
SIZES = (1, 64)  # bytes a read, recv or send moves: what 64 cost more is their copy


def no_arguments(function):
    def batch():
        for _ in repeat(None, BATCH):
            function()

    return batch, None


def reading(size):
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    read = os.read

    def batch():
        for _ in repeat(None, BATCH):
            read(descriptor, size)

    return batch, None


def pair():
    left, right = socket.socketpair()
    for end in (left, right):
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    return left, right


# A send takes kernel memory far beyond its bytes: that many fit in any socket's buffer.
SENDS = 100


def receiving(size):
    left, right = pair()
    receive = right.recv

    def prepare():
        left.sendall(bytes(size * SENDS))

    def batch():
        for _ in repeat(None, SENDS):
            receive(size)

    return batch, prepare


def sending(size):
    left = right = None
    data = bytes(size)

    def prepare():
        # Nobody reads what was sent: reading it would be recorded too, and the log has to grow for it.
        nonlocal left, right
        for end in (left, right):
            if end is not None:
                end.close()
        left, right = pair()

    def batch():
        send = left.send
        for _ in repeat(None, SENDS):
            send(data)

    return batch, prepare


CALLS = {
    "time.time": lambda: (*no_arguments(time.time), BATCH),
    "time.monotonic": lambda: (*no_arguments(time.monotonic), BATCH),
    "os.getpid": lambda: (*no_arguments(os.getpid), BATCH),
}
for size in SIZES:
    CALLS[f"os.read {size}"] = lambda size=size: (*reading(size), BATCH)
    CALLS[f"sock.recv {size}"] = lambda size=size: (*receiving(size), SENDS)
    CALLS[f"sock.send {size}"] = lambda size=size: (*sending(size), SENDS)


def main():
    batch, prepare, size = CALLS[sys.argv[1]]()
    clock = time.perf_counter_ns
    times = []
    for _ in range(max(5, int(sys.argv[2]) // size)):
        if prepare:
            prepare()
        start = clock()
        batch()
        times.append(clock() - start)
    print(statistics.median(times) / size)


if __name__ == "__main__":
    main()
