"""Clients of services: redis-py against a real Redis, which is gone before the replay; boto3 against a moto server."""

import subprocess
import time

import pytest


@pytest.fixture
def redis_server(tmp_path):
    """The port of a running Redis, and what stops it."""
    log = tmp_path / "redis.log"
    # Port 0 would mean no TCP at all; the first free one above the numbers that the kernel gives to clients is taken.
    for port in range(61_001, 65_000):
        log.unlink(missing_ok=True)
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path, "--logfile", log]
        server = subprocess.Popen(["redis-server", *options])
        while server.poll() is None and "Ready to accept" not in (log.read_text() if log.exists() else ""):
            time.sleep(0.02)
        if server.poll() is None:
            break

    def stop():
        server.terminate()
        server.wait()

    yield port, stop
    stop()


def test_redis(trial, venv, redis_server):
    port, stop = redis_server
    argv = ["redis_client.py", str(port)]
    trial.use(venv("redis")).assert_replays(argv, programs=["redis_client.py"], stop=stop)


@pytest.mark.stacks
def test_boto3(trial, venv):
    trial.use(venv("boto3", "moto[server]")).assert_replays(["boto3_client.py"], programs=["boto3_client.py"])
