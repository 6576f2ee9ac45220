"""Fused bottlenecks: the formula, what is trained and stored, what is refused."""

import pytest
import torch

from kamerton.adapters.bottleneck.bottleneck import (
    Bottleneck,
    BottleneckSettings,
    attach_bottleneck,
)
from kamerton.adapters.bottleneck.fusion import FusionSettings, attach_fusion
from kamerton.adapters.bottleneck.stack import stacked
from kamerton.adapters.catalogue import attach
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from tests.contract.test_adapters import logits
from tests.shapes import tiny_base

PFEIFFER = BottleneckSettings(reduction=8, activation="gelu")
HOULSBY = BottleneckSettings(placement="houlsby", reduction=8, activation="silu")
BESIDE = BottleneckSettings(placement="parallel", reduction=8, activation="gelu", scale=2.0)


def filled(base: Base, settings: BottleneckSettings, seed: int) -> Bottleneck:
    adapter = attach_bottleneck(base, settings, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters().values():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return adapter


def files_of(settings: BottleneckSettings, seed: int) -> dict[str, bytes]:
    return filled(tiny_base("llama"), settings, seed).files()


def test_it_is_its_formula() -> None:
    base = tiny_base("llama")
    fusion = attach_fusion(base, [files_of(PFEIFFER, 0), files_of(BESIDE, 1)])
    (path, *_) = fusion.sites
    site, mlp = fusion.sites[path], base.model.get_submodule(path)
    torch.nn.init.normal_(site.gate.weight)
    torch.nn.init.normal_(site.gate.bias)
    x = torch.randn(5, 64)
    found = mlp(x)
    with fusion.disabled():
        h = mlp(x)
    one, two = site.layers
    weights = (h @ site.gate.weight.t() + site.gate.bias).softmax(-1)
    wanted = h + weights[:, :1] * one(h) + weights[:, 1:] * 2.0 * two(x)
    torch.testing.assert_close(found, wanted)


def test_two_of_the_same_begin_as_that_one() -> None:
    base, alone = tiny_base("llama"), tiny_base("llama")
    files = files_of(PFEIFFER, 0)
    attach_fusion(base, [files, files])
    filled(alone, PFEIFFER, 0)
    torch.testing.assert_close(logits(base), logits(alone), rtol=1e-4, atol=1e-4)


def test_only_gates_of_shared_places_are_trained() -> None:
    base = tiny_base("llama")
    fusion = attach_fusion(base, [files_of(PFEIFFER, 0), files_of(HOULSBY, 1)])
    # Houlsby stands after attention too, alone there.
    assert len(fusion.sites) == 6
    names = set(fusion.parameters())
    assert names == {f"model.layers.{n}.mlp.gate.{p}" for n in range(3) for p in ("weight", "bias")}
    count = sum(p.numel() for p in fusion.parameters().values())
    assert count == 3 * 2 * (64 + 1)
    learning = [p for site in fusion.sites.values() for p in site.parameters()]
    assert sum(p.numel() for p in learning if p.requires_grad) == count


def test_what_cannot_be_fused_is_said() -> None:
    base = tiny_base("llama")
    start = logits(base)
    one, two = files_of(PFEIFFER, 0), files_of(PFEIFFER, 1)
    with pytest.raises(AdapterError, match="at least two variants"):
        attach(base, FusionSettings(variants=("a", "b")), seed=0, members=[one])
    lora = attach_lora(tiny_base("llama"), LoraSettings(), seed=0).files()
    for other in (lora, stacked([one, two])):
        with pytest.raises(AdapterError, match="only plain bottlenecks"):
            attach_fusion(base, [one, other])
    apart = files_of(BottleneckSettings(layers="0"), 1), files_of(BottleneckSettings(layers="1"), 1)
    with pytest.raises(AdapterError, match="nowhere together"):
        attach_fusion(base, apart)
    with pytest.raises(AdapterError, match="made for"):
        attach_fusion(base, [one, filled(tiny_base("qwen3"), PFEIFFER, 0).files()])
    assert torch.equal(logits(base), start)
