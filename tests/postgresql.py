"""A PostgreSQL server of the tests' own: TLS, a user with a SCRAM password, and others who need none."""

import glob
import os
import shutil
import socket
import subprocess
from pathlib import Path

ACCESS = """
local   all all      trust
hostssl all secured  127.0.0.1/32 scram-sha-256
host    all all      127.0.0.1/32 trust
"""


def program(name: str) -> str:
    """A program of the newest PostgreSQL here: Debian keeps servers out of PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}")) or [shutil.which(name)]
    assert found[-1], f"PostgreSQL's {name} is missing: install Debian's postgresql"
    return found[-1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Made once; started and stopped as often as one likes. It refuses to run as root, so it runs as `postgres` then."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "data"
        self.running = False
        self.certificate = folder / "server.crt"
        self.user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(folder, "postgres")
        self._run([program("initdb"), "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"])
        (self.data / "pg_hba.conf").write_text(ACCESS)
        request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        self._run(["openssl", *request.split(), "-keyout", folder / "server.key", "-out", self.certificate])
        self.port = free_port()
        self.start()
        self._execute("CREATE USER secured PASSWORD 'the secret'; CREATE USER tester SUPERUSER")
        self.databases = 0

    def _run(self, command) -> None:
        command = [*self.user, *map(str, command)]
        # The server keeps what it is given: not a pipe, whose end nobody would see.
        with open(self.folder / "tests.log", "ab") as log:
            done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert done.returncode == 0, f"{command}\n{Path(log.name).read_text()}"

    def _execute(self, sql: str) -> None:
        self._run([program("psql"), "-q", "-h", self.folder, "-p", self.port, "-U", "postgres", "-c", sql])

    def new_database(self) -> str:
        """The name of an empty database."""
        self.databases += 1
        name = f"empty{self.databases}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def _control(self, *arguments) -> None:
        self._run([program("pg_ctl"), "-s", "-w", "-D", self.data, "-l", self.folder / "server.log", *arguments])

    def start(self) -> "Server":
        if not self.running:
            settings = {
                "port": self.port,
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": self.folder,
                "fsync": "off",
                "ssl": "on",
                "ssl_cert_file": self.certificate,
                "ssl_key_file": self.folder / "server.key",
                "password_encryption": "scram-sha-256",
            }
            self._control("-o", " ".join(f"-c {name}={value}" for name, value in settings.items()), "start")
            self.running = True
        return self

    def stop(self) -> None:
        if self.running:
            self._control("-m", "fast", "stop")
            self.running = False

    def dsn(self, **more) -> str:
        """Without TLS, as a user who needs no password."""
        return self._dsn({"user": "tester", "sslmode": "disable"} | more)

    def secured(self, **more) -> str:
        """With TLS, the server's certificate verified, and a SCRAM password."""
        access = {"user": "secured", "password": "'the secret'"}
        return self._dsn(access | {"sslmode": "verify-full", "sslrootcert": self.certificate} | more)

    def url(self, driver: str) -> str:
        return f"postgresql+{driver}://tester@127.0.0.1:{self.port}/postgres"

    def _dsn(self, settings) -> str:
        place = {"host": "127.0.0.1", "port": self.port, "dbname": "postgres"}
        return " ".join(f"{name}={value}" for name, value in (place | settings).items() if value is not None)
