"""Threads that wait for each other, with sockets between them: every primitive of threading and queue."""

import concurrent.futures
import queue
import socket
import sys
import threading
import time

sys.setswitchinterval(0.0005)
log = []


def note(*what):
    log.append((threading.current_thread().name, *what))


def locks():
    lock, rlock = threading.Lock(), threading.RLock()

    def body(k):
        for i in range(200):
            with lock:
                note("lock", k, i)
            with rlock, rlock:
                note("rlock", k)
            if lock.acquire(blocking=False):
                note("got")
                lock.release()
            if not lock.acquire(timeout=0.00001):
                note("timed out")
            else:
                lock.release()

    together(body, 4)


def conditions():
    condition, ready = threading.Condition(), []

    def body(k):
        if k == 0:
            for i in range(100):
                with condition:
                    ready.append(i)
                    condition.notify(1 + i % 3)
                if i % 20 == 0:
                    time.sleep(0.0005)
            with condition:
                ready.extend([None] * 3)
                condition.notify_all()
            return
        while True:
            with condition:
                if not condition.wait_for(lambda: ready, timeout=0.001):
                    note("nothing yet")
                    continue
                item = ready.pop(0)
            note("item", item)
            if item is None:
                return

    together(body, 4)


def semaphores_and_barriers():
    semaphore, barrier, event = threading.BoundedSemaphore(2), threading.Barrier(3), threading.Event()

    def body(k):
        for i in range(20):
            with semaphore:
                note("semaphore", i)
                if i % 7 == 0:
                    time.sleep(0.0002)
            note("barrier", barrier.wait())
        if k == 1:
            event.set()
        note("event", event.wait(5))

    together(body, 3)
    broken = threading.Barrier(2)
    try:
        broken.wait(timeout=0.005)
    except threading.BrokenBarrierError as error:
        note(type(error).__name__)


def queues():
    for make in (lambda: queue.Queue(3), queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
        channel = make()

        def body(k, channel=channel):
            if k == 0:
                for i in range(150):
                    channel.put(i)
                for _ in range(3):
                    channel.put(10**6)
                return
            while True:
                try:
                    item = channel.get(timeout=0.002)
                except queue.Empty:
                    note("empty")
                    continue
                note(type(channel).__name__, item)
                if item == 10**6:
                    return

        together(body, 4)


def pools():
    def job(n):
        note("job", n)
        time.sleep(0.0001 * (n % 3))
        if n % 10 == 9:
            raise ValueError(n)
        return n * n

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(job, n) for n in range(60)]
        for future in concurrent.futures.as_completed(futures):
            note("done", repr(future.exception()) if future.exception() else future.result())
        note(list(pool.map(job, range(8))))


def echo_server():
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve():
        for _ in range(6):
            client, _ = listener.accept()
            threading.Thread(target=answer, args=(client,), name=f"answer-{client.fileno()}").start()

    def answer(client):
        with client:
            while data := client.recv(64):
                note("received", data)
                client.sendall(data.upper())

    server = threading.Thread(target=serve, name="serve")
    server.start()

    def ask(k):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for i in range(15):
                connection.sendall(b"hello %d %d" % (k, i))
                note(connection.recv(64))

    together(ask, 6)
    server.join()
    listener.close()


def timers_and_locals():
    fired = threading.Event()
    local = threading.local()
    local.value = "main"
    timer = threading.Timer(0.002, lambda: (note("timer", getattr(local, "value", None)), fired.set()))
    timer.start()
    note("waited", fired.wait(1), local.value)
    timer.join()

    def parent():
        children = [threading.Thread(target=note, args=("child", i)) for i in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        note("ident", threading.get_ident() == threading.current_thread().ident, threading.active_count())

    together(lambda _: parent(), 2)


def together(body, count):
    threads = [threading.Thread(target=body, args=(k,), name=f"{k}") for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def forever():
    while True:
        time.sleep(0.0003)
        log.append("daemon")


parts = [locks, conditions, semaphores_and_barriers, queues, pools, echo_server, timers_and_locals]
threading.Thread(target=forever, daemon=True).start()
for part in parts:
    part()
    print(part.__name__, len(log))
    for line in log[-40:]:
        print(" ", line)
print([thread.name for thread in threading.enumerate()], threading.main_thread().ident)
