"""Gives tasks to a Celery worker and checks what comes back: `celery_client.py FOLDER-OF-THE-TASKS`. Not recorded."""

import sys

sys.path.insert(0, sys.argv[1])

from celery_tasks import add, fail, flaky  # noqa: E402

sums = [add.delay(n, n) for n in range(10)]
tried, failed = flaky.delay("once more"), fail.delay("nobody")
assert [result.get(timeout=60) for result in sums] == [n + n for n in range(10)]
assert tried.get(timeout=60) == 2
error = failed.get(timeout=60, propagate=False)
assert isinstance(error, LookupError), error
