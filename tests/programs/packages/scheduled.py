"""apscheduler: a job that comes again, and one that fails, in threads of its own."""

from apscheduler.schedulers.background import BackgroundScheduler
import time, random, threading, logging, sys

logging.basicConfig(stream=sys.stdout, level=logging.INFO)
n = 0
done = threading.Event()


def job():
    global n
    n += 1
    print("job", n, time.time())
    if n == 5:
        done.set()


def bad():
    raise ValueError("x")


s = BackgroundScheduler()
s.add_job(job, "interval", seconds=0.1)
s.add_job(bad, "date")
s.start()
done.wait(10)
s.print_jobs()
s.shutdown()
print("end")
