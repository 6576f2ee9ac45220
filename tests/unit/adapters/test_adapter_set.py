"""Sets of adapters: coming, going, what is refused, and the base as it was."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings, attach_bottleneck
from kamerton.adapters.bottleneck.fusion import attach_fusion
from kamerton.adapters.bottleneck.stack import load_bottlenecks, stacked
from kamerton.adapters.catalogue import attach
from kamerton.adapters.full import FullSettings
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.with_score_head import with_head
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from tests.shapes import tiny_base

KINDS: dict[str, Any] = {
    "lora": LoraSettings(rank=4, targets=("all-linear", "embeddings", "head")),
    "dora": LoraSettings(rank=2, dora=True),
    "tokens": LoraSettings(rank=2, new_tokens=("w7",)),
    "ia3": Ia3Settings(),
    "prefix": PrefixSettings(num_virtual_tokens=3, init="random"),
    "bottleneck": BottleneckSettings(reduction=8),
}
IDS = torch.tensor([5, 9, 7, 80, 3, 44])


def stir(adapter: Adapter, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def make(base: Base, kind: str) -> Adapter:
    return stir(attach(base, KINDS[kind], seed=1))


@torch.no_grad()
def hidden(base: Base, *adapters: int) -> Tensor:
    """States of the same text under each adapter, [n, 6, E]."""
    count = len(IDS)
    segments = [Segment(n * count, (n + 1) * count, adapter=a) for n, a in enumerate(adapters)]
    return base.hidden(IDS.repeat(len(adapters)), Layout(tuple(segments))).unflatten(0, (-1, count))


def filled(kinds: dict[str, Any] = KINDS) -> tuple[Base, AdapterSet, list[int]]:
    base = tiny_base("llama")
    adapters = AdapterSet(base)
    return base, adapters, [adapters.add(partial(make, base, kind)) for kind in kinds]


def modules_and_hooks(base: Base) -> list[tuple[str, int, int]]:
    return [(n, id(m), len(m._forward_hooks)) for n, m in base.model.named_modules()]


def test_after_all_are_removed_the_base_is_as_it_was() -> None:
    base = tiny_base("llama")
    modules, start = modules_and_hooks(base), hidden(base, -1, -1)
    state = {name: value.clone() for name, value in base.model.state_dict().items()}
    adapters = AdapterSet(base)
    numbers = [adapters.add(partial(make, base, kind)) for kind in KINDS]
    assert not torch.equal(hidden(base, numbers[0], -1), start)
    for number in numbers[1:] + numbers[:1]:
        adapters.remove(number)
    assert modules_and_hooks(base) == modules
    found = base.model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert torch.equal(hidden(base, -1, -1), start)
    assert base.segment_adapters == {}


def test_the_base_has_no_other_tensors_meanwhile() -> None:
    base, _, _ = filled()
    names = {name.replace(".layer.", ".") for name in base.model.state_dict()}
    assert names == set(tiny_base("llama").model.state_dict())


def test_a_row_without_adapters_is_the_base_to_the_bit() -> None:
    base, _, _ = filled()
    assert torch.equal(hidden(base, -1, -1), hidden(tiny_base("llama"), -1, -1))


def test_the_others_stay_as_they_were_when_one_comes_or_goes() -> None:
    base, adapters, numbers = filled()
    others = [*numbers[:2], *numbers[3:], -1]
    before = hidden(base, *others)
    adapters.remove(numbers[2])
    assert torch.equal(hidden(base, *others), before)
    again = adapters.add(partial(make, base, "dora"))
    assert again not in numbers
    assert torch.equal(hidden(base, *others), before)
    assert torch.equal(hidden(base, again), hidden(base, numbers[1]))


def test_a_row_for_a_removed_or_unknown_adapter_is_an_error() -> None:
    base, adapters, numbers = filled()
    adapters.remove(numbers[0])
    with pytest.raises(AssertionError, match=r"adapters that the base has not: \[0\]"):
        hidden(base, numbers[0], -1)
    with pytest.raises(KeyError):
        adapters.remove(numbers[0])
    with pytest.raises(AssertionError, match=r"\[99\]"):
        hidden(base, 99)


def test_what_cannot_share_a_row_is_refused_and_leaves_the_others() -> None:
    base, adapters, numbers = filled()
    before = hidden(base, *numbers, -1)
    with pytest.raises(AdapterError, match="cannot share a row"):
        adapters.add(lambda: stir(attach(base, FullSettings(), seed=0)))
    with pytest.raises(AdapterError, match="matches no linear layer"):
        adapters.add(lambda: attach(base, LoraSettings(targets=("nothing",)), seed=0))
    assert torch.equal(hidden(base, *numbers, -1), before)


def test_padded_rows_are_refused() -> None:
    with pytest.raises(AdapterError, match="packed rows only"):
        AdapterSet(replace(tiny_base("llama"), ragged=False))


def test_a_copy_of_the_base_knows_its_adapters() -> None:
    base, _, numbers = filled()
    assert torch.equal(hidden(replace(base, notice="other"), *numbers), hidden(base, *numbers))


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_those_of_the_adapter_alone(kind: str) -> None:
    _, adapters, numbers = filled()
    number = numbers[list(KINDS).index(kind)]
    assert adapters.files(number) == make(tiny_base("llama"), kind).files()


def test_stacked_and_fused_bottlenecks_share_rows() -> None:
    made = []
    for seed in (1, 2):
        base = tiny_base("llama")
        made.append(stir(attach_bottleneck(base, BottleneckSettings(), seed), seed).files())
    loaders = {
        "stack": lambda base: load_bottlenecks(base, stacked(made)),
        "fusion": lambda base: stir(attach_fusion(base, made)),
    }
    base = tiny_base("llama")
    adapters = AdapterSet(base)
    numbers = [adapters.add(partial(loader, base)) for loader in loaders.values()]
    found = hidden(base, *numbers, -1)
    for states, loader in zip(found, loaders.values(), strict=False):
        single = tiny_base("llama")
        loader(single)
        torch.testing.assert_close(states, hidden(single, -1)[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[-1], hidden(tiny_base("llama"), -1)[0], rtol=1e-5, atol=1e-5)


def test_quantised_layers_are_shared_too() -> None:
    base, single = (tiny_base("llama", quantise="nf4") for _ in range(2))
    adapters = AdapterSet(base)
    number = adapters.add(partial(make, base, "dora"))
    found = hidden(base, -1, number)
    torch.testing.assert_close(found[0], hidden(single, -1)[0], rtol=1e-5, atol=1e-5)
    make(single, "dora")
    torch.testing.assert_close(found[1], hidden(single, -1)[0], rtol=1e-5, atol=1e-5)


def test_a_score_head_stays_with_its_adapter() -> None:
    base = tiny_base("llama")
    adapters = AdapterSet(base)
    judge = adapters.add(lambda: stir(with_head(base, make(base, "ia3"), num_scores=1, seed=0)))
    assert base.score_head is None
    single = tiny_base("llama")
    alone = stir(with_head(single, make(single, "ia3"), num_scores=1, seed=0))
    found: Any = adapters[judge]
    scores = found.head.scores(hidden(base, -1, judge)[1])
    wanted = alone.head.scores(hidden(single, -1)[0])
    torch.testing.assert_close(scores, wanted, rtol=1e-5, atol=1e-5)


def test_dropout_of_one_adapter_leaves_the_others() -> None:
    base = tiny_base("llama")
    adapters = AdapterSet(base)
    settings = LoraSettings(rank=4, dropout=0.5)
    numbers = [adapters.add(lambda: stir(attach_lora(base, settings, seed=1))) for _ in range(2)]
    before = hidden(base, *numbers, -1)
    adapters[numbers[0]].train(True)
    after = hidden(base, *numbers, -1)
    assert not torch.allclose(after[0], before[0], atol=1e-3)
    assert torch.equal(after[1:], before[1:])


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "bottleneck"])
def test_bf16_rounds_as_alone(kind: str) -> None:
    base, single = (tiny_base("llama", dtype=torch.bfloat16) for _ in range(2))
    adapters = AdapterSet(base)
    numbers = [adapters.add(partial(make, base, kind)) for kind in KINDS]
    found = hidden(base, *numbers, -1)[list(KINDS).index(kind)].float()
    make(single, kind)
    wanted = hidden(single, -1)[0].float()
    assert (found - wanted).abs().mean() < 0.005 * wanted.abs().mean()
