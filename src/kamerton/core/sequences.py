"""The beginning that sequences share."""

from collections.abc import Sequence
from typing import Any

__all__ = ["shared_prefix"]


def shared_prefix(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the leading elements that two sequences have in common.

    Args:
        first: Characters or token ids, in a type whose slices compare whole.
        second: Likewise, in the same type.

    Returns:
        From 0 to the shorter length.
    """
    known, most = 0, min(len(first), len(second))
    # Slices compare at the speed of C, and at most twice the length is compared.
    while known < most:
        middle = (known + most + 1) // 2
        if first[known:middle] == second[known:middle]:
            known = middle
        else:
            most = middle - 1
    return known
