"""Time zones: the system's, set by the program, and those of objects."""

import datetime
import os
import time
from datetime import timedelta, timezone


class Zone(datetime.tzinfo):
    """Not to be found by its name where it is made, and not to be pickled."""

    def __init__(self, hours, name):
        self.hours = hours
        self.name = name

    def utcoffset(self, when):
        print("utcoffset", self.name)
        return timedelta(hours=self.hours) if self.hours is not None else None

    def dst(self, when):
        return timedelta(0)

    def tzname(self, when):
        return self.name

    def __reduce__(self):
        raise TypeError("not this one")


def make_local_zone():
    class Local(Zone):
        pass

    return Local(3, "local")


zones = timezone.utc, timezone(timedelta(hours=-7)), Zone(5, "five"), make_local_zone()
for name in "EST+05EDT,M3.2.0,M11.1.0", "UTC0", "XYZ-3", "EST+05EDT,M3.2.0,M11.1.0":
    os.environ["TZ"] = name
    time.tzset()
    print(name, time.tzname, time.timezone, time.altzone, time.daylight)
    naive = datetime.datetime(2020, 7, 1, 12)
    print(naive.timestamp(), naive.astimezone(), naive.astimezone(timezone.utc))
    print(datetime.datetime.fromtimestamp(0), time.mktime((2020, 1, 1, 0, 0, 0, 0, 0, -1)))
    for zone in zones:
        aware = naive.replace(tzinfo=zone)
        print(aware.timestamp(), aware.astimezone(), aware.astimezone(timezone.utc), aware.tzinfo is zone)
        print(datetime.datetime.fromtimestamp(86400, zone), aware.astimezone(zones[2]).tzinfo is zones[2])
    # Without an offset of its own it is in the local zone.
    print(naive.replace(tzinfo=Zone(None, "none")).astimezone(timezone.utc))
now = datetime.datetime.now(zones[2])
print(now.tzinfo is zones[2], now.astimezone(zones[3]).tzinfo is zones[3])
