"""How many units show a difference, by the way in which the experiment is analysed.

    N = theta^2 (v_0 / s_0 + v_1 / s_1) / difference^2

counts the units of both arms, with v the variance of a unit's value (`variance`), s the arms'
shares of the units, and theta how many standard errors the true difference must be at the end. For
one look theta is z(1 - alpha / 2) + z(power). For 20 equal looks it is found by numerical
integration: a group-sequential test asks for 1.05 times the units of one look, a confidence
sequence for 1.74 times (alpha 0.05, power 0.8). Both are likely to end earlier when the difference
is larger than planned.
"""

import math
from typing import Literal

from scipy.optimize import brentq
from scipy.special import ndtri

from kamerton.experiments.grouped import critical_values, crossing_probability
from kamerton.experiments.sequential import ConfidenceSequence

__all__ = ["Method", "drift_needed", "replay_prompts", "smallest_difference", "units_needed"]

Method = Literal["sequence", "group", "once"]
"""A confidence sequence, a group-sequential test with a declared end, or one look at the end."""

_LOOKS, _MANY = 20, 1_000_000


def units_needed(
    difference: float,
    variances: tuple[float, float],
    method: Method = "sequence",
    alpha: float = 0.05,
    power: float = 0.8,
    shares: tuple[float, float] = (0.5, 0.5),
) -> int:
    """Count the units that show a difference.

    Args:
        difference: The true difference, above 0.
        variances: Variance of a unit's value in the control and in the arm.
        method: The analysis.
        alpha: Probability of a false difference.
        power: Probability of seeing the difference by then.
        shares: Of the units, for the control and the arm; only their ratio counts.

    Returns:
        Units of both arms together, each arm's number rounded up.
    """
    assert difference > 0
    scaled = (drift_needed(method, alpha, power) / difference) ** 2 * _spread(variances, shares)
    return sum(math.ceil(scaled * share / sum(shares) - 1e-9) for share in shares)


def smallest_difference(
    units: float,
    variances: tuple[float, float],
    method: Method = "sequence",
    alpha: float = 0.05,
    power: float = 0.8,
    shares: tuple[float, float] = (0.5, 0.5),
) -> float:
    """Say which difference a number of units shows: `units_needed` turned around.

    Args:
        units: Units of both arms together.
        variances: Variance of a unit's value in the control and in the arm.
        method: The analysis.
        alpha: Probability of a false difference.
        power: Probability of seeing the difference by then.
        shares: Of the units, for the control and the arm; only their ratio counts.

    Returns:
        The difference in the metric's unit; infinite without units.
    """
    if units <= 0:
        return math.inf
    return drift_needed(method, alpha, power) * math.sqrt(_spread(variances, shares) / units)


def drift_needed(method: Method, alpha: float, power: float) -> float:
    """Say how many standard errors the true difference must be at the planned end.

    Args:
        method: The analysis.
        alpha: Probability of a false difference, both sides together.
        power: Probability of a look that sees the difference, up to the planned end.

    Returns:
        The number: 2.80 for one look, 0.05 and 0.8.
    """
    once = float(ndtri(1 - alpha / 2) + ndtri(power))
    if method == "once":
        return once
    looks = [look / _LOOKS for look in range(1, _LOOKS + 1)]
    limits = critical_values(looks, alpha)
    if method == "sequence":
        sequence = ConfidenceSequence(_MANY, alpha)
        limits = [sequence.multiplier_at(round(look * _MANY)) for look in looks]
    return float(
        brentq(
            lambda drift: crossing_probability(looks, limits, drift) - power,
            0.5 * once, 3 * once + 1, xtol=1e-4,
        )
    )  # fmt: skip


def replay_prompts(
    difference: float, disagreement: float, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Count the prompts that both variants must answer offline.

    Args:
        difference: Of the shares of right answers, in (0, 1).
        disagreement: Share of prompts on which exactly one is right, at least the difference.
        alpha: Probability of a false difference.
        power: Probability of seeing the difference.

    Returns:
        Prompts for McNemar's test (Connor, 1987).
    """
    assert 0 < difference <= disagreement
    root = float(ndtri(1 - alpha / 2)) * math.sqrt(disagreement)
    root += float(ndtri(power)) * math.sqrt(disagreement - difference**2)
    return math.ceil((root / difference) ** 2)


def _spread(variances: tuple[float, float], shares: tuple[float, float]) -> float:
    """The variance of the difference times the units of both arms."""
    both = sum(shares)
    return variances[0] * both / shares[0] + variances[1] * both / shares[1]
