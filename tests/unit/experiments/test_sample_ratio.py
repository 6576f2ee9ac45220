"""The test of the arms' shares: closed form, false alarms, delay."""

import math

import numpy as np
import pytest

from kamerton.experiments.sample_ratio import (
    check_sample_ratio,
    concentration_for,
    count_new_units,
    p_values_by_day,
)


def draw(runs: int, days: int, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    per_day = rng.poisson(50, (runs, days))
    first = rng.binomial(per_day, share)
    return np.stack([first, per_day - first], axis=-1).astype(np.float64)


def test_the_factor_is_the_product_of_predictions() -> None:
    """Unit by unit: the posterior's share of the arm over the planned share, multiplied."""
    prior, shares, log_factor = [6.0, 3.0, 1.0], [0.6, 0.3, 0.1], 0.0
    daily = [[3, 1, 0], [0, 2, 5], [1, 0, 9]]
    for day in daily:
        for place, count in enumerate(day):
            for _ in range(count):
                log_factor += math.log(prior[place] / sum(prior) / shares[place])
                prior[place] += 1
    found = p_values_by_day(np.array(daily, np.float64), [6, 3, 1], 10.0)
    assert found[-1] == pytest.approx(min(1.0, math.exp(-log_factor)))
    result = check_sample_ratio(daily, [6, 3, 1], concentration=10.0)
    assert result.counts == (4, 3, 14)
    assert result.expected == pytest.approx((12.6, 6.3, 2.1))
    assert result.fired


def test_an_alarm_stays_on() -> None:
    result = check_sample_ratio([[200, 100], [0, 100]], [1, 1])
    assert result.fired
    assert p_values_by_day(np.array([[200.0, 200.0]]), [1, 1], 200.0)[-1] == 1


def test_a_stopped_arm_is_no_loss_of_units_but_the_others_are_still_tested() -> None:
    daily = [[30, 30, 30], [90, 92, 0], [100, 97, 0]]
    assert check_sample_ratio(daily, (2, 2, 2)).fired
    found = check_sample_ratio(daily, (2, 2, 2), stopped=[2])
    assert not found.fired
    assert found.counts == (220, 219, 30)
    assert found.expected == (219.5, 219.5, 30)
    assert check_sample_ratio([[30, 30, 30], [60, 130, 0]], (1, 1, 1), stopped=[2]).fired
    assert not check_sample_ratio([[30, 30], [100, 0]], (1, 1), stopped=[1]).fired


def test_nothing_is_no_alarm() -> None:
    result = check_sample_ratio(np.zeros((0, 2)), [1, 1])
    assert (result.p_value, result.fired, result.counts) == (1, False, (0, 0))


def test_equal_arms_seldom_alarm_and_unequal_ones_soon() -> None:
    """50 units a day: at most 1 % in 90 days; a 60/40 split within 11 days, half of the time."""
    quiet = p_values_by_day(draw(1000, 90, 0.5, 1), [1, 1], concentration_for(50)).min(axis=1)
    assert (quiet < 0.01).mean() < 0.01 + 2 * math.sqrt(0.01 * 0.99 / 1000)
    loud = p_values_by_day(draw(300, 60, 0.6, 2), [1, 1], concentration_for(50)) < 0.01
    assert loud.any(axis=1).all()
    assert np.median(loud.argmax(axis=1) + 1) <= 11
    late = p_values_by_day(draw(300, 60, 0.6, 2), [1, 1], 10_000.0) < 0.01
    assert np.median(late.argmax(axis=1) + 1) > 25


def test_the_concentration_grows_with_traffic() -> None:
    assert concentration_for(50) == concentration_for(500) == 200
    assert 200 < concentration_for(2000) < 10_000
    assert concentration_for(1e6) == 10_000


def test_units_are_new_once() -> None:
    units, arms = ["a", "b", "a", "c", "b"], ["x", "y", "y", "x", "y"]
    counts = count_new_units(units, arms, [7, 7, 8, 9, 9], ["x", "y"])
    assert counts.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert count_new_units([], [], [], ["x", "y"]).shape == (0, 2)
