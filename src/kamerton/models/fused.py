"""RMS norms and gated feed-forwards on a CPU, in blocks that stay within a core's cache.

Written with whole-tensor operations they pass over memory a dozen times and keep fp32 copies for
the backward pass. Here every block is read once, computed in fp32 and written once, and only the
inputs are kept. Modules are recognised by what they compute: one that differs stays as it is.

Shapes: N tokens (times heads, where a norm is per head), E features, F inner size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kamerton.models.linear import linear_size

__all__ = ["fuse_blocks"]

# Numbers of fp32 in a block: a quarter of a megabyte each, and there are a few of them.
_BLOCK = 1 << 16
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


def fuse_blocks(model: nn.Module) -> int:
    """Replace the RMS norms and SiLU-gated feed-forwards of a model by blockwise ones.

    Weights keep their names and storage. A candidate is replaced only if both compute the same on
    random input.

    Args:
        model: A Transformers model whose weights are on a CPU.

    Returns:
        How many modules were replaced.
    """
    replaced = 0
    dtype = next(model.parameters()).dtype
    for name, module in list(model.named_modules()):
        for fused in _candidates(module):
            if _same(module, fused, dtype):
                model.set_submodule(name, fused)
                replaced += 1
                break
    return replaced


def _candidates(module: nn.Module) -> Iterator[nn.Module]:
    kind = type(module).__name__
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if kind.endswith("RMSNorm") and isinstance(eps, float) and _is_vector(module):
        yield _RmsNorm(module.weight, eps, 0.0)  # type: ignore[arg-type]
        # Gemma stores its weight minus one.
        yield _RmsNorm(module.weight, eps, 1.0)  # type: ignore[arg-type]
    parts = {child for child, _ in module.named_children()}
    if parts == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        yield _GatedMlp(module)


def _is_vector(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim == 1


@torch.no_grad()
def _same(module: nn.Module, fused: nn.Module, dtype: torch.dtype) -> bool:
    if isinstance(fused, _RmsNorm):
        width, dtype = len(fused.weight), fused.weight.dtype
    else:
        width = linear_size(module.get_submodule("gate_proj"))[1]
    if dtype not in _TOLERANCE:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, width, generator=generator).to(dtype)
    wanted, found = module(x), fused(x)
    if not isinstance(wanted, Tensor) or wanted.dtype != found.dtype:
        return False
    scale = wanted.float().abs().max().clamp(min=1e-6)
    return bool((wanted.float() - found.float()).abs().max() <= _TOLERANCE[dtype] * scale)


class _RmsNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * (weight + offset), arXiv 1910.07467 eq. 4."""

    def __init__(self, weight: nn.Parameter, eps: float, offset: float) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = weight, eps, offset

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            # The compiler does the same better, from the plain formula.
            wide = x.float()
            wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
            return (wide * (self.weight.float() + self.offset)).to(x.dtype)
        y: Tensor = _RmsNormFunction.apply(x, self.weight, self.eps, self.offset)  # type: ignore[no-untyped-call]
        return y


class _RmsNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        factor = weight.float() + offset
        y = torch.empty_like(rows)
        inverse = torch.empty(len(rows), 1)
        for part, (work,) in _blocks(rows, 1):
            work.copy_(rows[part])
            norm = torch.linalg.vector_norm(work, dim=-1, keepdim=True)
            inverse[part] = norm.square_().div_(rows.shape[1]).add_(eps).rsqrt_()
            y[part] = work.mul_(inverse[part]).mul_(factor)
        ctx.save_for_backward(rows, inverse, weight)
        ctx.offset, ctx.shape = offset, x.shape
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        rows, inverse, weight = ctx.saved_tensors
        grads = grad_outputs[0].reshape(rows.shape)
        factor = weight.float() + ctx.offset
        grad_x = torch.empty_like(rows)
        grad_weight = torch.zeros_like(factor) if ctx.needs_input_grad[1] else None
        for part, (grad, normed) in _blocks(rows, 2):
            grad.copy_(grads[part])
            normed.copy_(rows[part]).mul_(inverse[part])
            if grad_weight is not None:
                grad_weight += (grad * normed).sum(0)
            # d x = (w g - n mean(w g n)) / rms, with n the normed x
            grad.mul_(factor)
            share = torch.linalg.vecdot(grad, normed).div_(-rows.shape[1])
            grad_x[part] = grad.addcmul_(normed, share[:, None]).mul_(inverse[part])
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x.view(ctx.shape), grad_weight, None, None


class _GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)), arXiv 2002.05202 eq. 6; the children are the original ones."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.gate_proj = original.get_submodule("gate_proj")
        self.up_proj = original.get_submodule("up_proj")
        self.down_proj = original.get_submodule("down_proj")

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)
        if torch.compiler.is_compiling():
            inner = nn.functional.silu(gate) * up
        else:
            inner = _GateFunction.apply(gate, up)  # type: ignore[no-untyped-call]
        y: Tensor = self.down_proj(inner)
        return y


class _GateFunction(torch.autograd.Function):
    """silu(gate) * up, keeping only the two inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gates, ups = gate.reshape(-1, gate.shape[-1]), up.reshape(-1, up.shape[-1])
        y = torch.empty_like(gates)
        for part, (work,) in _blocks(gates, 1):
            torch.ops.aten.silu_(work.copy_(gates[part]))
            y[part] = work.mul_(ups[part])
        ctx.save_for_backward(gates, ups)
        ctx.shape = gate.shape
        return y.view(gate.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        gates, ups = ctx.saved_tensors
        grads = grad_outputs[0].reshape(gates.shape)
        grad_gate, grad_up = torch.empty_like(gates), torch.empty_like(ups)
        for part, (gate, sigmoid, grad) in _blocks(gates, 3):
            torch.sigmoid(gate.copy_(gates[part]), out=sigmoid)
            grad.copy_(grads[part])
            # silu'(g) = s (1 + g (1 - s)) = s + silu (1 - s)
            silu = gate.mul_(sigmoid)
            grad_up[part] = grad * silu
            slope = sigmoid.add_(silu.addcmul_(silu, sigmoid, value=-1))
            grad_gate[part] = grad.mul_(slope).mul_(ups[part])
        return grad_gate.view(ctx.shape), grad_up.view(ctx.shape)


def _blocks(rows: Tensor, count: int) -> Iterator[tuple[slice, Tensor]]:
    """Cut rows [N, E] into blocks; give each with `count` fp32 scratch tensors of its size."""
    size = max(1, _BLOCK // rows.shape[1])
    work = torch.empty(count, min(size, len(rows)), rows.shape[1])
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        yield part, work[:, : part.stop - start]
