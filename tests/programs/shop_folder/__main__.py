"""`python shop_folder`."""

import sys
import time

import helper

print(__name__, sys.argv, sys.path[0].endswith("shop_folder"), helper.NOW < time.time_ns(), helper.NOW)
