"""Words and plain values of plans and states, for the terminal and for programs."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from kamerton.experiments.amounts import difference_text, value_text
from kamerton.experiments.reading import ExperimentReading, as_json
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.flows.experiment.planning import ExperimentPlan
from kamerton.flows.routing import RoutingLog
from kamerton.flows.workspace import Workspace
from kamerton.store.traffic import now

__all__ = ["advice", "days_of", "plain_plan", "plain_reading", "plain_state", "plan_facts"]
__all__ += ["progress", "stopped_arms", "stopped_of"]

Stopped = Mapping[tuple[str, str], set[str]]


def plan_facts(found: ExperimentPlan) -> Iterator[tuple[str, str]]:
    """Say what an experiment asks for.

    Args:
        found: The plan.

    Yields:
        What, and how much.
    """
    settings, today, plan = found.settings, found.baseline, found.plan
    primary, measure = settings.primary, found.measure
    source = f"{today.num_requests:,} requests, {today.num_units:,} units in {today.num_days} days"
    guess = dict.fromkeys(today.guessed, " (a guess)")
    value = value_text(measure, today.value) + guess.get("value", "")
    yield f"{primary.metric} of {today.variant} today", value
    yield "recorded", source if today.num_requests else "nothing"
    yield "new units a day", f"{today.units_per_day:,.1f}{guess.get('units_per_day', '')}"
    if today.num_requests and not today.guessed:
        outcomes = f"{today.requests_per_unit:.1f} with {primary.metric}"
        requests = f"{today.all_requests_per_unit:.1f}, {outcomes}, alike by {today.icc:.2f} (ICC)"
        yield "requests of a unit", requests
    yield "smallest effect", f"{_size(found, primary.smallest_effect)} ({primary.better} is better)"
    looks = "looks at any time" if plan.method == "sequence" else "looks at declared days"
    yield "units needed", f"{plan.units:,} for the control and one arm, {looks}"
    yield "days", f"{plan.days:,.0f}" if math.isfinite(plan.days) else "never"
    yield (
        f"what {plan.days_limit} days can show",
        (
            f"a difference of {_size(found, plan.difference_in_time)}"
            if math.isfinite(plan.difference_in_time)
            else "nothing"
        ),
    )
    for one in found.roll_backs:
        after = f"after {one.requests:,} requests" if one.requests else "hardly ever"
        harm = f"{one.harm * 100:.3g} points"
        yield f"guardrail {one.metric}", f"a harm of {harm} stops an arm {after} of it"


def _size(found: ExperimentPlan, difference: float) -> str:
    return difference_text(found.measure, difference).removeprefix("+")


def advice(found: ExperimentPlan) -> list[str]:
    """Say whether to begin, and what to do instead.

    Args:
        found: The plan.

    Returns:
        Sentences.
    """
    plan = found.plan
    arms = [arm.variant for name, arm in found.settings.arms.items()
            if name != found.settings.control]  # fmt: skip
    variants = " ".join([found.baseline.variant, *arms])
    if plan.decidable:
        return [
            f"The traffic decides this in about {plan.days:,.0f} days. A replay of logged prompts "
            f"is quicker still: kamerton evaluate {variants}"
        ]
    return [
        f"The traffic does not decide this within {plan.days_limit} days.",
        f"Replay first: about {plan.replay_prompts:,} logged prompts that both variants answer "
        f"show the same difference: kamerton evaluate {variants}",
        "Then start the experiment all the same: it guards against harm, and cost and latency are "
        "decided long before quality.",
    ]


def stopped_arms(project: Path) -> dict[tuple[str, str], set[str]]:
    """Say which arms of experiments were stopped.

    Args:
        project: Folder of the project.

    Returns:
        Arms by name and phase of the experiment.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for stop in RoutingLog(Workspace(project).routing_log).stopped():
        if not stop.is_canary:
            found.setdefault((stop.name, stop.phase), set()).add(stop.arm)
    return found


def stopped_of(experiment: RegisteredExperiment, stopped: Stopped) -> set[str]:
    """Say which arms of one experiment were stopped.

    Args:
        experiment: As it was registered.
        stopped: As `stopped_arms` gives them.

    Returns:
        Names of arms.
    """
    return stopped.get((experiment.settings.name, experiment.settings.phase), set())


def days_of(experiment: RegisteredExperiment) -> float:
    """Say how long an experiment runs or ran.

    Args:
        experiment: As it was registered.

    Returns:
        Days.
    """
    return ((experiment.ended or now()) - experiment.started) / timedelta(days=1)


def plain_plan(found: ExperimentPlan) -> dict[str, Any]:
    """Write a plan as plain values.

    Args:
        found: The plan.

    Returns:
        What JSON can hold; what has no end is null.
    """
    plain: dict[str, Any] = {
        "experiment": found.settings.name,
        "baseline": {
            field.name: getattr(found.baseline, field.name)
            for field in dataclasses.fields(found.baseline)
            if field.name != "arrivals"
        }
        | {"units_per_day": found.baseline.units_per_day},
        "plan": dataclasses.asdict(found.plan),
        "planned_units": found.planned_units,
        "guardrails": [dataclasses.asdict(one) for one in found.roll_backs],
        "advice": advice(found),
    }
    plan = plain["plan"]
    assert isinstance(plan, dict)
    plain["baseline"]["guessed"] = list(found.baseline.guessed)
    for name in ("days", "difference_in_time"):
        if not math.isfinite(plan[name]):
            plan[name] = None
    return plain


def plain_state(
    experiment: RegisteredExperiment, reading: ExperimentReading | None, stopped: Stopped
) -> dict[str, Any]:
    """Write the state of an experiment as plain values.

    Args:
        experiment: As it was registered.
        reading: What is known; None without requests.
        stopped: Arms that were stopped.

    Returns:
        What JSON can hold.
    """
    settings = experiment.settings
    # The test of shares and the verdicts hold for fixed shares alone.
    is_fixed = settings.shares == "fixed"
    return {
        "experiment": settings.name,
        "version": experiment.version,
        "registration": experiment.registration,
        "running": experiment.is_running,
        "started": f"{experiment.started.isoformat()}Z",
        "ended": f"{experiment.ended.isoformat()}Z" if experiment.ended else None,
        "promoted": experiment.promoted or None,
        "planned_units": experiment.planned_units,
        "units": list(reading.num_units) if reading else [],
        "comparable": not reading.sample_ratio.fired if reading and is_fixed else None,
        "decisions": {arm.arm: arm.decision for arm in reading.arms}
        if reading and is_fixed
        else {},
        "stopped_arms": sorted(stopped_of(experiment, stopped)),
    }


def plain_reading(
    experiment: RegisteredExperiment, reading: ExperimentReading, stopped: Stopped
) -> dict[str, Any]:
    """Write all that is known of an experiment as plain values.

    Args:
        experiment: As it was registered.
        reading: What is known.
        stopped: Arms that were stopped.

    Returns:
        What JSON can hold: the state as `registered`, and the numbers beside it.
    """
    return {"registered": plain_state(experiment, reading, stopped), **as_json(reading)}


def progress(experiment: RegisteredExperiment, reading: ExperimentReading | None) -> float:
    """Say how far an experiment is.

    Args:
        experiment: As it was registered.
        reading: What is known; None without requests.

    Returns:
        Units of the control and the smallest arm, as a share of those that were planned.
    """
    if reading is None:
        return 0.0
    control, *others = reading.num_units
    return (control + min(others)) / experiment.planned_units
