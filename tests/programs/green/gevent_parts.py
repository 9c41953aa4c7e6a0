"""gevent: a server and clients, a patched `requests`, threads of the pool, time-outs, events, queues, a program started."""

from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
import gevent.event  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.queue  # noqa: E402
import gevent.server  # noqa: E402
import requests  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402


def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    gevent.sleep(0.001)
    return [environ["PATH_INFO"].encode(), b" ", str(time.time()).encode()]


server = WSGIServer(("127.0.0.1", 0), app, log=None, error_log=None)
server.start()


def fetch(n):
    with requests.Session() as session:
        return session.get(f"http://127.0.0.1:{server.server_port}/{n}").text


for text in gevent.pool.Pool(8).imap(fetch, range(24)):
    print(text)


def shout(connection, _):
    connection.sendall(connection.recv(100).upper())
    connection.close()


echo = gevent.server.StreamServer(("127.0.0.1", 0), shout)
echo.start()


def talk(n):
    with socket.create_connection(("localhost", echo.server_port)) as connection:
        connection.sendall(b"hello %d" % n)
        return connection.recv(100)


print([talking.get() for talking in [gevent.spawn(talk, n) for n in range(10)]])
pool = gevent.get_hub().threadpool
print(pool.map(lambda n: sum(i * i for i in range(n * 1000)) % 1000, range(20)))
print([result.get() for result in [pool.apply_async(time.time) for _ in range(5)]])
try:
    with gevent.Timeout(0.02):
        gevent.sleep(60)
except gevent.Timeout as error:
    print("timed out:", error)

event = gevent.event.Event()
threads = [threading.Thread(target=lambda: print("woken", event.wait())) for _ in range(3)]
for thread in threads:
    thread.start()
gevent.sleep(0.01)
event.set()
for thread in threads:
    thread.join()


def produce(items):
    for i in range(5):
        items.put(i)
        gevent.sleep(0)
    items.put(StopIteration)


items = gevent.queue.Queue()
gevent.spawn(produce, items)
print(list(items))
print(subprocess.run(["echo", "a child"], capture_output=True).stdout)
server.stop()
echo.stop()
