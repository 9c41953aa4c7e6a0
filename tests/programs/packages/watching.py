"""watchdog: files and folders that come, move and go."""

import time, os, threading
from watchdog.observers import Observer
from watchdog.events import FileSystemEventHandler

got = []
ev = threading.Event()


class H(FileSystemEventHandler):
    def on_any_event(self, e):
        print(e.event_type, e.src_path, e.is_directory)
        if "last" in e.src_path and e.event_type == "deleted":
            ev.set()


os.mkdir("w")
o = Observer()
o.schedule(H(), "w", recursive=True)
o.start()
for i in range(5):
    with open(f"w/f{i}", "w") as f:
        f.write(str(time.time()))
    time.sleep(0.02)
os.mkdir("w/sub")
time.sleep(0.1)
open("w/sub/last", "w").close()
time.sleep(0.1)
os.rename("w/f0", "w/f9")
os.remove("w/sub/last")
print(ev.wait(5))
o.stop()
o.join()
print("end")
