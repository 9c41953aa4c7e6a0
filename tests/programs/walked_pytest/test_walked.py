"""Tests that pytest runs while they are recorded: fixtures, parameters, a failure, an expected exception."""

import pytest


def burn(rounds):
    total = 0
    for number in range(rounds):
        total += number % 3
    return total


@pytest.fixture
def resource():
    opened = ["open"]
    yield opened
    opened.append("closed")
    assert len(opened) == 2


@pytest.mark.parametrize("number", [1, 2])
def test_parameters(number, resource):
    doubled = [each * number for each in range(3)]
    burned = burn(2_000)
    assert doubled[1] == number
    assert burned and resource == ["open"]


def fail(number):
    if number > 1:
        raise ValueError("too many")
    return number


def test_raises():
    with pytest.raises(ValueError, match="many") as caught:
        fail(2)
    text = str(caught.value)
    assert text == "too many"


def test_fails(resource):
    wrong = fail(1)
    assert wrong == 2, resource
