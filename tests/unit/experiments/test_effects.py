"""Effects of arms, against scipy, closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from kamerton.experiments.effects import Interval, compare
from kamerton.experiments.outcomes import ArmOutcomes

rng = np.random.default_rng(5)


def arm(name: str, sums: object, below: object = None, before: object = None) -> ArmOutcomes:
    values = np.asarray(sums, np.float64)
    ones = np.ones_like(values) if below is None else np.asarray(below, np.float64)
    covariate = None if before is None else np.asarray(before, np.float64)
    return ArmOutcomes(name, values, ones, covariate, int(ones.sum()))


def test_the_difference_of_means_is_welchs() -> None:
    a, b = rng.normal(3, 1, 80), rng.normal(3.4, 2, 120)
    effect = compare(arm("a", a), arm("b", b))
    welch = stats.ttest_ind(b, a, equal_var=False)
    assert effect.statistic == pytest.approx(welch.statistic)
    assert effect.standard_error == pytest.approx(
        math.sqrt(a.var(ddof=1) / 80 + b.var(ddof=1) / 120)
    )
    assert effect.relative == pytest.approx(b.mean() / a.mean() - 1)


def test_the_delta_method_is_the_spread_of_ratios() -> None:
    """Between repeated experiments a ratio varies as its standard error says."""
    found, errors = [], []
    for _ in range(400):
        counts = rng.integers(1, 9, 400)
        level = rng.beta(4, 2, 400)
        both = arm("a", rng.binomial(counts, level), counts)
        halves = [
            arm("a", both.sums[s], both.denominators[s]) for s in (slice(200), slice(200, 400))
        ]
        effect = compare(*halves)
        found.append(effect.difference)
        errors.append(effect.standard_error)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.1)
    # Whoever counts requests as independent is too sure of himself.
    independent = math.sqrt(2 * (2 / 3) * (1 / 3) / (200 * 4.5))
    assert np.mean(errors) > 1.25 * independent


def test_cuped_takes_away_what_history_explains() -> None:
    before = rng.normal(0, 1, 2000)
    y = 0.8 * before + 0.6 * rng.normal(0, 1, 2000)
    y[1000:] += 0.1
    plain = compare(arm("a", y[:1000]), arm("b", y[1000:]))
    effect = compare(
        arm("a", y[:1000], None, before[:1000]), arm("b", y[1000:], None, before[1000:])
    )
    assert effect.explained == pytest.approx(0.64, abs=0.03)
    assert effect.standard_error / plain.standard_error == pytest.approx(0.6, abs=0.03)
    assert abs(effect.difference - 0.1) < 3 * effect.standard_error
    # Units without history stand at the centre, and history that says nothing changes nothing.
    unknown = np.full(1000, np.nan)
    same = compare(arm("a", y[:1000], None, unknown), arm("b", y[1000:], None, unknown))
    assert (same.difference, same.standard_error) == (plain.difference, plain.standard_error)


def test_units_that_are_all_the_same_bound_nothing() -> None:
    effect = compare(arm("a", np.zeros(60)), arm("b", np.zeros(60)))
    assert effect.interval(3.0) == Interval(-math.inf, math.inf)
    assert effect.relative is None
    assert effect.relative_interval(3.0) is None


def test_no_failure_among_few_units_is_no_proof() -> None:
    """With bounds, 60 units without a failure leave room for some per cent."""
    effect = compare(arm("a", np.zeros(60)), arm("b", np.zeros(60)), bounds=(0, 1))
    interval = effect.interval(1.96)
    assert interval.low == -interval.high
    assert 0.03 < interval.high < 0.06
    many = compare(arm("a", rng.binomial(1, 0.5, 9000)), arm("b", rng.binomial(1, 0.5, 9000)))
    assert many.standard_error == pytest.approx(math.sqrt(2 * 0.25 / 9000), rel=0.01)


def test_intervals_are_as_wide_as_asked() -> None:
    effect = compare(arm("a", [1, 2, 3, 2]), arm("b", [2, 4, 3, 5]))
    interval = effect.interval(2.0)
    assert interval.high - interval.low == pytest.approx(4 * effect.standard_error)
    assert interval.excludes(interval.high + 0.1)
    assert not interval.excludes(effect.difference)
    relative = effect.relative_interval(2.0)
    assert relative is not None
    assert -1 < relative.low < 0.75 < relative.high  # 3.5 / 2 - 1
    assert effect.interval(math.inf) == Interval(-math.inf, math.inf)
    assert effect.relative_interval(math.inf) == Interval(-1, math.inf)
