"""What an experiment asks of the traffic that was recorded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from kamerton.core.errors import SettingsError
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.experiments.guardrails import units_to_roll_back
from kamerton.experiments.logged import LoggedTraffic, measure_traffic
from kamerton.experiments.plan import Arrivals, Plan, SteadyTraffic, plan
from kamerton.experiments.sample_size import Method
from kamerton.experiments.sequential import ConfidenceSequence
from kamerton.experiments.settings import ExperimentSettings, GroupSequentialSettings
from kamerton.experiments.verdict import Measure
from kamerton.flows.experiment.reading import measure_of, recorded_traffic, unit_column
from kamerton.store.database import Store
from kamerton.store.traffic import now

__all__ = [
    "Baseline",
    "ExperimentPlan",
    "Guess",
    "RollBack",
    "measure_baseline",
    "plan_experiment",
    "share_of_two",
]

_DAYS = 28


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the control's variant does today.

    Attributes:
        variant: The control's variant.
        num_days: Days of recorded traffic that it comes from; 0 where it is a guess.
        num_requests: Requests of all arms' variants in these days that said their unit.
        num_units: Their units.
        arrivals: How new units come, of all arms together.
        requests_per_unit: Requests with an outcome, on average.
        value: The primary metric.
        variance: Of a unit's value.
        icc: How alike the requests of one unit are, 0 to 1; 0 where the value is a guess.
        guessed: What is guessed: "value", "units_per_day", both or nothing.
    """

    variant: str
    num_days: int
    num_requests: int
    num_units: int
    arrivals: Arrivals
    requests_per_unit: float
    value: float
    variance: float
    icc: float
    guessed: tuple[str, ...] = ()

    @property
    def all_requests_per_unit(self) -> float:
        """Requests of a unit, with an outcome or without; 1 where nothing is recorded."""
        return self.num_requests / self.num_units if self.num_units else 1.0

    @property
    def units_per_day(self) -> float:
        """New units a day in the first four weeks, of all arms together."""
        return self.arrivals.units_within(_DAYS) / _DAYS


@dataclass(frozen=True, slots=True)
class Guess:
    """What somebody guesses who has recorded nothing yet.

    Attributes:
        units_per_day: New units a day, of all arms together; None for what is measured.
        value: The primary metric today; None for what is measured.
        deviation: Standard deviation of a unit's value, of a number; None for a share, whose own
            one is known.
    """

    units_per_day: float | None = None
    value: float | None = None
    deviation: float | None = None

    def variance(self, metric: LiveMetric) -> float | None:
        """Give the variance of a unit's value.

        Args:
            metric: The primary one.

        Returns:
            The variance; None where nothing is guessed.

        Raises:
            SettingsError: If a share is none, or what belongs together is not there.
        """
        if metric.type == "boolean":
            if self.deviation is not None:
                raise SettingsError(f"--deviation is for numbers, and '{metric.name}' is a share")
            if self.value is not None and not 0 < self.value < 1:
                raise SettingsError(
                    f"--baseline: '{metric.name}' is a share: between 0 and 1, got {self.value:g}"
                )
            return None if self.value is None else self.value * (1 - self.value)
        if (self.value is None) != (self.deviation is None):
            raise SettingsError(
                f"'{metric.name}' is a number: --baseline and --deviation go together",
                hint="of a rating from 1 to 5 the standard deviation is about 1",
            )
        return None if self.deviation is None else self.deviation**2


@dataclass(frozen=True, slots=True)
class RollBack:
    """How soon a guardrail stops an arm.

    Attributes:
        metric: The guardrail's.
        harm: A harm of twice the margin.
        units: Units of the arm after which it is seen with the planned power; None for never.
        requests: The same in requests.
    """

    metric: str
    harm: float
    units: int | None
    requests: int | None


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """A plan with what it starts from.

    Attributes:
        settings: The experiment.
        baseline: What the control's variant does today.
        measure: The primary metric.
        plan: What the experiment asks for.
        roll_backs: How soon each guardrail of a share stops an arm.
    """

    settings: ExperimentSettings
    baseline: Baseline
    measure: Measure
    plan: Plan
    roll_backs: tuple[RollBack, ...] = ()

    @property
    def planned_units(self) -> int:
        """Units of the control and one arm at which the analysis is tightest."""
        analysis = self.settings.analysis
        if isinstance(analysis, GroupSequentialSettings):
            units = self.baseline.arrivals.units_within(analysis.days)
            return max(round(units * self.settings.share * share_of_two(self.settings)), 2)
        if analysis.units is None:
            return self.plan.units
        # The settings count all arms together.
        return max(round(analysis.units * share_of_two(self.settings)), 2)


def measure_baseline(
    store: Store,
    settings: ExperimentSettings,
    metric: LiveMetric,
    *,
    days: float = 28.0,
    guess: Guess | None = None,
) -> Baseline:
    """Measure what the control's variant does today.

    Args:
        store: With recorded traffic.
        settings: The experiment.
        metric: The primary one.
        days: How far back traffic is looked at.
        guess: What stands instead of what is measured.

    Returns:
        The baseline.

    Raises:
        SettingsError: If nothing is recorded and nothing was guessed.
    """
    guess, variant = guess or Guess(), settings.arms[settings.control].variant
    guessed = guess.variance(metric)
    with store.begin() as connection:
        column = unit_column(settings.unit)
        since = now() - timedelta(days=days)
        traffic = recorded_traffic(connection, [metric], since, columns=[column, "variant"])
    # Units of all arms will take part; the control's alone say what it does today.
    variants = {arm.variant for arm in settings.arms.values()}
    rows, outcomes = traffic.rows, traffic.outcomes[metric.name]
    units = rows[column].astype(str)
    of_arms = (units != "") & np.array([each in variants for each in rows["variant"]], bool)
    of_control = of_arms & (rows["variant"] == variant)
    when = (rows["created"] - rows["created"][:1]).astype("timedelta64[D]").astype(np.int64)
    seen = _measured(units, when, outcomes, of_arms)
    today = _measured(units, when, outcomes, of_control)
    per_day, value = guess.units_per_day, guess.value
    arrivals = seen if per_day is None else SteadyTraffic(per_day)
    if arrivals is None or (value is None and today is None):
        needed = "--baseline" if metric.type == "boolean" else "--baseline and --deviation"
        missing = "units" if arrivals is None else f"values of '{metric.name}'"
        raise SettingsError(
            f"'{variant}' has no recorded {missing} in the last {days:g} days",
            hint=f"kamerton serve --record records traffic; or guess: --units-per-day, {needed}",
        )
    return Baseline(
        variant,
        len(seen.units_by_day) if seen else 0,
        int(of_arms.sum()),
        len(np.unique(units[of_arms])),
        arrivals,
        today.requests_per_unit if today else 1.0,
        value if value is not None else today.value if today else 0.0,
        guessed if guessed is not None else today.variance if today else 0.0,
        today.icc if today and guessed is None else 0.0,
        (() if guessed is None else ("value",)) + (() if per_day is None else ("units_per_day",)),
    )


def _measured(
    units: np.ndarray[Any, Any],
    days: np.ndarray[Any, np.dtype[np.int64]],
    outcomes: np.ndarray[Any, np.dtype[np.float64]],
    chosen: np.ndarray[Any, np.dtype[np.bool_]],
) -> LoggedTraffic | None:
    """Measure some of the requests; None where less than two units have an outcome."""
    if len(np.unique(units[chosen & ~np.isnan(outcomes)])) < 2:
        return None
    return measure_traffic(units[chosen], days[chosen].tolist(), outcomes[chosen])


def plan_experiment(
    settings: ExperimentSettings,
    baseline: Baseline,
    metrics: Mapping[str, LiveMetric],
    *,
    days_limit: int = 28,
) -> ExperimentPlan:
    """Plan an experiment.

    Args:
        settings: The experiment.
        baseline: What the control's variant does today.
        metrics: Known ones.
        days_limit: How many days one is willing to wait.

    Returns:
        The plan, for the arm with the smallest weight beside the control.
    """
    analysis = settings.analysis
    declared = isinstance(analysis, GroupSequentialSettings)
    method: Method = "group" if declared else "sequence"
    alpha = settings.alpha / (len(settings.arms) - 1)
    total, weights = sum(settings.weights.values()), settings.weights
    least = min(weight for arm, weight in weights.items() if arm != settings.control)
    shares = (weights[settings.control] / total, least / total)
    found = plan(
        settings.primary.smallest_effect,
        (baseline.variance, baseline.variance),
        baseline.arrivals,
        method=method,
        alpha=alpha,
        power=settings.power,
        shares=(shares[0] * settings.share, shares[1] * settings.share),
        days_limit=analysis.days if isinstance(analysis, GroupSequentialSettings) else days_limit,
    )
    roll_backs = []
    sequence = ConfidenceSequence(400, alpha, 25)
    for guardrail in settings.guardrails:
        if metrics[guardrail.metric].type != "boolean":
            continue
        # A rare event: the margin itself stands for its share where nothing is known of it.
        share = min(guardrail.margin, 0.5)
        harmed = min(share + 2 * guardrail.margin, 1.0)
        units = units_to_roll_back(
            2 * guardrail.margin,
            guardrail.margin,
            (share * (1 - share), max(harmed * (1 - harmed), 0.01)),
            sequence,
            arm_share=least / total,
            num_guardrails=len(settings.guardrails),
            power=settings.power,
        )
        requests = None if units is None else math.ceil(units * baseline.all_requests_per_unit)
        roll_backs.append(RollBack(guardrail.metric, 2 * guardrail.margin, units, requests))
    primary = settings.primary
    measure = measure_of(
        metrics[primary.metric],
        primary.better,
        primary=True,
        smallest_effect=primary.smallest_effect,
    )
    return ExperimentPlan(settings, baseline, measure, found, tuple(roll_backs))


def share_of_two(settings: ExperimentSettings) -> float:
    """Say which share of the units that take part the control and the smallest arm get.

    Args:
        settings: The experiment.

    Returns:
        The share, 1 where there are no other arms.
    """
    weights = settings.weights
    least = min(weight for arm, weight in weights.items() if arm != settings.control)
    return (weights[settings.control] + least) / sum(weights.values())
