"""Segments: the runs of tokens that a packed row is cut into."""

from dataclasses import dataclass

__all__ = ["Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens in a row.

    Attributes:
        start: First token, from 0.
        stop: One past the last token.
        parent: Index of an earlier segment whose tokens (and ancestors) are visible too, or -1.
        slot: Row of the cache that holds this segment's past and receives its tokens, or -1.
        past: Number of tokens the slot holds already.
        adapter: The adapter of an `AdapterSet` that changes these tokens, or -1 for none of the
            set. An adapter that is attached to the base directly changes all tokens.
    """

    start: int
    stop: int
    parent: int = -1
    slot: int = -1
    past: int = 0
    adapter: int = -1

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.stop - self.start
