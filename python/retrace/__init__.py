"""Retrace: deterministic record and replay for CPython.

This package is the launcher. Programs that are recorded never import it: `python -m retrace install` puts a `.pth` in
place that runs `_start.py` beside this file when a recording is asked for, and that leaves nothing behind.
"""

__version__ = "0.1.0"
