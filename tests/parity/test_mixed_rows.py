"""Rows that mix adapters of every kind: each segment gets what its adapter gives alone."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import attach, load
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from tests.shapes import VOCABULARY, tiny_base

SHAPES = ("llama", "qwen3", "gemma3", "gpt2")
KINDS: dict[str, Any] = {
    "lora": LoraSettings(rank=4),
    "rslora": LoraSettings(rank=16, rank_stabilised=True),
    "dora": LoraSettings(rank=2, decompose=True),
    "ends": LoraSettings(rank=3, targets=("all-linear", "embeddings", "head")),
    "tokens": LoraSettings(rank=2, new_tokens=("w7", "unheard")),
    "ia3": Ia3Settings(),
    "prefix": PrefixSettings(num_tokens=5, init="random"),
    "network": PrefixSettings(num_tokens=3, init="random", network=8),
    "prompt": PromptTuningSettings(num_tokens=4, init="vocabulary"),
    "after": BottleneckSettings(reduction=8, activation="gelu"),
    "beside": BottleneckSettings(placement="parallel", reduction=4),
    "both": BottleneckSettings(placement="houlsby", reduction=16, activation="silu"),
}
"""Adapters by name; "base" means none of them."""
ORDER = ("tokens", "prefix", "lora", "base", "both", "dora", "rslora", "prompt", "base", "beside")
ORDER += ("prefix", "ia3", "ends", "after", "network", "lora")
LENGTHS = (9, 6, 11, 7, 9, 9, 12, 5, 14, 8, 10, 6, 7, 9, 3, 4)


def stirred(base: Base, kind: str, seed: int = 0) -> Adapter:
    """Attach an adapter that changes a lot."""
    adapter = attach(base, KINDS[kind], seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


@cache
def files_of(shape: str, kind: str) -> Mapping[str, bytes]:
    adapter = stirred(tiny_base(shape), kind)
    return adapter.files()


def ids_of(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (length,), generator=generator)
    return ids.tolist()


def texts(order: Sequence[str], lengths: Sequence[int]) -> list[list[int]]:
    made = [ids_of(length, seed) for seed, length in enumerate(lengths)]
    for text, kind in zip(made, order, strict=True):
        # A known token with a row of its own, and one that the base has not.
        text[1:3] = [7, VOCABULARY] if kind == "tokens" else [7, 8]
    return made


def attach_alone(base: Base, shape: str, kind: str) -> Adapter | None:
    return None if kind == "base" else load(base, KINDS[kind].kind, files_of(shape, kind))


def add_all(base: Base, shape: str, kinds: Sequence[str]) -> tuple[AdapterSet, dict[str, int]]:
    adapters = AdapterSet(base)
    numbers = {"base": -1}
    for kind in kinds:
        method = KINDS[kind].kind
        numbers[kind] = adapters.add(lambda k=kind, m=method: load(base, m, files_of(shape, k)))
    return adapters, numbers


def packed(rows: Sequence[list[int]], adapters: Sequence[int]) -> tuple[Tensor, Layout]:
    segments, start = [], 0
    for row, adapter in zip(rows, adapters, strict=True):
        segments.append(Segment(start, start + len(row), adapter=adapter))
        start += len(row)
    return torch.tensor([i for row in rows for i in row]), Layout(tuple(segments))


def logits_by_segment(base: Base, ids: Tensor, layout: Layout) -> list[Tensor]:
    hidden = base.hidden(ids, layout)
    adapters = [s.adapter for s in layout.segments for _ in range(s.length)]
    rows: dict[int, Tensor] = {}
    for head, places in base.heads_of(adapters):
        rows |= dict(zip(places, head.logits(hidden[torch.tensor(places)]), strict=True))
    return [torch.stack([rows[t] for t in range(s.start, s.stop)]) for s in layout.segments]


@torch.no_grad()
def alone(shape: str, kind: str, text: list[int]) -> Tensor:
    base = tiny_base(shape)
    attach_alone(base, shape, kind)
    return base.head.logits(base.hidden(torch.tensor(text), Layout.of_lengths([len(text)])))


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.argmax(-1), wanted.argmax(-1))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_each_segment_gets_what_its_adapter_gives_alone(shape: str) -> None:
    base = tiny_base(shape)
    _, numbers = add_all(base, shape, KINDS)
    rows = texts(ORDER, LENGTHS)
    ids, layout = packed(rows, [numbers[kind] for kind in ORDER])
    plain = tiny_base(shape)
    for found, kind, text in zip(logits_by_segment(base, ids, layout), ORDER, rows, strict=True):
        assert_close(found, alone(shape, kind, text))
        if kind not in ("base", "tokens"):
            other = plain.head.logits(
                plain.hidden(torch.tensor(text), Layout.of_lengths([len(text)]))
            )
            assert not torch.allclose(found, other, atol=1e-2)
