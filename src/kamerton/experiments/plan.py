"""What an experiment asks of the traffic, and whether to begin at all.

`kamerton experiment plan` calls `logged.measure_traffic` on logged requests (or supposes
`SteadyTraffic` and a variance from `variance.unit_variance`), then `plan`. Where the traffic cannot
decide within the days one is willing to wait, the plan says which difference it could decide, and
how many logged prompts a paired replay needs: both variants answer the same prompts offline
(`kamerton evaluate` on logged prompts), so what differs between users falls out and far fewer
answers are enough. The experiment then only confirms.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from kamerton.experiments.sample_size import (
    Method,
    replay_prompts,
    smallest_difference,
    units_needed,
)

__all__ = ["Arrivals", "Plan", "SteadyTraffic", "plan"]


class Arrivals(Protocol):
    """How units come: `logged.LoggedTraffic` or `SteadyTraffic`."""

    def units_within(self, days: int) -> float:
        """Say how many units come within some days."""

    def days_until(self, units: float) -> float:
        """Say after how many days that many units have come; infinite where they never do."""


@dataclass(frozen=True, slots=True)
class SteadyTraffic:
    """Supposed traffic: the same number of new units every day.

    Attributes:
        new_units_per_day: Units that are seen for the first time.
        units_in_all: How many there are; none come after the last. Infinite for no end.
    """

    new_units_per_day: float
    units_in_all: float = math.inf

    def units_within(self, days: int) -> float:
        """Say how many units come within some days.

        Args:
            days: From the start.

        Returns:
            The number.
        """
        return min(self.new_units_per_day * days, self.units_in_all)

    def days_until(self, units: float) -> float:
        """Say after how many days that many units have come.

        Args:
            units: How many.

        Returns:
            Whole days; infinite where they never do.
        """
        if units > self.units_in_all or self.new_units_per_day <= 0:
            return math.inf
        return math.ceil(units / self.new_units_per_day)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an experiment asks of the traffic.

    Attributes:
        method: The analysis.
        difference: The smallest difference worth seeing, in the metric's unit.
        units: Units of both arms together, at which the analysis is tuned.
        days: Until that many units have come; infinite where they never do.
        decidable: Whether that is within `days_limit`.
        days_limit: How many days one is willing to wait.
        difference_in_time: The smallest difference that the units of `days_limit` can show.
        replay_prompts: Logged prompts that a paired replay needs to see `difference`.
    """

    method: Method
    difference: float
    units: int
    days: float
    decidable: bool
    days_limit: int
    difference_in_time: float
    replay_prompts: int


def plan(
    difference: float,
    variances: tuple[float, float],
    arrivals: Arrivals,
    *,
    method: Method = "sequence",
    alpha: float = 0.05,
    power: float = 0.8,
    shares: tuple[float, float] = (0.5, 0.5),
    days_limit: int = 28,
    disagreement: float = 0.2,
) -> Plan:
    """Plan the comparison of an arm with the control.

    Args:
        difference: The smallest difference worth seeing, above 0.
        variances: Variance of a unit's value in the control and in the arm; both that of the logs
            where nothing is known of the arm.
        arrivals: How units come, of all arms together.
        method: The analysis.
        alpha: Probability of a false difference. Divide it by the number of arms beside the
            control.
        power: Probability of seeing the difference.
        shares: Of the units, for the control and the arm; they sum to at most 1, the rest being in
            other arms.
        days_limit: How many days one is willing to wait.
        disagreement: Share of prompts on which exactly one of the two variants is right; a guess
            for the replay. At least the difference.

    Returns:
        The plan.
    """
    units = units_needed(difference, variances, method, alpha, power, shares)
    days = arrivals.days_until(units / sum(shares))
    in_time = arrivals.units_within(days_limit) * sum(shares)
    at_least = max(min(disagreement, 1.0), difference)
    return Plan(
        method,
        difference,
        units,
        days,
        days <= days_limit,
        days_limit,
        smallest_difference(in_time, variances, method, alpha, power, shares),
        replay_prompts(difference, at_least, alpha, power) if difference < 1 else 1,
    )
