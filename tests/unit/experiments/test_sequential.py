"""Confidence sequences: closed forms, and what they promise at every look."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from kamerton.experiments.effects import Effect, compare
from kamerton.experiments.grouped import crossing_probability
from kamerton.experiments.outcomes import ArmOutcomes
from kamerton.experiments.sequential import ConfidenceSequence

EFFECT = Effect("b", "a", 0.6, 0.5, 0.1, 0.03, 0.06, (500, 500), (500, 500))


def found(units: int, statistic: float = 0.0) -> Effect:
    return replace(
        EFFECT, difference=statistic, standard_error=1.0, units=(units // 2, units - units // 2)
    )


def test_the_sequence_is_half_as_wide_again_at_the_planned_units() -> None:
    sequence = ConfidenceSequence(1000, 0.05)
    # Computed by hand: 1000 rho^2 = 5.991 + ln 6.991 = 7.936.
    root = math.sqrt(8.936)
    expected = math.sqrt(2 * 8.936 / 7.936 * math.log(root / 0.05))
    assert sequence.multiplier(EFFECT) == pytest.approx(expected, abs=1e-3)
    assert expected / 1.96 == pytest.approx(1.55, abs=0.01)


def test_the_sequence_is_tightest_where_it_was_planned() -> None:
    """Among all plans, that for 1,000 units has nearly the narrowest interval at 1,000 units."""
    best = minimize_scalar(
        lambda planned: ConfidenceSequence(int(planned), 0.05).multiplier(EFFECT),
        bounds=(100, 10_000), method="bounded",
    )  # fmt: skip
    assert ConfidenceSequence(1000, 0.05).multiplier(EFFECT) < best.fun * 1.001


def test_few_units_bound_nothing() -> None:
    sequence = ConfidenceSequence(1000, fewest_units=50)
    assert sequence.multiplier(found(98)) == sequence.one_sided_multiplier(found(98)) == math.inf
    assert sequence.p_value(found(98, 9.0)) == sequence.one_sided_p_value(found(98, 9.0)) == 1
    assert sequence.multiplier(found(100)) < math.inf


@pytest.mark.parametrize("units", [100, 1000, 20_000])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_p_values_say_what_intervals_say(units: int, alpha: float) -> None:
    sequence = ConfidenceSequence(1000, alpha)
    at = sequence.multiplier(found(units))
    assert sequence.p_value(found(units, at)) == pytest.approx(alpha)
    assert sequence.p_value(found(units, -at)) == pytest.approx(alpha)
    at = sequence.one_sided_multiplier(found(units))
    assert sequence.one_sided_p_value(found(units, at)) == pytest.approx(alpha)
    assert sequence.one_sided_p_value(found(units, at - 0.5), above=-0.5) == pytest.approx(alpha)
    assert sequence.one_sided_p_value(found(units, -at)) == 1
    # One side asks for less than two.
    assert at < sequence.multiplier(found(units)) or alpha == 0.2


def test_no_difference_is_seldom_called_one_at_any_of_many_looks() -> None:
    """Looks after every 20 units of 2,000: at most alpha, where 1.96 errors are wrong often."""
    rng, num = np.random.default_rng(1), 2000
    sums = rng.normal(0, math.sqrt(20), (num, 100)).cumsum(axis=1)
    counts = np.arange(1, 101) * 20
    z = np.abs(sums) / np.sqrt(counts)
    sequence = ConfidenceSequence(1000, 0.05)
    limits = np.array([sequence.multiplier(found(int(n))) for n in counts])
    wrong = (z > limits).any(axis=1).mean()
    assert wrong < 0.05 + 2 * math.sqrt(0.05 * 0.95 / num)
    assert (z[:, 4:] > 1.96).any(axis=1).mean() > 0.25
    one_sided = np.array([sequence.one_sided_multiplier(found(int(n))) for n in counts])
    above = (sums / np.sqrt(counts) > one_sided).any(axis=1).mean()
    assert 0.005 < above < 0.05 + 2 * math.sqrt(0.05 * 0.95 / num)


def test_it_holds_where_no_new_units_come() -> None:
    """All users came on the first day; only their requests grow, 40-fold, and with them the
    information. The width in standard errors stays as it is, and is enough at its narrowest."""
    narrowest = min(ConfidenceSequence(1000).multiplier_at(units) for units in range(100, 9000, 50))
    days = [day / 40 for day in range(1, 41)]
    assert crossing_probability(days, [narrowest] * 40) < 0.05
    assert crossing_probability(days, [1.96] * 40) > 0.3


def test_costs_with_a_heavy_tail_keep_the_error() -> None:
    """Log-normal costs, the dearest tenth of which makes half of the sum, from 50 units on."""
    rng, num, wrong = np.random.default_rng(2), 120, 0
    sequence = ConfidenceSequence(1000)
    for _ in range(num):
        costs = rng.lognormal(0, 1.3, (2, 600))
        for units in range(50, 601, 50):
            a, b = (ArmOutcomes("", row[:units], np.ones(units), None, units) for row in costs)
            effect = compare(a, b)
            if effect.interval(sequence.multiplier(effect)).excludes(0):
                wrong += 1
                break
    assert wrong / num < 0.05 + 2 * math.sqrt(0.05 * 0.95 / num)
