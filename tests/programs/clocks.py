"""Every function of `time` that reads a clock, and the ones that turn a reading into something else."""

import time

print("time", time.time(), time.time_ns())
print("monotonic", time.monotonic(), time.monotonic_ns())
print("perf_counter", time.perf_counter(), time.perf_counter_ns())
print("process_time", time.process_time(), time.process_time_ns())
print("thread_time", time.thread_time(), time.thread_time_ns())

for name in sorted(n for n in dir(time) if n.startswith("CLOCK_")):
    clock = getattr(time, name)
    try:
        print(name, time.clock_gettime(clock), time.clock_gettime_ns(clock), time.clock_getres(clock))
    except OSError as error:
        print(name, error)

for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    print(name, time.get_clock_info(name))

# Without an argument these read the clock.
print(time.localtime(), time.localtime().tm_zone, time.localtime().tm_gmtoff)
print(time.gmtime(), repr(time.ctime()), repr(time.asctime()))
print(time.strftime("%Y-%m-%d %H:%M:%S %Z %j"))
print(time.mktime(time.localtime()))
# With one they read the time zone's files.
print(time.localtime(1_700_000_000), time.ctime(1_700_000_000.75), time.gmtime(0))
print(time.tzname, time.timezone, time.altzone, time.daylight)

# Names bound before, methods of the module's dict and calls through `map` are the same function.
from time import monotonic as bound

print([f() for f in (bound, time.__dict__["time"], getattr(time, "perf_counter"))])
print(list(map(time.clock_gettime, [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC])))

before = time.monotonic()
time.sleep(0.01)
print("slept", time.monotonic() - before)
total = 0
for _ in range(2000):
    total ^= time.perf_counter_ns()
print("mixed", total)
time.tzset()
print(pow(time.pthread_getcpuclockid(__import__("threading").get_ident()), 2) >= 0)
