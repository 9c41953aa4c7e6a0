"""Clients of services: redis-py and Celery against a real Redis, which is gone before the replay; boto3 against a moto
server."""

import signal
import subprocess
import time

import pytest

from harness import TESTS, run
from servers import Server, replay_all


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


@pytest.mark.stacks
@pytest.mark.parametrize("pool", ["solo", "prefork --concurrency 2"])
def test_celery(trial, venv, redis_server, pool):
    """A worker that is ended by SIGTERM: results, a retry, an error. With `prefork`, processes that share memory."""
    port, stop = redis_server
    python = venv("celery[redis]")
    trial.use(python).prepare("celery_tasks.py")
    env = {"CELERY_REDIS": str(port)}
    options = f"-A celery_tasks worker --pool {pool} --loglevel WARNING --without-mingle"
    worker = Server(trial, ["-m", "celery", *options.split()], env=env)
    client = [python, TESTS / "celery_client.py", trial.work]
    asked = run(client, cwd=trial.folder, env=trial.environment(**env))
    recorded = worker.stop(signal.SIGTERM)
    stop()
    assert asked.exit == 0, asked
    assert recorded.exit == 0 and recorded.stdout.count(b"] flaky ") == 3, recorded
    replay_all(trial, recorded)
