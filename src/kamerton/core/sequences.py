"""The beginning that sequences share."""

from collections.abc import Sequence
from typing import Any

__all__ = ["shared_prefix"]


def shared_prefix(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the leading elements that two sequences have in common.

    Args:
        first: Characters or token ids.
        second: Likewise.

    Returns:
        From 0 to the shorter length.
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
