"""A server that forks its workers in advance: they accept from one socket, and end by SIGTERM. Lines begin with numbers."""

import os
import signal
import socket
import threading


def say(*what):
    print(f"[{os.getpid()}]", *what, flush=True)


def stop(number, frame):
    raise SystemExit(0)


def serve(k):
    signal.signal(signal.SIGTERM, stop)
    served = 0
    os.write(ready, b".")
    try:
        while True:
            connection, address = listener.accept()
            with connection:
                request = connection.recv(100)
                served += 1
                connection.sendall(b"%d: %s %d" % (k, request.upper(), served))
    finally:
        say("worker", k, "served", served)


def ask(i):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"hello %d" % i)
        answers.append(connection.recv(100))


listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
begun, ready = os.pipe()
workers, answers = [], []
for k in range(4):
    pid = os.fork()
    if pid == 0:
        serve(k)
    workers.append(pid)
for _ in workers:
    os.read(begun, 1)
clients = [threading.Thread(target=ask, args=(i,)) for i in range(40)]
for client in clients:
    client.start()
for client in clients:
    client.join()
for worker in workers:
    os.kill(worker, signal.SIGTERM)
for worker in workers:
    say("ended", worker, os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
say(len(answers), answers)
