"""Counts of recorded traffic by variant, for Prometheus."""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping

from kamerton.serving.metrics import Family, Labels
from kamerton.store.feedback import Feedback
from kamerton.store.traffic import RequestRow

__all__ = ["LiveCounts"]

_VARIANT = "gen_ai_response_model"


class LiveCounts:
    """Counts since the server started; labels are names of served models and known metrics."""

    def __init__(self) -> None:
        self._refusals: Counter[str] = Counter()
        self._invalid: Counter[str] = Counter()
        self._cost: defaultdict[str, float] = defaultdict(float)
        self._feedback: Counter[tuple[str, str]] = Counter()
        self._sums: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()

    def add(self, row: RequestRow) -> None:
        """Count a request.

        Args:
            row: Its row.
        """
        # Zeros too: a rate needs a counter that was there before.
        self._refusals[row.variant] += bool(row.refusal)
        self._invalid[row.variant] += row.format_valid is False
        if row.cost is not None:
            self._cost[row.variant] += row.cost

    def add_feedback(self, feedback: Feedback, variant: str) -> None:
        """Count a judgement.

        Args:
            feedback: The judgement.
            variant: Who gave the answer; empty where its row is not there yet.
        """
        with self._lock:
            self._feedback[variant, feedback.name] += 1
            self._sums[variant, feedback.name] += feedback.value or 0

    def families(self) -> list[Family]:
        """Give what Prometheus reads.

        Returns:
            Families of counters.
        """
        with self._lock:
            feedback = [
                ("", _named(variant, name), float(count))
                for (variant, name), count in self._feedback.items()
            ]
            sums = [
                ("", _named(variant, name), float(total))
                for (variant, name), total in self._sums.items()
            ]
        return [
            ("kamerton_refusals_total", "counter", "Answers that refuse.",
             _by_variant(self._refusals)),
            ("kamerton_invalid_formats_total", "counter",
             "Answers that do not follow the format that was asked for.",
             _by_variant(self._invalid)),
            ("kamerton_cost_total", "counter", "Cost of answers, by the prices in metrics.toml.",
             _by_variant(self._cost)),
            ("kamerton_feedback_total", "counter", "Judgements that came.", feedback),
            ("kamerton_feedback_value_total", "counter", "Sum of their values.", sums),
        ]  # fmt: skip


def _by_variant(counts: Mapping[str, float]) -> list[tuple[str, Labels, float]]:
    return [("", ((_VARIANT, name),), float(count)) for name, count in counts.items()]


def _named(variant: str, name: str) -> Labels:
    return ((_VARIANT, variant), ("name", name))
