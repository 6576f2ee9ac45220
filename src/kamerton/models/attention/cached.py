"""Attention of a row to all that its slots hold.

Shapes: n rows, H query heads, K key/value heads, D head size, T tokens in the row, L queries,
S keys.
"""

import torch
from torch import Tensor

from kamerton.models.attention.layout import Layout
from kamerton.models.attention.masked import AttentionOptions, attend

__all__ = ["cached_attention"]


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
        first, num = segments[0].slot, len(segments)
        # Neighbouring slots are seen without a copy.
        are_neighbours = [s.slot for s in segments] == list(range(first, first + num))
        seen = slice(first, first + num) if are_neighbours else slots
        seen_k, seen_v = keys[:, :, :longest][seen], values[:, :, :longest][seen]
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
