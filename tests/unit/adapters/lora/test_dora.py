"""DoRA: the formula, the gradient with a constant norm, the count of parameters, merging."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.adapters.lora.dora import row_norms, row_squares
from kamerton.adapters.lora.layer import LoraLinear
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from tests.shapes import CONFIGS, tiny_base
from tests.unit.adapters.lora.test_lora import perturb, states


def layer(bias: bool, scaling: float = 1.5) -> LoraLinear:
    torch.manual_seed(0)
    made = LoraLinear(nn.Linear(5, 4, bias=bias).requires_grad_(False), 2, scaling, 0.0, True)
    for parameter in (made.a, made.b, made.magnitude):
        nn.init.normal_(parameter)
    return made


def reference(made: LoraLinear, x: Tensor, norms: Tensor | None = None) -> Tensor:
    """Equation 5 by ordinary operations; the norm is a constant where it is given."""
    weight = made.layer.weight + made.scaling * made.b @ made.a
    norms = weight.norm(dim=1) if norms is None else norms
    return linear(x, weight * (made.magnitude / norms)[:, None], made.layer.bias)


def norms_of(made: LoraLinear) -> Tensor:
    return (made.layer.weight + made.scaling * made.b @ made.a).norm(dim=1).detach()


def test_the_norm_is_that_of_the_whole_row() -> None:
    made = layer(bias=False)
    squares = row_squares(made.layer.weight)
    found = row_norms(made.layer.weight, squares, made.a, made.b, made.scaling, torch.float32)
    torch.testing.assert_close(found, norms_of(made))
    assert not found.requires_grad
    nothing = row_norms(torch.zeros(4, 5), torch.zeros(4), made.a, made.b * 0, 1.0, torch.float32)
    assert (nothing > 0).all()


@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_has_exact_gradients(bias: bool) -> None:
    """The gradient is that of equation 5 with its norm held constant (section 4.3)."""
    made = layer(bias)
    x = torch.randn(7, 5, requires_grad=True)
    learning = [x, made.a, made.b, made.magnitude]
    torch.testing.assert_close(made(x), reference(made, x))
    ours = torch.autograd.grad(made(x).sin().sum(), learning)
    held = torch.autograd.grad(reference(made, x, norms_of(made)).sin().sum(), learning)
    for mine, theirs in zip(ours, held, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    free = torch.autograd.grad(reference(made, x).sin().sum(), learning)
    assert not torch.allclose(free[1], ours[1], atol=1e-2)
    torch.testing.assert_close(free[3], ours[3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_gradients_equal_finite_differences_with_the_norm_held(number: int) -> None:
    made = layer(bias=True)
    x = torch.randn(7, 5)
    parameter = (made.a, made.b, made.magnitude)[number]
    (grad,) = torch.autograd.grad(made(x).sin().sum(), parameter)
    norms, kept = norms_of(made).double(), parameter.detach().clone()
    made.double()
    losses = []
    for sign in (1, -1):
        parameter.data = kept.double() + sign * 1e-5 * grad.double()
        losses.append(float(reference(made, x.double(), norms).sin().sum().detach()))
    slope = (losses[0] - losses[1]) / 2e-5
    assert slope == pytest.approx(float(grad.square().sum()), rel=1e-4)


@pytest.mark.parametrize("shape", CONFIGS)
def test_attach_merge_unmerge_detach(shape: str) -> None:
    base = tiny_base(shape)
    start = states(base)
    lora = attach_lora(base, LoraSettings(rank=4, dora=True), seed=0)
    assert torch.equal(states(base), start)
    perturb(lora)
    adapted = states(base)
    assert not torch.allclose(adapted, start, atol=1e-2)
    lora.merge()
    torch.testing.assert_close(states(base), adapted, rtol=1e-3, atol=1e-3)
    lora.unmerge()
    assert torch.equal(states(base), adapted)
    lora.detach()
    assert torch.equal(states(base), start)


def test_a_row_of_zeros_stays_one() -> None:
    base = tiny_base("llama")
    with torch.no_grad():
        base.model.get_submodule("model.layers.0.self_attn.q_proj").weight[2] = 0
    lora = attach_lora(base, LoraSettings(rank=4, dora=True), seed=0)
    for made in lora.layers.values():
        torch.nn.init.constant_(made.magnitude, 1.5)
    apart = states(base)
    assert torch.isfinite(apart).all()
    lora.merge()
    torch.testing.assert_close(states(base), apart, rtol=1e-4, atol=1e-4)


def test_parameter_count_equals_the_formula() -> None:
    settings = LoraSettings(rank=3, dora=True, targets=("q_proj", "down_proj"))
    lora = attach_lora(tiny_base("llama"), settings, seed=0)
    count = sum(p.numel() for p in lora.parameters().values())
    # r (in + out) for A and B, and a length for each output.
    assert count == 3 * (3 * ((64 + 64) + (96 + 64)) + (64 + 64))
