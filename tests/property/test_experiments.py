"""Outcomes and effects of experiments hold for any rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.core.many_tests import benjamini_hochberg, holm
from kamerton.experiments.effects import compare
from kamerton.experiments.outcomes import in_one_arm, sum_by_unit
from kamerton.experiments.sample_ratio import check_sample_ratio

NAMES = ("a", "b")
requests = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(NAMES),
        st.one_of(st.just(math.nan), st.floats(-10, 10)),
    ),
    min_size=1,
    max_size=60,
)


@given(requests)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_between_rows_and_sums(rows: list[tuple[int, str, float]]) -> None:
    units, arms = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    outcomes = np.array([row[2] for row in rows])
    found = sum_by_unit(units, arms, outcomes, NAMES)
    alone = in_one_arm(units, arms)
    known = ~np.isnan(outcomes)
    assert found.num_in_two_arms == len(set(units[~alone].tolist()))
    for name in NAMES:
        of_arm = alone & (arms == name)
        arm = found[name]
        assert arm.num_requests == of_arm.sum()
        assert arm.denominators.sum() == (of_arm & known).sum()
        assert arm.sums.sum() == pytest.approx(outcomes[of_arm & known].sum(), abs=1e-9)
        assert arm.num_units + arm.num_without_outcome == len(set(units[of_arm].tolist()))


@given(requests)
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_and_arms_changes_nothing(rows: list[tuple[int, str, float]]) -> None:
    pairs = []
    for order in (rows, rows[::-1]):
        units, arms, outcomes = zip(*order, strict=True)
        pairs.append(sum_by_unit(np.array(units), np.array(arms), outcomes, NAMES).arms)
    if min(arm.num_units for arm in pairs[0]) < 2:
        return
    there, back = compare(*pairs[0]), compare(*pairs[1][::-1])
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert there.standard_error == pytest.approx(back.standard_error, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_an_alarm_stays_on(daily: list[tuple[int, int]]) -> None:
    p_values = [check_sample_ratio(daily[:end], (1, 1)).p_value for end in range(1, len(daily) + 1)]
    assert p_values == sorted(p_values, reverse=True)
    assert 0 <= p_values[-1] <= p_values[0] <= 1


@given(st.lists(st.floats(0, 1), max_size=30))
def test_corrections_only_raise_and_holm_is_the_stricter(p_values: list[float]) -> None:
    strict, loose = holm(p_values), benjamini_hochberg(p_values)
    for p, high, low in zip(p_values, strict, loose, strict=True):
        assert p <= low + 1e-12
        assert low <= high + 1e-12
        assert high <= 1
