"""Sums by unit, by hand."""

import math

import numpy as np
import pytest

from kamerton.experiments.outcomes import first_arms, sum_by_unit

UNITS = ["anna", "anna", "boris", "clara", "clara", "dina", "emil", "emil"]
ARMS = ["lora", "lora", "prefix", "lora", "prefix", "lora", "prefix", "prefix"]
RATED = [1, 0, 1, 1, 1, math.nan, math.nan, 1]


def test_a_unit_counts_once_and_those_in_two_arms_are_set_apart() -> None:
    found = sum_by_unit(UNITS, ARMS, RATED, ["lora", "prefix"])
    assert found.num_in_two_arms == 1  # Clara
    lora, prefix = found.arms
    assert (lora.sums.tolist(), lora.denominators.tolist()) == ([1], [2])
    assert (lora.num_requests, lora.num_without_outcome) == (3, 1)  # Dina rated nothing
    assert (prefix.sums.tolist(), prefix.denominators.tolist()) == ([1, 1], [1, 1])
    assert prefix.num_requests == 3
    assert (lora.value, prefix.value) == (0.5, 1)
    assert found["prefix"] is prefix


def test_a_mean_over_units_divides_each_sum_by_one() -> None:
    found = sum_by_unit(UNITS, ARMS, [3, 4, 5, 6, 7, 8, 9, 10], ["lora", "prefix"], kind="mean")
    assert found["lora"].sums.tolist() == [7, 8]
    assert found["lora"].value == 7.5
    assert found["prefix"].value == (5 + 19) / 2


def test_denominators_make_a_ratio_of_two_sums() -> None:
    cost, solved = [2, 4, 3, 0, 0, 5, 1, 1], [1, 0, 1, 1, 1, 0, 1, 1]
    found = sum_by_unit(UNITS, ARMS, cost, ["lora", "prefix"], denominators=solved)
    # Dina's request solved nothing: she has no denominator and stands apart.
    assert (found["lora"].value, found["lora"].num_without_outcome) == (6, 1)


def test_covariates_follow_their_units_and_unknown_ones_are_missing() -> None:
    before = {"anna": 0.25, "emil": 0.75}
    found = sum_by_unit(UNITS, ARMS, RATED, ["lora", "prefix"], covariates=before)
    covariate = found["prefix"].covariate
    assert covariate is not None
    assert np.isnan(covariate).tolist() == [True, False]
    assert covariate[1] == 0.75


def test_an_arm_without_units_is_empty() -> None:
    found = sum_by_unit(["anna"], ["lora"], [1.0], ["lora", "prefix"])
    assert found["prefix"].num_units == 0
    assert math.isnan(found["prefix"].value)


def test_an_unknown_arm_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="one of the names"):
        sum_by_unit(["anna"], ["qlora"], [1.0], ["lora", "prefix"])


def test_the_first_exposure_counts() -> None:
    days, arms = first_arms(["b", "a", "b", "a"], ["x", "y", "y", "x"], [3, 2, 1, 2])
    assert days.tolist() == [1, 2]
    assert arms.tolist() == ["y", "y"]
