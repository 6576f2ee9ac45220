"""Statistics hold for any counts."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.core.many_tests import holm
from kamerton.evaluation.metrics import mean, mean_features
from kamerton.evaluation.statistics import (
    bootstrap,
    bootstrap_interval,
    mcnemar,
    paired_interval,
    permutation_p,
    sum_groups,
    wilson,
)

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
p_lists = st.lists(st.floats(0, 1), max_size=30)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_contains_the_share_and_stays_inside(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    interval = wilson(successes, n, level)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert interval.low < interval.high


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_mirrors(n: int, share: float) -> None:
    successes = round(share * n)
    interval, mirrored = wilson(successes, n), wilson(n - successes, n)
    np.testing.assert_allclose([interval.low, interval.high], [1 - mirrored.high, 1 - mirrored.low])


@given(pairs)
def test_mcnemar_does_not_care_which_comes_first(rows: list[tuple[bool, bool]]) -> None:
    a, b = np.array(rows).T
    one, other = mcnemar(a, b), mcnemar(b, a)
    assert (one.only_a, one.only_b, one.p_value) == (other.only_b, other.only_a, other.p_value)
    assert 0 < one.p_value <= 1


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_paired_interval_contains_the_difference_and_mirrors(a: int, b: int, both: int) -> None:
    n = a + b + both + 1
    interval, mirrored = paired_interval(a, b, n), paired_interval(b, a, n)
    assert -1 <= interval.low <= (a - b) / n <= interval.high <= 1
    assert interval.low < interval.high
    np.testing.assert_allclose([interval.low, interval.high], [-mirrored.high, -mirrored.low])


@given(p_lists)
def test_holm_keeps_the_order_and_never_helps(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for given_p, corrected_p in zip(p_values, corrected, strict=True):
        assert given_p <= corrected_p <= min(1, given_p * len(p_values))
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)


@settings(deadline=None, max_examples=40)
@given(pairs, st.integers(0, 100))
def test_bootstrap_contains_the_difference(rows: list[tuple[bool, bool]], seed: int) -> None:
    a, b = np.array(rows, dtype=float).T
    features = [mean_features(a), mean_features(b)]
    samples = bootstrap(features, mean, 200, seed)
    estimate = float(a.mean() - b.mean())
    interval = bootstrap_interval(samples[:, 0] - samples[:, 1], estimate)
    assert -1 <= interval.low <= estimate <= interval.high <= 1
    p_value = permutation_p(*features, mean, 200, seed)
    assert 0 < p_value <= 1
    assert p_value == permutation_p(*features[::-1], mean, 200, seed)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=1, max_size=50))
def test_groups_keep_the_sums(rows: list[tuple[int, int]]) -> None:
    groups, values = zip(*rows, strict=True)
    features = mean_features(np.array(values, dtype=float))
    grouped = sum_groups(features, groups)
    assert len(grouped) == len(set(groups))
    np.testing.assert_array_equal(grouped.sum(axis=0), features.sum(axis=0))
