"""Thompson sampling for five and more arms: shares of traffic that follow what was seen.

A bandit loses less on bad arms and says less about the others than an A/B test; with two to four
arms the test is the better tool (`FEWEST_ARMS`). The shares are computed once per batch (an hour, a
day), not per request, so late ratings do no harm and the share at which each unit was assigned, its
propensity, is known and stored.

The flow is: `posteriors` of the outcomes so far, `thompson_shares` for the next batch of new units,
assignment by these shares with the propensity in the exposure's row. Afterwards
`weigh_by_propensity` takes the place of `outcomes.sum_by_unit`: a plain mean of an arm that was fed
by its own luck is biased, the weighted one is not (Horvitz and Thompson, 1952). Known gap: its
standard error is exact for shares that were fixed beforehand, and only nearly right for those that
followed the data (Hadad et al., 2021, arXiv 1911.02768).

Letters: K arms.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from kamerton.experiments.outcomes import ArmOutcomes, Floats, Outcomes, sum_by_unit

__all__ = ["FEWEST_ARMS", "FLOOR", "posteriors", "thompson_shares", "weigh_by_propensity"]

FEWEST_ARMS = 5
"""With fewer arms an A/B test is the better tool."""
FLOOR = 0.01
"""The least share of traffic of an arm: all arms stay measurable and no weight exceeds 100."""

_POINTS = 400


def posteriors(arms: Sequence[ArmOutcomes]) -> Floats:
    """Make a Beta posterior for the metric of each arm, from a flat prior.

    A unit counts as one trial however many requests it has: its mean is a part of a success.

    Args:
        arms: Outcomes between 0 and 1, [K].

    Returns:
        Alpha and beta of each arm, [K, 2].
    """
    found = np.ones((len(arms), 2))
    for place, arm in enumerate(arms):
        means = arm.sums / arm.denominators
        assert not len(means) or (means.min() >= 0 and means.max() <= 1)
        found[place] += means.sum(), (1 - means).sum()
    return found


def thompson_shares(posterior: ArrayLike, *, floor: float = FLOOR) -> Floats:
    """Give each arm the probability that it is the best, and at least the floor.

    Drawing an arm by these shares is Thompson sampling (Thompson, 1933) with a floor.

    Args:
        posterior: Alpha and beta of each arm, [K, 2].
        floor: The least share, in [0, 1 / K).

    Returns:
        Shares that sum to 1, [K].
    """
    alpha, beta = np.asarray(posterior, np.float64).T
    num = len(alpha)
    assert 0 <= floor * num < 1
    # P(arm k is best) = E[product of the other arms' distribution functions at a draw of k], over
    # equally likely points of the posterior of k: exact to about 1e-3, and the same every time.
    quantiles = (np.arange(_POINTS) + 0.5) / _POINTS
    draws = betaincinv(alpha[:, None], beta[:, None], quantiles)
    below = betainc(alpha[:, None, None], beta[:, None, None], draws)
    below[np.arange(num), np.arange(num)] = 1.0
    best: Floats = below.prod(axis=0).mean(axis=1)
    shares: Floats = floor + (1 - num * floor) * best / best.sum()
    return shares


def weigh_by_propensity(
    units: Sequence[str] | NDArray[Any],
    arms: Sequence[str] | NDArray[Any],
    outcomes: ArrayLike,
    propensities: ArrayLike,
    names: Sequence[str],
) -> Outcomes:
    """Sum outcomes by unit, each unit weighted by 1 / its propensity.

    The value of an arm is then the self-normalised estimate sum(y / p) / sum(1 / p), and
    `effects.compare` gives its standard error by unit.

    Args:
        units: The unit of each request, [r].
        arms: The arm that answered it, [r].
        outcomes: Its outcome, [r]; NaN where there is none.
        propensities: The share of traffic of that arm when the unit was assigned, [r], in (0, 1].
        names: All arms, the control first.

    Returns:
        Weighted sums and denominators of each arm.
    """
    weights = 1 / np.asarray(propensities, np.float64)
    assert np.isfinite(weights).all()
    assert (weights >= 1).all()
    values = np.asarray(outcomes, np.float64) * weights
    return sum_by_unit(units, arms, values, names, denominators=weights)
