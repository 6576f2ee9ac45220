"""Group-sequential boundaries for an experiment with a declared end.

Where the end is declared beforehand, few looks cost almost nothing: the last one needs 2.0 standard
errors instead of 1.96, against 3.0 of a confidence sequence. In exchange the experiment must end
there. Lan and DeMets (1983) spend the allowed error alpha over the time,

    spent(t) = 4 - 4 Phi(z / sqrt(t)),   z = the 1 - alpha / 4 quantile of the normal distribution,

with t the share of the declared days gone by (calendar time: Lan and DeMets, 1989): the two-sided
form of O'Brien and Fleming's boundary, very strict at the beginning. How alike the looks are is
told by their information, 1 / SE^2, so it may grow as it likes: by new units, or by more requests
of the same ones.

`kamerton experiment report` calls `GroupSequential(alpha).multiplier(effects, times)` with the
effect at each look so far, and hands the result to `Effect.interval` (a repeated confidence
interval, Jennison and Turnbull, 1989).

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

from kamerton.experiments.effects import Effect
from kamerton.experiments.outcomes import Floats
from kamerton.experiments.sequential import FEWEST_UNITS

__all__ = ["GroupSequential", "critical_values", "crossing_probability", "spent"]

_FARTHEST = 8.0
"""No look stops beyond this many standard errors: its share of alpha is below 1e-15."""
_LEAST_GROWTH = 1.01
_NODES_PER_STEP, _FEWEST_NODES, _MOST_NODES = 6, 60, 1500


@dataclass(frozen=True, slots=True)
class GroupSequential:
    """A way to bound the difference of two arms at each look up to a declared end.

    Attributes:
        alpha: How often the truth may be outside at any look, both sides together, in (0, 1).
        fewest_units: Units per arm below which a look is none.
    """

    alpha: float = 0.05
    fewest_units: int = FEWEST_UNITS

    def multiplier(self, effects: Sequence[Effect | None], times: Sequence[float]) -> float:
        """Say how many standard errors half the interval is wide at the last look.

        Args:
            effects: What was found at every look so far, the present one last; None where there
                was nothing to compare.
            times: Share of the declared days gone by at each look, growing; 1 at the end.

        Returns:
            The number; infinite where an arm has too few units, 0 where the difference is known
            without error.
        """
        last = effects[-1] if effects else None
        if last is not None and last.is_exact and min(last.units) >= self.fewest_units:
            return 0.0
        if not effects or not self._counts(effects[-1]):
            return math.inf
        information: list[float] = []
        counted: list[float] = []
        for effect, time in zip(effects, times, strict=True):
            if effect is not None and self._counts(effect):
                # A look that brings nothing new is a look all the same.
                least = information[-1] * _LEAST_GROWTH if information else 0.0
                information.append(max(effect.standard_error**-2, least))
                counted.append(time)
        return critical_values(information, self.alpha, times=counted)[-1]

    def _counts(self, effect: Effect | None) -> bool:
        return (
            effect is not None
            and effect.standard_error > 0
            and min(effect.units) >= self.fewest_units
        )


def spent(share: float, alpha: float) -> float:
    """Say how much of alpha may be spent by now.

    Args:
        share: Of the declared time, in (0, 1].
        alpha: Both sides together.

    Returns:
        The part of alpha, all of it at 1.
    """
    return float(4 * ndtr(-ndtri(1 - alpha / 4) / math.sqrt(share)))


def critical_values(
    information: Sequence[float], alpha: float, *, times: Sequence[float] | None = None
) -> list[float]:
    """Find the boundary of each look, both sides the same.

    Args:
        information: 1 / SE^2 at each look in any unit, growing.
        alpha: Both sides together.
        times: Share of the declared time gone by at each look, growing, in (0, 1]. By default the
            information is that share.

    Returns:
        For each look the number of standard errors; infinite where it is above 8.
    """
    assert all(a < b for a, b in zip([0.0, *information], information, strict=False))
    spending = information if times is None else times
    # The boundaries depend on the ratios of the information only.
    shares = [value / information[-1] for value in information]
    found: list[float] = []
    # Before the first look the sum of scores is 0 with certainty.
    nodes, weighted, last, used = np.zeros(1), np.ones(1), 0.0, 0.0
    for share, time in zip(shares, spending, strict=True):
        target = spent(min(time, 1.0), alpha)
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
