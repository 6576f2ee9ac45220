"""Metrics of recorded traffic, by group and time, with intervals that know of units.

Requests of one unit are not independent: counted as if they were, ten requests a unit make
intervals three times too narrow. A mean over requests is a ratio of sums over units, R = ΣY/ΣN, and
its variance comes from the units' residuals Y - R·N (the delta method, Deng et al. 2018).
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.evaluation.request_values import (
    Judged,
    columns_of,
    combine,
    counted_once,
    label_values,
    request_units,
    request_values,
)
from kamerton.store.feedback import Feedback
from kamerton.store.request_columns import RequestColumns, numbered

__all__ = ["Every", "Group", "Measured", "columns_to_measure", "measure", "request_outcomes"]
__all__ += ["share_interval"]

Group = Literal["variant", "segment", "version", "language", "tenant", "arm"]
Every = Literal["hour", "day", "week"]

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


def columns_to_measure(metrics: Iterable[LiveMetric], by: Sequence[Group] = ()) -> set[str]:
    """Say which columns of requests `measure` and `request_outcomes` need.

    Args:
        metrics: What is measured.
        by: What the requests of a group have in common.

    Returns:
        Names of columns.
    """
    return columns_of(metrics).union(*(_GROUPS[name] for name in by))


def measure(
    rows: RequestColumns,
    feedback: Iterable[Feedback],
    metrics: Mapping[str, LiveMetric],
    *,
    by: Sequence[Group] = ("variant",),
    every: Every | None = None,
    answers: Mapping[str, str] | None = None,
) -> list[Measured]:
    """Measure recorded traffic.

    Args:
        rows: Columns in the order in which the requests came, without shadows.
        feedback: The judgements that count.
        metrics: What is measured.
        by: What the requests of a group have in common.
        every: How long a span of time is; None takes all together.
        answers: Answers of the requests that were corrected, by id.

    Returns:
        All metrics that have a value, by group, then span, then metric.
    """
    judged, units = Judged(rows, feedback, answers or {}), request_units(rows)
    readers = [_reader(rows, metric, judged, units) for metric in metrics.values()]
    found = []
    for group, since, places in _grouped(rows, by, every):
        for reader in readers:
            measured = reader.measured(group, since, places)
            if measured is not None:
                found.append(measured)
    return found


def request_outcomes(
    rows: RequestColumns,
    feedback: Iterable[Feedback],
    metrics: Mapping[str, LiveMetric],
    answers: Mapping[str, str] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Give each request its outcomes, for experiments.

    Args:
        rows: Columns in the order in which the requests came, without shadows.
        feedback: The judgements that count.
        metrics: What is measured; labels have no outcome.
        answers: Answers of the requests that were corrected, by id.

    Returns:
        By metric, [r]: NaN where a request has no value. What counts once for a conversation or a
        unit stands at its first request that has a value.
    """
    judged, found = Judged(rows, feedback, answers or {}), {}
    for metric in metrics.values():
        if metric.type == "label":
            continue
        values = request_values(rows, metric, judged)
        together = counted_once(rows, metric)
        if together is not None:
            (known,) = np.nonzero(~np.isnan(values))
            combined, first = combine(metric, values[known], together[known])
            values = np.full(len(rows), np.nan)
            values[known[first]] = combined
        found[metric.name] = values
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


@dataclass(frozen=True, slots=True)
class _Labels:
    """Counts the words of a metric."""

    metric: LiveMetric
    units: NDArray[np.int64]
    places: NDArray[np.int64]
    words: NDArray[Any]

    def measured(
        self, group: Mapping[str, str], since: datetime | None, places: NDArray[np.int64]
    ) -> Measured | None:
        among = np.isin(self.places, places)
        words = self.words[among].tolist()
        if not words:
            return None
        num_units = len(np.unique(self.units[self.places[among]]))
        counts = dict(Counter(words).most_common())
        return Measured(
            self.metric.name, group, since, len(places), len(words), num_units, counts=counts
        )


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Measures a metric of numbers or truths.

    Attributes:
        metric: What is measured.
        units: The unit of each request, [r].
        values: The value of each request, [r].
        together: What counts once, [r].
    """

    metric: LiveMetric
    units: NDArray[np.int64]
    values: NDArray[np.float64]
    together: NDArray[np.int64] | None

    def measured(
        self, group: Mapping[str, str], since: datetime | None, places: NDArray[np.int64]
    ) -> Measured | None:
        metric, values = self.metric, self.values[places]
        known = ~np.isnan(values)
        values, places, num_requests = values[known], places[known], len(places)
        if not len(values):
            return None
        together = None if self.together is None else self.together[places]
        values, first = combine(metric, values, together)
        _, index = np.unique(self.units[places[first]], return_inverse=True)
        sizes, sums = np.bincount(index), np.bincount(index, values)
        mean = float(values.mean())
        low, high = _interval(metric, mean, sizes, sums)
        p50 = p95 = None
        if metric.type == "number":
            p50, p95 = (float(each) for each in np.quantile(values, (0.5, 0.95)))
        return Measured(
            metric.name, group, since, num_requests, len(values), len(sizes),
            mean, low, high, p50, p95,
        )  # fmt: skip


def _reader(
    rows: RequestColumns, metric: LiveMetric, judged: Judged, units: NDArray[np.int64]
) -> _Labels | _Numbers:
    if metric.type != "label":
        values = request_values(rows, metric, judged)
        return _Numbers(metric, units, values, counted_once(rows, metric))
    found = label_values(metric, judged)
    words = np.array([word for _, word in found], object)
    return _Labels(metric, units, np.array([place for place, _ in found], np.int64), words)


def _interval(
    metric: LiveMetric, mean: float, sizes: NDArray[Any], sums: NDArray[Any]
) -> tuple[float | None, float | None]:
    """Bound a mean by the sizes and sums of its units."""
    num_units, total = len(sizes), float(sizes.sum())
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


_GROUPS: Mapping[str, Sequence[str]] = {
    "variant": ("variant",),
    "segment": ("segment",),
    "version": ("content_hash",),
    "language": ("language",),
    "tenant": ("tenant",),
    "arm": ("experiment", "arm"),
}
"""The columns that a group is told by."""


def _grouped(
    rows: RequestColumns, by: Sequence[Group], every: Every | None
) -> Iterator[tuple[dict[str, str], datetime | None, NDArray[np.int64]]]:
    """Divide requests into groups and spans: what they have in common, and their places."""
    if not len(rows):
        return
    names = [_group_names(rows, name) for name in by]
    spans = [None] * len(rows) if every is None else _spans(rows["created"], every).tolist()
    numbers, keys = numbered(zip(*names, spans, strict=True))
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    for (*told, since), places in sorted(
        zip(keys, parts, strict=True), key=lambda item: str(item[0])
    ):
        yield dict(zip(map(str, by), told, strict=True)), since, places


def _group_names(rows: RequestColumns, name: Group) -> Sequence[str]:
    if name == "version":
        return [each[:12] for each in rows["content_hash"]]
    if name == "arm":
        pairs = zip(rows["experiment"], rows["arm"], strict=True)
        return [f"{experiment}/{arm}" if experiment else "" for experiment, arm in pairs]
    found: list[str] = rows[name].tolist()
    return found


def _spans(created: NDArray[Any], every: Every) -> NDArray[Any]:
    """Give the moment at which the span of each request begins, as datetime64 in microseconds."""
    if every == "hour":
        return created.astype("datetime64[h]").astype("datetime64[us]")
    days = created.astype("datetime64[D]")
    if every == "week":
        # The first day of numpy's time is a Thursday.
        days = days - ((days.astype(np.int64) + 3) % 7).astype("timedelta64[D]")
    return days.astype("datetime64[us]")
