"""Which labels to keep, so that an asked share of them is right with a stated confidence.

A threshold that is chosen on the rows that prove it looks too good. Here thresholds are fixed
before the right answers are looked at: each keeps a share of the unlabelled file, 5 %, 10 % and so
on. They are tested from the strictest down, each at the whole level, until the first fails (fixed
sequence testing, as in Learn then Test, Angelopoulos et al. 2021, arXiv:2110.01052, section 2.3).
The first failure ends it, so all that passed hold together at the stated confidence. A test passes
when the lower bound of Clopper and Pearson (1934) for the share right reaches the asked precision.

The very strictest thresholds keep so few gold rows that one error fails them, although a longer
look would pass. The sequence begins where `_BEGIN_AT` times the least number of rows is expected.
That place depends on the file and on the number of gold rows, never on what is right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

__all__ = ["CurvePoint", "Selection", "choose_threshold", "least_rows", "lower_bound"]

_STEPS = 20
_BEGIN_AT = 1.6
"""Of 1, 1.3, 1.6, 2 and 3 this kept most in simulations with 60 to 1,000 gold rows."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one threshold keeps.

    Attributes:
        threshold: Labels of at least this confidence are kept.
        coverage: Share of the unlabelled rows that it keeps.
        num_gold: Gold rows that it keeps.
        num_right: Those of them whose label is right.
        lower: Lower bound of the share right, at the confidence of the selection.
        state: "passed", "failed", "not tested" (after a failure), or "too few" (before the first).
    """

    threshold: float
    coverage: float
    num_gold: int
    num_right: int
    lower: float
    state: str

    @property
    def precision(self) -> float | None:
        """Share of the kept gold rows that is right; None where none is kept."""
        return self.num_right / self.num_gold if self.num_gold else None


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen threshold and what was looked at.

    Attributes:
        chosen: The point that keeps most among those that passed; None where none did.
        curve: All points, the strictest first.
        precision: The share right that was asked for.
        confidence_level: How sure the bound is.
    """

    chosen: CurvePoint | None
    curve: tuple[CurvePoint, ...]
    precision: float
    confidence_level: float


def lower_bound(num_right: int, num: int, confidence_level: float) -> float:
    """Bound a share from below (Clopper and Pearson 1934, one-sided).

    Args:
        num_right: 0 to num.
        num: Rows.
        confidence_level: In (0, 1).

    Returns:
        The bound: the true share is below it in at most 1 - confidence_level of all samples.
    """
    assert 0 <= num_right <= num
    if num_right == 0:
        return 0.0
    return float(betaincinv(num_right, num - num_right + 1, 1 - confidence_level))


def least_rows(precision: float, confidence_level: float) -> int:
    """Tell how many rows, all right, are the fewest that can prove a precision.

    Args:
        precision: In (0, 1).
        confidence_level: In (0, 1).

    Returns:
        59 for 0.95 at 0.95: 0.95 ** 59 is below 0.05.
    """
    return math.ceil(math.log(1 - confidence_level) / math.log(precision))


def choose_threshold(
    file_confidence: Sequence[float],
    gold_confidence: Sequence[float],
    gold_right: Sequence[bool],
    precision: float,
    confidence_level: float = 0.95,
) -> Selection:
    """Choose the lowest threshold whose labels are proven to be right often enough.

    The proof is about rows like the gold rows: these must be drawn from the same source as the
    file, and must have taken no part in making the teacher.

    Args:
        file_confidence: [N] of the labels of the unlabelled rows, at least one.
        gold_confidence: [G] of the labels that the teacher gave gold rows.
        gold_right: [G] whether these are right.
        precision: Share of the kept labels that must be right, in (0, 1).
        confidence_level: How sure that must be, in (0, 1).

    Returns:
        The selection.
    """
    sure, right = np.asarray(gold_confidence, float), np.asarray(gold_right, bool)
    thresholds = _thresholds(np.asarray(file_confidence, float))
    needed = _BEGIN_AT * least_rows(precision, confidence_level)
    first = next(
        (n for n, (_, share) in enumerate(thresholds) if share * len(sure) >= needed),
        len(thresholds) - 1,
    )
    curve, goes_on = [], True
    for number, (threshold, share) in enumerate(thresholds):
        kept = sure >= threshold
        num, num_right = int(kept.sum()), int(right[kept].sum())
        lower = lower_bound(num_right, num, confidence_level)
        state = "too few" if number < first else "not tested"
        if number >= first and goes_on:
            goes_on = lower >= precision
            state = "passed" if goes_on else "failed"
        curve.append(CurvePoint(threshold, share, num, num_right, lower, state))
    passed = [point for point in curve if point.state == "passed"]
    return Selection(passed[-1] if passed else None, tuple(curve), precision, confidence_level)


def _thresholds(
    confidence: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> list[tuple[float, float]]:
    """Give thresholds, the strictest first, with the share of the file that each keeps.

    Several shares may have one threshold, where labels have equal confidence: it stands once.
    """
    descending = np.sort(confidence)[::-1]
    places = [math.ceil(len(descending) * step / _STEPS) - 1 for step in range(1, _STEPS + 1)]
    values = dict.fromkeys(float(descending[max(place, 0)]) for place in places)
    return [(value, float((confidence >= value).mean())) for value in values]
