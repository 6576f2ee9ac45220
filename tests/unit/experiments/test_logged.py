"""What logs foretell of an experiment."""

import math

import numpy as np
import pytest

from kamerton.experiments.logged import measure_traffic
from kamerton.experiments.plan import plan
from kamerton.experiments.traffic import METRIC, Traffic, draw_rows


def test_different_users_are_counted_up_to_each_day() -> None:
    units = ["a", "b", "a", "c", "b", "d", "e"]
    days = [3, 3, 4, 4, 6, 6, 3]
    outcomes = [1, 0, 1, 1, 1, 0, math.nan]  # nobody rated e
    found = measure_traffic(units, days, outcomes)
    assert found.units_by_day == (2, 3, 3, 4)
    assert (found.value, found.requests_per_unit) == (4 / 6, 1.5)
    assert found.known == 6 / 7
    assert [found.units_within(day) for day in (0, 1, 2, 4)] == [0, 2, 3, 4]
    assert [found.days_until(units) for units in (1, 2, 3, 4)] == [1, 1, 2, 4]
    # The last third of four days brought one new user a day.
    assert found.later_per_day == 1
    assert (found.units_within(6), found.days_until(6)) == (6, 6)


def test_regular_users_come_first_and_waiting_brings_no_new_ones() -> None:
    """300 users come in five days, then only come back: a plan that ignores it is far off."""
    circle = Traffic(60, 30, 0.8, 0.0, 6, 0.2, stay_days=30.0, arrival_days=5.0)
    rows = draw_rows(circle, np.random.default_rng(1))
    found = measure_traffic(rows.units, rows.days.tolist(), rows.outcomes[METRIC])
    num = len(np.unique(rows.units))
    assert found.units_by_day[5] == found.units_by_day[-1] == num
    assert found.days_until(num + 1) == math.inf
    assert found.icc == pytest.approx(0.2, abs=0.08)
    planned = plan(0.05, (found.variance, found.variance), found)
    assert (planned.days, planned.decidable) == (math.inf, False)
    assert 0.08 < planned.difference_in_time < 0.2
    assert planned.replay_prompts < 1000


def test_steady_traffic_goes_on() -> None:
    rows = draw_rows(Traffic(40, 30, requests_per_unit=2), np.random.default_rng(2))
    found = measure_traffic(rows.units, rows.days.tolist(), rows.outcomes[METRIC])
    assert found.later_per_day == pytest.approx(40, rel=0.15)
    assert found.days_until(2400) == pytest.approx(60, rel=0.15)
