"""A base's adapters that change single segments of a row, not all of it.

The modules of such adapters stand in the model; this is what they bring besides. Shapes: T tokens
in the row.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from kamerton.models.attention.layout import Layout
from kamerton.models.attention.prefix import PrefixSource
from kamerton.models.heads import UpdatedHead

__all__ = ["ComputedRow", "SegmentAdapter", "tokens_by_adapter"]

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class SegmentAdapter:
    """The parts of an adapter besides the modules that it changes.

    Attributes:
        prefix: The prefix of its families, or None.
        head: The layer in the place of the head for its tokens, or None.
    """

    prefix: PrefixSource | None = None
    head: UpdatedHead | None = None


class ComputedRow:
    """The row that a base computes now, for modules that are given a tensor and no layout.

    Attributes:
        layout: The row's segments; None between rows.
    """

    layout: Layout | None = None

    @contextmanager
    def set(self, layout: Layout | None) -> Iterator[None]:
        """Name the row for a while; also around blocks that the backward pass computes again.

        Args:
            layout: The row's segments.

        Yields:
            Nothing.
        """
        before, self.layout = self.layout, layout
        try:
            yield
        finally:
            self.layout = before

    def present(
        self, parts: Mapping[int, _Part], device: torch.device
    ) -> list[tuple[_Part, Tensor]]:
        """Choose the parts of adapters that segments of the row name.

        Args:
            parts: The parts by adapter.
            device: The row's device.

        Returns:
            Each with its tokens; nothing between rows.
        """
        if self.layout is None or not self.layout.adapters:
            return []
        tokens = tokens_by_adapter(self.layout, device)
        return [(parts[adapter], at) for adapter, at in tokens.items() if adapter in parts]


def tokens_by_adapter(layout: Layout, device: torch.device) -> dict[int, Tensor]:
    """List each adapter's tokens, once for all layers.

    Args:
        layout: The row's segments.
        device: The row's device.

    Returns:
        The places of each adapter in the row in ascending order; without those of adapter -1.
    """
    key = ("tokens by adapter", device)
    if key not in layout.memo:
        places: dict[int, list[int]] = {adapter: [] for adapter in sorted(layout.adapters)}
        for segment in layout.segments:
            if segment.adapter >= 0:
                places[segment.adapter] += range(segment.start, segment.stop)
        layout.memo[key] = {
            adapter: torch.tensor(at, device=device) for adapter, at in places.items()
        }
    found: dict[int, Tensor] = layout.memo[key]
    return found
