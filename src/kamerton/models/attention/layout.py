"""Layouts: which tokens of a packed row attend to which.

The model always sees one row of T tokens. A layout cuts it into segments. A token attends to the
earlier tokens of its own segment, to all tokens of its segment's ancestors in the row (a shared
prompt, whose answers are its children), and to what stands before its family: a prefix, or what
its segment's cache slot holds. A root and its descendants stand together: they are a family. A
family has one adapter; the families of a row may have different ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.prefix import Prefix
from kamerton.models.attention.segment import Segment

__all__ = ["Layout", "Segment"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Segments that cover a row without gaps.

    Attributes:
        segments: The segments in row order.
        cache: The cache of the slots; None while training.
        prefixes: The prefix before each of an adapter's families, by adapter (key -1: before those
            without one); empty with a cache, whose slots hold it already.
        record: Receives the row's keys and values by layer, [K, T, D] each; None for nothing.
        memo: The values that attention derives from the layout once, for all layers.
    """

    segments: tuple[Segment, ...]
    cache: KVCache | None = None
    prefixes: Mapping[int, Prefix] = field(default_factory=dict)
    record: dict[int, tuple[Tensor, Tensor]] | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        assert self.cache is None or not self.prefixes, "a slot holds its prefix already"
        at = 0
        for index, segment in enumerate(self.segments):
            assert segment.start == at < segment.stop, "segments must cover the row in order"
            assert -1 <= segment.parent < index, "a parent stands before its children"
            assert self._follows(index), "descendants stand right behind their ancestor"
            if segment.parent >= 0:
                adapter = self.segments[segment.parent].adapter
                assert segment.adapter == adapter, "a family has one adapter"
            at = segment.stop

    def _follows(self, index: int) -> bool:
        """Whether what stands before a segment is its parent, or goes on from it."""
        parent = self.segments[index].parent
        before = index - 1 if parent >= 0 else parent
        while before > parent:
            before = self.segments[before].parent
        return before == parent

    @classmethod
    def of_lengths(cls, lengths: Sequence[int]) -> "Layout":
        """Lay independent segments one after another.

        Args:
            lengths: Number of tokens of each.

        Returns:
            The layout.
        """
        segments, start = [], 0
        for length in lengths:
            segments.append(Segment(start, start + length))
            start += length
        return cls(tuple(segments))

    @property
    def num_tokens(self) -> int:
        """Number of tokens in the row."""
        return self.segments[-1].stop if self.segments else 0

    def ancestors(self, segment: Segment) -> list[Segment]:
        """List a segment's ancestors in the row.

        Args:
            segment: One of the layout's segments.

        Returns:
            The ancestors, from the root down to the parent.
        """
        chain: list[Segment] = []
        while segment.parent >= 0:
            segment = self.segments[segment.parent]
            chain.append(segment)
        return chain[::-1]

    def num_virtual(self, segment: Segment) -> int:
        """Count the virtual tokens that the layout puts before a segment's family.

        Args:
            segment: One of the layout's segments.

        Returns:
            0 without a prefix, and with a cache, whose slots count theirs as past.
        """
        prefix = self.prefixes.get(segment.adapter)
        return 0 if prefix is None else prefix.num_tokens

    def prefix_number(self, segment: Segment) -> int | None:
        """Say which of the row's prefixes stands before a segment's family.

        Args:
            segment: One of the layout's segments.

        Returns:
            Its number in the order of `prefixes`; None without one.
        """
        order = list(self.prefixes)
        return order.index(segment.adapter) if segment.adapter in self.prefixes else None

    @cached_property
    def adapters(self) -> frozenset[int]:
        """The adapters that segments name; without -1."""
        return frozenset(segment.adapter for segment in self.segments) - {-1}

    @cached_property
    def positions(self) -> list[int]:
        """Position of every token: its distance from the beginning of what it can see."""
        positions: list[int] = []
        for segment in self.segments:
            before = segment.past + self.num_virtual(segment)
            first = before + sum(ancestor.length for ancestor in self.ancestors(segment))
            positions.extend(range(first, first + segment.length))
        return positions

    @cached_property
    def families(self) -> tuple[tuple[int, int], ...]:
        """Index ranges of segments: each a root and the segments up to the next root."""
        roots = [index for index, segment in enumerate(self.segments) if segment.parent < 0]
        return tuple(zip(roots, [*roots[1:], len(self.segments)], strict=True))
