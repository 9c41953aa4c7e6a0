"""Garbage collections begin where they began, also in code that crosses no boundary."""

import re

import pytest


@pytest.mark.parametrize(
    "part",
    [
        "cycles",
        "cycles_in_threads",
        "callbacks",
        "counts",
        "counts_in_threads",
        "thresholds",
        "small_thresholds",
        "freezing",
        "disabling",
        "weak_references",
        "resurrected",
        "in_handlers",
        "picklers",
    ],
)
def test_part(trial, part):
    recorded = trial.assert_replays(["garbage.py", part], programs=["garbage.py"])
    assert recorded.stdout and not recorded.stderr, recorded


def test_a_small_threshold_collects_at_once(trial):
    recorded = trial.assert_replays(["garbage.py", "at_once"], programs=["garbage.py"])
    for line in recorded.stdout.decode().splitlines():
        threshold, *_, last = line.split()
        # While the generator is resumed, or with the objects that are made after that.
        assert "start" in line and (last == "resumed" or int(threshold) > 2), recorded


def test_callbacks_that_fail(trial):
    recorded = trial.assert_replays(["garbage.py", "callbacks_that_fail"], programs=["garbage.py"])
    assert b"ValueError('start', 0) True " in recorded.stderr, recorded


@pytest.mark.parametrize("part", ["cycles", "methods", "unraisable", "files"])
def test_kept_by_c(trial, part):
    recorded = trial.assert_replays(["kept_by_c.py", part], programs=["kept_by_c.py"])
    if part == "cycles":
        assert (recorded.stdout.count(b"database"), recorded.stdout.count(b"server")) == (5, 3), recorded
    elif part == "methods":
        assert recorded.stdout.count(b"select double") == 3, recorded
    elif part == "unraisable":
        assert recorded.stdout.count(b"UnraisableHookArgs <class 'ValueError'>") == 2, recorded
        told = re.search(rb"OverflowError'> .* (True|False) (\[.*\])", recorded.stdout)
        assert told and told[1] == b"True" and told[2].startswith(b"[('unraisable', "), recorded


SETTERS = (b"create_function", b"create_collation", b"set_authorizer", b"set_trace_callback", b"set_progress_handler")


PARTS = ["handlers", "finalizers", "clears", "converters", "again", "connections", "connections_in_threads", "known_weakly"]
PARTS += ["called_when_closed"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_let_go_of(trial, part):
    recorded = trial.assert_replays(["let_go.py", part], programs=["let_go.py"], deterministic=part != "again")
    told = {
        "handlers": [b"deleted: a global", b"written: b'not"],
        "finalizers": [b"ResourceWarning unclosed"],
        "clears": [b"joined"],
        "converters": [b"('a global',)", b"deleted: a global", b"written: b'not"],
        "again": [b"True 19"],
        "connections": [b"by the collector\na connection is deleted", *[setter + b" True\nclosed False" for setter in SETTERS]],
        "connections_in_threads": [b"joined"],
        "known_weakly": [b"gone: True True\nNone False", b"finalized: Cursor", b"gone: True True\nFalse True None", b"\n0\n"],
        "called_when_closed": [b"deleted: function", b"deleted: method", b"deleted: object"],
    }
    assert all(text in recorded.stdout for text in told[part]), recorded
