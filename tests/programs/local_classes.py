"""Classes of a function's own, which no name leads to, given to external code: time zones, factories."""

import datetime
import sqlite3


def zones():
    class Zone(datetime.tzinfo):
        def __init__(self, offset):
            self.offset = offset

        def utcoffset(self, when):
            return self.offset

        def dst(self, when):
            return None

        def fromutc(self, when):
            return when + self.offset

    class When(datetime.datetime):
        def __new__(cls, *args, **kwargs):
            made = super().__new__(cls, *args, **kwargs)
            made.extra = 7
            return made

    hour = datetime.timedelta(hours=1)
    for kind in (datetime.datetime, When):
        for offset in (1, None, hour):
            when = kind(2020, 1, 2, 3, 4, 5).replace(tzinfo=Zone(offset))
            for ask in (when.astimezone, when.timestamp, lambda when=when: when.astimezone(Zone(2 * hour))):
                try:
                    print(repr(ask()).partition("tzinfo")[0])
                except TypeError as error:
                    print(error)
    when = When(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    for made in (when.astimezone(Zone(hour)), When.now(), When.fromtimestamp(5), When.now(Zone(hour))):
        print(type(made) is When, made.extra, made)


def factories():
    class Row:
        def __init__(self, cursor, row):
            self.row = row

    class Defect(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            return None

    class Fine(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.made = "here"

    class Cursor(sqlite3.Cursor):
        def __init__(self, *args):
            super().__init__(*args)
            self.made = "there"

    connection = sqlite3.connect(":memory:")
    connection.row_factory = Row
    cursor = connection.cursor()
    print([row.row for row in cursor.execute("select 1 union select 2").fetchall()])
    print([row.row for row in connection.execute("select 3")])
    connection.row_factory = lambda cursor, row: list(row)
    print(connection.execute("select 4").fetchone(), cursor.execute("select 5").fetchone().row)
    try:
        sqlite3.connect(":memory:", factory=Defect).cursor()
    except sqlite3.ProgrammingError as error:
        print(error)
    connection = sqlite3.connect(":memory:", 5.0, 0, None, True, Fine)
    print(connection.made, type(connection) is Fine, connection.execute("select 6").fetchall())
    for cursor in (connection.cursor(factory=Cursor), connection.cursor(Cursor)):
        print(cursor.made, type(cursor) is Cursor, cursor.execute("select 7, 8").fetchall())


def clocks():
    """What makes these runs no code of the class's."""

    class Moment(datetime.datetime):
        def year_twice(self):
            return self.year * 2

    class Day(datetime.date):
        pass

    now = Moment.now()
    print(now, now.year_twice(), [type(made) is Moment for made in (now, Moment.today(), Moment.fromtimestamp(1))])
    print(Moment.now(datetime.timezone.utc), now.astimezone(), type(now.astimezone()) is Moment)
    print(Day.today(), type(Day.today()) is Day, Day.fromtimestamp(86400.5))


zones()
factories()
clocks()
