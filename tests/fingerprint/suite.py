"""Runs some of CPython's own tests with fingerprints taken at every check of the eval breaker.

`suite.py deep_every test.test_grammar …`. What the tests say is not looked at (some measure time or count calls): a
stale slot that is read crashes. Prints, as JSON, how many samples were taken and how many stack depths were compared.
"""
import gc
import importlib
import io
import json
import sys
import unittest

import fingerprint_probe as probe

every, *names = sys.argv[1:]
tests = [unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)) for name in names]


class Result(unittest.TextTestResult):
    def stopTest(self, test):
        super().stopTest(test)
        probe.generator_depths(gc.get_objects())


probe.start(False, int(every))
runner = unittest.TextTestRunner(stream=io.StringIO(), resultclass=Result)
result = runner.run(unittest.TestSuite(tests))
samples = probe.stop()
print()
print(json.dumps({"samples": samples, "tests": result.testsRun, "depths": probe.depths(),
                  "failed": sorted(str(t) for t, _ in result.failures + result.errors)}))
