"""The chosen threshold keeps labels of the asked precision, on rows that did not choose it."""

import numpy as np
import pytest
from scipy.stats import binomtest

from kamerton.labelling.precision import choose_threshold, least_rows, lower_bound


@pytest.mark.parametrize(("num_right", "num"), [(0, 5), (1, 1), (59, 59), (93, 94), (180, 200)])
def test_the_bound_is_that_of_clopper_and_pearson(num_right: int, num: int) -> None:
    oracle = binomtest(num_right, num, alternative="greater").proportion_ci(0.95, "exact").low
    assert lower_bound(num_right, num, 0.95) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize(("precision", "least"), [(0.95, 59), (0.9, 29), (0.8, 14)])
def test_the_least_number_of_rows_just_proves_it(precision: float, least: int) -> None:
    assert least_rows(precision, 0.95) == least
    assert lower_bound(least, least, 0.95) >= precision
    assert lower_bound(least - 1, least - 1, 0.95) < precision


def rows(rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that promise too much: the share right is 0.03 below them."""
    sure = rng.beta(5, 0.8, num)
    return sure, rng.random(num) < np.maximum(sure - 0.03, 0)


@pytest.mark.parametrize(("precision", "num_gold"), [(0.9, 300), (0.8, 80)])
def test_the_asked_precision_holds_on_other_rows(precision: float, num_gold: int) -> None:
    rng = np.random.default_rng(7)
    sure, right = rows(rng, 100_000)
    file = rng.choice(sure, 2_000)
    failures, found = 0, 0
    for _ in range(200):
        gold = rng.integers(0, len(sure), num_gold)
        chosen = choose_threshold(file, sure[gold], right[gold], precision).chosen
        if chosen is not None:
            found += 1
            failures += right[sure >= chosen.threshold].mean() < precision
    # The promise is at most 5 %, so 10 of 200; and a selection that never selects proves nothing.
    assert failures <= 10
    assert found > 50


def test_looking_for_the_best_threshold_would_break_the_promise() -> None:
    """What the fixed sequence is for: labels without any signal, looked at from all sides."""
    rng = np.random.default_rng(3)
    naive = honest = 0
    for _ in range(200):
        sure, right = rng.random(200), rng.random(200) < 0.89
        found = choose_threshold(np.linspace(0, 1, 400), sure, right, 0.9)
        honest += found.chosen is not None
        naive += any(point.lower >= 0.9 for point in found.curve)
    assert honest <= 10
    assert naive > 10


def test_a_failure_ends_the_sequence() -> None:
    sure = np.linspace(1, 0, 200)
    right = np.arange(200) < 60
    right[80:] = True
    found = choose_threshold(sure, sure, right, 0.9)
    states = [point.state for point in found.curve]
    assert states[:5] == ["too few", "too few", "too few", "too few", "passed"]
    assert states[5:8] == ["passed", "failed", "not tested"]
    # The last ones would pass by themselves.
    assert found.chosen == found.curve[5]
    assert found.chosen is not None
    assert (found.chosen.num_gold, found.chosen.num_right) == (60, 60)


def test_equal_confidences_are_kept_or_left_together() -> None:
    file = [1.0] * 50 + [0.6] * 50
    found = choose_threshold(file, [1.0] * 40 + [0.6] * 40, [True] * 40 + [False] * 40, 0.9)
    assert [(p.threshold, p.coverage, p.num_gold) for p in found.curve] == [
        (1.0, 0.5, 40),
        (0.6, 1.0, 80),
    ]


def test_too_few_gold_rows_choose_nothing() -> None:
    found = choose_threshold([0.9] * 10, [0.9] * 10, [True] * 10, 0.95)
    assert found.chosen is None
    assert found.curve[-1].state == "failed"
