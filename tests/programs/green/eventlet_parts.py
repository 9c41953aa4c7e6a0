"""eventlet: a server and clients with everything patched, threads of its pool, time-outs, queues."""

import warnings

warnings.simplefilter("ignore")

import eventlet  # noqa: E402

eventlet.monkey_patch()

import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import urllib.request  # noqa: E402

from eventlet import tpool, wsgi  # noqa: E402


def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    eventlet.sleep(0.001)
    return [f"{environ['PATH_INFO']} {time.time()}".encode()]


listening = eventlet.listen(("127.0.0.1", 0))
port = listening.getsockname()[1]
server = eventlet.spawn(wsgi.server, listening, app, log_output=False)


def fetch(n):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/{n}").read()


for body in eventlet.GreenPool(5).imap(fetch, range(20)):
    print(body)
try:
    with eventlet.Timeout(0.02):
        eventlet.sleep(60)
except eventlet.Timeout as error:
    print("timed out:", error)
print([tpool.execute(lambda n: (n, time.time()), n) for n in range(5)])


def produce(items):
    for i in range(5):
        items.put(i)
        time.sleep(0.001)


items = eventlet.Queue()
thread = threading.Thread(target=produce, args=(items,))
thread.start()
print([items.get() for _ in range(5)])
thread.join()
print(socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM))
server.kill()
