"""Packages that people run: a program that works with each, recorded, and replayed alone. Those of test_http_clients.py,
test_web_servers.py, test_services.py and test_extensions.py are there."""

import pytest

GREEN = [
    ("greenlets", ["greenlet>=3"]),
    ("gevent_parts", ["gevent>=23", "requests"]),
    ("hubs", ["gevent>=23", "requests"]),
    ("eventlet_parts", ["eventlet>=0.36"]),
    ("sqlalchemy_asyncio", ["sqlalchemy[asyncio]>=2", "aiosqlite>=0.20"]),
]


@pytest.mark.parametrize(("program", "requirements"), GREEN)
def test_greenlets(trial, venv, program, requirements):
    trial.use(venv(*requirements)).assert_replays([f"green/{program}.py"], programs=["green"])
