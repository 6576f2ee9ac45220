"""Tries an experiment's analysis on made-up traffic like the recorded one."""

from dataclasses import dataclass

from kamerton.core.errors import SettingsError
from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.experiments.settings import GroupSequentialSettings
from kamerton.experiments.simulate import BY_REQUEST, simulate_rules
from kamerton.experiments.traffic import Traffic
from kamerton.flows.experiment.planning import ExperimentPlan, share_of_two

__all__ = ["Simulated", "simulate_experiment"]


@dataclass(frozen=True, slots=True)
class Simulated:
    """How often a difference is seen at any daily look.

    Attributes:
        truth: What the made-up traffic has.
        by_unit: Share of experiments, as they are analysed here.
        by_request: The same by 1.96 standard errors with requests counted as independent.
        days: Of each experiment.
    """

    truth: str
    by_unit: float
    by_request: float
    days: int


def simulate_experiment(
    found: ExperimentPlan, runs: int, days: int, sink: Sink = lambda event: None
) -> list[Simulated]:
    """Simulate an experiment with no difference, and with the smallest effect.

    Args:
        found: Its plan; traffic is made after its baseline.
        runs: Experiments of each kind.
        days: Of each experiment; those of a group-sequential analysis where it declares them.
        sink: Receives progress.

    Returns:
        One line per kind.

    Raises:
        SettingsError: If the primary metric is no share.
    """
    settings, today = found.settings, found.baseline
    effect = settings.primary.smallest_effect
    sign = 1 if settings.primary.better == "up" else -1
    if not 0 < today.value < 1 or not 0 < today.value + sign * effect < 1:
        raise SettingsError(
            f"made-up traffic is of yes and no, and '{settings.primary.metric}' is "
            f"{today.value:g}, or {today.value + sign * effect:g} with the smallest effect",
            hint="a share between 0 and 1 can be simulated",
        )
    rule, looks, analysis = "sequence", 4, settings.analysis
    if isinstance(analysis, GroupSequentialSettings):
        rule, days, looks = "group", analysis.days, analysis.looks
    weights = settings.weights
    least = min(weight for arm, weight in weights.items() if arm != settings.control)
    lines: list[Simulated] = []

    def report(done: int) -> None:
        task = translated("simulating experiments")
        sink(Progress(task, len(lines) * runs + done, 2 * runs))

    for truth, difference in (("no difference", 0.0), ("the smallest effect", sign * effect)):
        traffic = Traffic(
            today.units_per_day * settings.share * share_of_two(settings),
            days,
            today.value,
            difference,
            max(round(today.requests_per_unit), 1),
            min(today.icc, 0.95),
            share=least / (least + weights[settings.control]),
        )
        told = simulate_rules(
            traffic,
            runs,
            planned_units=found.planned_units,
            alpha=settings.alpha / (len(weights) - 1),
            looks=looks,
            report=report,
        )
        lines.append(Simulated(truth, told[rule].differs, told[BY_REQUEST].differs, days))
    return lines
