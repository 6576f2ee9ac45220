"""Parts of adapters that can be switched off for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Switch", "switched_off"]


class Switch(Protocol):
    """A part that can be switched off.

    Attributes:
        enabled: Whether it does anything.
    """

    enabled: bool


@contextmanager
def switched_off(parts: Sequence[Switch]) -> Iterator[None]:
    """Switch parts off for a while; those that were off before stay off.

    Args:
        parts: The parts of an adapter.

    Yields:
        Nothing.
    """
    before = [(part, part.enabled) for part in parts]
    for part in parts:
        part.enabled = False
    try:
        yield
    finally:
        for part, enabled in before:
            part.enabled = enabled
