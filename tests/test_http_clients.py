"""HTTP clients and asynchronous frameworks, client and server in one process: recorded, and replayed alone."""

import pytest

PACKAGES = ("requests", "httpx", "aiohttp", "anyio", "flask", "gunicorn")


@pytest.mark.parametrize("program", ["http_clients", "aiohttp_server", "anyio_parts"])
def test_http_clients(trial, venv, program):
    trial.use(venv(*PACKAGES)).assert_replays([f"{program}.py"], programs=[f"{program}.py"])
