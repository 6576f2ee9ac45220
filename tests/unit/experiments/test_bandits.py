"""Thompson sampling: shares against draws, the floor, and estimates without bias."""

import numpy as np
import pytest

from kamerton.experiments.bandits import (
    FEWEST_ARMS,
    posteriors,
    thompson_shares,
    weigh_by_propensity,
)
from kamerton.experiments.outcomes import ArmOutcomes, sum_by_unit

NAMES = ["a", "b", "c", "d", "e"]
RATES = np.array([0.4, 0.4, 0.4, 0.4, 0.65])


def test_shares_are_the_probabilities_of_being_best() -> None:
    posterior = np.array([[8, 4], [6, 6], [9, 3], [2, 2], [30, 20]], np.float64)
    draws = np.random.default_rng(0).beta(*posterior.T[:, :, None], (5, 200_000))
    expected = np.bincount(draws.argmax(axis=0), minlength=5) / 200_000
    assert thompson_shares(posterior, floor=0.0) == pytest.approx(expected, abs=0.004)


def test_equal_arms_share_and_hopeless_ones_keep_the_floor() -> None:
    assert thompson_shares(np.ones((5, 2))) == pytest.approx([0.2] * 5)
    shares = thompson_shares([[900, 100], [1, 999], [1, 999], [1, 999], [1, 999]])
    assert shares == pytest.approx([0.96, 0.01, 0.01, 0.01, 0.01])
    assert shares.sum() == pytest.approx(1)


def test_a_unit_is_one_trial() -> None:
    arm = ArmOutcomes("a", np.array([3.0, 0.0, 1.0]), np.array([4.0, 50.0, 1.0]))
    assert posteriors([arm]).tolist() == [[1 + 1.75, 1 + 1.25]]


def run(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A week of 100 units a day over five arms, of which the last is the best."""
    rng, rates = np.random.default_rng(seed), RATES
    units, arms, seen = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    propensities, shares = np.zeros(0), np.full(5, 0.2)
    for day in range(7):
        drawn = rng.choice(5, 100, p=shares)
        units = np.append(units, np.arange(100) + 100 * day)
        arms, propensities = np.append(arms, drawn), np.append(propensities, shares[drawn])
        seen = np.append(seen, rng.random(100) < rates[drawn])
        found = sum_by_unit(units, np.array(NAMES)[arms], seen, NAMES)
        shares = thompson_shares(posteriors(found.arms))
    return units, np.array(NAMES)[arms], seen, propensities


def test_weighted_estimates_have_no_bias_where_plain_means_do() -> None:
    assert len(NAMES) >= FEWEST_ARMS
    plain, weighted, most = [], [], []
    for seed in range(100):
        units, arms, seen, propensities = run(seed)
        assert propensities.min() >= 0.01
        plain.append([arm.value for arm in sum_by_unit(units, arms, seen, NAMES).arms])
        found = weigh_by_propensity(units, arms, seen, propensities, NAMES)
        weighted.append([arm.value for arm in found.arms])
        most.append(np.mean(arms[-100:] == "e"))
    # The good arm gets most of the traffic of the last day.
    assert np.mean(most) > 0.5
    bias = np.mean(plain, axis=0) - RATES
    bias_weighted = np.mean(weighted, axis=0) - RATES
    error = np.std(weighted, axis=0) / np.sqrt(100)
    # An arm with bad luck gets no second chance, so plain means are too low.
    assert bias[:4].mean() < -0.008
    assert abs(bias_weighted[:4].mean()) < abs(bias[:4].mean()) / 2
    assert (np.abs(bias_weighted) < 4 * error).all()
