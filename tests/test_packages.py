"""Packages that people run: a program that works with each, recorded, and replayed alone. Those of test_http_clients.py,
test_web_servers.py, test_services.py and test_extensions.py are there."""

import json
import shutil
import signal

import pytest

# What a replay ends with that comes to where its process was killed.
CUT = 71

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


# Of a few everything is small and quick.
QUICK = (
    "msgpack>=1",
    "zstandard>=0.22",
    "cffi>=1.16",
    "pynacl>=1.5",
    "bcrypt>=4",
    "aiofiles>=23",
    "websockets>=12",
    "lmdb>=1.4",
    "aiodns>=3.2,<4",
    "posix_ipc>=1.1",
    "sysv_ipc>=1.1",
    "pyzmq>=25",
)
SMALL = [
    ("small", QUICK),
    ("aiofiles_parts", QUICK),
    ("websockets_parts", QUICK),
    ("key_value", QUICK),
    ("resolver", QUICK),
    ("shared_names", QUICK),
    ("shared_keys", QUICK),
    ("messages", QUICK),
]
LARGE = [
    ("scheduled", ["apscheduler>=3.10,<4"], 0),
    ("ssh_asyncio", ["asyncssh>=2.14"], 0),
    ("ssh_threads", ["paramiko>=3.4"], 0),
    (
        "command_line run --n 4",
        ["click>=8", "rich>=13", "structlog>=24", "psutil>=5.9", "jinja2>=3", "openpyxl>=3.1"],
        3,
    ),
    ("dask_threads", ["dask[array]>=2024"], 0),
    ("columns", ["pyarrow>=15"], 0),
    ("tables", ["duckdb>=1.1"], 0),
    ("figures", ["matplotlib>=3.8"], 0),
    ("pictures", ["pillow>=10"], 0),
    ("tokens", ["tokenizers>=0.19"], 0),
    ("digests", ["xxhash", "mmh3>=4", "blake3", "pyroaring", "gmpy2", "uuid-utils", "argon2-cffi"], 0),
    ("compressed", ["brotli", "lz4>=4", "python-snappy", "cramjam", "pyzstd", "zlib-ng"], 0),
    ("spans", ["opentelemetry-sdk"], 0),
    ("repository", ["pygit2"], 0),
    ("terminals", ["pexpect>=4.9", "ptyprocess>=0.7", "prompt_toolkit>=3"], 0),
    ("tornado_parts", ["tornado>=6.3"], 0),
    ("twisted_parts", ["twisted>=23"], 0),
    ("watching", ["watchdog>=4"], 0),
]


@pytest.mark.parametrize(("program", "requirements"), SMALL)
def test_small_packages(trial, venv, program, requirements):
    trial.use(venv(*requirements)).assert_replays([f"packages/{program}.py"], programs=["packages"])


@pytest.mark.stacks
@pytest.mark.parametrize(("command", "requirements", "exit"), LARGE)
def test_packages(trial, venv, command, requirements, exit):
    program, *rest = command.split()
    trial.use(venv(*requirements)).assert_replays([f"packages/{program}.py", *rest], programs=["packages"], exit=exit)


@pytest.mark.stacks
@pytest.mark.parametrize(
    ("program", "requirements"),
    [
        ("joblib_parts", ["joblib>=1.3", "numpy"]),
        ("multiprocess_parts", ["multiprocess>=0.70.15", "dill>=0.3.7", "cloudpickle>=3"]),
        ("uvicorn_workers", ["uvicorn>=0.27"]),
    ],
)
def test_packages_with_processes(trial, venv, program, requirements):
    """Every process of the tree replays."""
    trial.use(venv(*requirements)).prepare("packages")
    recorded = trial.record([f"packages/{program}.py"])
    assert recorded.exit == 0, recorded
    shutil.rmtree(trial.work)
    trial.same(recorded, trial.replay(recorded.trace), ("recorded", "replayed"))
    processes = json.loads(trial.tool("info", "--json", recorded.trace).stdout)["processes"]
    assert len(processes) > 2, processes
    for process in processes[1:]:
        replayed = trial.replay(recorded.trace, "--process", str(process["index"]))
        # A pool ends its workers by a signal: that is where their recordings end, too. Those of a server end by one.
        assert replayed.exit in (0, CUT, -signal.SIGTERM), replayed
