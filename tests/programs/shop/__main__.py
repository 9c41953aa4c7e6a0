"""`python -m shop`."""

import sys
import time

from . import LOADED_AT, prices

print(__name__, __package__, __spec__.name, sys.argv, LOADED_AT <= time.time_ns(), LOADED_AT)
print(prices.price("pear"))
sys.exit(len(sys.argv))
