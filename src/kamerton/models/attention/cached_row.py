"""A row whose segments have cache slots: what is the same for all layers of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kamerton.models.attention.segment import Segment

__all__ = ["CachedRow", "Singles", "visible_before"]


@dataclass(frozen=True, slots=True, eq=False)
class Singles:
    """The segments of one token, which are computed together.

    Attributes:
        tokens: [n] their places in the row; None where they are all of it.
        slots: [n] their slots.
        past: [n] tokens that these hold already.
        seen: The slots as an index; neighbouring ones are seen without a copy.
        longest: Most tokens that one of the slots holds, with the new one.
        visible: By window, bool [n, 1, longest], what each sees.
    """

    tokens: Tensor | None
    slots: Tensor
    past: Tensor
    seen: slice | Tensor
    longest: int
    visible: dict[int | None, Tensor] = field(default_factory=dict)

    def before(self, window: int | None) -> Tensor:
        """Say what each token sees.

        Args:
            window: Of the layer.

        Returns:
            Bool [n, 1, longest].
        """
        if window not in self.visible:
            ends = self.past[:, None] + 1
            self.visible[window] = visible_before(ends, self.longest, window)
        return self.visible[window]


@dataclass(frozen=True, slots=True, eq=False)
class CachedRow:
    """A row, its single tokens apart from longer segments.

    Attributes:
        singles: The segments of one token; None without any.
        longer: The others.
        num_slots: One past the last slot of the row.
        num_tokens: Most tokens that a slot holds afterwards.
    """

    singles: Singles | None
    longer: tuple[Segment, ...]
    num_slots: int
    num_tokens: int

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> "CachedRow":
        """Lay out a row.

        Args:
            segments: Each with a slot and without a parent.
            device: Where the row is.

        Returns:
            The row.
        """
        single = [segment for segment in segments if segment.length == 1]
        longer = tuple(segment for segment in segments if segment.length > 1)
        singles = None
        if single:
            slots = [segment.slot for segment in single]
            where = torch.tensor(slots, device=device)
            neighbours = slots == list(range(slots[0], slots[0] + len(slots)))
            starts = [segment.start for segment in single]
            singles = Singles(
                torch.tensor(starts, device=device) if longer else None,
                where,
                torch.tensor([segment.past for segment in single], device=device),
                slice(slots[0], slots[0] + len(slots)) if neighbours else where,
                max(segment.past for segment in single) + 1,
            )
        num_tokens = max(segment.past + segment.length for segment in segments)
        return cls(singles, longer, max(s.slot for s in segments) + 1, num_tokens)


def visible_before(ends: Tensor, num_keys: int, window: int | None) -> Tensor:
    """Find which keys lie before each query's end and inside its window.

    Args:
        ends: [n, L] one past the last key that each query sees.
        num_keys: S.
        window: Most keys that a query sees; None means all before its end.

    Returns:
        Bool [n, L, S].
    """
    at = torch.arange(num_keys, device=ends.device)[None, None, :]
    visible = at < ends[:, :, None]
    return visible if window is None else visible & (at >= ends[:, :, None] - window)
