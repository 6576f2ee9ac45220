"""What a store's recorded traffic says of the variants, as plain values."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.evaluation.live_series import Every, Group, Measured, columns_to_measure, measure
from kamerton.store.database import Store
from kamerton.store.feedback import latest_feedback
from kamerton.store.request_columns import answers_of, request_columns

__all__ = ["measure_store", "plain_measured"]


def measure_store(
    store: Store,
    metrics: Mapping[str, LiveMetric],
    *,
    by: Sequence[Group] = ("variant",),
    every: Every | None = None,
    since: datetime | None = None,
) -> list[Measured]:
    """Measure what a store has recorded.

    Args:
        store: An open store.
        metrics: What is measured.
        by: What the requests of a group have in common.
        every: How long a span of time is; None takes all together.
        since: The first moment, UTC; None takes all.

    Returns:
        All metrics that have a value.
    """
    with store.begin() as connection:
        feedback = list(latest_feedback(connection))
        corrected = {each.completion_id for each in feedback if each.correction is not None}
        answers = answers_of(connection, corrected) if "edited" in metrics else {}
        columns = columns_to_measure(metrics.values(), by)
        rows = request_columns(connection, columns, since)
        return measure(rows, feedback, metrics, by=by, every=every, answers=answers)


def plain_measured(measured: Measured, metric: LiveMetric) -> dict[str, Any]:
    """Write a measurement as JSON.

    Args:
        measured: The measurement.
        metric: What was measured.

    Returns:
        Plain values; what does not apply is left out.
    """
    since = measured.since
    told = {
        "metric": measured.metric,
        "type": metric.type,
        "level": metric.level,
        "better": metric.better,
        "group": dict(measured.group),
        "since": None if since is None else since.isoformat() + "Z",
        "requests": measured.num_requests,
        "values": measured.num_values,
        "units": measured.num_units,
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "p50": measured.p50,
        "p95": measured.p95,
        "counts": dict(measured.counts) or None,
    }
    return {name: value for name, value in told.items() if value is not None}
