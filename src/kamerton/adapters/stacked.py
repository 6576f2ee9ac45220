"""Many low-rank updates in one product, for rows in which each adapter has few tokens.

A decoding step gives each adapter a token or two. One matrix product per adapter then costs more
in calls than in numbers. So the updates of the row's adapters stand in one tensor per layer, and
two batched products apply them all (BGMV of Punica, arXiv 2310.18547, section 4, without its
gather: the tokens are put in the order of the stack, which copies far less than the weights).

Shapes: S places of a stack, m tokens per place, R the largest rank in the stack, T tokens in the
row, in and out the sizes of a layer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from kamerton.models.attention.layout import Layout
from kamerton.models.segment_adapters import tokens_by_adapter

__all__ = ["FixedUpdate", "RowStack", "Stacks"]

_CLASSES = (16, 64)
"""Ranks up to the first share a stack, then ranks up to the second; larger ones stay apart, so
that one large adapter does not make the others as large by padding."""
_MOST_TOKENS = 8
"""An adapter with more tokens in a row has a product of its own."""


@runtime_checkable
class FixedUpdate(Protocol):
    """What a part offers that adds no more than B A to a linear layer."""

    def fixed_update(self) -> tuple[Tensor, Tensor, float] | None:
        """Give A [r, in], B [out, r] and the factor on B A; None while it learns or does more."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RowStack:
    """How the tokens of a row meet one stack; the same for all layers.

    Attributes:
        rank_class: Which stack.
        held: The adapter at each place, in the row or not; None where a place is free.
        adapters: Those that are in the row.
        tokens: [n] the row's tokens that the stack changes, ascending by place.
        index: [S * m] a token for each place, any token where there is none.
        chosen: [n] where the tokens stand in `index`; None where they are all of it.
    """

    rank_class: int
    held: tuple[int | None, ...]
    adapters: frozenset[int]
    tokens: Tensor
    index: Tensor
    chosen: Tensor | None


@dataclass(eq=False)
class _LayerStack:
    """One layer's updates: A [S, R, in] and the factor times B, transposed, [S, R, out]."""

    a: Tensor
    b: Tensor
    held: list[int | None]


@dataclass(eq=False)
class Stacks:
    """The stacks of all layers, and which adapter stands where in them.

    A place keeps its adapter from row to row; adapters that are new in a row take places of those
    that are not in it. So a stack is as large as the row with the most adapters, however many
    are resident.
    """

    _ranks: dict[int, int] = field(default_factory=dict)
    _held: dict[int, list[int | None]] = field(default_factory=dict)
    _layers: dict[tuple[str, int], _LayerStack] = field(default_factory=dict)

    def note(self, adapter: int, parts: Collection[object]) -> None:
        """Find out whether an adapter can be stacked.

        Args:
            adapter: Its number.
            parts: What it changes of linear layers.
        """
        updates = [part.fixed_update() for part in parts if isinstance(part, FixedUpdate)]
        ranks = [len(update[0]) for update in updates if update is not None]
        if ranks and len(ranks) == len(parts) and max(ranks) <= _CLASSES[-1]:
            self._ranks[adapter] = max(ranks)

    def forget(self, adapter: int) -> None:
        """Free the places of an adapter.

        Args:
            adapter: Its number, which never comes again.
        """
        self._ranks.pop(adapter, None)
        for held in self._held.values():
            held[:] = [None if one == adapter else one for one in held]
        if not self._ranks:
            self._held, self._layers = {}, {}

    def rows(self, layout: Layout, device: torch.device) -> list[RowStack]:
        """Plan a row, once for all layers.

        Args:
            layout: The row's segments.
            device: Where the row is.

        Returns:
            A plan for each stack that is worth its price; usually one or none.
        """
        key = ("stacks", device)
        if key not in layout.memo:
            layout.memo[key] = [] if torch.is_grad_enabled() else self._plan(layout, device)
        found: list[RowStack] = layout.memo[key]
        return found

    def _plan(self, layout: Layout, device: torch.device) -> list[RowStack]:
        tokens: dict[int, dict[int, list[int]]] = {}
        for adapter, at in tokens_by_adapter(layout, device).items():
            rank = self._ranks.get(adapter)
            if rank is not None and len(at) <= _MOST_TOKENS:
                rank_class = next(one for one in _CLASSES if rank <= one)
                tokens.setdefault(rank_class, {})[adapter] = at.tolist()
        return [self._row(c, own, device) for c, own in tokens.items() if len(own) > 1]

    def _row(self, rank_class: int, own: Mapping[int, list[int]], device: torch.device) -> RowStack:
        held = self._held.setdefault(rank_class, [])
        _place(held, own)
        num = max(map(len, own.values()))
        places = max(place for place, adapter in enumerate(held) if adapter in own) + 1
        index, chosen, tokens = [], list[int](), list[int]()
        for place, adapter in enumerate(held[:places]):
            mine = own.get(adapter, []) if adapter is not None else []
            chosen += range(place * num, place * num + len(mine))
            tokens += mine
            index += mine + [0] * (num - len(mine))
        return RowStack(
            rank_class,
            tuple(held[:places]),
            frozenset(own),
            torch.tensor(tokens, device=device),
            torch.tensor(index, device=device),
            None if len(tokens) == len(index) else torch.tensor(chosen, device=device),
        )

    def apply(
        self, path: str, parts: Mapping[int, object], row: RowStack, x: Tensor, y: Tensor
    ) -> Tensor:
        """Add the updates of a stack to what a layer gave.

        Args:
            path: Of the layer.
            parts: By adapter, what changes the layer.
            row: How the tokens meet the stack.
            x: [..., T, in], what the layer was given.
            y: [..., T, out], what it gave; is overwritten.

        Returns:
            [..., T, out].
        """
        stack = self._filled((path, row.rank_class), parts, row, x, y)
        places = len(row.held)
        a, b = stack.a[:places], stack.b[:places]
        flat_x, flat_y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        read = flat_x.index_select(0, row.index).view(places, -1, x.shape[-1]).to(a.dtype)
        before = flat_y.index_select(0, row.index).view(places, -1, y.shape[-1]).to(b.dtype)
        after = torch.baddbmm(before, torch.bmm(read, a.transpose(1, 2)), b).flatten(0, 1)
        after = after.to(y.dtype)
        if row.chosen is not None:
            after = after.index_select(0, row.chosen)
        return flat_y.index_copy_(0, row.tokens, after).view(y.shape)

    def _filled(
        self,
        key: tuple[str, int],
        parts: Mapping[int, object],
        row: RowStack,
        x: Tensor,
        y: Tensor,
    ) -> _LayerStack:
        """Give a layer's stack with the adapters of a row in their places."""
        stack = self._layers.get(key)
        if stack is not None and tuple(stack.held[: len(row.held)]) == row.held:
            return stack
        updates = {
            place: _update(parts[adapter])
            for place, adapter in enumerate(row.held)
            if adapter is not None
            and adapter in parts
            and (stack is None or stack.held[place : place + 1] != [adapter])
        }
        rank = max((len(a) for a, _, _ in updates.values()), default=1)
        if stack is None or len(stack.held) < len(row.held) or stack.a.shape[1] < rank:
            stack = self._layers[key] = _grown(stack, len(row.held), rank, x, y)
        for place, adapter in enumerate(row.held):
            if stack.held[place] == adapter:
                continue
            stack.held[place] = adapter
            own = 0
            if place in updates:
                a, b, factor = updates[place]
                own = len(a)
                stack.a[place, :own] = a
                stack.b[place, :own] = b.t() * factor
            # Padding, and all of it where the adapter leaves this layer alone.
            stack.a[place, own:] = 0
            stack.b[place, own:] = 0
        return stack


def _place(held: list[int | None], present: Mapping[int, object]) -> None:
    """Give adapters of a row places: their own, those of absent ones, or new ones."""
    if len(held) > 2 * len(present):
        # Most places would be computed for nothing.
        held[:] = [adapter for adapter in held if adapter in present]
    missing = [adapter for adapter in present if adapter not in held]
    free = [place for place, adapter in enumerate(held) if adapter not in present]
    for place, adapter in zip(free, missing, strict=False):
        held[place] = adapter
    held += missing[len(free) :]


def _grown(stack: _LayerStack | None, places: int, rank: int, x: Tensor, y: Tensor) -> _LayerStack:
    """Make a stack with room for more; it holds what the old one held."""
    held: Sequence[int | None] = () if stack is None else stack.held
    places, rank = max(places, len(held)), max(rank, 0 if stack is None else stack.a.shape[1])
    a = x.new_zeros(places, rank, x.shape[-1], dtype=_dtype_of(x))
    b = y.new_zeros(places, rank, y.shape[-1], dtype=_dtype_of(y))
    if stack is not None:
        a[: len(held), : stack.a.shape[1]] = stack.a
        b[: len(held), : stack.b.shape[1]] = stack.b
    return _LayerStack(a, b, [*held, *[None] * (places - len(held))])


def _dtype_of(x: Tensor) -> torch.dtype:
    """What updates are computed in: on a CPU small products in bf16 take three times as long."""
    return torch.float32 if x.device.type == "cpu" and x.element_size() < 4 else x.dtype


def _update(part: object) -> tuple[Tensor, Tensor, float]:
    assert isinstance(part, FixedUpdate)
    update = part.fixed_update()
    assert update is not None, "whoever is stacked does not learn"
    return update
