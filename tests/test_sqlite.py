"""sqlite3, whose C code calls back wherever it can: recorded, and replayed without the library's help."""


def test_sqlite(trial):
    trial.assert_replays(["sqlite_parts.py"], programs=["sqlite_parts.py"], deterministic=True)


def test_what_callbacks_return_dies_where_it_would(trial):
    """And does not pile up in a call that makes many."""
    recorded = trial.assert_replays(["callback_results.py"], programs=["callback_results.py"], deterministic=True)
    assert recorded.stdout.endswith(b"grown by 0 MiB\n"), recorded


def test_what_c_code_makes_dies_where_it_would(trial):
    trial.assert_replays(["made_by_c.py"], programs=["made_by_c.py"], deterministic=True)
