"""Experiments whose shares follow the outcomes: the next shares, and what is known of each arm."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from kamerton.core.errors import SettingsError
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.experiments.bandits import posteriors, thompson_shares, weigh_by_propensity
from kamerton.experiments.outcomes import sum_by_unit
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import ExperimentSettings
from kamerton.flows.experiment.reading import recorded_traffic, unit_column

__all__ = ["CAUTIONS", "AdaptiveArm", "adaptive_json", "ensure_fixed", "read_adaptive"]
__all__ += ["verdict"]

CAUTIONS = (
    "The estimates are weighted by propensity; their standard errors are only nearly right, and a "
    "plain mean of an arm would be biased towards what was served.",
    "The sample-ratio test is off, as the shares change.",
)


@dataclass(frozen=True, slots=True)
class AdaptiveArm:
    """What is known of one arm.

    Attributes:
        arm: Its name.
        units: Units with an outcome.
        share: Share of new units that it gets now; 0 where it was stopped.
        estimate: The primary metric, weighted by propensity; None without units.
        standard_error: Of the estimate; None with less than two units.
        probability_best: Probability that it is the best of the arms that were not stopped.
    """

    arm: str
    units: int
    share: float
    estimate: float | None
    standard_error: float | None
    probability_best: float


def read_adaptive(
    connection: Connection,
    experiment: RegisteredExperiment,
    metrics: Mapping[str, LiveMetric],
    *,
    stopped: Collection[str] = (),
) -> tuple[AdaptiveArm, ...]:
    """Read what is known of each arm, and its next share.

    Args:
        connection: Of `Store.begin`.
        experiment: As it was registered.
        metrics: Known ones.
        stopped: Arms that get no units any more.

    Returns:
        The arms in the order of the settings.
    """
    settings = experiment.settings
    metric, column = metrics[settings.primary.metric], unit_column(settings.unit)
    traffic = recorded_traffic(
        connection,
        [metric],
        experiment.started,
        experiment.ended,
        [column, "arm", "propensity"],
        experiment=settings.name,
    )
    names, rows = tuple(settings.arms), traffic.rows
    kept = np.array([arm in settings.arms for arm in rows["arm"]], bool) & (rows[column] != "")
    units, arms = rows[column][kept].astype(str), rows["arm"][kept].astype(str)
    values = traffic.outcomes[metric.name][kept]
    chances = rows["propensity"][kept].astype(np.float64)
    # Counts of success and failure; where less is better, a failure is what is wanted.
    known = posteriors(sum_by_unit(units, arms, values, names).arms)
    if settings.primary.better == "down":
        known = known[:, ::-1]
    going = [place for place, name in enumerate(names) if name not in stopped]
    best, shares = np.zeros(len(names)), np.zeros(len(names))
    best[going] = thompson_shares(known[going], floor=0.0)
    shares[going] = thompson_shares(known[going])
    weighted = weigh_by_propensity(units, arms, values, chances, names)
    found = []
    for place, arm in enumerate(weighted.arms):
        error = None
        if arm.num_units > 1:
            error = float(np.sqrt((arm.residuals**2).sum()) / arm.num_units)
        estimate = arm.value if arm.num_units else None
        found.append(
            AdaptiveArm(
                arm.name, arm.num_units, float(shares[place]), estimate, error, float(best[place])
            )
        )
    return tuple(found)


def verdict(arms: Collection[AdaptiveArm]) -> str:
    """Say which arm is the best so far.

    Args:
        arms: What is known of each.

    Returns:
        A sentence.
    """
    best = max(arms, key=lambda arm: arm.probability_best)
    return f"best arm so far: {best.arm}, with probability {best.probability_best:.2f}"


def adaptive_json(
    experiment: RegisteredExperiment, arms: Collection[AdaptiveArm]
) -> dict[str, Any]:
    """Write what is known as plain values.

    Args:
        experiment: As it was registered.
        arms: What is known of each arm.

    Returns:
        What JSON can hold.
    """
    return {
        "experiment": experiment.settings.name,
        "shares": "adaptive",
        "running": experiment.is_running,
        "primary": experiment.settings.primary.metric,
        "arms": [asdict(arm) for arm in arms],
        "verdict": verdict(arms),
        "cautions": list(CAUTIONS),
    }


def ensure_fixed(settings: ExperimentSettings, what: str) -> None:
    """Refuse what only experiments with fixed shares have.

    Args:
        settings: The experiment.
        what: What was asked for, such as "a forecast of days".

    Raises:
        SettingsError: If the shares follow the outcomes.
    """
    if settings.shares == "adaptive":
        raise SettingsError(
            f"'{settings.name}' has adaptive shares, so there is no {what}: how many units an arm "
            "gets depends on outcomes that are not known yet",
            hint=f"kamerton experiment report {settings.name} shows what is known so far",
        )
