"""Intervals over few groups: how often they contain the truth, and their extremes."""

import numpy as np
import pytest

from kamerton.evaluation.jackknife import difference_interval, value_interval
from kamerton.evaluation.metrics import mean, mean_features
from kamerton.evaluation.statistics import Floats, paired_interval, sum_groups, wilson


def drawn(rng: np.random.Generator, share: float, groups: int) -> tuple[Floats, Floats, list[int]]:
    """Right and wrong answers of two equally good variants; groups differ in how hard they are."""
    ease = rng.beta(3 * share, 3 * (1 - share), size=groups)
    of_group = np.repeat(np.arange(groups), rng.integers(1, 12, size=groups))
    first, second = (rng.random((2, len(of_group))) < ease[of_group]).astype(float)
    return mean_features(first), mean_features(second), of_group.tolist()


@pytest.mark.parametrize("groups", [5, 8, 15])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_few_groups_contain_the_truth_as_often_as_they_say(
    groups: int, share: float
) -> None:
    rng = np.random.default_rng(7)
    value = difference = 0
    for _ in range(400):
        first, second, of_group = drawn(rng, share, groups)
        rows = sum_groups(first, of_group), sum_groups(second, of_group)
        found = value_interval(rows[0], first, mean, 0.95)
        value += found.low <= share <= found.high
        found = difference_interval(rows, (first, second), mean, 0.95)
        difference += found.low <= 0 <= found.high
    # A bootstrap over the groups contains it in 72 to 90 of 100 cases.
    assert value / 400 > 0.92
    assert difference / 400 > 0.92


def test_a_ratio_of_equal_groups_is_the_mean_with_students_t_on_log_odds() -> None:
    shares = np.array([0.2, 0.4, 0.6, 0.6, 0.8, 1.0])
    rows = np.stack([shares * 5, np.full(6, 5.0)], axis=1)
    items = mean_features(np.repeat([0.0, 1.0], [12, 18]))
    found = value_interval(rows, items, mean, 0.95)
    # t(5) at 97.5 % is 2.570582; its error on log-odds is that of the mean over 0.6 * 0.4.
    half = 2.570582 * shares.std(ddof=1) / np.sqrt(6) / 0.24
    centre = np.log(1.5)
    assert found.low == pytest.approx(1 / (1 + np.exp(half - centre)), abs=1e-6)
    assert found.high == pytest.approx(1 / (1 + np.exp(-half - centre)), abs=1e-6)


def test_groups_that_are_all_right_are_bounded_as_so_many_items() -> None:
    right, wrong = (np.array([[5.0 * worth, 5.0]] * 7) for worth in (1, 0))
    items = mean_features(np.ones(35)), mean_features(np.zeros(35))
    assert value_interval(right, items[0], mean, 0.95) == wilson(7, 7)
    assert value_interval(wrong, items[1], mean, 0.95) == wilson(0, 7)
    found = difference_interval((right, wrong), items, mean, 0.95)
    assert found == paired_interval(7, 0, 7)
    assert found.low < 0.99
