"""Llama's blocks called one after another: the same numbers as through Transformers' layers."""

import pytest
import torch

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import attach
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.llama_steps import LlamaSteps, llama_steps
from tests.shapes import tiny_base

KINDS = [
    LoraSettings(rank=4),
    LoraSettings(rank=4, dora=True),
    Ia3Settings(),
    BottleneckSettings(reduction=8),
    PrefixSettings(num_virtual_tokens=3, init="random"),
]


def with_adapters(base: Base) -> list[int]:
    adapters = AdapterSet(base, fixed=True)

    def stirred(settings, seed: int):
        adapter = attach(base, settings, seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapter.parameters().values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        return adapter

    return [
        -1,
        *(adapters.add(lambda k=kind, s=seed: stirred(k, s)) for seed, kind in enumerate(KINDS)),
    ]


@torch.no_grad()
def written(base: Base, numbers: list[int]) -> list[torch.Tensor]:
    """Hidden states of a prompt of each adapter, then of five single tokens of each."""
    cache = base.new_cache(len(numbers), numbers)
    random = torch.Generator().manual_seed(0)
    past = [base.num_virtual_of(adapter) for adapter in numbers]
    found, lengths = [], [4 + slot for slot in range(len(numbers))]
    for _ in range(6):
        segments, at = [], 0
        for slot, (adapter, length) in enumerate(zip(numbers, lengths, strict=True)):
            segments.append(Segment(at, at + length, slot=slot, past=past[slot], adapter=adapter))
            at, past[slot] = at + length, past[slot] + length
        ids = torch.randint(3, 90, (at,), generator=random)
        found.append(base.hidden(ids, Layout(tuple(segments), cache)))
        lengths = [1] * len(numbers)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_computes_what_the_layers_compute(dtype: torch.dtype, monkeypatch) -> None:
    base = tiny_base("llama")
    base.model.to(dtype)
    numbers = with_adapters(base)
    wanted = written(base, numbers)
    base.steps = llama_steps(base.backbone)
    taken: list[int] = []
    original = LlamaSteps.hidden
    monkeypatch.setattr(
        LlamaSteps, "hidden", lambda *given: taken.append(len(given[1])) or original(*given)
    )
    found = written(base, numbers)
    assert taken == [len(numbers)] * 5
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-6}[dtype]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_rows_that_it_leaves_to_the_model() -> None:
    base = tiny_base("llama")
    steps = llama_steps(base.backbone)
    assert steps is not None
    cache = base.new_cache(2)
    single = Layout((Segment(0, 1, slot=0), Segment(1, 2, slot=1)), cache)
    assert not steps.takes(single), "something may learn"
    with torch.no_grad():
        assert steps.takes(single)
        assert not steps.takes(Layout((Segment(0, 2, slot=0),), cache))
        assert not steps.takes(Layout((Segment(0, 1),)))
        assert not steps.takes(Layout((Segment(0, 1, slot=0),), cache, record={}))
        attention = base.backbone.layers[1].self_attn
        handle = attention.register_forward_hook(lambda *_: None)
        assert not steps.takes(single)
        handle.remove()
        assert steps.takes(single)


@pytest.mark.parametrize("shape", ["qwen3", "gemma3", "mistral", "gpt2"])
def test_other_models_are_not_known(shape: str) -> None:
    assert llama_steps(tiny_base(shape).backbone) is None
