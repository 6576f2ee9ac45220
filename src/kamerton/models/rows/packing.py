"""Choose the number of a row's tokens, and the examples of each row."""

from collections.abc import Sequence

__all__ = ["TOKENS_PER_ROW", "pack"]

TOKENS_PER_ROW = 4096
"""Tokens that are computed at once, where nobody says otherwise."""


def pack(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Pack examples into few rows: best fit, longest first.

    Args:
        lengths: Tokens of each example.
        limit: Tokens of a row; a longer example gets a row of its own.

    Returns:
        Indices by row. In a row they are ordered by length, so that equal lengths stand together
        and attention takes them at once.
    """
    rows: list[list[int]] = []
    rooms: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [(room, r) for r, room in enumerate(rooms) if room >= lengths[index]]
        if fitting:
            _, row = min(fitting)
        else:
            row = len(rows)
            rows.append([])
            rooms.append(limit)
        rows[row].append(index)
        rooms[row] -= lengths[index]
    return rows
