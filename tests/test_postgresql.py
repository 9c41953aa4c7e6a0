"""Drivers that bring libpq and do their own I/O in C: recorded against a real server, replayed with it stopped."""

import pytest

FOLDER = "postgresql"
PSYCOPG2 = "psycopg2-binary"
PSYCOPG3 = "psycopg[binary]"


@pytest.fixture
def replays(trial, venv, database):
    """replays("basics", argument, "psycopg2-binary"): the program with these packages, the server stopped in between."""

    def check(program, argument, *requirements):
        trial.use(venv(*requirements))
        argv = [f"{FOLDER}/{program}.py", argument]
        return trial.assert_replays(argv, programs=[FOLDER], stop=database.stop)

    return check


@pytest.mark.parametrize("program", ["basics", "types", "cursors", "copy", "messages", "threads"])
def test_psycopg2(replays, database, program):
    replays(f"psycopg2_{program}", database.dsn(), PSYCOPG2)


@pytest.mark.parametrize("program", ["basics", "copy", "threads"])
def test_psycopg2_over_tls_with_a_password(replays, database, program):
    recorded = replays(f"psycopg2_{program}", database.secured(), PSYCOPG2)
    assert program != "basics" or b" True\n" in recorded.stdout.splitlines(keepends=True)[0]


@pytest.mark.parametrize("security", ["plain", "tls"])
def test_psycopg3(replays, database, security):
    dsn = database.secured() if security == "tls" else database.dsn()
    assert replays("psycopg3_all", dsn, PSYCOPG3).stdout.startswith(b"binary True\n")


@pytest.mark.parametrize(("driver", "package"), [("psycopg2", PSYCOPG2), ("psycopg", PSYCOPG3)])
@pytest.mark.parametrize("program", ["orm", pytest.param("threads", marks=pytest.mark.stacks)])
def test_sqlalchemy(replays, database, program, driver, package):
    replays(f"sqlalchemy_{program}", database.url(driver), package, "sqlalchemy")


def test_a_socket_in_the_file_system(replays, database):
    replays("psycopg2_basics", database.dsn(host=database.folder), PSYCOPG2)


def test_a_password_file(replays, database, tmp_path):
    """libpq reads it as a stream, and looks at its mode."""
    passwords = tmp_path / "passwords"
    passwords.write_text("# several\nelsewhere:*:*:*:wrong\n127.0.0.1:*:*:secured:the secret\n")
    passwords.chmod(0o600)
    replays("psycopg2_basics", database.secured(password=None, passfile=passwords), PSYCOPG2)
