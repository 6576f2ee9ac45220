"""Guardrails: what a new variant must not make worse, tested at every look.

A guardrail is a metric with a margin: how much worse the arm may be. Two one-sided tests that are
valid at every look decide about the harm, the difference in the bad direction:

- `harmed`: the harm is larger than the margin. The arm is stopped. Holm's correction over all
  guardrails keeps the probability that any harmless arm is ever stopped below alpha.
- `fine`: the harm is smaller than the margin (non-inferiority). All guardrails must be fine
  together, so no correction is needed (Berger, 1982).
- `undecided`: neither yet.

The margin is never 0: with enough traffic an arm that is worse by a trifle would be stopped, and
one that is as good could never be called fine. A tail such as the p95 of latency is tested as a
share: how many requests took longer than a limit.

`kamerton experiment report` and the server's roll-back call `judge_guardrails`; `plan` calls
`units_to_roll_back`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.special import ndtri

from kamerton.core.many_tests import holm
from kamerton.experiments.effects import Effect
from kamerton.experiments.sequential import ConfidenceSequence

__all__ = ["Guardrail", "GuardrailReading", "GuardrailVerdict", "judge_guardrails"]
__all__ += ["units_to_roll_back"]

GuardrailVerdict = Literal["fine", "harmed", "undecided"]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that an arm must not make worse.

    Attributes:
        metric: Its name.
        margin: How much worse the arm may be, above 0: in the metric's own unit (0.02 is two
            percentage points), or as a share of the control's value where `relative`.
        better: Which direction is good.
        relative: Whether the margin is a share of the control's value.
    """

    metric: str
    margin: float
    better: Literal["up", "down"] = "down"
    relative: bool = False

    def __post_init__(self) -> None:
        assert self.margin > 0
        assert not (self.relative and self.better == "up" and self.margin >= 1)


@dataclass(frozen=True, slots=True)
class GuardrailReading:
    """What is known about one guardrail of one arm.

    Attributes:
        guardrail: The metric and its margin.
        verdict: `fine`, `harmed` or `undecided`.
        harm: How much worse the arm is, in the margin's unit; below 0 where it is better. None
            where a relative harm cannot be computed because a value is 0.
        p_harmed: Holm's p-value that the harm is not above the margin.
        p_fine: p-value that the harm is not below the margin.
    """

    guardrail: Guardrail
    verdict: GuardrailVerdict
    harm: float | None
    p_harmed: float
    p_fine: float


def judge_guardrails(
    guardrails: Sequence[Guardrail],
    effects: Mapping[str, Effect],
    sequence: ConfidenceSequence,
) -> list[GuardrailReading]:
    """Judge all guardrails of one arm.

    Args:
        guardrails: The metrics and margins.
        effects: The effect on each metric by its name, from `effects.compare` with the metric's
            bounds where it has any; none where an arm has too few units yet.
        sequence: The confidence sequence. Tune it at few units (some hundreds): harm should be
            seen soon.

    Returns:
        One reading per guardrail, in their order.
    """
    harms = [_harm(guardrail, effects.get(guardrail.metric)) for guardrail in guardrails]
    worse, better = [], []
    for guardrail, harm in zip(guardrails, harms, strict=True):
        limit = _limit(guardrail)
        worse.append(sequence.one_sided_p_value(harm, limit) if harm else 1.0)
        better.append(sequence.one_sided_p_value(_turned(harm), -limit) if harm else 1.0)
    readings = []
    for guardrail, harm, p_harmed, p_fine in zip(
        guardrails, harms, holm(worse), better, strict=True
    ):
        verdict: GuardrailVerdict = "undecided"
        if p_harmed <= sequence.alpha:
            verdict = "harmed"
        elif p_fine <= sequence.alpha:
            verdict = "fine"
        shown = _shown(guardrail, harm.difference) if harm else None
        readings.append(GuardrailReading(guardrail, verdict, shown, p_harmed, p_fine))
    return readings


def units_to_roll_back(
    harm: float,
    margin: float,
    variances: tuple[float, float],
    sequence: ConfidenceSequence,
    *,
    arm_share: float = 0.5,
    num_guardrails: int = 1,
    power: float = 0.8,
) -> int | None:
    """Say after how many units of the arm a planted harm is seen.

    Args:
        harm: How much worse the arm really is, in the metric's unit.
        margin: How much worse it may be.
        variances: Variance of a unit's value in the control and in the arm, from
            `sample_size.unit_variance`.
        sequence: As in `judge_guardrails`.
        arm_share: The arm's share of all units, in (0, 1).
        num_guardrails: How many are tested together; the first to fire has alpha divided by it.
        power: How surely the harm must be seen by then.

    Returns:
        Units of the arm; times the requests per unit it is a number of requests. None where the
        harm is within the margin or needs more than ten million units.
    """
    if harm <= margin:
        return None
    strict = replace(sequence, alpha=sequence.alpha / num_guardrails)
    ratio = (1 - arm_share) / arm_share

    def seen(units: int) -> bool:
        others = round(units * ratio)
        if others < 1:
            return False
        error = math.sqrt(variances[0] / others + variances[1] / units)
        effect = Effect("", "", 0.0, 0.0, harm, error, None, (others, units), (0, 0))
        needed = strict.one_sided_multiplier(effect) + float(ndtri(power))
        return (harm - margin) / error >= needed

    high = 1
    while not seen(high):
        high *= 2
        if high > 10_000_000:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high


def _harm(guardrail: Guardrail, effect: Effect | None) -> Effect | None:
    """Turn an effect so that more is worse; a relative one becomes a logarithm of a ratio."""
    if effect is None:
        return None
    if guardrail.relative:
        relative, error = effect.relative, effect.log_ratio_error
        if relative is None or error is None:
            return None
        effect = replace(effect, difference=math.log1p(relative), standard_error=error)
    return effect if guardrail.better == "down" else _turned(effect)


def _turned(effect: Effect) -> Effect:
    return replace(effect, difference=-effect.difference)


def _limit(guardrail: Guardrail) -> float:
    if not guardrail.relative:
        return guardrail.margin
    sign = 1 if guardrail.better == "down" else -1
    return sign * math.log1p(sign * guardrail.margin)


def _shown(guardrail: Guardrail, harm: float) -> float:
    if not guardrail.relative:
        return harm
    return math.expm1(harm) if guardrail.better == "down" else -math.expm1(-harm)
