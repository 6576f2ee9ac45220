"""What an experiment's reading starts from: what was fixed before, and the rows that came since.

Letters: r rows of requests.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kamerton.experiments.guardrails import Guardrail
from kamerton.experiments.outcomes import Floats
from kamerton.experiments.sequential import FEWEST_UNITS, ConfidenceSequence
from kamerton.experiments.verdict import Measure

__all__ = ["Design", "Rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The requests of an experiment up to now, one row each.

    Attributes:
        units: The unit of each request, [r].
        arms: The arm that answered it, [r].
        days: Its day as a number that grows with time, [r].
        outcomes: For each metric the outcome of each request, [r]; NaN where there is none.
        covariates: For each metric that has a history, what was known of each unit before.
        segments: The segment of each request, [r]; None without segments.
    """

    units: NDArray[Any]
    arms: NDArray[Any]
    days: NDArray[np.int64]
    outcomes: Mapping[str, Floats]
    covariates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    segments: NDArray[Any] | None = None

    def part(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Keep some rows.

        Args:
            chosen: Which, [r].

        Returns:
            These rows.
        """
        return Rows(
            self.units[chosen],
            self.arms[chosen],
            self.days[chosen],
            {name: outcomes[chosen] for name, outcomes in self.outcomes.items()},
            self.covariates,
            None if self.segments is None else self.segments[chosen],
        )

    def numbered(self) -> "Rows":
        """Put numbers in the place of the units' names: sorting names again and again is slow.

        Returns:
            The same rows.
        """
        names, numbers = np.unique(self.units, return_inverse=True)
        number_of = {str(name): str(number) for number, name in enumerate(names)}
        covariates = {
            metric: {number_of[unit]: x for unit, x in known.items() if unit in number_of}
            for metric, known in self.covariates.items()
        }
        return replace(self, units=numbers, covariates=covariates)


@dataclass(frozen=True, slots=True)
class Design:
    """What was fixed before the start.

    Attributes:
        arms: Names of all arms, the control first.
        shares: Planned shares of the units.
        measures: The metrics, one of them primary.
        planned_units: Units of the control and one arm at the planned end.
        guardrails: What no arm may make worse; each metric is one of `measures`.
        rated: Names of the metrics that come of ratings, which may be missing; each has bounds.
        alpha: Probability of a false difference of a metric, shared by all arms.
        days: The declared end of a group-sequential test, in days from the first row. None for a
            confidence sequence, which needs no end.
        looks: How many equally spaced looks a group-sequential test takes, the last at the end.
        units_per_day: Planned new units a day, for the sample ratio.
        fewest_units: Units per arm below which nothing is said.
        guardrail_units: Units of both arms at which guardrails are tightest.
    """

    arms: tuple[str, ...]
    shares: tuple[float, ...]
    measures: tuple[Measure, ...]
    planned_units: int
    guardrails: tuple[Guardrail, ...] = ()
    rated: tuple[str, ...] = ()
    alpha: float = 0.05
    days: int | None = None
    looks: int = 4
    units_per_day: float = 50.0
    fewest_units: int = FEWEST_UNITS
    guardrail_units: int = 400

    def __post_init__(self) -> None:
        names = {measure.name for measure in self.measures}
        assert sum(measure.primary for measure in self.measures) == 1
        assert {guardrail.metric for guardrail in self.guardrails} <= names
        assert len(self.arms) == len(self.shares) > 1

    @property
    def primary(self) -> Measure:
        """The metric that decides."""
        return next(measure for measure in self.measures if measure.primary)

    def sequence(self) -> ConfidenceSequence:
        """The confidence sequence of one arm's metrics; several arms share alpha (Bonferroni)."""
        alpha = self.alpha / (len(self.arms) - 1)
        return ConfidenceSequence(self.planned_units, alpha, self.fewest_units)

    def guardrail_sequence(self) -> ConfidenceSequence:
        """The confidence sequence of one arm's guardrails, which speaks earlier."""
        alpha = self.alpha / (len(self.arms) - 1)
        return ConfidenceSequence(self.guardrail_units, alpha, min(self.fewest_units, 25))

    def look_days(self, elapsed: int) -> list[int]:
        """List the looks of a group-sequential test up to now.

        Args:
            elapsed: Whole days since the start.

        Returns:
            After how many days each look was taken.
        """
        assert self.days is not None
        planned = {math.ceil(look * self.days / self.looks) for look in range(1, self.looks + 1)}
        return sorted(day for day in planned if day <= elapsed)
