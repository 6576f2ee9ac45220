"""Layers in the layout of the kernels: the same numbers, the same weights, no second copy."""

import weakref

import pytest
import torch
from torch.nn.functional import linear

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import attach
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.linear import dense, frozen_weight, is_linear, is_transposed, linear_size
from kamerton.models.packed import PackedLinear, _is_supported, pack_linears
from kamerton.models.quantised.layer import linear_paths
from tests.shapes import tiny_base

pytestmark = pytest.mark.skipif(
    not _is_supported(torch.float32), reason="PyTorch was built without oneDNN"
)

DTYPES = [torch.float32, torch.bfloat16] if _is_supported(torch.bfloat16) else [torch.float32]
SHAPES = ["llama", "qwen3", "gemma3", "gpt2"]
KINDS = [
    LoraSettings(rank=4),
    LoraSettings(rank=4, dora=True),
    Ia3Settings(),
    BottleneckSettings(reduction=8),
    PrefixSettings(num_virtual_tokens=3, init="random"),
]


def random(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 3, 16, 70])
def test_a_layer_computes_what_it_computed(dtype: torch.dtype, num_rows: int) -> None:
    layer = torch.nn.Linear(40, 24).to(dtype).requires_grad_(False)
    packed = PackedLinear(layer)
    x = random(1, num_rows, 40).to(dtype)
    with torch.no_grad():
        found = packed(x)
    wanted = linear(x.double(), layer.weight.double(), layer.bias.double())
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)
    assert found.dtype == dtype
    assert torch.equal(packed.weight_for(dtype), layer.weight)
    assert is_linear(packed)
    assert linear_size(packed) == (24, 40)


def test_what_it_has_no_kernel_for_goes_the_usual_way() -> None:
    layer = torch.nn.Linear(40, 24).requires_grad_(False)
    packed = PackedLinear(layer)
    x = random(2, 40).requires_grad_()
    slope = torch.autograd.grad(packed(x).sum(), x)[0]
    torch.testing.assert_close(slope, layer.weight.sum(0).expand(2, 40))
    with torch.no_grad():
        assert packed(x[:0]).shape == (0, 24)


def stirred(base: Base, settings, seed: int):
    adapter = attach(base, settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


@torch.no_grad()
def logits_of_a_mixed_row(base: Base) -> torch.Tensor:
    adapters = AdapterSet(base, fixed=True)
    numbers = [
        adapters.add(lambda kind=kind, seed=seed: stirred(base, kind, seed))
        for seed, kind in enumerate(KINDS)
    ]
    ends = range(7, 7 * (len(KINDS) + 2), 7)
    segments = [
        Segment(end - 7, end, adapter=adapter)
        for end, adapter in zip(ends, [-1, *numbers], strict=True)
    ]
    ids = torch.randint(3, 90, (ends[-1],), generator=torch.Generator().manual_seed(0))
    return base.head.logits(base.hidden(ids, Layout(tuple(segments))))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_base_says_the_same_under_every_adapter(shape: str) -> None:
    wanted = logits_of_a_mixed_row(tiny_base(shape))
    base = tiny_base(shape)
    paths = linear_paths(base.model)
    weights = [dense(frozen_weight(base.model.get_submodule(p)), torch.float32) for p in paths]
    shapes = [is_transposed(base.model.get_submodule(path)) for path in paths]
    assert pack_linears(base) == len(paths) > 0
    assert base.packed_head is not None
    assert base.head.product is not None
    layers = [base.model.get_submodule(path) for path in paths]
    assert all(isinstance(layer, PackedLinear) for layer in layers)
    assert [is_transposed(layer) for layer in layers] == shapes
    for layer, weight in zip(layers, weights, strict=True):
        assert torch.equal(layer.weight_for(torch.float32), weight)
    found = logits_of_a_mixed_row(base)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_weights_as_they_were_are_let_go() -> None:
    base = tiny_base("llama")
    paths = linear_paths(base.model)
    before = [weakref.ref(base.model.get_submodule(path).weight) for path in paths]
    pack_linears(base)
    assert [ref for ref in before if ref() is not None] == []


def test_layers_in_few_bits_stay_and_the_head_is_packed() -> None:
    base = tiny_base("llama", quantise="int8")
    assert pack_linears(base) == 0
    assert base.head.product is not None
