"""How much of a text was changed."""

import numpy as np

__all__ = ["edit_distance", "edit_share"]

_MOST_CHARACTERS = 4000
"""Longer texts are compared by their beginnings: the work grows with the square."""


def edit_distance(one: str, other: str) -> int:
    """Count the characters to insert, delete or replace (V. Levenshtein, 1966).

    Args:
        one: A text.
        other: Another.

    Returns:
        The least number.
    """
    # What both begin and end with costs nothing, and most corrections are short.
    one, other = _rest(one, other)
    one, other = _rest(one[::-1], other[::-1])
    if len(one) < len(other):
        one, other = other, one
    letters = np.array([ord(letter) for letter in other], dtype=np.int64)
    places = np.arange(len(other) + 1)
    row = places.copy()
    for number, letter in enumerate(one, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (letters != ord(letter)))
        # Insertions go along the row: the least of all places before, plus the way from there.
        row = np.minimum.accumulate(np.concatenate([[number], best]) - places) + places
    return int(row[-1])


def edit_share(answer: str, correction: str) -> float:
    """Say which share of an answer its correction changed.

    Args:
        answer: What the variant wrote; its first 4,000 characters count.
        correction: What was sent instead.

    Returns:
        0 where they are the same, 1 where nothing is left.
    """
    answer, correction = answer.strip()[:_MOST_CHARACTERS], correction.strip()[:_MOST_CHARACTERS]
    longest = max(len(answer), len(correction))
    return edit_distance(answer, correction) / longest if longest else 0.0


def _rest(one: str, other: str) -> tuple[str, str]:
    """Cut off what both texts begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    return one[same:], other[same:]
