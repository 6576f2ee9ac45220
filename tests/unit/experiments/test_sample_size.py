"""Sample sizes against published numbers, statistics packages' formulas and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from kamerton.experiments.outcomes import ArmOutcomes
from kamerton.experiments.plan import SteadyTraffic, plan
from kamerton.experiments.sample_size import (
    drift_needed,
    replay_prompts,
    smallest_difference,
    units_needed,
)
from kamerton.experiments.variance import (
    intraclass_correlation,
    observed_variance,
    unit_variance,
)


def spread(*rates: float) -> tuple[float, float]:
    first, second = (rate * (1 - rate) for rate in rates)
    return first, second


@pytest.mark.parametrize(
    ("rates", "per_arm"), [((0.80, 0.85), 903), ((0.70, 0.75), 1248), ((0.05, 0.03), 1504)]
)
def test_one_look_needs_the_textbooks_units(rates: tuple[float, float], per_arm: int) -> None:
    difference = abs(rates[1] - rates[0])
    assert units_needed(difference, spread(*rates), "once") == 2 * per_arm


def test_looks_cost_units() -> None:
    once = drift_needed("once", 0.05, 0.8)
    assert (drift_needed("group", 0.05, 0.8) / once) ** 2 == pytest.approx(1.046, abs=0.005)
    assert (drift_needed("sequence", 0.05, 0.8) / once) ** 2 == pytest.approx(1.74, abs=0.01)
    assert drift_needed("group", 0.05, 0.95) > drift_needed("group", 0.05, 0.8)


def test_unequal_shares_need_more_in_all() -> None:
    equal = units_needed(0.05, spread(0.8, 0.85), "once")
    canary = units_needed(0.05, spread(0.8, 0.85), "once", shares=(0.9, 0.1))
    assert canary > 2 * equal
    # Half of the traffic in other arms changes the days, not the units.
    assert units_needed(0.05, spread(0.8, 0.85), "once", shares=(0.25, 0.25)) == equal


def test_the_smallest_difference_is_the_way_back() -> None:
    for method in ("sequence", "group", "once"):
        units = units_needed(0.05, spread(0.8, 0.85), method)
        back = smallest_difference(units, spread(0.8, 0.85), method)
        assert back == pytest.approx(0.05, rel=1e-3)
    assert smallest_difference(0, (1, 1)) == math.inf


def test_requests_of_one_unit_are_worth_less() -> None:
    assert unit_variance(0.2) == 0.2
    assert unit_variance(0.2, requests_per_unit=10) == pytest.approx(0.02)
    assert unit_variance(0.2, requests_per_unit=10, icc=1.0) == pytest.approx(0.2)
    # Ten requests with a correlation of 0.2 are worth 10 / 2.8 of different users.
    assert 0.2 / unit_variance(0.2, requests_per_unit=10, icc=0.2) == pytest.approx(10 / 2.8)


@pytest.mark.parametrize("icc", [0.0, 0.2, 0.5])
def test_measured_variance_and_correlation_are_the_foretold_ones(icc: float) -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 12, 4000)
    level = rng.beta(0.7 * (1 / icc - 1), 0.3 * (1 / icc - 1), 4000) if icc else np.full(4000, 0.7)
    units = np.repeat(np.arange(4000), counts)
    outcomes = (rng.random(len(units)) < level[units]).astype(float)
    assert intraclass_correlation(units, outcomes) == pytest.approx(icc, abs=0.03)
    arm = ArmOutcomes("a", np.bincount(units, outcomes), counts.astype(float))
    foretold = unit_variance(
        0.21, requests_per_unit=counts.mean(), spread=counts.std() / counts.mean(), icc=icc
    )
    assert observed_variance(arm) == pytest.approx(foretold, rel=0.06)


def test_one_request_a_unit_has_no_correlation() -> None:
    assert intraclass_correlation(np.array(["a", "b", "c"]), [1, 0, math.nan]) == 0


def test_replay_needs_fewer_prompts_than_units() -> None:
    """The power of McNemar's test at the number found, by simulation."""
    prompts = replay_prompts(0.05, 0.15)
    assert prompts == 469  # (1.96 sqrt 0.15 + 0.8416 sqrt 0.1475)^2 / 0.0025
    rng = np.random.default_rng(6)
    seen = 0
    for only_b, only_a, _ in rng.multinomial(prompts, [0.10, 0.05, 0.85], 2000):
        seen += abs(only_b - only_a) / math.sqrt(only_b + only_a) > stats.norm.isf(0.025)
    assert seen / 2000 == pytest.approx(0.8, abs=0.04)
    assert prompts < units_needed(0.05, spread(0.8, 0.85)) / 5


def test_a_plan_that_traffic_can_decide() -> None:
    found = plan(0.1, spread(0.7, 0.8), SteadyTraffic(100), method="group")
    assert found.units == units_needed(0.1, spread(0.7, 0.8), "group")
    assert found.days == math.ceil(found.units / 100)
    assert found.decidable
    assert found.difference_in_time < 0.1


def test_a_small_company_is_told_to_replay_first() -> None:
    found = plan(0.05, spread(0.8, 0.85), SteadyTraffic(20), days_limit=28)
    assert (found.units, found.days, found.decidable) == (3142, 158, False)
    assert found.difference_in_time == pytest.approx(0.05 * math.sqrt(3142 / 560), rel=1e-3)
    assert found.replay_prompts < 700
    # 300 users are all there are: waiting does not help.
    limited = plan(0.05, spread(0.8, 0.85), SteadyTraffic(20, 300), days_limit=365)
    assert (limited.days, limited.decidable) == (math.inf, False)
    assert limited.difference_in_time > 0.15
    assert plan(2.0, (9.0, 9.0), SteadyTraffic(0)).days == math.inf
