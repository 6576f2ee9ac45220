"""What a comparison found: values, differences and costs, as plain frozen records."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from kamerton.evaluation.preferred import Preference
from kamerton.evaluation.reliability import StyleReliability

__all__ = ["Comparison", "Cost", "Difference", "Kind", "Measured", "Unit"]

Unit = Literal["share", "score", "ratio", "nats"]
"""What a metric is counted in: a share of items, or an F1 or a chance, from 0 to 1; a score from 0
to 1 that is no share of anything; one number divided by another; or nats per token."""

Kind = Literal["labels", "pairs", "verdicts", "checks", "texts", "reading"]
"""What was asked: to choose labels, or the better answer of a pair; to tell liked answers from
disliked ones; to write answers that checks judge; to write texts that nothing calls right; or only
to read plain texts."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one variant, with its interval over `n` counted items.

    Attributes:
        metric: Which metric.
        variant: Whose.
        value: In the metric's unit.
        low: Lower end of the interval; None where the items form too few groups for one.
        high: Upper end, likewise.
        n: Counted items.
    """

    metric: str
    variant: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one variant minus the same of another, on the same items.

    Attributes:
        metric: Which metric.
        variant: The one that is judged.
        against: The one it is compared with.
        value: First minus second.
        low: Lower end of the interval of the difference.
        high: Upper end.
        p_value: Two-sided, of this test alone.
        p_corrected: Holm's, over all differences of the comparison.
        test: `McNemar mid-p` or `permutation`.
    """

    metric: str
    variant: str
    against: str
    value: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    test: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What the answers of a variant cost, and its held-out loss.

    Attributes:
        variant: Its name.
        seconds_mean: Mean seconds of work per item.
        seconds_median: Median of the same: what else the machine did for a while hardly moves it.
        seconds_p95: 95th percentile of the seconds of work per item.
        tokens_mean: Mean tokens per answer (all candidates' tokens when labels are scored).
        cut_off: Share of answers that ended at the length limit.
        holdout_loss: Mean over labelled tokens; None when it was not measured.
        perplexity: exp(holdout_loss).
        holdout_tokens: Labelled tokens behind the loss.
        general_loss: Mean over tokens of general text that has nothing to do with the task; what
            it is above the base's was forgotten. None when it was not measured.
        reward_accuracy: Share of pairs whose better answer gained on the worse one, relative to
            the reference; None when there are no pairs or no reference.
    """

    variant: str
    seconds_mean: float
    seconds_median: float
    seconds_p95: float
    tokens_mean: float
    cut_off: float
    holdout_loss: float | None
    perplexity: float | None
    holdout_tokens: int
    general_loss: float | None = None
    reward_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How variants did on the same items.

    Attributes:
        variants: Names, in the order given.
        against: Those that the others are compared with.
        metrics: Names, in the order in which they were declared.
        better: Per metric `higher`, `lower`, or `neither`.
        units: Per metric what it is counted in.
        kind: What was asked.
        num_items: How many items were answered.
        num_groups: How many independent groups they form.
        confidence_level: Coverage of the intervals.
        resamples: Number of resamples of bootstrap and permutation.
        measured: Every metric of every variant.
        differences: Every metric of every variant minus that of each baseline.
        costs: One per variant.
        measured_on: Origin of the items, such as `the test set`; empty when nobody said.
        styles: How far each style check can be trusted.
        preferences: Whose answers people, or a judge, preferred.
    """

    variants: tuple[str, ...]
    against: tuple[str, ...]
    metrics: tuple[str, ...]
    better: tuple[str, ...]
    units: tuple[Unit, ...]
    kind: Kind
    num_items: int
    num_groups: int
    confidence_level: float
    resamples: int
    measured: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    costs: tuple[Cost, ...]
    measured_on: str = ""
    styles: tuple[StyleReliability, ...] = ()
    preferences: tuple[Preference, ...] = ()

    @property
    def is_grouped(self) -> bool:
        """Whether some items belong together."""
        return self.num_groups < self.num_items

    def unit_of(self, metric: str) -> Unit:
        """Say what a metric is counted in.

        Args:
            metric: Of `metrics`.

        Returns:
            Its unit.
        """
        return self.units[self.metrics.index(metric)]

    def better_of(self, metric: str) -> str:
        """Say which direction of a metric is better.

        Args:
            metric: Of `metrics`.

        Returns:
            `higher`, `lower`, or `neither`.
        """
        return self.better[self.metrics.index(metric)]

    def measure(self, metric: str, variant: str) -> Measured:
        """Find one measurement.

        Args:
            metric: Of `metrics`.
            variant: Of `variants`.

        Returns:
            The measurement.
        """
        return next(m for m in self.measured if (m.metric, m.variant) == (metric, variant))

    def cost(self, variant: str) -> Cost:
        """Find the costs of one variant.

        Args:
            variant: Of `variants`.

        Returns:
            Its costs.
        """
        return next(cost for cost in self.costs if cost.variant == variant)

    def difference(self, metric: str, variant: str, against: str) -> Difference | None:
        """Find one difference.

        Args:
            metric: Of `metrics`.
            variant: Of `variants`.
            against: Of `against`.

        Returns:
            The difference, or None where the two were not compared this way round.
        """
        wanted = (metric, variant, against)
        found = (d for d in self.differences if (d.metric, d.variant, d.against) == wanted)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """Make plain values for JSON.

        Returns:
            Nested dictionaries and lists; an infinite perplexity becomes None.
        """
        values = dataclasses.asdict(self)
        for cost in values["costs"]:
            if cost["perplexity"] == float("inf"):
                cost["perplexity"] = None
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
