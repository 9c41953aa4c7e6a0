"""C code writes to what the program has put in the place of `sys.stderr`: a callback of an object that no call was given."""

import datetime
import sys
import warnings
import weakref


class Stream:
    def write(self, text):
        written.append((self is stream, text))

    def flush(self):
        pass


written = []
before, stream = sys.stderr, Stream()
sys.stderr = stream
warnings.simplefilter("always")
datetime.datetime.utcnow()
weakref.ref(stream, print)
sys.stderr = before
print(written)
