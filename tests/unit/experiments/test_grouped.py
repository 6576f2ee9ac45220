"""Group-sequential boundaries against published tables and simulation."""

import math

import numpy as np
import pytest

from kamerton.experiments.effects import Effect
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


def test_alpha_is_spent_by_the_calendar_and_alikeness_comes_of_information() -> None:
    """Two looks at half and all of the time. All but the time may differ from the plan."""
    plain = critical_values([0.5, 1.0], 0.05)
    # Any unit of information, and fewer units than planned.
    assert critical_values([300.0, 600.0], 0.05, times=[0.5, 1.0]) == pytest.approx(plain)
    # Nearly all information is there at the first look: the second is nearly the same look.
    early = critical_values([0.99, 1.0], 0.05, times=[0.5, 1.0])
    assert early[0] == pytest.approx(plain[0])
    assert 1.959964 < early[1] < plain[1]
    # Hardly any: two nearly independent looks.
    late = critical_values([0.01, 1.0], 0.05, times=[0.5, 1.0])
    assert late[1] == pytest.approx(1.9852, abs=2e-4)  # spends 0.04695 of 0.99695


def effect(units: int, error: float) -> Effect:
    return Effect("b", "a", 0.6, 0.5, 0.1, error, None, (units, units), (units, units))


def test_looks_of_few_units_are_none_and_others_always_count() -> None:
    test = GroupSequential(0.05, fewest_units=50)
    assert test.multiplier([], []) == test.multiplier([effect(49, 1.0)], [1.0]) == math.inf
    half, end = effect(100, 1.0), effect(200, math.sqrt(0.5))
    plain = critical_values([0.5, 1.0], 0.05)
    assert test.multiplier([None, effect(20, 2.0), half], [0.1, 0.2, 0.5]) == pytest.approx(
        plain[0]
    )
    found = test.multiplier([None, effect(20, 2.0), half, end], [0.1, 0.2, 0.5, 1.0])
    assert found == pytest.approx(plain[1])
    # A look that brings nothing new, or takes something away, still counts.
    for error in (1.0, 1.2):
        assert 1.9599 < test.multiplier([half, effect(100, error)], [0.5, 1.0]) < plain[1]
    assert test.multiplier([half, effect(40, 1.0)], [0.5, 1.0]) == math.inf


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
