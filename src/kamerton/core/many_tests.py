"""Corrections of p-values for tests that are looked at together."""

from collections.abc import Sequence

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that one false alarm in the family stays rare.

    Args:
        p_values: p-values of all tests that are looked at together.

    Returns:
        Holm's adjusted p-values, in the same order, each at least as large as the given one.
    """
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min((len(order) - rank) * p_values[position], 1.0))
        corrected[position] = largest
    return corrected


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Correct p-values so that few of those below a level are false: for exploring.

    Args:
        p_values: p-values of all tests that are looked at together.

    Returns:
        Adjusted p-values, in the same order (Benjamini and Hochberg, 1995): among those at most
        q, a share of q is false on average.
    """
    num = len(p_values)
    order = sorted(range(num), key=lambda position: p_values[position], reverse=True)
    corrected = [0.0] * num
    smallest = 1.0
    for rank, position in enumerate(order):
        smallest = min(smallest, p_values[position] * num / (num - rank))
        corrected[position] = smallest
    return corrected
