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
from kamerton.training.memory import recompute_blocks
from tests.shapes import VOCABULARY, tiny_base

SHAPES = ("llama", "qwen3", "gemma3", "gpt2")
KINDS: dict[str, Any] = {
    "lora": LoraSettings(rank=4),
    "rslora": LoraSettings(rank=16, rank_stabilised=True),
    "dora": LoraSettings(rank=2, dora=True),
    "ends": LoraSettings(rank=3, targets=("all-linear", "embeddings", "head")),
    "tokens": LoraSettings(rank=2, new_tokens=("w7", "unheard")),
    "ia3": Ia3Settings(),
    "prefix": PrefixSettings(num_virtual_tokens=5, init="random"),
    "network": PrefixSettings(num_virtual_tokens=3, init="random", network=8),
    "prompt": PromptTuningSettings(num_virtual_tokens=4, init="vocabulary"),
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


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_cached_steps_write_what_each_adapter_writes_alone(shape: str) -> None:
    base = tiny_base(shape)
    _, numbers = add_all(base, shape, KINDS)
    rows = texts(ORDER, LENGTHS)
    adapters = [numbers[kind] for kind in ORDER]
    cache = base.new_cache(len(rows), adapters)
    past = [base.num_virtual_of(adapter) for adapter in adapters]
    steps: list[list[Tensor]] = [[] for _ in rows]
    asked = rows
    # Slots stand in another order in every step, as when requests come and go.
    for order in (range(16), range(15, -1, -1), (3, 1, 2, 0, *range(4, 16))):
        ids, segments = [], []
        for slot in order:
            new = asked[slot]
            stop, adapter = len(ids) + len(new), adapters[slot]
            segments.append(Segment(len(ids), stop, -1, slot, past[slot], adapter))
            ids += new
            past[slot] += len(new)
        layout = Layout(tuple(segments), cache)
        found = logits_by_segment(base, torch.tensor(ids), layout)
        for slot, logits in zip(order, found, strict=True):
            steps[slot].append(logits)
        asked = [[int(logits[-1][-1].argmax())] for logits in steps]
    for kind, text, logits in zip(ORDER, rows, steps, strict=True):
        written = [int(one[-1].argmax()) for one in logits]
        assert_close(torch.cat(logits), alone(shape, kind, text + written[:-1]))


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_families_share_their_beginning_under_their_own_adapter(shape: str) -> None:
    base = tiny_base(shape)
    kinds = ("lora", "prefix", "base", "beside", "prompt")
    _, numbers = add_all(base, shape, ("prompt", "beside", "prefix", "lora"))
    root, answers = ids_of(10, 50), [ids_of(length, 60 + length) for length in (3, 9, 3, 4, 5)]
    ids: list[int] = []
    segments: list[Segment] = []
    for kind in kinds:
        first = len(segments)
        for parent, text in ((-1, root), *((first, answer) for answer in answers)):
            stop = len(ids) + len(text)
            segments.append(Segment(len(ids), stop, parent, adapter=numbers[kind]))
            ids += text
    found = logits_by_segment(base, torch.tensor(ids), Layout(tuple(segments)))
    for index, kind in enumerate(kinds):
        for number, answer in enumerate(answers, start=6 * index + 1):
            assert_close(found[number], alone(shape, kind, root + answer)[len(root) :])


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_adapter_learns_from_its_own_segments(shape: str, recomputed: bool) -> None:
    kinds = ("lora", "after", "prefix", "dora", "prompt", "ia3")
    order = ("prefix", "lora", "base", "after", "dora", "prompt", "lora", "ia3", "prefix")
    rows = texts(order, (9, 6, 8, 5, 11, 7, 10, 4, 12))
    base = tiny_base(shape)
    adapters, numbers = add_all(base, shape, kinds)
    if recomputed:
        recompute_blocks(base, base.num_layers)
    ids, layout = packed(rows, [numbers[kind] for kind in order])
    parameters = {kind: adapters[numbers[kind]].parameters() for kind in kinds}
    everything = [p for named in parameters.values() for p in named.values()]
    hidden = base.hidden(ids, layout)
    probe = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    grads = iter(torch.autograd.grad((hidden * probe).sum(), everything))
    for kind in kinds:
        single = tiny_base(shape)
        adapter = attach_alone(single, shape, kind)
        assert adapter is not None
        total = torch.zeros(())
        for text, own, segment in zip(rows, order, layout.segments, strict=True):
            if own == kind:
                states = single.hidden(torch.tensor(text), Layout.of_lengths([len(text)]))
                total = total + (states * probe[segment.start : segment.stop]).sum()
        wanted = torch.autograd.grad(total, list(adapter.parameters().values()))
        for right in wanted:
            scale = right.abs().max().clamp(min=1e-6)
            torch.testing.assert_close(next(grads) / scale, right / scale, rtol=0, atol=1e-4)
