"""LMDB: transactions, cursors, threads that read while one writes, another environment, a map that grows."""

import tempfile
import threading
import time

import lmdb

folder = tempfile.mkdtemp()
environment = lmdb.open(folder, map_size=1 << 20, max_dbs=2)
names = environment.open_db(b"names")
with environment.begin(write=True, db=names) as transaction:
    for i in range(200):
        transaction.put(b"%03d" % i, b"%f" % time.time())


def read(found, number):
    with environment.begin(db=names) as transaction:
        found[number] = sum(float(value) for _, value in transaction.cursor())


found = {}
threads = [threading.Thread(target=read, args=(found, i)) for i in range(4)]
for thread in threads:
    thread.start()
with environment.begin(write=True, db=names) as transaction:
    for i in range(0, 200, 2):
        transaction.delete(b"%03d" % i)
for thread in threads:
    thread.join()
print(sorted(found.items()))

try:
    with environment.begin(write=True, db=names) as transaction:
        for i in range(4000):
            transaction.put(b"large %d" % i, bytes(1000))
except lmdb.MapFullError as error:
    print(error)
environment.set_mapsize(16 << 20)
with environment.begin(write=True, db=names) as transaction:
    for i in range(4000):
        transaction.put(b"large %d" % i, b"%d" % time.time_ns())
    print(transaction.get(b"large 3999"), transaction.stat(names))
environment.close()

with lmdb.open(folder, readonly=True, max_dbs=2) as again, again.begin(db=again.open_db(b"names")) as transaction:
    print(transaction.get(b"001"), transaction.get(b"002"), transaction.get(b"large 17"))
    print([key for key, _ in transaction.cursor()][:5])
