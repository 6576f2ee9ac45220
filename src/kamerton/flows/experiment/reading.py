"""Reads an experiment: from the store's rows to what is known of each arm."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from kamerton.core.errors import SettingsError
from kamerton.core.settings import suggestion
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.evaluation.live_series import columns_to_measure, request_outcomes
from kamerton.experiments.design import Design, Rows
from kamerton.experiments.guardrails import Guardrail
from kamerton.experiments.outcomes import sum_by_unit
from kamerton.experiments.reading import ExperimentReading, read_experiment
from kamerton.experiments.registered import RegisteredExperiment, registered_experiment
from kamerton.experiments.settings import (
    ExperimentSettings,
    GroupSequentialSettings,
    UnitKind,
)
from kamerton.experiments.verdict import Aspect, Measure
from kamerton.store.experiments import experiment_events, experiment_rows
from kamerton.store.feedback import latest_feedback
from kamerton.store.request_columns import (
    RequestColumns,
    answers_of,
    numbered,
    request_columns,
)
from kamerton.store.traffic import now

__all__ = [
    "Traffic",
    "check_metrics",
    "design_of",
    "find_registered",
    "list_registered",
    "measure_of",
    "read_registered",
    "recorded_traffic",
    "unit_column",
]

_ASPECTS: Mapping[str, Aspect] = {
    "cost": "cost",
    "latency": "latency",
    "time_to_first_token": "latency",
}
_HISTORY = timedelta(days=28)
"""How far back a unit's history is looked for."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of some time with what came of them.

    Attributes:
        rows: Columns of the requests, [r].
        outcomes: For each metric one number per request, [r]; NaN where there is none.
    """

    rows: RequestColumns
    outcomes: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]


def list_registered(connection: Connection) -> list[RegisteredExperiment]:
    """Read all experiments that were ever started.

    Args:
        connection: Of `Store.begin`.

    Returns:
        In the order of their names.
    """
    return [
        registered_experiment(row, experiment_events(connection, row.name))
        for row in experiment_rows(connection)
        if row.started is not None
    ]


def find_registered(connection: Connection, name: str) -> RegisteredExperiment:
    """Read an experiment that was started.

    Args:
        connection: Of `Store.begin`.
        name: Its name.

    Returns:
        The experiment.

    Raises:
        SettingsError: If no such experiment was started.
    """
    found = {one.settings.name: one for one in list_registered(connection)}
    if name not in found:
        known = suggestion(name, found) or (
            f"; started were: {', '.join(found)}" if found else "; none was started yet"
        )
        raise SettingsError(
            f"no experiment '{name}' was started{known}",
            hint=f"kamerton experiment start {name}",
        )
    return found[name]


def check_metrics(settings: ExperimentSettings, metrics: Mapping[str, LiveMetric]) -> None:
    """Make sure that an experiment names metrics that can be compared.

    Args:
        settings: The experiment.
        metrics: Known ones.

    Raises:
        SettingsError: If a metric is unknown or has words instead of numbers; it lists all.
    """
    problems = []
    named = [("primary", settings.primary.metric)]
    named += [(f"guardrails.{number}", g.metric) for number, g in enumerate(settings.guardrails)]
    for place, name in named:
        if name not in metrics:
            problems.append(f"{place}.metric: '{name}' is no metric{suggestion(name, metrics, 12)}")
        elif metrics[name].type == "label":
            problems.append(f"{place}.metric: '{name}' has words, which have no mean")
    primary = metrics.get(settings.primary.metric)
    if settings.shares == "adaptive" and primary and primary.type != "boolean":
        problems.append(
            f"primary.metric: '{primary.name}' is not yes or no, as adaptive shares need"
        )
    if problems:
        raise SettingsError(
            problems, hint=f"known are {', '.join(metrics)}; metrics.toml declares further ones"
        )


def design_of(experiment: RegisteredExperiment, metrics: Mapping[str, LiveMetric]) -> Design:
    """Say how an experiment is analysed.

    Args:
        experiment: As it was registered.
        metrics: Known ones.

    Returns:
        The design: the control first; cost and latency beside the declared metrics.
    """
    settings = experiment.settings
    control = settings.control
    names = (control, *(arm for arm in settings.arms if arm != control))
    total = sum(settings.weights.values())
    plan = settings.analysis
    measures = [
        measure_of(
            metrics[settings.primary.metric],
            settings.primary.better,
            primary=True,
            smallest_effect=settings.primary.smallest_effect,
        )
    ]
    beside = {guardrail.metric: guardrail.better for guardrail in settings.guardrails}
    for name, better in ({"cost": "down", "latency": "down"} | beside).items():
        if name != settings.primary.metric:
            measures.append(measure_of(metrics[name], better))
    return Design(
        names,
        tuple(settings.weights[name] / total for name in names),
        tuple(measures),
        experiment.planned_units,
        tuple(Guardrail(g.metric, g.margin, g.better) for g in settings.guardrails),
        tuple(
            measure.name
            for measure in measures
            if metrics[measure.name].from_ == "feedback" and measure.bounds is not None
        ),
        settings.alpha,
        days=plan.days if isinstance(plan, GroupSequentialSettings) else None,
        looks=plan.looks if isinstance(plan, GroupSequentialSettings) else 4,
        units_per_day=experiment.units_per_day,
        fewest_units=settings.min_units,
    )


def recorded_traffic(
    connection: Connection,
    metrics: Sequence[LiveMetric],
    since: datetime | None,
    until: datetime | None = None,
    columns: Collection[str] = (),
    **equal: str,
) -> Traffic:
    """Read requests with what came of them.

    Args:
        connection: Of `Store.begin`.
        metrics: What is measured.
        since: The first moment, UTC; None takes all.
        until: The first moment after the last, UTC; None takes all.
        columns: Which columns of requests are read beside those that the metrics need.
        **equal: Columns with the value that they must have.

    Returns:
        The requests in order of time.
    """
    named = {metric.name: metric for metric in metrics}
    wanted = columns_to_measure(metrics).union(columns)
    rows = request_columns(connection, wanted, since, until, **equal)
    feedback, answers = [], {}
    if len(rows) and any(
        metric.from_ == "feedback" or metric.name == "edited" for metric in metrics
    ):
        feedback = list(latest_feedback(connection))
    if "edited" in named:
        corrected = {each.completion_id for each in feedback if each.correction is not None}
        answers = answers_of(connection, corrected)
    return Traffic(rows, request_outcomes(rows, feedback, named, answers))


def read_registered(
    connection: Connection,
    experiment: RegisteredExperiment,
    metrics: Mapping[str, LiveMetric],
    *,
    stopped: Collection[str] = (),
    segments: str = "",
) -> ExperimentReading | None:
    """Read an experiment as it stands now.

    Args:
        connection: Of `Store.begin`.
        experiment: As it was registered.
        metrics: Known ones.
        stopped: Arms that get no units any more.
        segments: Which column of requests divides them into segments; empty for none.

    Returns:
        The reading; None while no request has come.
    """
    design = design_of(experiment, metrics)
    kind, name = experiment.settings.unit, experiment.settings.name
    measured = [metrics[measure.name] for measure in design.measures]
    started, ended = experiment.started, experiment.ended
    columns = {unit_column(kind), "arm", *([segments] if segments else [])}
    traffic = recorded_traffic(connection, measured, started, ended, columns, experiment=name)
    rows, known = traffic.rows, set(design.arms)
    ids = rows[unit_column(kind)]
    kept = np.array([arm in known for arm in rows["arm"]], bool) & (ids != "")
    if not kept.any():
        return None
    units, names = numbered(ids[kept])
    before = _history(connection, measured[0], kind, started)
    seen = Rows(
        units,
        rows["arm"][kept].astype(str),
        (rows["created"][kept] - np.datetime64(started)).astype("timedelta64[D]").astype(np.int64),
        {key: values[kept] for key, values in traffic.outcomes.items()},
        {measured[0].name: _by_number(names, before)} if before else {},
        np.array([each or "-" for each in rows[segments][kept]]) if segments else None,
    )
    elapsed = ((ended or now()) - started).days
    return read_experiment(
        seen,
        design,
        start_day=0,
        elapsed_days=elapsed,
        ended=ended is not None,
        stopped=stopped,
    )


def unit_column(kind: UnitKind) -> str:
    """Name the column of requests with the id that an arm is given to.

    Args:
        kind: What counts as a unit.

    Returns:
        The column; it is empty where a request did not say its unit.
    """
    return "key_name" if kind == "key" else kind


def measure_of(
    metric: LiveMetric, better: Any, *, primary: bool = False, smallest_effect: float = 0.0
) -> Measure:
    """Say how an experiment compares a metric.

    Args:
        metric: The metric.
        better: "up" or "down".
        primary: Whether it decides.
        smallest_effect: The smallest difference that matters; 0 for none.

    Returns:
        The measure, with the bounds of shares and of ratings.
    """
    bounds = (0.0, 1.0) if metric.type == "boolean" else None
    if metric.least is not None and metric.most is not None:
        bounds = (metric.least, metric.most)
    aspect = _ASPECTS.get(metric.name, "quality")
    return Measure(metric.name, aspect, better, primary, smallest_effect, bounds)


def _history(
    connection: Connection, metric: LiveMetric, kind: UnitKind, started: datetime
) -> dict[str, float]:
    """The primary metric of each unit before the start; empty where nobody has a history."""
    column = unit_column(kind)
    before = recorded_traffic(connection, [metric], started - _HISTORY, started, [column])
    values = before.outcomes[metric.name]
    kept = ~np.isnan(values) & (before.rows[column] != "")
    if not kept.any():
        return {}
    units, names = numbered(before.rows[column][kept])
    (arm,) = sum_by_unit(units, np.full(len(units), "-"), values[kept], ("-",)).arms
    return dict(zip(names, (arm.sums / arm.denominators).tolist(), strict=True))


def _by_number(names: Sequence[str], known: Mapping[str, float]) -> dict[str, float]:
    return {str(number): known[name] for number, name in enumerate(names) if name in known}
