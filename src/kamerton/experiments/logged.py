"""What logged traffic says about an experiment that is being planned.

An experiment meets its users anew: the regular ones come in the first days, and later only those
who are really new. The same happened in the logs, so the number of different users in their first d
days foretells the units of an experiment after d days. `kamerton experiment plan` calls
`measure_traffic` on the logged requests of the primary metric, then `plan.plan` with the result.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kamerton.experiments.outcomes import sum_by_unit
from kamerton.experiments.variance import intraclass_correlation, observed_variance

__all__ = ["LoggedTraffic", "measure_traffic"]

_RECENT = 3
"""Beyond the logs new units come as they did in the last third of them."""


@dataclass(frozen=True, slots=True)
class LoggedTraffic:
    """Traffic of one metric, as it was logged.

    Attributes:
        value: The metric today.
        variance: Variance of a unit's value, over the logged days.
        units_by_day: Different units with an outcome up to each day, [days].
        requests_per_unit: Requests with an outcome of such a unit.
        icc: Intra-class correlation of the outcomes.
        known: Share of the requests that have an outcome.
    """

    value: float
    variance: float
    units_by_day: tuple[int, ...]
    requests_per_unit: float
    icc: float
    known: float

    @property
    def later_per_day(self) -> float:
        """New units a day after the logged days."""
        last = max(len(self.units_by_day) // _RECENT, 1)
        before = self.units_by_day[-last - 1] if last < len(self.units_by_day) else 0
        return (self.units_by_day[-1] - before) / last

    def units_within(self, days: int) -> float:
        """Say how many units come within some days.

        Args:
            days: From the start.

        Returns:
            The number.
        """
        if days <= 0:
            return 0.0
        logged = len(self.units_by_day)
        if days <= logged:
            return float(self.units_by_day[days - 1])
        return self.units_by_day[-1] + (days - logged) * self.later_per_day

    def days_until(self, units: float) -> float:
        """Say after how many days that many units have come.

        Args:
            units: How many.

        Returns:
            Whole days; infinite where no new units come any more.
        """
        for day, seen in enumerate(self.units_by_day, start=1):
            if seen >= units:
                return day
        missing, rate = units - self.units_by_day[-1], self.later_per_day
        return len(self.units_by_day) + math.ceil(missing / rate) if rate > 0 else math.inf


def measure_traffic(
    units: Sequence[str] | NDArray[Any], days: Sequence[int], outcomes: ArrayLike
) -> LoggedTraffic:
    """Measure logged traffic. Hand in as many days as the experiment may take.

    Args:
        units: The unit of each request, [r].
        days: Its day as a number that grows with time, [r].
        outcomes: Its outcome, [r]; NaN where there is none. At least two units have one.

    Returns:
        What it says.
    """
    who, values = np.asarray(units), np.asarray(outcomes, np.float64)
    known, when = ~np.isnan(values), np.asarray(days, np.int64)
    (arm,) = sum_by_unit(who, np.full(len(who), "all"), values, ("all",)).arms
    _, first = np.unique(who[known][np.argsort(when[known], kind="stable")], return_index=True)
    new = np.bincount(np.sort(when[known])[first] - when.min(), minlength=int(np.ptp(when)) + 1)
    return LoggedTraffic(
        arm.value,
        observed_variance(arm),
        tuple(int(count) for count in new.cumsum()),
        float(arm.denominators.mean()),
        intraclass_correlation(who, values),
        float(known.mean()),
    )
