"""posix_ipc: semaphores, message queues and memory that have a name, shared with a child and between threads."""

import mmap
import os
import threading
import time

import posix_ipc

name = f"/retrace{os.getpid()}"
ready = posix_ipc.Semaphore(name + "s", posix_ipc.O_CREX, initial_value=0)
queue = posix_ipc.MessageQueue(name + "q", posix_ipc.O_CREX, max_messages=4, max_message_size=64)
memory = posix_ipc.SharedMemory(name + "m", posix_ipc.O_CREX, size=4096)
shared = mmap.mmap(memory.fd, 4096)
memory.close_fd()

child = os.fork()
if not child:
    time.sleep(0.05)
    shared[:8] = b"%08d" % (time.time_ns() % 10**8)
    queue.send(b"at %f" % time.time(), priority=3)
    ready.release()
    os._exit(0)

ready.acquire()
print("acquired", ready.value, shared[:8])
print(queue.receive(), queue.current_messages, queue.max_messages)
print(os.waitpid(child, 0)[1])

for wait in (ready.acquire, queue.receive):
    before = time.monotonic()
    try:
        wait(0.05)
    except posix_ipc.BusyError as error:
        print(error, time.monotonic() - before > 0.04)
try:
    ready.acquire(0)
except posix_ipc.BusyError as error:
    print(error)

# The same semaphore once more: one of the two goes.
again = posix_ipc.Semaphore(name + "s")
again.release()
again.close()
ready.acquire()
print("again", ready.value)

# Threads that wait for each other by it.
said = []


def work(number):
    for _ in range(5):
        ready.acquire()
        said.append((number, queue.receive()))


threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for number in range(15):
    queue.send(f"{number} {time.perf_counter_ns()}")
    ready.release()
    if number % 4 == 0:
        time.sleep(0.002)
for thread in threads:
    thread.join()
print(said)

try:
    posix_ipc.Semaphore(name + "none")
except posix_ipc.ExistentialError as error:
    print(error)
queue.close()
ready.close()
for what in (posix_ipc.unlink_semaphore, posix_ipc.unlink_message_queue, posix_ipc.unlink_shared_memory):
    what(name + {"unlink_semaphore": "s", "unlink_message_queue": "q", "unlink_shared_memory": "m"}[what.__name__])
try:
    posix_ipc.unlink_semaphore(name + "s")
except posix_ipc.ExistentialError as error:
    print(error)
