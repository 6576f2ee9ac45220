"""What a difference means: a verdict each for quality, cost and latency, and what to do then.

With little traffic quality is often undecided when cost and latency are decided long since, and
"quality undecided, 41 % cheaper" is a result. `read_metric` judges one metric of one arm; `decide`
says what to do, and never promotes an arm on a segment, on cost alone before the end, or past a
guardrail that is not fine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kamerton.core.many_tests import benjamini_hochberg
from kamerton.experiments.effects import Effect, Interval, compare
from kamerton.experiments.guardrails import GuardrailReading
from kamerton.experiments.outcomes import ArmOutcomes

__all__ = ["ENDLESS", "Aspect", "Decision", "Measure", "MetricReading", "Multiplier", "Verdict"]
__all__ += ["correct_segments", "decide", "hide", "read_metric"]

Aspect = Literal["quality", "cost", "latency"]
Verdict = Literal["better", "worse", "about the same", "undecided", "hidden"]
Decision = Literal["promote", "roll back", "keep the control", "choose", "go on", "investigate"]
Multiplier = Callable[[Effect], float]
"""Says how many standard errors half an interval is wide: `ConfidenceSequence.multiplier`, or a
function that gives `GroupSequential.multiplier` of the looks so far."""


ENDLESS = Interval(-math.inf, math.inf)
"""What is known of a difference before there is anything to see."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric that an experiment reports.

    Attributes:
        name: The metric.
        aspect: What it speaks of.
        better: Which direction is good.
        primary: Whether this is the one metric that decides.
        smallest_effect: The smallest difference that matters, in the metric's unit; a difference
            that is surely smaller is called about the same. 0 for none.
        bounds: The lowest and highest possible outcome of a request, where there are such.
        kind: Whether the metric is a mean over requests (`ratio`) or over units (`mean`).
    """

    name: str
    aspect: Aspect = "quality"
    better: Literal["up", "down"] = "up"
    primary: bool = False
    smallest_effect: float = 0.0
    bounds: tuple[float, float] | None = None
    kind: Literal["ratio", "mean"] = "ratio"

    @property
    def value_bounds(self) -> tuple[float, float] | None:
        """The lowest and highest possible value of an arm; None where a sum has no such."""
        return self.bounds if self.kind == "ratio" else None

    @property
    def determined(self) -> bool:
        """Whether outcomes follow from a rule: costs follow from prices, all else has chance."""
        return self.aspect == "cost"


@dataclass(frozen=True, slots=True)
class MetricReading:
    """One metric of one arm, beside the control.

    Attributes:
        measure: The metric.
        arm: The arm's name.
        verdict: What is known.
        effect: Values, difference and standard error; None where hidden or where an arm has
            fewer than two units.
        interval: Of the difference, in the metric's unit.
        relative: The difference as a share of the control's value, where both are above 0.
        relative_interval: Of `relative`.
        segment: The part of the traffic, None for all of it. A segment is always exploratory: a
            reason for the next experiment, never for a decision.
        p_corrected: For a segment, the p-value corrected for the number of segments looked at.
    """

    measure: Measure
    arm: str
    verdict: Verdict
    effect: Effect | None = None
    interval: Interval = ENDLESS
    relative: float | None = None
    relative_interval: Interval | None = None
    segment: str | None = None
    p_corrected: float | None = None

    @property
    def exploratory(self) -> bool:
        """Whether this is only a hint."""
        return self.segment is not None


def read_metric(
    measure: Measure, control: ArmOutcomes, treated: ArmOutcomes, multiplier: Multiplier
) -> MetricReading:
    """Judge one metric of one arm.

    Args:
        measure: The metric.
        control: The control's outcomes.
        treated: The arm's outcomes.
        multiplier: How wide the interval is.

    Returns:
        The reading; undecided where an arm has fewer than two units.
    """
    if min(control.num_units, treated.num_units) < 2:
        return MetricReading(measure, treated.name, "undecided")
    effect = compare(control, treated, bounds=measure.value_bounds, determined=measure.determined)
    wide = multiplier(effect)
    interval = effect.interval(wide)
    return MetricReading(
        measure,
        treated.name,
        _verdict(measure, interval),
        effect,
        interval,
        effect.relative,
        effect.relative_interval(wide),
    )


def hide(reading: MetricReading) -> MetricReading:
    """Take the effect away, because the arms are not comparable.

    Args:
        reading: What would be read.

    Returns:
        The reading with the verdict `hidden` and no numbers.
    """
    return MetricReading(reading.measure, reading.arm, "hidden", segment=reading.segment)


def correct_segments(
    readings: Sequence[MetricReading], p_value: Callable[[Effect], float], alpha: float
) -> list[MetricReading]:
    """Correct segments for their number: of those not called undecided, a share of alpha is false.

    Args:
        readings: All segments of one metric that are looked at.
        p_value: A test valid at every look: `ConfidenceSequence.p_value`.
        alpha: The share.

    Returns:
        The readings with their corrected p-values (Benjamini and Hochberg); better or worse only
        where these are at most alpha.
    """
    p_values = [p_value(reading.effect) if reading.effect else 1.0 for reading in readings]
    corrected = []
    for reading, p in zip(readings, benjamini_hochberg(p_values), strict=True):
        open_yet = p > alpha and reading.verdict in ("better", "worse")
        verdict: Verdict = "undecided" if open_yet else reading.verdict
        corrected.append(replace(reading, verdict=verdict, p_corrected=p))
    return corrected


def decide(
    readings: Sequence[MetricReading],
    guardrails: Sequence[GuardrailReading],
    *,
    ended: bool = False,
    comparable: bool = True,
) -> Decision:
    """Say what to do with an arm.

    Args:
        readings: All metrics of the arm; one of those without a segment is primary.
        guardrails: All guardrails of the arm.
        ended: Whether the declared end has come.
        comparable: False where the sample ratio's alarm went off.

    Returns:
        `roll back`: a guardrail is harmed. `investigate`: the arms are not comparable. `promote`:
        the primary metric is better, or about the same with something else better and nothing
        worse, and all guardrails are fine. `keep the control`: the primary metric is worse, or
        nothing speaks for the arm at the end. `choose`: at the end, quality is undecided and
        something else is better: a person weighs it. `go on` otherwise.
    """
    if any(guardrail.verdict == "harmed" for guardrail in guardrails):
        return "roll back"
    if not comparable:
        return "investigate"
    whole = [reading for reading in readings if not reading.exploratory]
    primary = next(reading.verdict for reading in whole if reading.measure.primary)
    others = {reading.verdict for reading in whole if not reading.measure.primary}
    safe = all(guardrail.verdict == "fine" for guardrail in guardrails)
    gain = "better" in others and "worse" not in others
    if primary == "worse":
        return "keep the control"
    if safe and (primary == "better" or (primary == "about the same" and gain)):
        return "promote"
    if ended:
        return "choose" if gain or primary == "better" else "keep the control"
    return "go on"


def _verdict(measure: Measure, interval: Interval) -> Verdict:
    low, high = interval.low, interval.high
    if measure.better == "down":
        low, high = -high, -low
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    if low == high == 0:
        # Known without error.
        return "about the same"
    small = measure.smallest_effect
    return "about the same" if small > 0 and -small < low and high < small else "undecided"
