"""Bottlenecks: where they stand, what they compute, how many numbers they are."""

import pytest
import torch
from torch import Tensor, nn

from kamerton.adapters.bottleneck.bottleneck import (
    Bottleneck,
    BottleneckSettings,
    attach_bottleneck,
    load_bottleneck,
)
from kamerton.adapters.bottleneck.layer import BottleneckLayer
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import CONFIGS, tiny_base

LAYOUT = Layout.of_lengths([13, 20])
PLACEMENTS = ("houlsby", "pfeiffer", "parallel")


@torch.no_grad()
def streams(base: Base, module: nn.Module) -> tuple[Tensor, Tensor]:
    """What goes into and what comes out of a module, [T, E] each."""
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        seen.append((args[0] if args else kwargs["hidden_states"], first))

    handle = module.register_forward_hook(keep, with_kwargs=True)
    base.hidden(random_ids(33), LAYOUT)
    handle.remove()
    ((into, out),) = seen
    return into.flatten(0, -2), out.flatten(0, -2)


def filled(adapter: Bottleneck, std: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(4)
    for parameter in adapter.parameters().values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * std)


def formula(adapter: Bottleneck, path: str, x: Tensor) -> Tensor:
    """U act(D x + c) + u, from the stored tensors."""
    values = {n.removeprefix(f"{path}."): p.detach() for n, p in adapter.parameters().items()}
    act = {"relu": torch.relu, "gelu": nn.GELU(), "silu": nn.SiLU()}[adapter.settings.activation]
    low = act(x @ values["down.weight"].t() + values["down.bias"])
    return low @ values["up.weight"].t() + values["up.bias"]


def sums(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules that read the residual stream after attention and that end in it."""
    for name in ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2"):
        if hasattr(block, name):
            return block.get_submodule(name), block
    raise AssertionError(type(block).__name__)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("shape", list(CONFIGS))
def test_what_is_added_to_the_stream_is_the_published_formula(shape: str, activation: str) -> None:
    """In the first block, where only one site at a time lies before what is measured."""
    base = tiny_base(shape)
    block = decoder_blocks(base.model)[0]
    middle, end = sums(block)
    before_middle, before_end = streams(base, middle)[0], streams(base, end)[1]
    settings = BottleneckSettings(placement="houlsby", activation=activation, layers="0", scale=1.5)
    adapter = attach_bottleneck(base, settings, seed=0)
    filled(adapter)
    attention, feed_forward = adapter.layers
    # After attention: the stream that the feed-forward's norm reads has moved by the formula.
    with adapter.disabled():
        h = streams(base, base.model.get_submodule(attention))[1]
    moved = streams(base, middle)[0] - before_middle
    wanted = 1.5 * formula(adapter, attention, h)
    torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-4)
    # After the feed-forward: what the block gives out has moved by the formula.
    with adapter.disabled():
        h = streams(base, base.model.get_submodule(feed_forward))[1]
    adapter.layers[attention].enabled = False
    moved = streams(base, end)[1] - before_end
    wanted = 1.5 * formula(adapter, feed_forward, h)
    assert wanted.abs().max() > 0.05
    torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", list(CONFIGS))
def test_parallel_reads_what_the_feed_forward_reads(shape: str) -> None:
    base = tiny_base(shape)
    block = decoder_blocks(base.model)[0]
    adapter = attach_bottleneck(base, BottleneckSettings(placement="parallel", layers="0"), seed=0)
    filled(adapter)
    (path,) = adapter.layers
    assert base.model.get_submodule(path) is block.mlp
    with adapter.disabled():
        x, before = streams(base, block.mlp)
    handle_sees = streams(base, block.mlp)[1] - before
    # The factor of the paper, 4, unless another is set.
    wanted = 4.0 * formula(adapter, path, x)
    torch.testing.assert_close(handle_sees, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("shape", list(CONFIGS))
@pytest.mark.parametrize("reduction", [16, 5, 0.5, 1000])
def test_the_number_of_parameters_is_the_closed_formula(
    placement: str, shape: str, reduction: float
) -> None:
    base = tiny_base(shape)
    settings = BottleneckSettings(placement=placement, reduction=reduction, layers="0-1")
    adapter = attach_bottleneck(base, settings, seed=0)
    sites, wide = 2 * (2 if placement == "houlsby" else 1), 64
    narrow = {16: 4, 5: 12, 0.5: 128, 1000: 1}[reduction]
    count = sum(p.numel() for p in adapter.parameters().values())
    assert count == sites * (2 * wide * narrow + narrow + wide)


def test_modules_by_name() -> None:
    base = tiny_base("llama")
    settings = BottleneckSettings(modules=("self_attn.o_proj", "mlp"), layers="1")
    adapter = attach_bottleneck(base, settings, seed=0)
    assert list(adapter.layers) == ["model.layers.1.self_attn.o_proj", "model.layers.1.mlp"]
    adapter.detach()
    beside = BottleneckSettings(modules=("k_proj",), placement="parallel", reduction=8)
    adapter = attach_bottleneck(base, beside, seed=0)
    filled(adapter)
    # Beside a linear layer of another width: reads 64, writes 32.
    assert adapter.parameters()["model.layers.0.self_attn.k_proj.up.weight"].shape == (32, 8)
    base.hidden(random_ids(33), LAYOUT)
    with pytest.raises(AdapterError, match=r"q_norm must be a linear layer, or as wide"):
        attach_bottleneck(tiny_base("qwen3"), BottleneckSettings(modules=("q_norm",)), seed=0)
    with pytest.raises(AdapterError, match="did you mean 'mlp'"):
        attach_bottleneck(base, BottleneckSettings(modules=("mpl",)), seed=0)
    with pytest.raises(AdapterError, match="blocks within 0-2"):
        attach_bottleneck(base, BottleneckSettings(layers="3"), seed=0)


def test_a_block_of_unusual_parts_asks_for_names() -> None:
    base = tiny_base("llama")
    for block in decoder_blocks(base.model):
        block.strange = block.mlp
        del block.mlp
    with pytest.raises(AdapterError, match="feed-forward of LlamaDecoderLayer") as caught:
        attach_bottleneck(base, BottleneckSettings(), seed=0)
    assert "adapter.modules" in str(caught.value.hint)
    assert len(attach_bottleneck(base, BottleneckSettings(modules=("strange",)), 0).layers) == 3


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_the_layer_has_exact_gradients(activation: str, beside: bool) -> None:
    torch.manual_seed(0)
    layer = BottleneckLayer(
        (5, 7 if beside else 5), 3, activation, 4.0, beside=beside, device=torch.device("cpu")
    ).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)
    y = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    module = nn.Identity()

    def changed(x: Tensor, y: Tensor, *_: Tensor) -> Tensor:
        return layer.hook(module, (x,), {}, (y, None))[0]

    assert torch.autograd.gradcheck(changed, (x, y, *layer.parameters()))


def test_every_layer_starts_with_its_own_values() -> None:
    adapter = attach_bottleneck(tiny_base("llama"), BottleneckSettings(), seed=0)
    one, two = (adapter.parameters()[f"model.layers.{n}.mlp.down.weight"] for n in (0, 1))
    assert not torch.equal(one, two)
    assert float(one.detach().abs().max()) <= 64**-0.5


def test_merging_is_refused_and_the_model_keeps_its_names() -> None:
    base = tiny_base("llama")
    names = set(base.model.state_dict())
    adapter = attach_bottleneck(base, BottleneckSettings(placement="houlsby"), seed=0)
    assert set(base.model.state_dict()) == names
    with pytest.raises(AdapterError, match="cannot be merged"):
        adapter.merge()


def test_settings_that_mean_nothing_are_refused() -> None:
    for values in ({"reduction": 0}, {"scale": -1}, {"placement": "x"}, {"layers": "x"}):
        with pytest.raises(SettingsError):
            BottleneckSettings.parse(values)


def test_places_of_another_base_are_refused() -> None:
    files = attach_bottleneck(tiny_base("qwen3"), BottleneckSettings(), seed=0).files()
    with pytest.raises(AdapterError, match="made for Qwen3ForCausalLM"):
        load_bottleneck(tiny_base("llama"), files)
    files["bottleneck.json"] = files["bottleneck.json"].replace(b'layers.2.mlp"', b'layers.3.mlp"')
    with pytest.raises(AdapterError, match=r"1 of 3 modules .* 'model.layers.3.mlp'"):
        load_bottleneck(tiny_base("qwen3"), files)
