"""Interpreters other than the main one keep CPython's hashes and never touch the main one's table."""
import sys
import threading

import identity_probe

import _xxsubinterpreters

# An install from another interpreter is refused, and leaves it working. (3.12 refuses to import the module there.)
if sys.version_info < (3, 12):
    i = _xxsubinterpreters.create()
    _xxsubinterpreters.run_string(i, f"""
import sys
sys.path[:] = {sys.path!r}
import identity_probe
try:
    identity_probe.install()
except RuntimeError as e:
    assert "main interpreter" in str(e)
else:
    assert False
assert int in {{int, str}}
""")
    _xxsubinterpreters.destroy(i)

identity_probe.install()
kept = [object() for _ in range(1000)]
numbers = [hash(x) for x in kept]
program = """
class C: pass
for _ in range(200):
    live = [object() for _ in range(500)] + [C() for _ in range(500)] + [lambda: 0 for _ in range(500)]
    s = set(live) | {int, str, len, None}
    assert all(x in s for x in live) and {int, str, len, None} <= s
    assert hash(live[0]) > 1 << 20
"""
interpreters = [_xxsubinterpreters.create() for _ in range(2)]
done = []
threads = [threading.Thread(target=lambda i=i: (_xxsubinterpreters.run_string(i, program), done.append(i)))
           for i in interpreters]
for t in threads:
    t.start()
while any(t.is_alive() for t in threads):
    batch = [object() for _ in range(1000)]
    assert len(set(batch)) == 1000 and [hash(x) for x in kept] == numbers
for t in threads:
    t.join()
assert len(done) == 2
for i in interpreters:
    _xxsubinterpreters.destroy(i)
assert [hash(x) for x in kept] == numbers
assert hash(object()) < 1 << 60
print("ok")
