"""Prints the number of everything that the modules in USED of iteration_order.py hold, two levels deep, as JSON.

argv[1] is a variant, as there: what a process did before the install may not show in any of the numbers.
"""
import json
import sys
import types
from pathlib import Path

source = Path(__file__).with_name("iteration_order.py").read_text()
exec(source[:source.index("import asyncio, contextvars")])

import identity_probe

identity_probe.install()
numbers = {}
for module_name in USED:
    for name, value in vars(sys.modules[module_name]).items():
        path = f"{module_name}.{name}"
        numbers[path] = identity_probe.of(value)
        if not isinstance(value, types.ModuleType) and hasattr(value, "__dict__"):
            for attribute, inner in vars(value).items():
                numbers[f"{path}.{attribute}"] = identity_probe.of(inner)
json.dump(numbers, sys.stdout)
