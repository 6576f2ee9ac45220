"""A cache of keys and values by slot, and attention against it, for generation and scoring.

Shapes: K key/value heads, C capacity in tokens, D head size, H query heads, T tokens in the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.masked import AttentionOptions, attend
from kamerton.models.attention.prefix import Prefix

__all__ = ["KVCache", "cached_attention"]

_GROWTH_TOKENS = 64


@dataclass(eq=False)
class KVCache:
    """Keys and values of every layer, one slot per sequence, growing as needed.

    Attributes:
        num_slots: Number of sequences held.
        keys: By layer, [num_slots, K, C, D].
        values: By layer, the same shape.
    """

    num_slots: int
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def write(self, layer: int, key: Tensor, value: Tensor, segments: tuple[Segment, ...]) -> None:
        """Append a row's keys and values to its segments' slots.

        Args:
            layer: Layer index.
            key: [1, K, T, D].
            value: [1, K, T, D].
            segments: Each with a slot.
        """
        need = max(segment.past + segment.length for segment in segments)
        self._reserve(layer, need, key, value)
        keys, values = self.keys[layer], self.values[layer]
        if all(segment.length == 1 for segment in segments):
            slots = torch.tensor([s.slot for s in segments], device=key.device)
            at = torch.tensor([s.past for s in segments], device=key.device)
            keys[slots, :, at] = key[0].transpose(0, 1)
            values[slots, :, at] = value[0].transpose(0, 1)
            return
        for s in segments:
            keys[s.slot, :, s.past : s.past + s.length] = key[0, :, s.start : s.stop]
            values[s.slot, :, s.past : s.past + s.length] = value[0, :, s.start : s.stop]

    def seed(self, prefix: Prefix, dtype: torch.dtype, slots: Sequence[int]) -> None:
        """Let slots begin with a prefix.

        Args:
            prefix: Its tokens count as the slots' past.
            dtype: That of the keys and values to come.
            slots: Which.
        """
        at = list(slots)
        for layer, (keys, values) in enumerate(prefix.layers):
            self._reserve(layer, prefix.num_tokens, keys[None].to(dtype), values[None].to(dtype))
            self.keys[layer][at, :, : prefix.num_tokens] = keys.to(dtype)
            self.values[layer][at, :, : prefix.num_tokens] = values.to(dtype)

    def copy_slot(self, source: int, targets: list[int], num_tokens: int) -> None:
        """Give several slots the first tokens of another.

        Args:
            source: Slot to copy from.
            targets: Slots to copy to.
            num_tokens: How many tokens.
        """
        for layer in self.keys:
            for cache in (self.keys[layer], self.values[layer]):
                cache[targets, :, :num_tokens] = cache[source, :, :num_tokens]

    def keep(self, slots: list[int]) -> None:
        """Drop all other slots and renumber the kept ones from 0.

        Args:
            slots: Slots to keep, in their new order.
        """
        index = torch.tensor(slots)
        for cache in (self.keys, self.values):
            for layer, held in cache.items():
                cache[layer] = held[index.to(held.device)]
        self.num_slots = len(slots)

    def _reserve(self, layer: int, num_tokens: int, key: Tensor, value: Tensor) -> None:
        held = self.keys.get(layer)
        if held is not None and held.shape[2] >= num_tokens:
            return
        capacity = num_tokens + _GROWTH_TOKENS
        # Latent attention has values of another width than its keys.
        for cache, like in ((self.keys, key), (self.values, value)):
            grown = like.new_zeros(self.num_slots, like.shape[1], capacity, like.shape[3])
            if held is not None:
                grown[:, :, : held.shape[2]] = cache[layer]
            cache[layer] = grown


def cached_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    rule: AttentionOptions,
) -> Tensor:
    """Store a row's keys and values in its slots, then attend to all that the slots hold.

    Args:
        module: The attention module; its `layer_idx` names the cache layer.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        layout: With a cache; every segment with a slot and without a parent.
        rule: Scale, window, soft cap and sinks of the layer.

    Returns:
        [1, T, H, D].
    """
    cache = layout.cache
    assert cache is not None
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    segments = layout.segments
    cache.write(layer, key, value, segments)
    keys, values = cache.keys[layer], cache.values[layer]
    if all(segment.length == 1 for segment in segments):
        slots = torch.tensor([s.slot for s in segments], device=query.device)
        ends = torch.tensor([s.past + 1 for s in segments], device=query.device)
        longest = max(segment.past + 1 for segment in segments)
        in_order = [s.slot for s in segments] == list(range(cache.num_slots))
        seen_k, seen_v = keys[:, :, :longest], values[:, :, :longest]
        if not in_order:
            seen_k, seen_v = seen_k[slots], seen_v[slots]
        rows = query[0].transpose(0, 1).unsqueeze(2)  # [n, H, 1, D]
        visible = _before(ends[:, None], longest, rule.window)
        output = attend(rows, seen_k, seen_v, visible, rule)
        return output.transpose(1, 2).flatten(0, 1).unsqueeze(0)
    parts = []
    for s in segments:
        end = s.past + s.length
        rows = query[:, :, s.start : s.stop]
        ends = torch.arange(s.past + 1, end + 1, device=query.device)[None, :]
        visible = _before(ends, end, rule.window)
        held = keys[s.slot, None, :, :end], values[s.slot, None, :, :end]
        part = attend(rows, *held, visible, rule)
        parts.append(part.transpose(1, 2))
    return torch.cat(parts, dim=1)


def _before(ends: Tensor, num_keys: int, window: int | None) -> Tensor:
    """Which of the keys lie before each query's end and inside its window: bool [n, L, S]."""
    at = torch.arange(num_keys, device=ends.device)[None, None, :]
    visible = at < ends[:, :, None]
    return visible if window is None else visible & (at >= ends[:, :, None] - window)
