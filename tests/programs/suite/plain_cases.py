"""For unittest: one of the two fails."""

import random
import tempfile
import unittest


class Plain(unittest.TestCase):
    def test_temporary(self):
        with tempfile.TemporaryFile() as file:
            self.assertEqual(file.write(b"text"), 4)

    def test_fails(self):
        self.assertEqual(random.random(), -1)
