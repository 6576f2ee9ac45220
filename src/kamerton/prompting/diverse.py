"""Worked examples unlike one another: maximal marginal relevance (Carbonell, Goldstein 1998)."""

from collections.abc import Sequence

from kamerton.prompting.bm25 import words_of

__all__ = ["diverse"]

_FOR_LIKENESS = 0.5


def diverse(texts: Sequence[str], k: int) -> list[int]:
    """Choose texts that stand for all, each unlike those chosen before.

    Relevance is the mean likeness to all texts; likeness is the share of words that two texts have
    in common (Jaccard). Half of either counts.

    Args:
        texts: The texts, in an order that decides among equals.
        k: How many, 0 or more.

    Returns:
        Places of texts, in the order of choice; fewer where there are not enough.
    """
    words = [frozenset(words_of(text)) for text in texts]
    typical = [sum(_likeness(one, other) for other in words) / len(words) for one in words]
    nearest = [0.0] * len(words)
    left = list(range(len(words)))
    chosen: list[int] = []
    while left and len(chosen) < k:
        pick = max(
            left,
            key=lambda one: _FOR_LIKENESS * typical[one] - (1 - _FOR_LIKENESS) * nearest[one],
        )
        left.remove(pick)
        chosen.append(pick)
        for one in left:
            nearest[one] = max(nearest[one], _likeness(words[one], words[pick]))
    return chosen


def _likeness(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / (len(first | second) or 1)
