"""Outcomes of an experiment by unit: what came of all requests of one user, per arm.

Requests of one unit (a user, a shop, a conversation) are alike, so the unit is what is compared,
never the request. `sum_by_unit` turns rows of requests into two numbers per unit: the sum of the
outcomes and how many there were. A metric of an arm is then a ratio of sums,

    R = sum of outcomes over all units / sum of denominators over all units,

and a mean over units is the ratio whose denominators are all 1.

`kamerton experiment report` calls `sum_by_unit` once per metric, then `effects.compare` for each
arm beside the control. Segments are chosen before the call, by leaving out the other rows.

Letters: r rows of requests, n units of an arm, K arms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ArmOutcomes", "Floats", "Outcomes", "first_arms", "in_one_arm", "sum_by_unit"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmOutcomes:
    """One metric of one arm.

    Attributes:
        name: The arm.
        sums: Sum of the outcomes of each unit, [n].
        denominators: What each unit's sum is divided by, [n], each above 0: how many outcomes the
            unit has, or 1 for a mean over units.
        covariate: What was known of each unit before the experiment, [n], such as the same metric
            in the month before; NaN where nothing was known. None without any.
        num_requests: Requests of all units in this arm, with and without an outcome.
        num_without_outcome: Units of this arm that have requests but no outcome. They are not
            among the n.
    """

    name: str
    sums: Floats
    denominators: Floats
    covariate: Floats | None = None
    num_requests: int = 0
    num_without_outcome: int = 0

    @property
    def num_units(self) -> int:
        """Units with an outcome, n."""
        return len(self.sums)

    @property
    def value(self) -> float:
        """The metric R of this arm; NaN without units."""
        total = float(self.denominators.sum())
        return float(self.sums.sum()) / total if total else float("nan")

    @property
    def residuals(self) -> Floats:
        """What each unit adds to the error of the ratio, [n]; their mean is 0."""
        mean = float(self.denominators.mean())
        residuals: Floats = (self.sums - self.value * self.denominators) / mean
        return residuals


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One metric of all arms.

    Attributes:
        arms: In the order of the experiment, the control first, [K].
        num_in_two_arms: Units that were seen in more than one arm. They are in no arm here.
    """

    arms: tuple[ArmOutcomes, ...]
    num_in_two_arms: int = 0

    def __getitem__(self, name: str) -> ArmOutcomes:
        return next(arm for arm in self.arms if arm.name == name)


def sum_by_unit(
    units: Sequence[str] | NDArray[Any],
    arms: Sequence[str] | NDArray[Any],
    outcomes: ArrayLike,
    names: Sequence[str],
    *,
    kind: Literal["ratio", "mean"] = "ratio",
    denominators: ArrayLike | None = None,
    covariates: Mapping[str, float] | None = None,
) -> Outcomes:
    """Sum the outcomes of each unit and set apart the units that were seen in two arms.

    Args:
        units: The unit of each request, [r].
        arms: The arm that answered it, [r]; each is one of `names`.
        outcomes: Its outcome, [r]; NaN where there is none (an answer that nobody rated).
        names: All arms, the control first.
        kind: `ratio` divides a unit's sum by its number of outcomes, so that the metric is a mean
            over requests. `mean` divides it by 1: a mean over units of their sums. A unit without
            any outcome is left out of both.
        denominators: What each outcome is divided by instead of 1, [r], for a ratio of two sums
            such as cost per solved case. With `ratio` only.
        covariates: What was known of each unit before the experiment.

    Returns:
        The sums of each arm.
    """
    assert kind == "ratio" or denominators is None
    codes, index = np.unique(np.asarray(units), return_inverse=True)
    num = len(codes)
    found = _arms_of_units(index, num, arms, names)
    values = np.asarray(outcomes, np.float64)
    known = ~np.isnan(values)
    below = np.ones_like(values) if denominators is None else np.asarray(denominators, np.float64)
    sums = np.bincount(index, np.where(known, values, 0.0), num)
    totals = np.bincount(index, np.where(known, below, 0.0), num)
    requests = np.bincount(index, minlength=num)
    before = None
    if covariates is not None:
        before = np.array([covariates.get(str(unit), np.nan) for unit in codes], np.float64)
    once, position = found.sum(axis=1) == 1, found.argmax(axis=1)
    made = []
    for place, name in enumerate(names):
        of_arm = once & (position == place)
        chosen = of_arm & (totals > 0)
        made.append(
            ArmOutcomes(
                name,
                sums[chosen],
                totals[chosen] if kind == "ratio" else np.ones(int(chosen.sum())),
                None if before is None else before[chosen],
                int(requests[of_arm].sum()),
                int((of_arm & ~chosen).sum()),
            )
        )
    return Outcomes(tuple(made), int((~once).sum()))


def first_arms(
    units: Sequence[str] | NDArray[Any], arms: Sequence[str] | NDArray[Any], days: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Find the day and the arm in which each unit was first seen, for the sample ratio.

    Args:
        units: The unit of each exposure, [r].
        arms: Its arm, [r].
        days: Its day as a number that grows with time, [r]. Of one day the earlier row counts.

    Returns:
        The first day of each unit and its arm on that day, in the order of first appearance.
    """
    when = np.asarray(days, np.int64)
    order = np.argsort(when, kind="stable")
    _, first = np.unique(np.asarray(units)[order], return_index=True)
    rows = order[np.sort(first)]
    return when[rows], np.asarray(arms)[rows]


def in_one_arm(
    units: Sequence[str] | NDArray[Any], arms: Sequence[str] | NDArray[Any]
) -> NDArray[np.bool_]:
    """Tell which requests come of units that were only seen in one arm.

    Args:
        units: The unit of each request, [r].
        arms: The arm that answered it, [r].

    Returns:
        True for those, [r].
    """
    codes, index = np.unique(np.asarray(units), return_inverse=True)
    names = [str(name) for name in np.unique(np.asarray(arms))]
    once: NDArray[np.bool_] = _arms_of_units(index, len(codes), arms, names).sum(axis=1) == 1
    return once[index]


def _arms_of_units(
    index: NDArray[np.int64],
    num_units: int,
    arms: Sequence[str] | NDArray[Any],
    names: Sequence[str],
) -> NDArray[np.bool_]:
    """Tell which unit was seen in which arm, [units, K]."""
    codes, arm_index = np.unique(np.asarray(arms), return_inverse=True)
    places = {name: place for place, name in enumerate(names)}
    assert all(str(code) in places for code in codes), "every arm must be one of the names"
    of_code = np.array([places[str(code)] for code in codes], np.int64)
    found = np.zeros((num_units, len(names)), bool)
    found[index, of_code[arm_index]] = True
    return found
