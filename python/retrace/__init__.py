"""Retrace: deterministic record and replay for CPython.

`python -m retrace install` puts a `.pth` in place that runs `_start.py` beside this file when a recording is asked for,
and that leaves nothing behind. A program imports this package only for `retrace.external`.
"""

from ._external import external

__all__ = ["external"]
__version__ = "0.1.0"
