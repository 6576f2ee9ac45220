"""What an experiment asks of the traffic, and whether to begin at all.

`kamerton experiment plan` calls `variance.observed_variance` on logged outcomes (or
`variance.unit_variance` on a guess), then `plan`. Where the traffic cannot decide within the days
one is willing to wait, the plan says which difference it could decide, and how many logged prompts
a paired replay needs: both variants answer the same prompts offline (`kamerton evaluate` on logged
prompts), so what differs between users falls out and far fewer answers are enough. The experiment
then only confirms.
"""

import math
from dataclasses import dataclass

from kamerton.experiments.sample_size import (
    Method,
    replay_prompts,
    smallest_difference,
    units_needed,
)

__all__ = ["Plan", "plan"]


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
    new_units_per_day: float,
    *,
    method: Method = "sequence",
    alpha: float = 0.05,
    power: float = 0.8,
    shares: tuple[float, float] = (0.5, 0.5),
    units_in_all: int | None = None,
    days_limit: int = 28,
    disagreement: float = 0.2,
) -> Plan:
    """Plan the comparison of an arm with the control.

    Args:
        difference: The smallest difference worth seeing, above 0.
        variances: Variance of a unit's value in the control and in the arm.
        new_units_per_day: Units that are seen for the first time, of both arms together.
        method: The analysis.
        alpha: Probability of a false difference. Divide it by the number of arms beside the
            control.
        power: Probability of seeing the difference.
        shares: Of the units, for the control and the arm; they sum to at most 1, the rest being in
            other arms.
        units_in_all: How many units there are; none come after the last. None for no end.
        days_limit: How many days one is willing to wait.
        disagreement: Share of prompts on which exactly one of the two variants is right; a guess
            for the replay. At least the difference.

    Returns:
        The plan.
    """
    units = units_needed(difference, variances, method, alpha, power, shares)
    rate = new_units_per_day * sum(shares)
    most = math.inf if units_in_all is None else units_in_all * sum(shares)
    days = math.inf if units > most or rate <= 0 else math.ceil(units / rate)
    in_time = min(rate * days_limit, most)
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
