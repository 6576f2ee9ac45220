"""Attention of a row to all that its slots hold.

Shapes: n rows, H query heads, K key/value heads, D head size, T tokens in the row, L queries,
S keys.
"""

import torch
from torch import Tensor

from kamerton.models.attention.cached_row import CachedRow, visible_before
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
    row = _row(layout, query.device)
    cache.write(layer, key, value, row)
    keys, values = cache.keys[layer], cache.values[layer]
    single = None
    if row.singles is not None:
        ones = row.singles
        rows = query[0].transpose(0, 1)
        rows = rows if ones.tokens is None else rows[ones.tokens]
        held = keys[:, :, : ones.longest][ones.seen], values[:, :, : ones.longest][ones.seen]
        single = attend(rows.unsqueeze(2), *held, ones.before(rule.window), rule).squeeze(2)
        if ones.tokens is None:
            return single.unsqueeze(0)
    parts = []
    for s in row.longer:
        end = s.past + s.length
        ends = torch.arange(s.past + 1, end + 1, device=query.device)[None, :]
        visible = visible_before(ends, end, rule.window)
        seen = keys[s.slot, None, :, :end], values[s.slot, None, :, :end]
        part = attend(query[:, :, s.start : s.stop], *seen, visible, rule)
        parts.append((s, part.transpose(1, 2)))
    if single is None:
        return torch.cat([part for _, part in parts], dim=1)
    assert row.singles is not None
    output = single.new_empty(1, layout.num_tokens, *single.shape[1:])
    output[0, row.singles.tokens] = single
    for s, part in parts:
        output[:, s.start : s.stop] = part
    return output


def _row(layout: Layout, device: torch.device) -> CachedRow:
    """Tell single tokens from longer segments, once for all layers."""
    key = ("cached row", device)
    if key not in layout.memo:
        layout.memo[key] = CachedRow.of(layout.segments, device)
    row: CachedRow = layout.memo[key]
    return row
