"""Blockwise norms and feed-forwards compute what Transformers' own modules compute."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from kamerton.models.fused import fuse_blocks, original_modules, use_original_modules

CONFIG = LlamaConfig(hidden_size=24, intermediate_size=40, num_attention_heads=4)


class Block(nn.Module):
    """Holds a module the way a model does."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part


def norm(kind: type[nn.Module]) -> nn.Module:
    module = kind(24, eps=1e-5)
    nn.init.normal_(module.weight, std=0.3)
    return module


CASES = {
    "llama norm": lambda: norm(LlamaRMSNorm),
    "gemma norm": lambda: norm(Gemma3RMSNorm),
    "gated": lambda: LlamaMLP(CONFIG),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 24), (1, 7000, 24), (1, 5, 3, 24)])
def test_values_and_gradients_equal_the_originals(name, dtype, shape) -> None:
    torch.manual_seed(0)
    original = CASES[name]().to(dtype)
    block = Block(copy.deepcopy(original))
    assert fuse_blocks(block) == 1
    assert type(block.part) is not type(original)
    assert block.part.state_dict().keys() == original.state_dict().keys()
    x = torch.randn(shape, dtype=dtype)
    upstream = torch.randn(shape, dtype=dtype)
    results = []
    for module in (original, block.part):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        inputs = [leaf, *module.parameters()]
        results.append([y, *torch.autograd.grad(y, inputs, upstream)])
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else None
    for wanted, found in zip(*results, strict=True):
        assert found.dtype == wanted.dtype
        if tolerance:
            torch.testing.assert_close(found, wanted, **tolerance)
        else:
            # Rounding to bf16 at other places: compare with the size of the whole tensor.
            error = (found.float() - wanted.float()).norm() / wanted.float().norm()
            assert error < 0.02


def test_half_a_stride_is_no_trouble() -> None:
    block = Block(norm(LlamaRMSNorm))
    x = torch.randn(2, 3, 5, 24).transpose(1, 2)
    wanted = block.part(x)
    fuse_blocks(block)
    torch.testing.assert_close(block.part(x), wanted)


def test_what_computes_something_else_stays() -> None:
    class OddRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states):
            return 2 * super().forward(hidden_states)

    class OddMLP(LlamaMLP):
        pass

    class ScaledMLP(LlamaMLP):
        def forward(self, x):
            return self.down_proj(self.act_fn(self.gate_proj(x) * 0.98) * self.up_proj(x))

    class ClampedMLP(LlamaMLP):
        def forward(self, x):
            gate = self.gate_proj(x).clamp(max=7)
            return self.down_proj(self.act_fn(gate) * self.up_proj(x))

    odd = OddMLP(CONFIG)
    odd.act_fn = nn.GELU()
    parts = norm(OddRMSNorm), odd, ScaledMLP(CONFIG), ClampedMLP(CONFIG), nn.LayerNorm(24)
    for part in (*parts, *(copy.deepcopy(part).bfloat16() for part in parts)):
        block = Block(part)
        assert fuse_blocks(block) == 0
        assert block.part is part


@pytest.mark.parametrize(("kind", "offset"), [(LlamaRMSNorm, 0.0), (Gemma3RMSNorm, 1.0)])
@pytest.mark.parametrize("size", [0.3, 25.0, 400.0])
def test_large_weights_do_not_hide_the_offset_in_bf16(kind, offset, size) -> None:
    """Gemma 3 has norms with weights of 25 and more: one more or less is 4 % of the output."""
    torch.manual_seed(0)
    original = kind(24, eps=1e-6)
    nn.init.normal_(original.weight, mean=size, std=size / 10)
    block = Block(original.bfloat16())
    assert fuse_blocks(block) == 1
    assert block.part.offset == offset


def test_a_norm_that_would_give_another_dtype_stays() -> None:
    """Llama's norm with fp32 weights gives fp32 for bf16, a blockwise one what it is given."""
    block = Block(norm(LlamaRMSNorm))
    block.first = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    assert next(block.parameters()).dtype == torch.bfloat16
    assert fuse_blocks(block) == 0


@pytest.mark.parametrize("name", CASES)
def test_a_replaced_module_can_compute_as_before_with_what_stands_in_it_now(name) -> None:
    torch.manual_seed(0)
    original = CASES[name]().bfloat16()
    block = Block(copy.deepcopy(original))
    assert fuse_blocks(block) == 1
    x = torch.randn(1, 50, 24, dtype=torch.bfloat16)
    with original_modules(block):
        assert torch.equal(block.part(x), original(x))
    if name == "gated":
        changed = nn.Linear(24, 40, dtype=torch.bfloat16)
        original.up_proj = block.part.up_proj = changed
    else:
        # As full fine-tuning does it: a tensor in the place of a parameter.
        changed = torch.randn(24, dtype=torch.bfloat16)
        for module in (original, block.part):
            del module._parameters["weight"]
            module.__dict__["weight"] = changed
    with original_modules(block):
        assert torch.equal(block.part(x), original(x))
    use_original_modules(block)
    assert torch.equal(block.part(x), original(x))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_a_small_input_gives_the_same_bits(name, dtype) -> None:
    torch.manual_seed(0)
    block = Block(CASES[name]().to(dtype))
    fuse_blocks(block)
    x = torch.randn(1, 5, 24, dtype=dtype)
    wanted = block.part(x)
    with torch.no_grad():
        found = block.part(x)
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)
