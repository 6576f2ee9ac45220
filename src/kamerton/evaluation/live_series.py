"""Metrics of recorded traffic, by group and time, with intervals that know of units.

Requests of one unit are not independent: counted as if they were, ten requests a unit make
intervals three times too narrow. A mean over requests is a ratio of sums over units, R = ΣY/ΣN, and
its variance comes from the units' residuals Y - R·N (the delta method, Deng et al. 2018).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kamerton.evaluation.edits import edit_share
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.store.feedback import Feedback
from kamerton.store.traffic import RequestRow

__all__ = ["Every", "Group", "Measured", "measure", "request_outcomes", "share_interval"]

Group = Literal["variant", "segment", "version", "language", "tenant", "arm"]
Every = Literal["hour", "day", "week"]

_AGAIN = timedelta(minutes=2)
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one group in one span of time.

    Attributes:
        metric: Its name.
        group: What the requests have in common, such as {"variant": "shop"}.
        since: Where the span begins, UTC; None for all time.
        num_requests: Requests of the group in the span.
        num_values: Values among them; where the level is not the request, their number.
        num_units: Different units that gave values.
        value: Mean or share; None of labels.
        low: Lower end of the interval; None where there is too little.
        high: Upper end.
        p50: Median of numbers.
        p95: 95th percentile of numbers.
        counts: How often each label came.
    """

    metric: str
    group: Mapping[str, str]
    since: datetime | None
    num_requests: int
    num_values: int
    num_units: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p50: float | None = None
    p95: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def measure(
    rows: Iterable[RequestRow],
    feedback: Iterable[Feedback],
    metrics: Mapping[str, LiveMetric],
    *,
    by: Sequence[Group] = ("variant",),
    every: Every | None = None,
) -> list[Measured]:
    """Measure recorded traffic.

    Args:
        rows: In the order in which the requests came, without shadows.
        feedback: The judgements that count.
        metrics: What is measured.
        by: What the requests of a group have in common.
        every: How long a span of time is; None takes all together.

    Returns:
        All metrics that have a value, by group, then span, then metric.
    """
    judged: dict[str, list[Feedback]] = defaultdict(list)
    for each in feedback:
        judged[each.completion_id].append(each)
    rows = list(rows)
    again = _asked_again(rows)
    groups: dict[tuple[Any, ...], list[RequestRow]] = defaultdict(list)
    for row in rows:
        key = tuple(_GROUPS[name](row) for name in by)
        groups[*key, _start(row.created, every)].append(row)
    found = []
    for (*names, since), members in sorted(groups.items(), key=lambda item: str(item[0])):
        group: dict[str, str] = dict(zip(map(str, by), names, strict=True))
        for metric in metrics.values():
            values = [
                (row, value)
                for row in members
                for value in _values(metric, row, judged.get(row.id, ()), again)
            ]
            if values:
                found.append(_measured(metric, group, since, len(members), values))
    return found


def request_outcomes(
    rows: Sequence[RequestRow],
    feedback: Iterable[Feedback],
    metrics: Mapping[str, LiveMetric],
) -> dict[str, NDArray[np.float64]]:
    """Give each request its outcomes, for experiments.

    Args:
        rows: In the order in which the requests came, without shadows.
        feedback: The judgements that count.
        metrics: What is measured; labels have no outcome.

    Returns:
        By metric, [r]: NaN where a request has no value. What counts once for a conversation or a
        unit stands at its first request that has a value.
    """
    judged: dict[str, list[Feedback]] = defaultdict(list)
    for each in feedback:
        judged[each.completion_id].append(each)
    again = _asked_again(rows)
    found = {}
    for metric in metrics.values():
        if metric.type == "label":
            continue
        outcomes = np.full(len(rows), np.nan)
        together: dict[str, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            for value in _values(metric, row, judged.get(row.id, ()), again):
                outcomes[position] = value
                together[_counted_once(metric, row)].append(position)
        for places in together.values():
            first, *others = places
            outcomes[first] = _combined(metric, [float(outcomes[place]) for place in places])
            outcomes[others] = np.nan
        found[metric.name] = outcomes
    return found


def share_interval(
    share: float, num_effective: float, confidence_level: float
) -> tuple[float, float]:
    """Bound a share by Wilson's score interval.

    Args:
        share: In [0, 1].
        num_effective: How many independent values it is worth, above 0.
        confidence_level: Coverage.

    Returns:
        Lower and upper end.
    """
    z = float(ndtri((1 + confidence_level) / 2))
    centre = share + z * z / (2 * num_effective)
    spread = share * (1 - share) / num_effective + z * z / (4 * num_effective**2)
    scale = 1 + z * z / num_effective
    half = z * math.sqrt(spread)
    low, high = (centre - half) / scale, (centre + half) / scale
    # Rounding must not push an end past the share itself.
    return max(min(low, share), 0.0), min(max(high, share), 1.0)


def _measured(
    metric: LiveMetric,
    group: Mapping[str, str],
    since: datetime | None,
    num_requests: int,
    values: Sequence[tuple[RequestRow, Any]],
) -> Measured:
    if metric.type == "label":
        counts = Counter(label for _, label in values)
        units = {_unit(row) for row, _ in values}
        counted = dict(counts.most_common())
        return Measured(
            metric.name, group, since, num_requests, len(values), len(units), counts=counted
        )
    by_unit: dict[str, list[float]] = defaultdict(list)
    for unit, value in _at_level(metric, values):
        by_unit[unit].append(value)
    all_values = np.concatenate([np.array(each, dtype=np.float64) for each in by_unit.values()])
    mean = float(all_values.mean())
    low, high = _interval(metric, mean, by_unit)
    p50 = p95 = None
    if metric.type == "number":
        p50, p95 = (float(np.quantile(all_values, q)) for q in (0.5, 0.95))
    return Measured(
        metric.name, group, since, num_requests, len(all_values), len(by_unit),
        mean, low, high, p50, p95,
    )  # fmt: skip


def _interval(
    metric: LiveMetric, mean: float, by_unit: Mapping[str, Sequence[float]]
) -> tuple[float | None, float | None]:
    sizes = np.array([len(each) for each in by_unit.values()], dtype=np.float64)
    sums = np.array([sum(each) for each in by_unit.values()], dtype=np.float64)
    num_units, total = len(sizes), sizes.sum()
    residuals = float(((sums - mean * sizes) ** 2).sum())
    variance = residuals / total**2 * num_units / max(num_units - 1, 1)
    if metric.type == "boolean":
        # Without any spread, units are what is certainly independent.
        worth = mean * (1 - mean) / variance if variance > 0 and 0 < mean < 1 else num_units
        return share_interval(mean, min(max(worth, 1.0), total), _CONFIDENCE)
    if num_units < 2:
        return None, None
    half = float(ndtri((1 + _CONFIDENCE) / 2)) * math.sqrt(variance)
    return mean - half, mean + half


def _at_level(
    metric: LiveMetric, values: Sequence[tuple[RequestRow, float]]
) -> list[tuple[str, float]]:
    """Give each value with its unit; one per conversation or unit where the metric says so."""
    together: dict[str, list[float]] = defaultdict(list)
    units: dict[str, str] = {}
    for row, value in values:
        key = _counted_once(metric, row)
        together[key].append(value)
        units.setdefault(key, _unit(row))
    return [(units[key], _combined(metric, each)) for key, each in together.items()]


def _counted_once(metric: LiveMetric, row: RequestRow) -> str:
    if metric.level == "request":
        return row.id
    return (row.conversation or row.id) if metric.level == "conversation" else _unit(row)


def _combined(metric: LiveMetric, values: Sequence[float]) -> float:
    """Make one value of those of a conversation or a unit; one alone stays as it is."""
    if metric.type == "boolean" and len(values) > 1:
        return max(values)
    return _mean(values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _unit(row: RequestRow) -> str:
    return row.unit or row.conversation or row.id


def _values(
    metric: LiveMetric, row: RequestRow, judged: Sequence[Feedback], again: Mapping[str, bool]
) -> list[Any]:
    """Give the values that one request has: of labels one per rater, else one at most."""
    if metric.from_ == "check":
        value = (row.checks or {}).get(metric.name)
        return [] if value is None else [value]
    if metric.name == "edited":
        shares = [
            edit_share(row.answer, each.correction)
            for each in judged
            if each.correction is not None and row.answer is not None
        ]
        return [_mean(shares)] if shares else []
    if metric.from_ == "record":
        known = again.get(row.id) if metric.name == "asked_again" else _RECORDED[metric.name](row)
        return [] if known is None else [float(known)]
    about = [each for each in judged if each.name == metric.name]
    if metric.type == "label":
        return [each.label for each in about if each.label is not None]
    given = [each.value for each in about if each.value is not None]
    return [_mean(given)] if given else []


def _accuracy(row: RequestRow) -> bool | None:
    return all(row.checks.values()) if row.checks else None


_RECORDED: Mapping[str, Callable[[RequestRow], float | bool | None]] = {
    "refusal": lambda row: row.refusal,
    "accuracy": _accuracy,
    "invalid_format": lambda row: None if row.format_valid is None else not row.format_valid,
    # 499: the client left; 4xx: it was at fault, or asked too often.
    "error": lambda row: row.status >= 500,
    "latency": lambda row: row.latency_s if row.status == 200 else None,
    "time_to_first_token": lambda row: row.first_token_s,
    "cost": lambda row: row.cost,
}
_GROUPS: Mapping[str, Callable[[RequestRow], str]] = {
    "variant": lambda row: row.variant,
    "segment": lambda row: row.segment,
    "version": lambda row: row.content_hash[:12],
    "language": lambda row: row.language,
    "tenant": lambda row: row.tenant,
    "arm": lambda row: f"{row.experiment}/{row.arm}" if row.experiment else "",
}


def _asked_again(rows: Sequence[RequestRow]) -> dict[str, bool]:
    """Tell of each request with a conversation or a unit whether the next one came soon."""
    again: dict[str, bool] = {}
    last: dict[tuple[str, str], RequestRow] = {}
    for row in rows:
        if not (row.conversation or row.unit):
            continue
        key = (row.conversation, "" if row.conversation else row.unit)
        again[row.id] = False
        if (before := last.get(key)) is not None:
            answered = before.created + timedelta(seconds=before.latency_s)
            again[before.id] = row.created - answered <= _AGAIN
        last[key] = row
    return again


def _start(moment: datetime, every: Every | None) -> datetime | None:
    if every is None:
        return None
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if every == "hour":
        return hour
    day = hour.replace(hour=0)
    return day if every == "day" else day - timedelta(days=day.weekday())
