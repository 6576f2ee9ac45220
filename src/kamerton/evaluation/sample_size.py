"""How many items would tell two variants apart, from how far apart they are now."""

import math

from scipy.special import ndtri

from kamerton.evaluation.results import Comparison, Difference

__all__ = ["POWER", "items_needed"]

POWER = 0.8
"""How often so many items would show a difference that is there."""


def items_needed(comparison: Comparison, difference: Difference, real: float) -> int:
    """Say how many items would show a difference of a size, if it is real.

    The variance of an item's difference is taken from the interval: for shares that is the
    observed share of items on which the two disagree (Bonett and Price, 2012, as in
    `paired_interval`). The test must be passed after Holm's correction, as far as other differences
    of the comparison stand before this one.

    Args:
        comparison: The comparison that was found.
        difference: One of its differences.
        real: Size of the difference that is there, above 0.

    Returns:
        The number of items with power 0.8, rounded up to two digits; groups are assumed to be as
        large as here.
    """
    assert real > 0
    alpha = 1 - comparison.confidence_level
    num = comparison.measure(difference.metric, difference.variant).n
    error = (difference.high - difference.low) / 2 / float(ndtri(1 - alpha / 2))
    others = sum(one.p_value >= difference.p_value for one in comparison.differences)
    sure = float(ndtri(1 - alpha / 2 / others)) + float(ndtri(POWER))
    needed = num * (sure * error / real) ** 2
    unit: int = 10 ** max(0, math.floor(math.log10(max(needed, 1.0))) - 1)
    return max(1, math.ceil(needed / unit) * unit)
