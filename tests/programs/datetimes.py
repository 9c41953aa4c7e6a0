"""Everything in `datetime` that asks for the time or the time zone."""

import datetime
import email.utils
import logging
import zoneinfo
from datetime import timezone


class Stamp(datetime.datetime):
    """A subclass: `now` makes one of these."""


class Day(datetime.date):
    pass


print(datetime.datetime.now(), repr(datetime.datetime.now(timezone.utc)))
print(datetime.datetime.now(tz=timezone(datetime.timedelta(hours=5, minutes=30))))
print(datetime.datetime.today(), datetime.date.today())
print(repr(Stamp.now()), repr(Stamp.today()), repr(Day.today()), type(Stamp.now(timezone.utc)).__name__)
print(datetime.datetime.now().astimezone(), datetime.datetime.now().astimezone().tzname())
print(datetime.datetime.now().timestamp(), datetime.datetime.fromtimestamp(1_700_000_000))
print(datetime.datetime.utcnow().isoformat(), datetime.datetime.utcfromtimestamp(1_700_000_000))
print(datetime.date.fromtimestamp(datetime.datetime.now().timestamp()))
print(datetime.datetime.now().time(), datetime.datetime.now().strftime("%A %d %B %Y %X"))
try:
    print(datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Amsterdam")).utcoffset() is not None)
except zoneinfo.ZoneInfoNotFoundError as error:
    print("no zone files here:", error)
print(email.utils.formatdate(), email.utils.formatdate(localtime=True), email.utils.localtime())



class Zone(datetime.tzinfo):
    """Called back with a time that is in this very zone: `fromutc` insists. Can't be copied to the same."""

    def utcoffset(self, when):
        return datetime.timedelta(hours=2)

    def dst(self, when):
        return datetime.timedelta(0)

    def fromutc(self, when):
        print(when.tzinfo is self, when)
        return super().fromutc(when)


zone = Zone()
here = datetime.datetime.now(zone)
print(here.isoformat(), here.tzinfo is zone, here.astimezone(Zone()).isoformat(), datetime.datetime.fromtimestamp(0, zone))

start = datetime.datetime.now()
moments = [datetime.datetime.now() for _ in range(500)]
print(len(set(moments)), sum((m - start).microseconds for m in moments))

logging.basicConfig(format="%(asctime)s %(msecs)d %(relativeCreated)d %(process)d %(levelname)s %(message)s")
logging.warning("a log line carries the time, the process and the thread")
