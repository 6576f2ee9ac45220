"""RMS norms and gated feed-forwards on a CPU, in blocks that stay within a core's cache.

Written with whole-tensor operations they pass over memory a dozen times and keep fp32 copies for
the backward pass. Here every block is read once, computed in fp32 and written once, and only the
inputs are kept. Modules are recognised by what they compute: one that differs stays as it is, and
one that was replaced can compute as before for a while, to be compared with.

Shapes: N tokens (times heads, where a norm is per head), E features, F inner size.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["forget_replaced", "fuse_blocks", "original_modules", "use_original_modules"]

# Numbers of fp32 in a block: a quarter of a megabyte each, and there are a few of them.
_BLOCK = 1 << 16

# Largest relative difference of any output in fp32 that the order of operations explains.
_TOLERANCE = 1e-4

# Outputs smaller than this share of the largest come out of cancellation.
_NEGLIGIBLE = 1e-4

# Inputs of every size: small ones show the epsilon, large ones a clamp.
_SIZES = (1e-3, 1.0, 30.0)
_WIDTH = 64


def fuse_blocks(model: nn.Module) -> int:
    """Replace the RMS norms and SiLU-gated feed-forwards of a model by blockwise ones.

    Weights keep their names and storage. A candidate is replaced only if both compute the same on
    random input in fp32, whatever the dtype of the weights: rounding to bf16 would hide a small
    multiplier, and large weights hide there whether one is added to them.

    Args:
        model: A Transformers model whose weights are on a CPU.

    Returns:
        The number of modules that were replaced.
    """
    replaced = 0
    dtype = next(model.parameters()).dtype
    for name, module in list(model.named_modules()):
        candidates: list[tuple[float, nn.Module]] = []
        candidates += [(_norm_error(module, norm, dtype), norm) for norm in _norms(module)]
        candidates += [(_gate_error(module, gate), gate) for gate in _gates(module)]
        error, fused = min(candidates, key=itemgetter(0), default=(math.inf, None))
        if fused is not None and error <= _TOLERANCE:
            model.set_submodule(name, fused)
            replaced += 1
    return replaced


def use_original_modules(model: nn.Module, wanted: bool = True) -> None:
    """Let every replaced module compute as the one that it stands for, or blockwise again.

    Args:
        model: Any; without replaced modules nothing happens.
        wanted: False returns to blockwise computation.
    """
    for module in model.modules():
        if isinstance(module, _Fused):
            module.as_before = wanted


def forget_replaced(model: nn.Module) -> None:
    """Let go of layers that others have taken the places of, and of their weights.

    Args:
        model: Any; replaced modules remember the layers that they were made with.
    """
    for module in model.modules():
        if isinstance(module, _Fused):
            module._original[0]._modules.update(module._modules)


@contextmanager
def original_modules(model: nn.Module) -> Iterator[None]:
    """Let replaced modules compute as before for a while, whatever is attached to them.

    Args:
        model: Any.

    Yields:
        Nothing.
    """
    blockwise = [m for m in model.modules() if isinstance(m, _Fused) and not m.as_before]
    for module in blockwise:
        module.as_before = True
    try:
        yield
    finally:
        for module in blockwise:
            module.as_before = False


def _norms(module: nn.Module) -> Iterator["_RmsNorm"]:
    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    is_vector = isinstance(weight, nn.Parameter) and weight.ndim == 1
    if type(module).__name__.endswith("RMSNorm") and isinstance(eps, float) and is_vector:
        assert isinstance(weight, nn.Parameter)
        yield _RmsNorm(module, weight, eps, 0.0)
        # Gemma stores its weight minus one.
        yield _RmsNorm(module, weight, eps, 1.0)


def _gates(module: nn.Module) -> Iterator["_GatedMlp"]:
    parts = {child for child, _ in module.named_children()}
    if parts == {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        yield _GatedMlp(module)


def _norm_error(module: nn.Module, fused: "_RmsNorm", dtype: torch.dtype) -> float:
    """Compare a norm with its candidate; infinite where the dtype of their outputs differs."""
    own = torch.ones(1, len(fused.weight), dtype=fused.weight.dtype)
    for x in (own, own.to(dtype)):
        if _outcome(module, x).dtype != fused(x).dtype:
            return math.inf
    wide = copy.deepcopy(module).float()
    ours = _RmsNorm(wide, nn.Parameter(fused.weight.float()), fused.eps, fused.offset)
    return max(_distance(wide, ours, size, len(fused.weight)) for size in _SIZES)


def _gate_error(module: nn.Module, fused: "_GatedMlp") -> float:
    """Compare what stands between the projections: these are the same and may be large."""
    return max(
        _distance(_between(module, size), _between(fused, size), size, _WIDTH) for size in _SIZES
    )


def _between(module: nn.Module, size: float) -> nn.Module:
    """A copy of a feed-forward whose projections only hand on given numbers."""
    probe = copy.copy(module)
    parts = {"gate_proj": _Given(size, 1), "up_proj": _Given(size, 2), "down_proj": nn.Identity()}
    probe.__dict__["_modules"] = {**module._modules, **parts}
    return probe


class _Given(nn.Module):
    """Stands in the place of a projection."""

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.given = torch.randn(2, 3, _WIDTH, generator=generator) * size

    def forward(self, x: Tensor) -> Tensor:
        return self.given + 0 * x


@torch.no_grad()
def _distance(module: nn.Module, fused: nn.Module, size: float, width: int) -> float:
    """Largest relative difference of an output in fp32."""
    x = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)) * size
    wanted, found = _outcome(module, x), fused(x)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return math.inf
    scale = wanted.abs().clamp(min=float(wanted.abs().max()) * _NEGLIGIBLE + 1e-30)
    difference = float(((wanted - found).abs() / scale).max())
    # NaN compares as small with everything.
    return difference if difference == difference else math.inf


@torch.no_grad()
def _outcome(module: nn.Module, x: Tensor) -> Tensor:
    """A module's output for one tensor; nothing where it takes or gives something else."""
    try:
        y = module(x)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return x.new_empty(0)
    return y if isinstance(y, Tensor) else x.new_empty(0)


class _Fused(nn.Module):
    """Stands in the place of a module and holds its parameters and projections."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.as_before = False
        # A tuple hides it from the children, so that its parameters are not named twice.
        self._original = (copy.copy(original),)
        self._weights = tuple(original._parameters)
        for changed in ("_modules", "_parameters"):
            self._original[0].__dict__[changed] = dict(getattr(original, changed))
        for name in self._weights:
            del self._original[0]._parameters[name]

    def before(self, x: Tensor) -> Tensor:
        """Compute what the original does, with what stands in its places by now."""
        (original,) = self._original
        original._modules.update(self._modules)
        for name in self._weights:
            # Full fine-tuning puts a tensor that is no parameter in the place of one.
            original.__dict__[name] = getattr(self, name)
        y: Tensor = original(x)
        return y


class _RmsNorm(_Fused):
    """y = x / sqrt(mean(x^2) + eps) * (weight + offset), arXiv 1910.07467 eq. 4."""

    def __init__(
        self, original: nn.Module, weight: nn.Parameter, eps: float, offset: float
    ) -> None:
        super().__init__(original)
        self.weight, self.eps, self.offset = weight, eps, offset

    def forward(self, x: Tensor) -> Tensor:
        if self.as_before:
            return self.before(x)
        if torch.compiler.is_compiling():
            # The compiler does the same better, from the plain formula.
            wide = x.float()
            wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
            return (wide * (self.weight.float() + self.offset)).to(x.dtype)
        if x.numel() <= _BLOCK and not torch.is_grad_enabled():
            # One block, and nothing to keep: the same operations without the scaffolding, which
            # takes longer than the numbers of a single token.
            wide = x.float()
            norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
            inverse = norm.square_().div_(x.shape[-1]).add_(self.eps).rsqrt_()
            factor = self.weight.float() + self.offset if self.offset else self.weight.float()
            normed: Tensor = (wide * inverse).mul_(factor).to(x.dtype)
            return normed
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


class _GatedMlp(_Fused):
    """down(silu(gate(x)) * up(x)), arXiv 2002.05202 eq. 6; the children are the original ones."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.gate_proj = original.get_submodule("gate_proj")
        self.up_proj = original.get_submodule("up_proj")
        self.down_proj = original.get_submodule("down_proj")

    def forward(self, x: Tensor) -> Tensor:
        if self.as_before:
            return self.before(x)
        gate, up = self.gate_proj(x), self.up_proj(x)
        if torch.compiler.is_compiling():
            inner = nn.functional.silu(gate) * up
        elif gate.numel() <= _BLOCK and not torch.is_grad_enabled():
            inner = nn.functional.silu(gate.float()).mul_(up).to(gate.dtype)
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
