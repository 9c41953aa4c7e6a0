"""Load from a process that is not recorded: `load.py PORT REQUESTS AT-A-TIME PATH…`. Fails unless all are answered."""

import http.client
import itertools
import sys
import threading

port, total, at_a_time = map(int, sys.argv[1:4])
paths = sys.argv[4:]
numbers = itertools.count()
failures = []


def ask():
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while (k := next(numbers)) < total:
        try:
            connection.request("GET", f"{paths[k % len(paths)]}/{k}")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                failures.append(response.status)
        except (OSError, http.client.HTTPException) as error:
            # A worker may close a connection that was kept open: that answer is lost, the next one is not.
            failures.append(repr(error))
            connection.close()


threads = [threading.Thread(target=ask) for _ in range(at_a_time)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failures:
    sys.exit(f"{len(failures)} of {total} requests failed: {failures[:3]}")
