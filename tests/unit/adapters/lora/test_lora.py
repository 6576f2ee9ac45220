"""LoRA: identity at start, gradients, merge, detach, targets."""

import json

import pytest
import torch
from safetensors.torch import load, save
from torch.nn.functional import linear

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.layer import LoraFunction, LoraLinear
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.models.attention.layout import Layout
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import CONFIGS, tiny_base


def states(base):
    ids = random_ids(24)
    with torch.no_grad():
        return base.hidden(ids, Layout.of_lengths([24]))


def weights(base):
    return {name: p.clone() for name, p in base.model.named_parameters()}


def perturb(lora, std: float = 0.2) -> None:
    torch.manual_seed(5)
    for parameter in lora.parameters().values():
        torch.nn.init.normal_(parameter, std=std)


def test_the_layer_has_exact_gradients() -> None:
    torch.manual_seed(0)
    x, a, b = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((7, 5), (2, 5), (4, 2))
    )
    weight, bias = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    keep = (torch.rand(7, 5) > 0.3).double() / 0.7

    def layer(x, a, b):
        return LoraFunction.apply(x, a, b, weight, bias, 1.5, keep)

    expected = linear(x, weight, bias) + 1.5 * ((x * keep) @ a.t()) @ b.t()
    torch.testing.assert_close(layer(x, a, b), expected)
    ours = torch.autograd.grad(layer(x, a, b).sin().sum(), (x, a, b))
    theirs = torch.autograd.grad(expected.sin().sum(), (x, a, b))
    for mine, reference in zip(ours, theirs, strict=True):
        # A and B get their gradient in fp32, where their master weights live.
        torch.testing.assert_close(mine.double(), reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", CONFIGS)
def test_attach_merge_unmerge_detach(shape: str) -> None:
    base = tiny_base(shape)
    before, start = weights(base), states(base)
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    assert torch.equal(states(base), start)
    perturb(lora)
    adapted = states(base)
    assert not torch.allclose(adapted, start, atol=1e-2)
    lora.merge()
    torch.testing.assert_close(states(base), adapted, rtol=1e-3, atol=1e-3)
    lora.unmerge()
    assert torch.equal(states(base), adapted)
    with lora.disabled():
        assert torch.equal(states(base), start)
    lora.merge()
    lora.detach()
    after = weights(base)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bf16_merges_in_bf16() -> None:
    base = tiny_base("llama", dtype=torch.bfloat16)
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    perturb(lora, std=0.05)
    assert all(p.dtype == torch.float32 for p in lora.parameters().values())
    adapted = states(base)
    lora.merge()
    assert base.model.model.layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16
    torch.testing.assert_close(states(base), adapted, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LoraSettings(rank=2), 3 * 7),
        (LoraSettings(rank=2, targets=("q_proj", "v_proj")), 3 * 2),
        (LoraSettings(rank=2, targets=("self_attn.q_proj",), layers="1-2"), 2),
        (LoraSettings(rank=2, targets=("all-linear", "q_proj"), layers="0"), 7),
    ],
)
def test_targets(settings: LoraSettings, expected: int) -> None:
    lora = attach_lora(tiny_base("llama"), settings, seed=0)
    assert len(lora.parameters()) == 2 * expected


def test_parameter_count_equals_the_formula() -> None:
    lora = attach_lora(tiny_base("llama"), LoraSettings(rank=3, targets=("q_proj", "down_proj")), 0)
    count = sum(p.numel() for p in lora.parameters().values())
    assert count == 3 * 3 * ((64 + 64) + (96 + 64))


def test_each_layer_draws_its_own_values() -> None:
    one = attach_lora(tiny_base("llama"), LoraSettings(rank=2, targets=("q_proj",)), seed=0)
    two = attach_lora(tiny_base("llama"), LoraSettings(rank=2), seed=0)
    for name, parameter in one.parameters().items():
        assert torch.equal(parameter, two.parameters()[name])
    first, second = list(one.parameters().values())[0:4:2]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("target", ["q_prj", "norm", "lm_heads"])
def test_an_unmatched_target_is_an_error(target: str) -> None:
    with pytest.raises(AdapterError, match="matches no linear layer"):
        attach_lora(tiny_base("llama"), LoraSettings(targets=("q_proj", target)), seed=0)


def test_layers_outside_the_model_are_an_error() -> None:
    for layers in ("1-3", "0-9999999999999"):
        with pytest.raises(AdapterError, match="0-2"):
            attach_lora(tiny_base("llama"), LoraSettings(layers=layers), seed=0)


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(SettingsError) as caught:
        LoraSettings.parse({"rank": 0, "dropot": 0.1, "layers": "first"}, source="r.toml")
    assert len(caught.value.problems) == 3
    assert "did you mean 'dropout'" in str(caught.value)
    for layers in ("5-2", "0-", "²"):
        with pytest.raises(SettingsError) as caught:
            LoraSettings.parse({"rank": 0, "layers": layers}, source="r.toml")
        assert len(caught.value.problems) == 2


def test_dropout_acts_only_while_training() -> None:
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4, dropout=0.5), seed=0)
    perturb(lora)
    steady = states(base)
    assert torch.equal(states(base), steady)
    lora.train(True)
    assert not torch.equal(states(base), steady)
    lora.train(False)
    assert torch.equal(states(base), steady)


def test_dropout_goes_over_padded_rows_too() -> None:
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4, dropout=0.5), seed=0)
    perturb(lora)
    base.ragged = False
    layout = Layout.of_lengths([5, 9])
    steady = base.hidden(random_ids(layout.num_tokens), layout)
    lora.train(True)
    dropped = base.hidden(random_ids(layout.num_tokens), layout)
    assert dropped.shape == steady.shape
    assert not torch.allclose(dropped, steady)
    dropped.sum().backward()
    assert all(p.grad is not None for p in lora.parameters().values())


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_an_error_while_attaching_leaves_the_base_as_it_was(error, monkeypatch) -> None:
    base = tiny_base("llama")
    before = states(base)

    def fails(*given):
        raise error

    monkeypatch.setattr("kamerton.adapters.lora.lora.principal", fails)
    with pytest.raises(type(error)):
        attach_lora(base, LoraSettings(rank=4, init="pissa"), seed=0)
    assert torch.equal(states(base), before)
    assert not any(isinstance(module, LoraLinear) for module in base.model.modules())


def test_a_file_that_lacks_a_module_is_refused() -> None:
    base = tiny_base("llama")
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    files = lora.files()
    lora.detach()
    name = "adapter_model.safetensors"
    tensors = {n: t for n, t in load(files[name]).items() if ".layers.1." not in n}
    with pytest.raises(AdapterError, match=r"target_modules name model.layers.1\."):
        load_lora(base, {**files, name: save(tensors)})
    some = attach_lora(base, LoraSettings(rank=4, layers="0"), seed=0).files()
    load_lora(tiny_base("llama"), some)


@pytest.mark.parametrize("key", ["layer_replication", "arrow_config", "use_qalora"])
def test_what_is_not_known_of_a_file_is_refused(key: str) -> None:
    files = attach_lora(tiny_base("llama"), LoraSettings(rank=4), seed=0).files()
    config = json.loads(files["adapter_config.json"]) | {key: [[0, 1]]}
    with pytest.raises(AdapterError, match=f"uses {key}"):
        load_lora(tiny_base("llama"), {**files, "adapter_config.json": json.dumps(config).encode()})


def test_two_adapters_on_one_layer_are_refused() -> None:
    base = tiny_base("llama")
    attach_lora(base, LoraSettings(targets=("q_proj",)), seed=0)
    with pytest.raises(AdapterError):
        attach_lora(base, LoraSettings(targets=("q_proj",)), seed=0)
    assert isinstance(base.model.model.layers[0].self_attn.q_proj, LoraLinear)
