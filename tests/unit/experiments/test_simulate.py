"""Promises by simulation, in short runs with honest bounds; the benchmark runs longer."""

import math

import numpy as np
import pytest
from scipy import stats

from kamerton.experiments.design import Design
from kamerton.experiments.guardrails import Guardrail, units_to_roll_back
from kamerton.experiments.sample_ratio import concentration_for
from kamerton.experiments.sample_size import units_needed
from kamerton.experiments.sequential import ConfidenceSequence
from kamerton.experiments.simulate import (
    BY_REQUEST,
    BY_UNIT,
    LIKELIHOOD,
    RULES,
    Found,
    simulate_decisions,
    simulate_roll_back,
    simulate_rules,
    simulate_sample_ratio,
)
from kamerton.experiments.traffic import METRIC, TREATED, Traffic, draw_rows
from kamerton.experiments.variance import intraclass_correlation, unit_variance
from kamerton.experiments.verdict import Measure


def most(share: float, runs: int) -> float:
    """The share that an honest rule exceeds in one of 1,000 tests."""
    return float(stats.binom.ppf(0.999, runs, share)) / runs


def test_traffic_is_as_described() -> None:
    traffic = Traffic(requests_per_unit=4, icc=0.3, rate=0.7, difference=0.1, share=0.25, days=60)
    rows = draw_rows(traffic, np.random.default_rng(0))
    right, treated = rows.outcomes[METRIC], rows.arms == TREATED
    assert len(np.unique(rows.units)) == pytest.approx(3000, rel=0.1)
    assert right[~treated].mean() == pytest.approx(0.7, abs=0.03)
    assert right[treated].mean() == pytest.approx(0.8, abs=0.04)
    assert treated.mean() == pytest.approx(0.25, abs=0.03)
    assert intraclass_correlation(rows.units[~treated], right[~treated]) == pytest.approx(
        0.3, abs=0.04
    )
    assert (np.diff(rows.days) >= 0).all()
    assert rows.days.max() == 59


@pytest.fixture(scope="module")
def same() -> dict[str, Found]:
    """A/A runs with 10 requests a unit."""
    return simulate_rules(
        Traffic(days=25, requests_per_unit=10, icc=0.4), 70, planned_units=1250, seed=1
    )


def test_looking_every_day_at_nothing(same: dict[str, Found]) -> None:
    for rule in ("sequence", "group"):
        assert same[rule].differs <= most(0.05, 70)
        assert same[rule].covered == 1 - same[rule].differs
    assert tuple(same) == RULES


def test_requests_are_not_independent(same: dict[str, Found]) -> None:
    assert same[BY_UNIT].differs > 0.05
    assert same[BY_REQUEST].differs > 0.5
    assert same[LIKELIHOOD].differs > 0.2


def test_a_closed_circle_of_users_who_come_back() -> None:
    """All users come in the first 4 of 20 days and go on asking: still at most alpha."""
    traffic = Traffic(
        days=20, requests_per_unit=8, icc=0.1, stay_days=20.0, arrival_days=4.0, units_per_day=60
    )
    found = simulate_rules(traffic, 80, planned_units=240, seed=4)
    for rule in ("sequence", "group"):
        assert found[rule].differs <= most(0.05, 80)
    assert found[BY_UNIT].differs > 0.05


def test_power_is_as_planned() -> None:
    """A difference of 12 points at the units that were planned for it."""
    variances = tuple(
        unit_variance(rate * (1 - rate), requests_per_unit=2, icc=0.3) for rate in (0.7, 0.82)
    )
    for rule, method in (("sequence", "sequence"), ("group", "group")):
        units = units_needed(0.12, (variances[0], variances[1]), method)
        traffic = Traffic(
            units / 20, 20, 0.7, 0.12, requests_per_unit=2, icc=0.3, stay_days=0.0
        )  # fmt: skip
        found = simulate_rules(traffic, 100, planned_units=units, seed=2)[rule]
        assert found.differs >= stats.binom.ppf(0.001, 100, 0.8) / 100
        assert found.covered >= 1 - most(0.05, 100)
        assert found.days <= 20


def test_shares_alarm_seldom_and_soon() -> None:
    narrow = concentration_for(50)
    quiet = simulate_sample_ratio(50, 0.5, 90, 1000, concentration=narrow)
    assert quiet.fired <= most(0.01, 1000)
    loud = simulate_sample_ratio(50, 0.6, 90, 300, concentration=narrow)
    assert (loud.fired, loud.median <= 11) == (1.0, True)


def test_a_planted_bad_arm_is_rolled_back_in_time() -> None:
    guardrail = Guardrail("refusal", 0.03)
    sequence = ConfidenceSequence(400, 0.05, fewest_units=25)
    bad = Traffic(days=20, rate=0.05, difference=0.25, requests_per_unit=3, icc=0.2)
    found = simulate_roll_back(bad, guardrail, 30, sequence=sequence)
    foretold = units_to_roll_back(
        0.25, 0.03, (unit_variance(0.0475, icc=0.2), unit_variance(0.21, icc=0.2)), sequence
    )
    assert found.fired == 1
    assert foretold is not None
    assert found.late <= 3 * foretold
    calm = Traffic(days=8, rate=0.05, difference=0.03, requests_per_unit=3, icc=0.2)
    fired = simulate_roll_back(calm, guardrail, 40, sequence=sequence).fired
    assert fired <= most(0.05, 40)
    assert simulate_roll_back(calm, guardrail, 2, sequence=sequence).median == math.inf


def test_decisions_of_a_design() -> None:
    design = Design(
        ("prefix", "lora"), (0.5, 0.5), (Measure("a", primary=True, bounds=(0, 1)),), 600
    )
    same = simulate_decisions(design, Traffic(days=12), 20, seed=3)
    assert sum(same.values()) == 20
    assert same["keep the control"] >= 16  # at the end
    better = simulate_decisions(design, Traffic(days=12, rate=0.5, difference=0.3), 20, seed=3)
    assert better["promote"] >= 18
