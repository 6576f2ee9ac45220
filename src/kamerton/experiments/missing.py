"""What missing ratings may hide: who rates, and how far the effect could be off.

Few users rate, and a variant can change who does: one that answers badly may lose its raters. A
difference between ratings is then no difference between answers. Two things are reported: the rate
of rating of both arms with its test, and the worst case, in which every answer without a rating
would have been rated as bad as possible in one arm and as good as possible in the other (C. F.
Manski, 1990). The worst case is wide unless most answers are rated; that is the honest state of
knowledge without further assumptions.

`kamerton experiment report` calls `read_missing` for each metric that comes of ratings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kamerton.experiments.effects import Effect, Interval, compare
from kamerton.experiments.outcomes import sum_by_unit
from kamerton.experiments.sequential import ConfidenceSequence

__all__ = ["MissingRatings", "read_missing"]


@dataclass(frozen=True, slots=True)
class MissingRatings:
    """Ratings that did not come, in an arm and in the control.

    Attributes:
        rate: The share of rated requests in both arms, and its difference, by unit.
        p_value: Test that both arms are rated equally often, valid at every look.
        comparable: Whether that test finds no difference. It is no proof that the raters are alike.
        worst_case: Bounds of the effect over all requests, whatever the missing ratings would be,
            without sampling error.
        interval: The worst case with sampling error: from the lower end of the lowest effect's
            interval to the upper end of the highest one's.
    """

    rate: Effect
    p_value: float
    comparable: bool
    worst_case: Interval
    interval: Interval


def read_missing(
    units: Sequence[str] | NDArray[Any],
    arms: Sequence[str] | NDArray[Any],
    outcomes: ArrayLike,
    pair: tuple[str, str],
    bounds: tuple[float, float],
    sequence: ConfidenceSequence,
) -> MissingRatings:
    """Compare the rates of rating, and bound the effect for the ratings that are missing.

    Args:
        units: The unit of each request of the two arms, [r].
        arms: The arm that answered it, [r].
        outcomes: Its rating, [r]; NaN where nobody rated.
        pair: The control and the arm, in this order. Both have at least two units.
        bounds: The lowest and the highest possible rating.
        sequence: Bounds the rate and the effect at every look.

    Returns:
        What is missing and what it may hide.
    """
    values, which = np.asarray(outcomes, np.float64), np.asarray(arms)
    known = ~np.isnan(values)
    # Both arms have a rate for each unit here, so a rate of 0 or 1 is not taken for certain.
    rate = compare(*sum_by_unit(units, which, known.astype(float), pair).arms, bounds=(0.0, 1.0))
    low, high = bounds
    lowest = _filled(units, which, values, pair, (high, low))
    highest = _filled(units, which, values, pair, (low, high))
    p_value = sequence.p_value(rate)
    return MissingRatings(
        rate,
        p_value,
        p_value > sequence.alpha,
        Interval(lowest.difference, highest.difference),
        Interval(
            lowest.interval(sequence.multiplier(lowest)).low,
            highest.interval(sequence.multiplier(highest)).high,
        ),
    )


def _filled(
    units: Sequence[str] | NDArray[Any],
    arms: NDArray[Any],
    values: NDArray[np.float64],
    pair: tuple[str, str],
    instead: tuple[float, float],
) -> Effect:
    """Compare the arms with one value for all that is missing in the control, one in the arm."""
    ends = (min(instead), max(instead))
    whole = np.where(np.isnan(values), np.where(arms == pair[0], *instead), values)
    return compare(*sum_by_unit(units, arms, whole, pair).arms, bounds=ends)
