"""What missing ratings may hide, by hand and by simulation."""

import math

import numpy as np
import pytest

from kamerton.experiments.missing import MissingRatings, read_missing
from kamerton.experiments.sequential import ConfidenceSequence

SEQUENCE = ConfidenceSequence(400)


def read(rates: tuple[float, float], seed: int, units: int = 200) -> MissingRatings:
    """Two requests a unit, equally good in both arms, rated at the given rates."""
    rng = np.random.default_rng(seed)
    arms = np.repeat(["a", "b"], 2 * units)
    rated = rng.random(4 * units) < np.where(arms == "a", *rates)
    outcomes = np.where(rated, rng.random(4 * units) < 0.7, np.nan)
    return read_missing(np.arange(4 * units) // 2, arms, outcomes, ("a", "b"), (0.0, 1.0), SEQUENCE)


def test_the_worst_case_by_hand() -> None:
    units, arms = ["1", "1", "2", "2", "3", "3", "4", "4"], ["a"] * 4 + ["b"] * 4
    ratings = [5, math.nan, 3, 3, 4, 4, math.nan, 4]
    found = read_missing(units, arms, ratings, ("a", "b"), (1.0, 5.0), SEQUENCE)
    assert (found.rate.control_value, found.rate.value) == (0.75, 0.75)
    # Control 16/4 at best and 12/4 at worst; arm 13/4 at worst and 17/4 at best.
    assert found.worst_case.low == pytest.approx(13 / 4 - 16 / 4)
    assert found.worst_case.high == pytest.approx(17 / 4 - 12 / 4)
    assert found.interval.low == -math.inf  # two units bound nothing


def test_equal_rates_are_comparable_and_bounds_grow_with_what_is_missing() -> None:
    few, most = read((0.2, 0.2), 1), read((0.95, 0.95), 2)
    assert few.comparable
    assert most.comparable
    for found in (few, most):
        assert found.interval.low < found.worst_case.low <= 0 < found.worst_case.high
        assert found.worst_case.high < found.interval.high
    assert few.worst_case.high - few.worst_case.low == pytest.approx(1.6, abs=0.1)
    assert most.worst_case.high - most.worst_case.low == pytest.approx(0.1, abs=0.05)


def test_an_arm_that_loses_its_raters_is_not_comparable() -> None:
    found = read((0.5, 0.25), 3)
    assert not found.comparable
    assert found.p_value < 0.01


def test_rates_of_one_do_not_break() -> None:
    found = read((1.0, 1.0), 4)
    assert found.p_value == 1
    assert found.worst_case.low == found.worst_case.high
