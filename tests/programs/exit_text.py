"""sys.exit with a text: it goes to stderr and the code is 1."""

import datetime
import sys

sys.exit(f"gave up at {datetime.datetime.now()}")
