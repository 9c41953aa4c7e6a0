"""psutil and watchfiles: what C and Rust code ask of interfaces, processes, disks and folders."""

import os
import pathlib
import threading
import time

import psutil
from watchfiles import watch

for name, addresses in sorted(psutil.net_if_addrs().items()):
    print(name, *addresses)
print(psutil.net_if_stats())
print(psutil.cpu_times(), psutil.cpu_count(), psutil.virtual_memory(), psutil.boot_time())
print(psutil.disk_usage("."), len(psutil.disk_partitions(all=True)))
own = psutil.Process()
print(own.pid, own.name(), own.create_time(), own.memory_info(), own.cpu_affinity(), own.nice(), own.ionice())
print(psutil.users(), len(psutil.pids()))

folder = pathlib.Path("watched")
(folder / "inner" / "most").mkdir(parents=True)
(folder / "inner" / "first").write_text("1")
stop = threading.Event()


def change():
    for step in [
        lambda: (folder / "inner" / "second").write_text("2"),
        lambda: (folder / "inner" / "most" / "third").write_text("3"),
        lambda: (folder / "inner" / "first").unlink(),
    ]:
        time.sleep(0.2)
        step()
    time.sleep(0.4)
    stop.set()


thread = threading.Thread(target=change)
thread.start()
for changes in watch(folder, stop_event=stop, debounce=100, step=20):
    print(time.time(), sorted((change.name, os.path.relpath(path)) for change, path in changes), flush=True)
thread.join()
