"""Modules that apply each adapter of a row to its own tokens.

The frozen module computes the whole row in one call; then a plain loop over the adapters changes
the tokens of each. Low-rank updates that do not learn and have few tokens each are applied
together instead, see `Stacks`. A row without adapters goes straight through.

Shapes: T tokens in the row, n tokens of one adapter, in and out the sizes of a layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kamerton.adapters.parts import LinearPart, OutputPart
from kamerton.adapters.stacked import RowStack, Stacks
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.segment_adapters import ComputedRow, tokens_by_adapter

__all__ = ["RoutedEmbedding", "RoutedLinear", "RoutedOutput"]


class RoutedLinear(nn.Module):
    """A frozen linear layer with what several adapters change of it; stands where it stood.

    Args:
        layer: The frozen layer.
        parts: By adapter; no modules of this one, so that the base has no other tensors.
        row: Says which tokens are whose.
        path: Of the layer in the model.
        stacks: Applies the updates of many adapters at once.
    """

    def __init__(
        self,
        layer: nn.Module,
        parts: Mapping[int, LinearPart],
        row: ComputedRow,
        path: str,
        stacks: Stacks,
    ) -> None:
        super().__init__()
        self.layer = layer
        self._parts = dict(parts)
        self._adapters = frozenset(parts)
        self._row = row
        self._path, self._stacks = path, stacks

    @property
    def weight(self) -> Any:
        """The frozen weight, as the layer keeps it."""
        return self.layer.weight

    @property
    def bias(self) -> Any:
        """The frozen bias, or None."""
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the row, and each adapter to its tokens.

        Args:
            x: [..., T, in].

        Returns:
            [..., T, out].
        """
        layout = self._row.layout
        y: Tensor
        if layout is None or not layout.adapters:
            y = self.layer(x)
            return y
        stacked, apart = self._plan(layout, x.device)
        if not apart:
            y = self.layer(x)
        else:
            _check_order(x, self._row)
            own = [(part, at, _rows(x, at)) for part, at in apart]
            reads = [(at, new) for part, at, rows in own if (new := part.before(rows)) is not rows]
            y = self.layer(_replaced(x, reads))
            y = _replaced(y, [(at, part.after(rows, _rows(y, at))) for part, at, rows in own])
        if stacked:
            _check_order(x, self._row)
        for one in stacked:
            y = self._stacks.apply(self._path, self._parts, one, x, y)
        return y

    def _plan(
        self, layout: Layout, device: torch.device
    ) -> tuple[list[RowStack], list[tuple[LinearPart, Tensor]]]:
        """Choose the stacks that change the layer, and the adapters that do so one by one."""
        # Layers with the same adapters ask for the same.
        key = ("routed", device, self._adapters)
        if key not in layout.memo:
            rows = self._stacks.rows(layout, device)
            stacked = [row for row in rows if not row.adapters.isdisjoint(self._adapters)]
            together = frozenset[int]().union(*(row.adapters for row in stacked))
            tokens = tokens_by_adapter(layout, device)
            apart = [(n, at) for n, at in tokens.items() if n in self._adapters - together]
            layout.memo[key] = stacked, apart
        stacked, apart = layout.memo[key]
        return stacked, [(self._parts[adapter], at) for adapter, at in apart]


class RoutedEmbedding(nn.Module):
    """A frozen embedding beside those of several adapters; stands where it stood.

    Args:
        layer: The frozen embedding.
        parts: By adapter, what looks its tokens up.
        row: Says which tokens are whose.
    """

    def __init__(self, layer: nn.Module, parts: Mapping[int, nn.Module], row: ComputedRow) -> None:
        super().__init__()
        self.layer = layer
        # No modules of this one, so that the base has no other tensors.
        object.__setattr__(self, "_parts", dict(parts))
        self._row = row

    _parts: dict[int, nn.Module]

    @property
    def weight(self) -> Any:
        """The frozen table, [V, E]."""
        return self.layer.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Look tokens up.

        Args:
            ids: [..., T] token ids; an adapter's own tokens may be beyond the frozen table.

        Returns:
            [..., T, E].
        """
        present = self._row.present(self._parts, ids.device)
        if not present:
            found: Tensor = self.layer(ids)
            return found
        known = ids.index_fill(-1, torch.cat([at for _, at in present]), 0)
        own = [(at, part(ids.index_select(-1, at))) for part, at in present]
        return _replaced(self.layer(known), own)


class RoutedOutput:
    """Changes a module's output for the tokens of several adapters; a forward hook.

    Args:
        parts: By adapter, its changes in order.
        row: Says which tokens are whose.
    """

    def __init__(self, parts: Mapping[int, Sequence[OutputPart]], row: ComputedRow) -> None:
        self._parts = dict(parts)
        self._row = row

    def hook(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Change the output; called by PyTorch after the module.

        Args:
            module: The module.
            args: What it was called with.
            kwargs: The same by name.
            output: Its output: a tensor [..., T, out], or a tuple that begins with it.

        Returns:
            The same, changed.
        """
        first: Tensor = output[0] if isinstance(output, tuple) else output
        present = self._row.present(self._parts, first.device)
        if not present:
            return output
        _check_order(first, self._row)
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        changes = []
        for parts, at in present:
            asked, rows = (_rows(x, at),), _rows(first, at)
            for part in parts:
                rows = part.hook(module, asked, {}, rows)
            changes.append((at, rows))
        changed = _replaced(first, changes)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _rows(x: Tensor, at: Tensor) -> Tensor:
    """Some tokens of a row, [..., n, size]; the row itself where these are all."""
    return x if len(at) == x.shape[-2] else x.index_select(-2, at)


def _replaced(x: Tensor, changes: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """A row with other values at some places; one copy of it, however many changes."""
    if not changes:
        return x
    if len(changes[0][0]) == x.shape[-2]:
        return changes[0][1]
    index = torch.cat([at for at, _ in changes])
    return x.index_copy(-2, index, torch.cat([rows for _, rows in changes], dim=-2))


def _check_order(x: Tensor, row: ComputedRow) -> None:
    """Refuse a module that is not given the row token by token."""
    assert row.layout is not None
    if x.shape[-2] != row.layout.num_tokens:
        raise AdapterError(
            f"adapter: a layer is given {x.shape[-2]} tokens of a row of {row.layout.num_tokens}, "
            "so adapters cannot share the row",
            hint="leave layers out of adapter.targets that see chosen tokens only, as experts do",
        )
