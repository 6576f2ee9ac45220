"""Intervals over few independent rows, where resampling them would be too sure of itself.

A bootstrap over eight groups draws from eight numbers only: its intervals are too narrow, and over
one group they have no width at all. Here each row is left out in turn, and Student's t makes up
for their small number (Efron and Stein, 1981; R. G. Miller, 1974).

Letters: n rows, K features.
"""

import math
from collections.abc import Sequence

from scipy.special import expit, stdtrit

from kamerton.evaluation.statistics import Finish, Floats, Interval, paired_interval, wilson

__all__ = ["FEWEST_ROWS", "FEW_ROWS", "difference_interval", "value_interval"]

FEWEST_ROWS = 5
"""Fewer rows bound no metric, except one that counts right and wrong answers."""
FEW_ROWS = 30
"""The bootstrap's own intervals are good enough for this many rows and more."""

_NO_ERROR = 1e-12


def value_interval(
    rows: Floats,
    items: Floats,
    finish: Finish,
    confidence_level: float,
    *,
    ends_at_one: bool = True,
) -> Interval:
    """Bound a metric that is never below 0.

    Args:
        rows: Independent rows, the sums of their items' features, [n, K], with n >= 2.
        items: Features of the single items.
        finish: Makes the metric.
        confidence_level: Coverage in (0, 1).
        ends_at_one: Whether it is never above 1 either; a loss may be.

    Returns:
        An interval that contains the metric's value and no impossible one.
    """
    value = float(finish(rows.sum(axis=0)))
    error = max(_error([rows], finish), _error([items], finish))
    if not ends_at_one:
        # Twice as much is as far from a value as half of it.
        half = _quantile(confidence_level, len(rows)) * error / value if value > 0 else 0.0
        return Interval(value * math.exp(-half), value * math.exp(half))
    if error < _NO_ERROR or not 0 < value < 1:
        # No row differs from the others, which says nothing: bound it as a share of the rows.
        num = int(rows.any(axis=1).sum())
        found = wilson(round(value * num), num, confidence_level) if num else Interval(0.0, 1.0)
        return Interval(min(found.low, value), max(found.high, value))
    # On the scale of log-odds an interval near 0 or 1 is as lopsided as it should be.
    centre = math.log(value / (1 - value))
    half = _quantile(confidence_level, len(rows)) * error / (value * (1 - value))
    return Interval(_share(centre - half), _share(centre + half))


def difference_interval(
    rows: tuple[Floats, Floats],
    items: tuple[Floats, Floats],
    finish: Finish,
    confidence_level: float,
    *,
    ends_at_one: bool = True,
) -> Interval:
    """Bound the difference of a metric of two variants.

    Args:
        rows: Independent rows of the first and of the second, [n, K] each, with n >= 2.
        items: Features of the single items of both.
        finish: Makes the metric.
        confidence_level: Coverage in (0, 1).
        ends_at_one: Whether the metric is never above 1.

    Returns:
        An interval for the first minus the second that contains the observed one, in [-1, 1] where
        the metric ends at 1.
    """
    first, second = (float(finish(one.sum(axis=0))) for one in rows)
    value, num = first - second, len(rows[0])
    error = max(_error(rows, finish), _error(items, finish))
    half = _quantile(confidence_level, num) * error
    if not ends_at_one:
        return Interval(value - half, value + half)
    if error < _NO_ERROR:
        # As if each row were one item: none of them disagrees with the others.
        only_a, only_b = round(max(value, 0.0) * num), round(max(-value, 0.0) * num)
        found = paired_interval(only_a, only_b, num, confidence_level)
        return Interval(min(found.low, value), max(found.high, value))
    return Interval(max(value - half, -1.0), min(value + half, 1.0))


def _error(features: Sequence[Floats], finish: Finish) -> float:
    """The jackknife's standard error of a metric, or of the first's minus the second's.

    The callers take the larger one of that over groups and that over items: a few groups may agree
    by chance, and items of one group are hardly less alike than those of different groups.
    """
    values = finish(features[0].sum(axis=0) - features[0])
    for other in features[1:]:
        values = values - finish(other.sum(axis=0) - other)
    values = values[values == values]
    num = len(values)
    return math.sqrt((num - 1) / num * float(((values - values.mean()) ** 2).sum())) if num else 0.0


def _share(log_odds: float) -> float:
    return float(expit(log_odds))


def _quantile(confidence_level: float, num: int) -> float:
    return float(stdtrit(num - 1, (1 + confidence_level) / 2))
