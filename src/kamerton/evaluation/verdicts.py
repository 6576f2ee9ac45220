"""What a difference means, in plain words."""

from typing import Any

from kamerton.evaluation.results import Comparison, Difference

__all__ = ["VERDICTS", "in_short", "last_opponent", "tone", "verdict"]

VERDICTS = ("better", "worse", "different", "no clear difference")
"""All words for a difference, in the order in which reports name them."""


def verdict(comparison: Comparison, difference: Difference) -> str:
    """Judge a difference.

    Args:
        comparison: Says which direction is good, and how certain one wants to be.
        difference: One of its differences.

    Returns:
        One of `VERDICTS`; `different` where neither direction is better.
    """
    if difference.p_corrected >= 1 - comparison.confidence_level:
        return "no clear difference"
    better = comparison.better[comparison.metrics.index(difference.metric)]
    if better == "neither":
        return "different"
    return "better" if (difference.value > 0) == (better == "higher") else "worse"


def tone(word: str) -> str:
    """Give the style class of a verdict.

    Args:
        word: One of `VERDICTS`.

    Returns:
        `right`, `wrong` or `soft`.
    """
    return {"better": "right", "worse": "wrong"}.get(word, "soft")


def last_opponent(comparison: Comparison, variant: str) -> str | None:
    """Find the hardest baseline to beat: the last one that a variant is compared with.

    Args:
        comparison: The comparison that was found.
        variant: One of its variants.

    Returns:
        Its name, or None when the variant is compared with none.
    """
    found = {d.against for d in comparison.differences if d.variant == variant}
    return next((name for name in reversed(comparison.against) if name in found), None)


def in_short(comparison: Comparison) -> dict[str, Any]:
    """Sum up how the last variant did against the last baseline that it is compared with.

    Args:
        comparison: The comparison that was found.

    Returns:
        `variant`, `against`, and `by_verdict`: pairs of a verdict and its metrics; empty when
        the two were not compared.
    """
    last = comparison.variants[-1]
    against = last_opponent(comparison, last)
    if against is None:
        return {}
    found: dict[str, list[str]] = {word: [] for word in VERDICTS}
    for metric in comparison.metrics:
        difference = comparison.difference(metric, last, against)
        if difference is not None:
            found[verdict(comparison, difference)].append(metric)
    by_verdict = [(word, metrics) for word, metrics in found.items() if metrics]
    return {"variant": last, "against": against, "by_verdict": by_verdict} if by_verdict else {}
