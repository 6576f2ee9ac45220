"""Rows over a cache: single tokens and longer segments together, whatever the window."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.cached import cached_attention
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.masked import AttentionOptions, attend

HEADS, KV_HEADS, SIZE = 4, 2, 8
LAYER: Any = SimpleNamespace(layer_idx=3)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(
    ("slots", "lengths"),
    [((0, 1, 2), (1, 1, 1)), ((2, 0), (1, 1)), ((1, 0, 3, 2), (1, 4, 1, 3)), ((3, 1), (2, 5))],
)
def test_every_segment_sees_what_its_slot_holds(slots, lengths, window) -> None:
    generator = torch.Generator().manual_seed(0)
    past = {0: 5, 1: 2, 2: 0, 3: 9}
    cache, rule = KVCache(4), AttentionOptions(0.3, window)
    held: dict[int, list[torch.Tensor]] = {slot: [] for slot in past}

    def compute(order: list[tuple[int, int, int]]) -> tuple[torch.Tensor, list[Segment]]:
        segments, start = [], 0
        for slot, before, length in order:
            segments.append(Segment(start, start + length, slot=slot, past=before))
            start += length
        q = torch.randn(1, HEADS, start, SIZE, generator=generator)
        k, v = (torch.randn(1, KV_HEADS, start, SIZE, generator=generator) for _ in range(2))
        found = cached_attention(LAYER, q, k, v, Layout(tuple(segments), cache), rule)
        for s in segments:
            held[s.slot].append(torch.stack([k[0, :, s.start : s.stop], v[0, :, s.start : s.stop]]))
        queries.append(q)
        return found, segments

    queries: list[torch.Tensor] = []
    compute([(slot, 0, length) for slot, length in past.items() if length])
    found, segments = compute(
        [(slot, past[slot], length) for slot, length in zip(slots, lengths, strict=True)]
    )
    assert found.shape == (1, sum(lengths), HEADS, SIZE)
    for s in segments:
        keys, values = torch.cat(held[s.slot], dim=2)
        at = torch.arange(keys.shape[1])
        end = s.past + torch.arange(1, s.length + 1)[:, None]
        visible = (at < end) & (at >= end - (window or 1000))
        q = queries[1][:, :, s.start : s.stop]
        wanted = attend(q, keys[None], values[None], visible[None], rule)
        torch.testing.assert_close(found[:, s.start : s.stop], wanted.transpose(1, 2))
