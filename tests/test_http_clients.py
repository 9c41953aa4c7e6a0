"""HTTP clients and asynchronous frameworks, client and server in one process: recorded, and replayed alone."""

import pytest

PACKAGES = ("requests", "httpx", "aiohttp", "anyio", "flask", "gunicorn")
TRIO = ("trio", "anyio")


@pytest.mark.parametrize(
    ("command", "packages"),
    [
        ("http_clients.py", PACKAGES),
        ("aiohttp_server.py", PACKAGES),
        ("anyio_parts.py asyncio", PACKAGES),
        ("anyio_parts.py trio", TRIO),
        ("trio_parts.py", TRIO),
        ("uvloop_parts.py", ("uvloop",)),
    ],
)
def test_http_clients(trial, venv, command, packages):
    program, *rest = command.split()
    trial.use(venv(*packages)).assert_replays([program, *rest], programs=[program])
