"""Runs one of CPython's own test modules: `run_cpython_tests.py plain|installed test.test_set`.

The last line on stdout is JSON, to compare the two modes by. `installed`: many modules are loaded, then the identity
hashes are put in, then the test runs.
"""
import importlib
import io
import json
import sys
import unittest

MODULES = """asyncio json typing dataclasses unittest logging decimal http.client concurrent.futures sqlite3 inspect
pickle copy collections functools enum ctypes xml.etree.ElementTree multiprocessing email.message argparse csv zipfile
difflib threading statistics fractions ipaddress uuid test.support""".split()

mode, name = sys.argv[1:]
for module in MODULES:
    importlib.import_module(module)
if mode == "installed":
    import identity_probe

    identity_probe.install()
result = unittest.TextTestRunner(stream=io.StringIO(), verbosity=0).run(unittest.TestLoader().loadTestsFromName(name))
failed = result.failures + result.errors
for test, text in failed:
    print(test, text, file=sys.stderr)
print()
print(json.dumps({"run": result.testsRun, "skipped": len(result.skipped), "failed": sorted(str(t) for t, _ in failed)}))
