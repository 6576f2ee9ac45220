"""How much the units of an arm vary: guessed for a plan, or measured in logged traffic.

A unit with m requests of variance v, which are alike with the intra-class correlation rho, has the
variance v (1 + (m (1 + cv^2) - 1) rho) / m, where cv is the spread of m over its mean (Eldridge,
Ashby and Kerry, 2006). Ten requests of one person are worth much less than requests of ten people:
with rho = 0.2 they are worth 3.6.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kamerton.experiments.outcomes import ArmOutcomes

__all__ = ["intraclass_correlation", "observed_variance", "unit_variance"]


def unit_variance(
    variance: float, *, requests_per_unit: float = 1.0, spread: float = 0.0, icc: float = 0.0
) -> float:
    """Foretell the variance of a unit's value.

    Args:
        variance: Of one request's outcome: p (1 - p) for a share p.
        requests_per_unit: Requests with an outcome of a unit during the experiment, on average.
        spread: Standard deviation of that number over its mean; 1 is usual for people.
        icc: Intra-class correlation: how alike the requests of one unit are, from 0 (as those of
            different units) to 1 (all the same).

    Returns:
        The variance of an arm's metric times its number of units.
    """
    alike = 1 + (requests_per_unit * (1 + spread**2) - 1) * icc
    return variance * max(alike, 0.0) / requests_per_unit


def observed_variance(arm: ArmOutcomes) -> float:
    """Measure the variance of a unit's value in logged traffic.

    Args:
        arm: The outcomes of what is served today, of at least two units.

    Returns:
        The variance of the metric times the number of units, by the delta method.
    """
    return float((arm.residuals**2).sum()) / (arm.num_units - 1)


def intraclass_correlation(units: Sequence[str] | NDArray[Any], outcomes: ArrayLike) -> float:
    """Measure how alike the requests of one unit are: the estimator of the analysis of variance.

    Args:
        units: The unit of each request, [r].
        outcomes: Its outcome, [r]; NaN where there is none.

    Returns:
        The correlation in [0, 1]; 0 where no unit has two outcomes.
    """
    values = np.asarray(outcomes, np.float64)
    known = ~np.isnan(values)
    values = values[known]
    _, index = np.unique(np.asarray(units)[known], return_inverse=True)
    counts = np.bincount(index)
    num, total = len(counts), len(values)
    if num < 2 or total <= num:
        return 0.0
    means = np.bincount(index, values) / counts
    between = float((counts * (means - values.mean()) ** 2).sum()) / (num - 1)
    within = float(((values - means[index]) ** 2).sum()) / (total - num)
    size = (total - float((counts**2).sum()) / total) / (num - 1)
    below = between + (size - 1) * within
    return min(max((between - within) / below, 0.0), 1.0) if below > 0 else 0.0
