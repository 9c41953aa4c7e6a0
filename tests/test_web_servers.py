"""Web servers under load from a process that is not recorded; every process of the tree replays alone."""

import signal

import pytest
from servers import Server, replay_all

from test_http_clients import PACKAGES


def test_flask_under_werkzeug(trial, venv):
    """A thread for every connection, 16 at a time."""
    trial.use(venv(*PACKAGES)).prepare("flask_app.py")
    server = Server(trial, ["flask_app.py"])
    server.load(1000, 16, "/json", "/hits")
    recorded = server.stop()
    assert recorded.exit == 0 and recorded.stdout.count(b"] request ") == 500, recorded
    replay_all(trial, recorded)


@pytest.mark.parametrize("workers", ["sync", "gthread", "gevent"])
def test_flask_under_gunicorn(trial, venv, workers):
    """Two workers forked before the load comes, ended by their parent, which gets SIGTERM."""
    packages = ("flask", "gunicorn", "gevent>=23", "packaging") if workers == "gevent" else PACKAGES
    trial.use(venv(*packages)).prepare("flask_app.py")
    options = f"--workers 2 --worker-class {workers} --threads {4 if workers == 'gthread' else 1} --bind 127.0.0.1:0"
    server = Server(trial, ["-m", "gunicorn", *options.split(), "flask_app:app"])
    server.load(400, 16, "/json", "/hits")
    recorded = server.stop()
    assert recorded.exit == 0 and recorded.stdout.count(b"] request ") == 200, recorded
    processes = replay_all(trial, recorded)
    assert [process["start"]["parent"] for process in processes] == [None, 0, 0], processes


@pytest.mark.parametrize(
    ("package", "how"), [("uvicorn", "--loop asyncio --http h11"), ("uvicorn[standard]", "--loop uvloop --http httptools")]
)
def test_fastapi_under_uvicorn(trial, venv, package, how):
    trial.use(venv("fastapi", package)).prepare("fastapi_app.py")
    options = f"{how} --port 0 fastapi_app:app"
    server = Server(trial, ["-m", "uvicorn", *options.split()])
    server.load(200, 8, "/json", "/work")
    recorded = server.stop()
    # uvicorn ends by the signal that it was sent.
    assert recorded.exit == -signal.SIGTERM and recorded.stdout.count(b"] request ") == 100, recorded
    replay_all(trial, recorded)


DJANGO = ("django", "gunicorn")


def test_django(trial, venv):
    """Migrations, the admin, sessions, transactions; functions in Python that the ORM gives to SQLite."""
    trial.use(venv(*DJANGO)).assert_replays(["shop_site/visit.py"], programs=["shop_site"])


def test_django_under_gunicorn(trial, venv):
    trial.use(venv(*DJANGO)).prepare("shop_site")
    migrated = trial.plain(["shop_site/manage.py", "migrate"])
    assert migrated.exit == 0, migrated
    options = "--workers 2 --bind 127.0.0.1:0 --chdir shop_site django.core.wsgi:get_wsgi_application()"
    server = Server(trial, ["-m", "gunicorn", *options.split()], env={"DJANGO_SETTINGS_MODULE": "shop.settings"})
    server.load(200, 16, "/items")
    recorded = server.stop()
    assert recorded.exit == 0, recorded
    replay_all(trial, recorded)


POSTGRESQL_DRIVERS = ["psycopg[binary]", pytest.param("psycopg2-binary", marks=pytest.mark.stacks)]


@pytest.mark.parametrize("driver", POSTGRESQL_DRIVERS)
def test_django_on_postgresql(trial, venv, database, driver):
    env = {"SHOP_POSTGRESQL": f"{database.port}/{database.new_database()}"}
    trial.use(venv("django", driver))
    trial.assert_replays(["shop_site/visit.py"], programs=["shop_site"], env=env, stop=database.stop)


@pytest.mark.parametrize("driver", POSTGRESQL_DRIVERS)
def test_django_on_postgresql_over_tls_in_threads(trial, venv, database, driver):
    """Threads that connect at once: the driver's libraries set up what they share, without the GIL."""
    env = {"SHOP_POSTGRESQL": f"{database.port}/{database.new_database()}", "PGSSLMODE": "require"}
    trial.use(venv(*DJANGO, driver)).prepare("shop_site")
    migrated = trial.plain(["shop_site/manage.py", "migrate"], env=env)
    assert migrated.exit == 0, migrated
    options = "--workers 2 --worker-class gthread --threads 4 --bind 127.0.0.1:0 --chdir shop_site"
    command = ["-m", "gunicorn", *options.split(), "django.core.wsgi:get_wsgi_application()"]
    server = Server(trial, command, env={"DJANGO_SETTINGS_MODULE": "shop.settings", **env})
    server.load(200, 16, "/items")
    recorded = server.stop()
    assert recorded.exit == 0, recorded
    database.stop()
    replay_all(trial, recorded)
