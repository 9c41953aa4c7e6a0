"""sysv_ipc: System V's semaphores, message queues and shared memory, with a child that has them, too."""

import os
import time

import sysv_ipc

semaphore = sysv_ipc.Semaphore(None, sysv_ipc.IPC_CREX, initial_value=0)
queue = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX)
memory = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, size=5000)
memory.write(b"%d " % time.time_ns())
print(memory.read(20), memory.size, memory.number_attached)
memory.detach()

child = os.fork()
if not child:
    time.sleep(0.05)
    memory.attach()
    memory.write(b"from the child %d" % os.getpid(), 100)
    memory.detach()
    queue.send(b"at %f" % time.time(), type=7)
    queue.send(b"second")
    semaphore.release(delta=2)
    os._exit(0)

semaphore.acquire()
print("acquired", semaphore.value, semaphore.waiting_for_zero)
memory.attach()
print(memory.read(22, 100), memory.read(5))
print(queue.receive(type=7), queue.current_messages, queue.max_size > 0, queue.receive())
print(os.waitpid(child, 0)[1], queue.last_send_pid == child)
try:
    queue.receive(block=False)
except sysv_ipc.BusyError as error:
    print(error)
semaphore.acquire()
try:
    semaphore.block = False
    semaphore.acquire()
except sysv_ipc.BusyError as error:
    print(error)
semaphore.value = 5
print(semaphore.value, oct(queue.mode), queue.uid == os.getuid())
try:
    sysv_ipc.Semaphore(time.time_ns() % 10**9)
except sysv_ipc.ExistentialError as error:
    print(error)
memory.detach()
for it in (semaphore, queue, memory):
    it.remove()
