"""Group-sequential boundaries against published tables and simulation."""

import math

import numpy as np
import pytest

from kamerton.experiments.grouped import (
    GroupSequential,
    critical_values,
    crossing_probability,
    spent,
)


@pytest.mark.parametrize(
    "expected",
    [
        # Reboussin, DeMets, Kim and Lan (2000), O'Brien-Fleming spending, two-sided 0.05.
        [2.9626, 1.9686],
        [3.7103, 2.5114, 1.9930],
        [4.3326, 2.9631, 2.3590, 2.0141],
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
    ],
)
def test_boundaries_of_equal_looks_are_the_published_ones(expected: list[float]) -> None:
    looks = len(expected)
    found = critical_values([k / looks for k in range(1, looks + 1)], 0.05)
    assert found == pytest.approx(expected, abs=2e-4)


def test_one_look_at_the_end_is_the_plain_test() -> None:
    assert critical_values([1.0], 0.05) == pytest.approx([1.959964], abs=1e-6)
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert spent(0.5, 0.05) == pytest.approx(0.00305, abs=1e-5)


def test_very_early_looks_stop_nothing() -> None:
    found = critical_values([0.02, 1.0], 0.05)
    assert found[0] == math.inf
    assert found[1] == pytest.approx(1.959964, abs=1e-6)


def test_a_declared_end_spends_what_is_left() -> None:
    """Fewer units came than planned: the last look still has all of alpha."""
    assert critical_values([0.8], 0.05)[0] > 2.2
    assert critical_values([0.8], 0.05, ended=True) == pytest.approx([1.959964], abs=1e-6)


def test_looks_that_bring_nothing_are_no_looks() -> None:
    test = GroupSequential(1000, 0.05)
    assert test.multiplier([]) == test.multiplier([20, 98]) == math.inf
    plain = critical_values([0.5, 1.0], 0.05)
    assert test.multiplier([90, 500, 500]) == pytest.approx(plain[0])
    # More units than planned: the end stays the end.
    assert test.multiplier([500, 500, 1010]) == pytest.approx(plain[1])
    assert test.multiplier([500, 1010, 1100, 1200]) == pytest.approx(plain[1])


def test_unequal_looks_keep_the_error() -> None:
    """Simulated sums without a difference, at looks as they fall: alpha in all."""
    rng, num = np.random.default_rng(3), 40_000
    shares = np.array([0.13, 0.2, 0.45, 0.5, 0.9, 1.0])
    limits = np.array(critical_values(shares.tolist(), 0.05))
    steps = np.diff(shares, prepend=0.0)
    sums = (rng.normal(0, 1, (num, len(shares))) * np.sqrt(steps)).cumsum(axis=1)
    wrong = (np.abs(sums) / np.sqrt(shares) > limits).any(axis=1).mean()
    assert wrong == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / num))


def test_the_power_of_looks_is_that_of_simulated_ones() -> None:
    shares = [0.25, 0.5, 0.75, 1.0]
    limits = critical_values(shares, 0.05)
    assert crossing_probability(shares, limits) == pytest.approx(0.05, abs=1e-6)
    # A plain test at the end has 80 % power at a drift of 1.96 + 0.84; looks cost a little.
    assert crossing_probability([1.0], [1.959964], 2.801585) == pytest.approx(0.8, abs=1e-4)
    power = crossing_probability(shares, limits, 2.801585)
    assert 0.78 < power < 0.8
    rng, num = np.random.default_rng(4), 40_000
    sums = (rng.normal(0, 0.5, (num, 4)) + 2.801585 / 4).cumsum(axis=1)
    crossed = (np.abs(sums) / np.sqrt(shares) > limits).any(axis=1).mean()
    assert crossed == pytest.approx(power, abs=3 * math.sqrt(0.16 / num))
