"""What CPython's own test package of this name consists of, in one file: the installation may lack the package."""

import unittest

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "spawn")

if __name__ == "__main__":
    unittest.main()
