"""Few rows times int8 weights as they are stored: the weights are those of the dense product."""

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.base import Base
from kamerton.models.linear import is_linear
from kamerton.models.load import load_base
from kamerton.models.quantised.codecs import CODECS, pack_int8, unpack_int8
from kamerton.models.quantised.few_rows import int8_product
from kamerton.models.quantised.layer import QuantisedLinear
from kamerton.prompting.prompt import Prompt


def matrix(out: int, inner: int) -> Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(out)) * 0.02


@pytest.mark.parametrize("out", [1, 3, 64, 130])
@pytest.mark.parametrize("inner", [32, 96, 576])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 32])
def test_it_multiplies_by_the_packed_weights(out: int, inner: int, num_rows: int) -> None:
    packed = pack_int8(matrix(out, inner))
    x = matrix(inner, num_rows).t().bfloat16() * 50
    found = int8_product(x, packed)
    assert found is not None
    assert (found.dtype, found.shape) == (torch.bfloat16, (num_rows, out))
    exact = x.double() @ unpack_int8(packed, (out, inner), torch.float32).double().t()
    # Nothing is rounded but the result: half a unit in the last of 8 digits.
    assert ((found - exact).abs() <= exact.abs() * 2**-8 + exact.abs().max() * 1e-6).all()


def test_other_products_are_left_to_the_dense_weight() -> None:
    packed, odd = pack_int8(matrix(8, 64)), pack_int8(matrix(8, 48))
    assert int8_product(torch.ones(1, 64), packed) is None
    assert int8_product(torch.ones(33, 64).bfloat16(), packed) is None
    assert int8_product(torch.ones(0, 64).bfloat16(), packed) is None
    # The kernel would read past the end of the rows.
    assert int8_product(torch.ones(1, 48).bfloat16(), odd) is None


def test_a_layer_takes_it_where_nothing_learns(monkeypatch) -> None:
    taken: list[torch.Size] = []

    def watched(x, packed):
        taken.append(x.shape)
        return int8_product(x, packed)

    codec = CODECS["int8"].__class__(pack_int8, unpack_int8, watched)
    bias = torch.nn.Parameter(torch.arange(8).bfloat16(), requires_grad=False)
    layer = QuantisedLinear(codec, pack_int8(matrix(8, 64)), (8, 64), bias, False)
    x = matrix(64, 6).t().bfloat16().view(1, 2, 3, 64) * 50
    learning = layer(x)
    assert taken == []
    with torch.no_grad():
        found = layer(x)
    assert taken == [x.shape]
    assert found.shape == learning.shape == (1, 2, 3, 8)
    torch.testing.assert_close(found, learning, rtol=2e-2, atol=2e-2)


@pytest.fixture(scope="module", params=["int8", "nf4"])
def base(request) -> Base:
    # In fp32 a request's numbers do not depend on who else is in the row.
    return load_base("builtin:nano", dtype="float32", quantise=request.param)


def stirred(base: Base, settings, seed: int):
    adapter = attach(base, settings, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def answers(engine: ContinuousEngine, requests: list[AnswerRequest]) -> dict[str, list]:
    found: dict[str, list] = {request.id: [] for request in requests}
    for request in requests:
        assert not engine.add(request)
    while not engine.is_idle:
        for update in engine.step():
            assert not update.error, update.error
            found[update.id].append((update.text, update.logprobs))
    return found


def test_variants_of_a_quantised_base_answer_as_alone(base: Base) -> None:
    kinds = {
        "base": None,
        "lora": LoraSettings(rank=4),
        "wide": LoraSettings(rank=8, dora=True),
        "prefix": PrefixSettings(num_virtual_tokens=4, init="random"),
    }
    adapters = AdapterSet(base, fixed=True)
    renderer = make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)
    variants = [
        LoadedVariant(
            ServedModel(name, "", name, base.identity.id),
            renderer,
            Prompt(),
            -1 if kind is None else adapters.add(lambda k=kind, s=seed: stirred(base, k, s)),
        )
        for seed, (name, kind) in enumerate(kinds.items())
    ]
    assert any(isinstance(m, QuantisedLinear) for m in base.model.modules() if is_linear(m))
    how, chat = Generation(max_tokens=8), [{"role": "user", "content": "Where is my order?"}]
    requests = [
        AnswerRequest(f"{name} {n}", name, how, chat * (n + 1), num_top_logprobs=0)
        for name in kinds
        for n in range(2)
    ]
    together = answers(ContinuousEngine(base, variants), requests)
    alone: dict[str, list] = {}
    for request in requests:
        alone |= answers(ContinuousEngine(base, variants, beginnings_mib=0), [request])
    first = {together[f"{name} 0"][0][1][0].logprob for name in kinds}
    assert len(first) == len(kinds), "every variant says something else"
    for name, updates in together.items():
        assert [text for text, _ in updates] == [text for text, _ in alone[name]]
        for (_, some), (_, others) in zip(updates, alone[name], strict=True):
            for one, other in zip(some, others, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
