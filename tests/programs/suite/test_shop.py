"""What a pytest suite uses: the time, randomness, tmp_path, capsys, fixtures. One test fails."""

import random
import time

import pytest


@pytest.fixture
def price():
    return random.randrange(10**9)


def test_time_moves():
    assert time.time() > 0


def test_tmp_path(tmp_path):
    (tmp_path / "file.txt").write_text("text")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_capsys(capsys, price):
    print("price", price)
    assert capsys.readouterr().out == f"price {price}\n"


@pytest.mark.parametrize("order", [{"b", "a", "c"}], ids=str)
def test_parametrized(order):
    assert len(order) == 3


def test_fails(price, tmp_path):
    print("captured the time", time.time(), tmp_path)
    assert price == -1, f"{price} at {time.time_ns()}"
