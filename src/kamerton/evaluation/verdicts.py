"""What a difference means, in plain words."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from kamerton.core.language import translated
from kamerton.evaluation.results import Comparison, Difference

__all__ = [
    "VERDICTS",
    "Verdict",
    "best_opponent",
    "in_short",
    "judged_variant",
    "tone",
    "verdict",
    "verdict_text",
]

Verdict = Literal["better", "worse", "different", "no clear difference"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""All words for a difference, in the order in which reports name them."""


def verdict(comparison: Comparison, difference: Difference) -> Verdict:
    """Judge a difference.

    Args:
        comparison: Says which direction is good, and how certain one wants to be.
        difference: One of its differences.

    Returns:
        One of `VERDICTS`; `different` where neither direction is better.
    """
    if difference.p_corrected >= 1 - comparison.confidence_level:
        return "no clear difference"
    better = comparison.better_of(difference.metric)
    if better == "neither":
        return "different"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def tone(word: str) -> str:
    """Give the style class of a verdict.

    Args:
        word: One of `VERDICTS`.

    Returns:
        `good`, `bad` or `soft`.
    """
    return {"better": "good", "worse": "bad"}.get(word, "soft")


def verdict_text(word: Verdict) -> str:
    """Word a verdict for a reader.

    Args:
        word: The verdict.

    Returns:
        Its words in the current language.
    """
    match word:
        case "better":
            return translated("better")
        case "worse":
            return translated("worse")
        case "different":
            return translated("different")
        case "no clear difference":
            return translated("no clear difference")


def judged_variant(comparison: Comparison) -> str:
    """Choose the variant to speak of: the best of those that are no baselines.

    Args:
        comparison: The comparison that was found.

    Returns:
        The best by the first metric, the later of equals; the last where no direction is better
        or all are baselines.
    """
    judged = [name for name in comparison.variants if name not in comparison.against]
    return _best(comparison, judged or comparison.variants[-1:])


def best_opponent(comparison: Comparison, variant: str) -> str | None:
    """Find the baseline to beat: the best of those that a variant is compared with.

    Args:
        comparison: The comparison that was found.
        variant: One of its variants.

    Returns:
        The best by the first metric, the later of equals; the last where no direction is better.
        None when the variant is compared with none.
    """
    compared = {d.against for d in comparison.differences if d.variant == variant}
    if not comparison.differences:
        # Too few items for differences, not for a look at both.
        compared = set(comparison.against) - {variant}
    found = [name for name in comparison.against if name in compared]
    return _best(comparison, found) if found else None


def _best(comparison: Comparison, names: Sequence[str]) -> str:
    metric, better = comparison.metrics[0], comparison.better[0]
    sign = {"higher": 1, "lower": -1}.get(better, 0)
    return max(reversed(names), key=lambda name: sign * comparison.measure(metric, name).value)


def in_short(comparison: Comparison) -> dict[str, Any]:
    """Sum up how the best variant did against the best baseline that it is compared with.

    Args:
        comparison: The comparison that was found.

    Returns:
        `variant`, `against`, and `by_verdict`: pairs of a verdict and its metrics; empty when
        the two were not compared.
    """
    variant = judged_variant(comparison)
    against = best_opponent(comparison, variant)
    if against is None:
        return {}
    found: dict[str, list[str]] = {word: [] for word in VERDICTS}
    for metric in comparison.metrics:
        difference = comparison.difference(metric, variant, against)
        if difference is not None:
            found[verdict(comparison, difference)].append(metric)
    by_verdict = [(word, metrics) for word, metrics in found.items() if metrics]
    if not by_verdict:
        return {}
    return {"variant": variant, "against": against, "by_verdict": by_verdict}
