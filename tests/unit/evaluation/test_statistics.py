"""Statistics against scipy, closed forms and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from kamerton.evaluation.metrics import class_features, f1, macro_f1, mean, mean_features
from kamerton.evaluation.statistics import (
    bootstrap,
    bootstrap_interval,
    mcnemar,
    paired_interval,
    permutation_p,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (1, 1), (3, 10), (70, 100), (500, 500)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    interval = wilson(successes, n, level)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (1, 5), (12, 3), (7, 7), (0, 20)])
def test_mcnemar_is_the_exact_test_less_half_the_observed_split(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True, False])
    b = np.array([False] * only_a + [True] * only_b + [True, False])
    num = only_a + only_b
    # Both tails hold the observed split, half of each is left out; alone in the middle it is one.
    expected = stats.binomtest(only_a, num).pvalue - stats.binom.pmf(only_a, num, 0.5)
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert result.p_value == pytest.approx(1.0 if only_a == only_b else expected)


def test_no_disagreement_is_no_evidence() -> None:
    same = np.array([True, False, True])
    assert mcnemar(same, same).p_value == 1
    assert permutation_p(mean_features(same * 1.0), mean_features(same * 1.0), mean, 99, 0) == 1
    interval = paired_interval(0, 0, 3)
    assert interval.low == -interval.high < -0.3


def test_permutation_counts_all_sign_flips() -> None:
    a, b = np.array([0.9, 0.7, 0.8, 0.4, 0.6]), np.array([0.5, 0.6, 0.9, 0.1, 0.2])
    exact = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_p(mean_features(a), mean_features(b), mean, 40_000, 1) == pytest.approx(
        exact, abs=0.01
    )


def test_bootstrap_spreads_like_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=80)
    samples = bootstrap([mean_features(values)], mean, 4000, 0)[:, 0]
    assert samples.std() == pytest.approx(values.std() / math.sqrt(80), rel=0.05)
    interval = bootstrap_interval(samples, values.mean())
    expected = stats.norm.interval(0.95, values.mean(), values.std() / math.sqrt(80))
    assert (interval.low, interval.high) == pytest.approx(expected, abs=0.02)


def test_variants_share_their_resamples() -> None:
    values = np.random.default_rng(0).random(50)
    samples = bootstrap([mean_features(values), mean_features(values + 0.25)], mean, 300, 3)
    np.testing.assert_allclose(samples[:, 1] - samples[:, 0], 0.25)
    again = bootstrap([mean_features(values)], mean, 300, 3)
    np.testing.assert_allclose(samples[:, :1], again)
    assert not np.array_equal(again, bootstrap([mean_features(values)], mean, 300, 4))


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    num, truth = 400, 0.7
    right = rng.random((num, 60)) < truth
    covered = [wilson(int(row.sum()), 60) for row in right]
    assert 0.92 <= np.mean([i.low <= truth <= i.high for i in covered]) <= 0.98
    # Two variants of the same quality that share two thirds of their answers.
    own = rng.random((num, 60)) < truth
    second = np.where(rng.random((num, 60)) < 2 / 3, right, own)
    results = [mcnemar(a, b) for a, b in zip(right, second, strict=True)]
    differences = [paired_interval(r.only_a, r.only_b, 60) for r in results]
    assert 0.92 <= np.mean([i.low <= 0 <= i.high for i in differences]) <= 0.99
    assert np.mean([r.p_value <= 0.05 for r in results]) <= 0.07


def test_bootstrap_of_f1_covers() -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> np.ndarray:
        gold = rng.random(n) < 0.4
        guess = np.where(rng.random(n) < 0.8, gold, ~gold)
        return class_features([str(g) for g in guess], [str(g) for g in gold], ["True"])

    truth = float(f1(draw(100_000).sum(axis=0)))
    hits = 0
    for trial in range(200):
        features = draw(100)
        samples = bootstrap([features], f1, 300, trial)[:, 0]
        interval = bootstrap_interval(samples, float(f1(features.sum(axis=0))))
        hits += interval.low <= truth <= interval.high
    assert 0.9 <= hits / 200 <= 0.99


def test_f1_by_hand() -> None:
    gold = ["a", "a", "b", None, "c"]
    guess = ["a", "b", "b", "a", None]
    one = class_features(guess, gold, ["a"]).sum(axis=0)
    assert f1(one) == pytest.approx(2 / 3)
    # a: 2/3, b: 2/3, c: 0
    assert macro_f1(class_features(guess, gold, ["a", "b", "c"]).sum(axis=0)) == pytest.approx(
        4 / 9
    )
    assert math.isnan(macro_f1(np.zeros(6)))
    assert f1(np.zeros(3)) == 0
