"""Group-sequential boundaries for an experiment with a declared end.

Where the number of units at the end is declared beforehand, few looks cost almost nothing: the last
one needs 2.0 standard errors instead of 1.96, against 3.0 of a confidence sequence. In exchange the
experiment must end there. Lan and DeMets (1983) spend the allowed error alpha over the looks,

    spent(t) = 4 - 4 Phi(z / sqrt(t)),   z = the 1 - alpha / 4 quantile of the normal distribution,

with t the share of the declared units seen so far: the two-sided form of O'Brien and Fleming's
boundary, very strict at the beginning. Number and times of the looks need not be known beforehand.

`kamerton experiment report` calls `GroupSequential(planned_units, alpha).multiplier(looks, ended)`
with the units of both arms at each look (say, at the end of each day), and hands the result to
`Effect.interval` (a repeated confidence interval, Jennison and Turnbull, 1989).

The boundaries come of the recursion of Armitage, McPherson and Rowe (1969), integrated numerically.
Letters: g nodes of the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from kamerton.experiments.outcomes import Floats
from kamerton.experiments.sequential import FEWEST_UNITS

__all__ = ["GroupSequential", "critical_values", "crossing_probability", "spent"]

_FARTHEST = 8.0
"""No look stops beyond this many standard errors: its share of alpha is below 1e-15."""
_NODES_PER_STEP, _FEWEST_NODES, _MOST_NODES = 6, 60, 1500


@dataclass(frozen=True, slots=True)
class GroupSequential:
    """A way to bound the difference of two arms at each look up to a declared end.

    Attributes:
        planned_units: Units of both arms at the declared end.
        alpha: How often the truth may be outside at any look, both sides together, in (0, 1).
        fewest_units: Units per arm, on average over both, below which no look counts.
    """

    planned_units: int
    alpha: float = 0.05
    fewest_units: int = FEWEST_UNITS

    def multiplier(self, looks: Sequence[int], *, ended: bool = False) -> float:
        """Say how many standard errors half the interval is wide at the last look.

        Args:
            looks: Units of both arms at every look so far, this one last. Looks without new units
                and looks with too few of them are no looks.
            ended: Whether this is the declared end, by date or by number of units; what is left of
                alpha is then spent, also where fewer units came than planned.

        Returns:
            The number; infinite before there are enough units. After the end it stays as it was.
        """
        counted: list[int] = []
        for units in looks:
            grown = not counted or units > counted[-1]
            over = bool(counted) and counted[-1] >= self.planned_units
            if grown and not over and units >= 2 * self.fewest_units:
                counted.append(units)
        if not counted:
            return math.inf
        shares = [min(units / self.planned_units, 1.0) for units in counted]
        return critical_values(shares, self.alpha, ended=ended)[-1]


def spent(share: float, alpha: float) -> float:
    """Say how much of alpha may be spent by now.

    Args:
        share: Of the declared units, in (0, 1].
        alpha: Both sides together.

    Returns:
        The part of alpha, all of it at 1.
    """
    return float(4 * ndtr(-ndtri(1 - alpha / 4) / math.sqrt(share)))


def critical_values(shares: Sequence[float], alpha: float, *, ended: bool = False) -> list[float]:
    """Find the boundary of each look, both sides the same.

    Args:
        shares: Share of the declared units at each look, growing, in (0, 1].
        alpha: Both sides together.
        ended: Whether the last look spends all that is left.

    Returns:
        For each look the number of standard errors; infinite where it is above 8.
    """
    assert all(a < b for a, b in zip([0.0, *shares], shares, strict=False))
    found: list[float] = []
    # Before the first look the sum of scores is 0 with certainty.
    nodes, weighted, last, used = np.zeros(1), np.ones(1), 0.0, 0.0
    for number, share in enumerate(shares, start=1):
        target = alpha if ended and number == len(shares) else spent(share, alpha)
        step, root = math.sqrt(share - last), math.sqrt(share)
        limit = _boundary(nodes, weighted, step, root, target - used)
        found.append(limit if limit < _FARTHEST else math.inf)
        used = target
        nodes, weighted = _advance(nodes, weighted, step, limit * root)
        last = share
    return found


def crossing_probability(
    shares: Sequence[float], limits: Sequence[float], drift: float = 0.0
) -> float:
    """Say how probable it is that any look crosses its boundary: the power of a plan.

    Args:
        shares: Share of the declared units at each look, growing, in (0, 1].
        limits: The boundary of each look in standard errors, both sides the same.
        drift: The true difference in standard errors at a share of 1.

    Returns:
        The probability; alpha where the drift is 0 and the boundaries come of `critical_values`.
    """
    nodes, weighted, last = np.zeros(1), np.ones(1), 0.0
    for share, limit in zip(shares, limits, strict=True):
        reach = min(limit, _FARTHEST + abs(drift)) * math.sqrt(share)
        nodes, weighted = _advance(nodes, weighted, math.sqrt(share - last), reach, drift)
        last = share
    return 1 - float(weighted.sum())


def _boundary(nodes: Floats, weighted: Floats, step: float, root: float, to_spend: float) -> float:
    def beyond(limit: float) -> float:
        return 2 * float(weighted @ ndtr((nodes - limit * root) / step)) - to_spend

    if to_spend <= 0 or beyond(_FARTHEST) >= 0:
        return _FARTHEST
    return float(brentq(beyond, 0.0, _FARTHEST, xtol=1e-10))


def _advance(
    nodes: Floats, weighted: Floats, step: float, limit: float, drift: float = 0.0
) -> tuple[Floats, Floats]:
    """Give the density of the sum of scores that has not crossed, times the weights, [g]."""
    num = int(np.clip(_NODES_PER_STEP * 2 * limit / step, _FEWEST_NODES, _MOST_NODES))
    points, weights = _grid(math.ceil(num / 20) * 20)
    places = points * limit
    distances = (places[:, None] - nodes - drift * step**2) / step
    density = np.exp(-(distances**2) / 2) @ weighted / (step * math.sqrt(2 * math.pi))
    return places, density * weights * limit


@lru_cache(maxsize=64)
def _grid(num: int) -> tuple[Floats, Floats]:
    """Points and weights of Gauss and Legendre, which cost more than a look."""
    points, weights = np.polynomial.legendre.leggauss(num)
    return points, weights
