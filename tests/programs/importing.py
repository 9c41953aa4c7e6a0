"""A program in several files: a package, a module in a zip file, a data file read by importlib.resources."""

import importlib
import importlib.resources
import sys
import time

sys.path.insert(0, "bundle.zip")
import bundled
import shop
from shop import prices

print(shop.LOADED_AT < time.time_ns(), shop.LOADED_AT, prices.price("apple"), bundled.hello())
print(importlib.resources.files("shop").joinpath("data.txt").read_text())
print(importlib.import_module("shop.late").VALUE, sys.modules["shop.late"].__file__, prices.__spec__.origin)
try:
    import shop.broken
except SyntaxError as error:
    print(error.lineno, error.filename, error.text)
try:
    import shop.absent
except ImportError as error:
    print(error)
print(prices.fail.__code__.co_firstlineno)
prices.fail()
