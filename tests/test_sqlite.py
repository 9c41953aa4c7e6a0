"""sqlite3, whose C code calls back wherever it can: recorded, and replayed without the library's help."""


def test_sqlite(trial):
    trial.assert_replays(["sqlite_parts.py"], programs=["sqlite_parts.py"], deterministic=True)
