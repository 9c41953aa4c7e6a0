"""What C writes to stderr by Python's streams, in a call of the outside: exceptions of callbacks, warnings."""

import datetime
import sqlite3
import sys

sqlite3.enable_callback_tracebacks(True)
connection = sqlite3.connect(":memory:")


def fails():
    raise ValueError("in the function")


connection.create_function("fails", 0, fails)
for _ in range(2):
    try:
        connection.execute("select fails()")
    except sqlite3.OperationalError as error:
        print(error, flush=True)
print("between", file=sys.stderr)
if "warnings" not in sys.modules and sys.version_info >= (3, 12):
    # A warning that C shows itself.
    print(datetime.datetime.utcnow().year > 2000)
