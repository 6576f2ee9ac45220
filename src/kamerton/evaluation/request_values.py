"""What each recorded request says of each metric, computed for all requests at once.

Letters: r rows of requests.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kamerton.evaluation.edits import edit_share
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.store.feedback import Feedback
from kamerton.store.request_columns import RequestColumns, numbered

__all__ = ["Judged", "columns_of", "combine", "counted_once", "label_values", "request_values"]
__all__ += ["request_units"]

Floats = NDArray[np.float64]
_AGAIN = np.timedelta64(2, "m")


class Judged:
    """The judgements that count, with the places of the requests that they are about.

    Args:
        rows: The requests, with their ids.
        feedback: In the order in which it came; what is about other requests is left out.
        answers: Answers of requests that were corrected, by id.
    """

    def __init__(
        self,
        rows: RequestColumns,
        feedback: Iterable[Feedback],
        answers: Mapping[str, str],
    ) -> None:
        kept = list(feedback)
        places = {name: place for place, name in enumerate(rows["id"])} if kept else {}
        self._by_name: dict[str, list[tuple[int, Feedback]]] = defaultdict(list)
        self.corrected: list[tuple[int, float]] = []
        for each in kept:
            if (place := places.get(each.completion_id)) is None:
                continue
            self._by_name[each.name].append((place, each))
            answer = answers.get(each.completion_id)
            if each.correction is not None and answer is not None:
                self.corrected.append((place, edit_share(answer, each.correction)))

    def about(self, metric: str) -> list[tuple[int, Feedback]]:
        """Give the judgements of one metric.

        Args:
            metric: Its name.

        Returns:
            Places of requests with judgements, in the order in which these came.
        """
        return self._by_name.get(metric, [])


def columns_of(metrics: Iterable[LiveMetric]) -> set[str]:
    """Say which columns of requests metrics need.

    Args:
        metrics: What is measured.

    Returns:
        Names of columns; those that tell units and conversations are always among them.
    """
    needed = {"id", "created", "unit", "conversation"}
    for metric in metrics:
        if metric.from_ == "check":
            needed.add("checks")
        elif metric.from_ == "record":
            needed.update(_COLUMNS[metric.name])
    return needed


def request_values(rows: RequestColumns, metric: LiveMetric, judged: Judged) -> Floats:
    """Give the number that each request has for a metric; of several raters the mean.

    Args:
        rows: In the order in which the requests came, without shadows.
        metric: What is measured; not a label.
        judged: The judgements that count.

    Returns:
        [r]; NaN where a request has no value.
    """
    if metric.from_ == "check":
        found = [_NONE if not each else each.get(metric.name) for each in rows["checks"]]
        return np.array(found, np.float64)
    if metric.name == "edited":
        return _means(len(rows), judged.corrected)
    if metric.from_ == "record":
        return _RECORDED[metric.name](rows)
    given = [
        (place, each.value) for place, each in judged.about(metric.name) if each.value is not None
    ]
    return _means(len(rows), given)


def label_values(metric: LiveMetric, judged: Judged) -> list[tuple[int, str]]:
    """Give the words that requests got for a metric: one per rater.

    Args:
        metric: What is measured; a label.
        judged: The judgements that count.

    Returns:
        Places of requests with words, in the order of the places.
    """
    found = [
        (place, each.label) for place, each in judged.about(metric.name) if each.label is not None
    ]
    return sorted(found, key=lambda pair: pair[0])


def request_units(rows: RequestColumns) -> NDArray[np.int64]:
    """Tell which requests belong together: those of one unit, else of one conversation.

    Args:
        rows: The requests.

    Returns:
        A number for each unit, [r].
    """
    named = zip(rows["unit"], rows["conversation"], rows["id"], strict=True)
    return numbered(unit or conversation or name for unit, conversation, name in named)[0]


def counted_once(rows: RequestColumns, metric: LiveMetric) -> NDArray[np.int64] | None:
    """Tell which requests count once together.

    Args:
        rows: The requests.
        metric: Its level says what counts once.

    Returns:
        A number for each conversation or unit, [r]; None where each request counts.
    """
    if metric.level == "request":
        return None
    if metric.level == "unit":
        return request_units(rows)
    named = zip(rows["conversation"], rows["id"], strict=True)
    return numbered(conversation or name for conversation, name in named)[0]


def combine(
    metric: LiveMetric, values: Floats, together: NDArray[np.int64] | None
) -> tuple[Floats, NDArray[np.int64]]:
    """Make one value of those of a conversation or a unit: of truths whether one is true.

    Args:
        metric: Of numbers the mean is taken.
        values: Of requests, all of them numbers, [r].
        together: What counts once, [r]; None where each request does.

    Returns:
        The values that count, with the place of the first request of each, in their order.
    """
    if together is None:
        return values, np.arange(len(values))
    _, first, index = np.unique(together, return_index=True, return_inverse=True)
    if metric.type == "boolean":
        combined = np.full(len(first), -np.inf)
        np.maximum.at(combined, index, values)
    else:
        combined = np.bincount(index, values, len(first)) / np.bincount(index, None, len(first))
    order = np.argsort(first)
    return combined[order], first[order]


_NONE = float("nan")


def _means(num: int, given: Sequence[tuple[int, float]]) -> Floats:
    """Give each of so many requests the mean of what it was given; NaN where that is nothing."""
    means = np.full(num, np.nan)
    if given:
        places = np.array([place for place, _ in given], np.int64)
        values = np.array([value for _, value in given], np.float64)
        sums, counts = np.bincount(places, values, num), np.bincount(places, None, num)
        known = counts > 0
        means[known] = sums[known] / counts[known]
    return means


def _accuracy(rows: RequestColumns) -> Floats:
    found = [float(all(each.values())) if each else _NONE for each in rows["checks"]]
    return np.array(found, np.float64)


def _asked_again(rows: RequestColumns) -> Floats:
    """Tell of each request with a conversation or a unit whether the next one came soon."""
    again = np.full(len(rows), np.nan)
    named = zip(rows["conversation"], rows["unit"], strict=True)
    # No name has a zero character.
    talks, _ = numbered(talk or (unit and f"\0{unit}") for talk, unit in named)
    has_one = (rows["conversation"] != "") | (rows["unit"] != "")
    again[has_one] = 0.0
    order = np.argsort(talks, kind="stable")
    before, after = order[:-1], order[1:]
    is_next = (talks[before] == talks[after]) & has_one[before]
    latency = np.round(rows["latency_s"] * 1e6).astype("timedelta64[us]")
    soon = rows["created"][after] - (rows["created"] + latency)[before] <= _AGAIN
    again[before[is_next & soon]] = 1.0
    return again


_RECORDED: Mapping[str, Callable[[RequestColumns], Floats]] = {
    "refusal": lambda rows: rows["refusal"],
    "accuracy": _accuracy,
    "invalid_format": lambda rows: 1.0 - rows["format_valid"],
    # 499: the client left; 4xx: it was at fault, or asked too often.
    "error": lambda rows: (rows["status"] >= 500).astype(np.float64),
    "latency": lambda rows: np.where(rows["status"] == 200, rows["latency_s"], np.nan),
    "time_to_first_token": lambda rows: rows["first_token_s"],
    "cost": lambda rows: rows["cost"],
    "asked_again": _asked_again,
}
_COLUMNS: Mapping[str, Sequence[str]] = {
    "refusal": ("refusal",),
    "accuracy": ("checks",),
    "invalid_format": ("format_valid",),
    "error": ("status",),
    "latency": ("status", "latency_s"),
    "time_to_first_token": ("first_token_s",),
    "cost": ("cost",),
    "asked_again": ("latency_s",),
    "edited": (),
}
