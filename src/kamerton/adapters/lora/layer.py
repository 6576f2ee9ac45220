"""A frozen linear layer with its low-rank update (arXiv 2106.09685, section 4.1).

    x [T, in] ──┬── W [out, in] (frozen) ────────────┐
                └── A [r, in] ── u [T, r] ── B [out, r] * s ──(+)── y [T, out]

One autograd function does the layer: W gets no gradient, and only x, u and the two small matrices
are kept. A and B live in fp32 and are used in the dtype of the base.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.adapters.lora.dora import rescale, row_norms, row_squares
from kamerton.adapters.lora.pissa import paired
from kamerton.models.linear import (
    FrozenLinear,
    dense,
    device_of,
    frozen_weight,
    linear_size,
    stored_weight,
)

__all__ = ["LoraFunction", "LoraLayer", "LoraLinear"]


_FEW_ROWS = 32


class LoraFunction(torch.autograd.Function):
    """y = x W^T + bias + s (keep * x) A^T B^T with the frozen W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        frozen: Tensor | FrozenLinear,
        bias: Tensor | None,
        scaling: float,
        keep: Tensor | None,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a_low, b_low = a.to(x.dtype), b.to(x.dtype)
        seen = rows if keep is None else rows * keep
        u = (seen @ a_low.t()).mul_(scaling)
        y = linear(rows, dense(frozen, x.dtype), bias).addmm_(u, b_low.t())
        # A weight in few bits is made again in the backward pass: once per row and pass.
        weight = frozen if isinstance(frozen, Tensor) else None
        ctx.save_for_backward(rows, u, a_low, b_low, weight, keep)
        ctx.frozen = None if isinstance(frozen, Tensor) else frozen
        ctx.scaling, ctx.shape = scaling, x.shape
        # No view: Llama 4 scales its queries in place, which autograd refuses for one of these.
        shaped: Tensor = torch.ops.aten._unsafe_view(y, [*x.shape[:-1], y.shape[1]])
        return shaped

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        rows, u, a, b, weight, keep = ctx.saved_tensors
        grad = grad_outputs[0].reshape(-1, grad_outputs[0].shape[-1])
        grad_u = (grad @ b).mul_(ctx.scaling)
        grad_b = (grad.t() @ u).float()
        seen = rows if keep is None else rows * keep
        grad_a = (grad_u.t() @ seen).float()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ (dense(ctx.frozen, grad.dtype) if weight is None else weight)
            if keep is None:
                grad_x.addmm_(grad_u, a)
            else:
                grad_x += (grad_u @ a).mul_(keep)
            grad_x = grad_x.view(ctx.shape)
        return grad_x, grad_a, grad_b, None, None, None, None


class LoraLayer(nn.Module):
    """A frozen layer with a low-rank update of its weight."""

    a: nn.Parameter
    b: nn.Parameter

    def __init__(self, layer: nn.Module, scaling: float) -> None:
        super().__init__()
        self.layer = layer
        self.scaling = scaling
        self.enabled = True
        self.training = False
        self.start: tuple[Tensor, Tensor] | None = None
        """PiSSA's A0 and B0; `a` and `b` are then the changes since."""
        self.rounding: tuple[Tensor, Tensor] | None = None
        """LoftQ's A0 and B0: what `a` and `b` began as over a quantised weight."""
        self.magnitude: nn.Parameter | None = None

    @property
    def weight(self) -> Tensor:
        """The frozen weight."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """Give A and B of the update; of doubled rank with PiSSA."""
        return (self.a, self.b) if self.start is None else paired(self.a, self.b, *self.start)

    def updated_weight(self) -> Tensor:
        """Compute the weight with its update, in fp32."""
        raise NotImplementedError


class LoraLinear(LoraLayer):
    """A frozen linear layer with its update; stands where the layer stood."""

    def __init__(
        self, layer: nn.Module, rank: int, scaling: float, dropout: float, dora: bool = False
    ) -> None:
        super().__init__(layer, scaling)
        self.dropout = dropout
        self._kept: tuple[torch.dtype, Tensor] | None = None
        out, inner = linear_size(layer)
        device = device_of(layer)
        self.a = nn.Parameter(torch.zeros(rank, inner, device=device))
        self.b = nn.Parameter(torch.zeros(out, rank, device=device))
        if dora:
            self.squares = row_squares(frozen_weight(layer))
            self.magnitude = nn.Parameter(self.squares.sqrt())

    @property
    def weight(self) -> Tensor:
        """The frozen weight as [out, in]; an error where it is quantised."""
        return stored_weight(self.layer)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias, which Mamba reads beside calling the layer."""
        bias: Tensor | None = self.layer.bias  # type: ignore[assignment]
        return bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and its update.

        Args:
            x: [..., in].

        Returns:
            [..., out].
        """
        if not self.enabled:
            output: Tensor = self.layer(x)
            return output
        keep = self._keep(x)
        frozen = frozen_weight(self.layer)
        bias = self.bias
        a, b = self.factors()
        norms = None
        if self.magnitude is not None:
            # Before the function below: torch.compile cannot use `scaling` again after it.
            norms = row_norms(frozen, self.squares, a, b, self.scaling, x.dtype)
        y: Tensor = LoraFunction.apply(  # type: ignore[no-untyped-call]
            x, a, b, frozen, bias, self.scaling, keep
        )
        if self.magnitude is None or norms is None:
            return y
        return rescale(y, bias, self.magnitude, norms)

    def _keep(self, x: Tensor) -> Tensor | None:
        """The factors of dropout on the inputs, [tokens, in]; None while it is off."""
        if not (self.dropout and self.training):
            return None
        shape = x.numel() // x.shape[-1], x.shape[-1]
        keep = torch.rand(shape, device=x.device).ge_(self.dropout).to(x.dtype)
        keep /= 1 - self.dropout
        return keep

    def before(self, x: Tensor) -> Tensor:
        """Give what the layer reads.

        Args:
            x: [..., in].

        Returns:
            The same.
        """
        return x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Do as `forward`, where the layer has been applied already, to a row of many adapters.

        Args:
            x: [..., in], some tokens of the row.
            y: [..., out] of the layer.

        Returns:
            [..., out].
        """
        a, b = self.factors()
        rows, keep = x.reshape(-1, x.shape[-1]), self._keep(x)
        seen = rows if keep is None else rows * keep
        dtype = a.dtype if _is_small(seen, a) else x.dtype
        u = (seen.to(dtype) @ a.to(dtype).t()) * self.scaling
        updated = torch.addmm(y.reshape(-1, y.shape[-1]).to(dtype), u, b.to(dtype).t())
        updated = updated.to(y.dtype).view(y.shape)
        if self.magnitude is None:
            return updated
        return rescale(updated, self.bias, self.magnitude, self._norms(a, b, x.dtype))

    def _norms(self, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
        """Lengths of the updated rows, [out]; kept while A and B do not learn."""
        if self._kept is not None and self._kept[0] == dtype and not a.requires_grad:
            return self._kept[1]
        frozen = frozen_weight(self.layer)
        norms = row_norms(frozen, self.squares, a, b, self.scaling, dtype)
        self._kept = None if a.requires_grad else (dtype, norms)
        return norms

    def fixed_update(self) -> tuple[Tensor, Tensor, float] | None:
        """Give A [r, in], B [out, r] and the factor on B A; None while it learns or does more."""
        a, b = self.factors()
        is_plain = self.magnitude is None and not (self.dropout and self.training)
        return None if a.requires_grad or not is_plain else (a, b, self.scaling)

    def low_rank(self) -> tuple[Tensor, Tensor, float] | None:
        """Give A [r, in], B [out, r] and the factor on their product, while it counts.

        A head's logits are computed from these and the frozen weight, a chunk at a time.
        """
        return (*self.factors(), self.scaling) if self.enabled else None

    def own_rows(self) -> None:
        """Give nothing: as a head it has no rows of its own."""

    @torch.no_grad()
    def updated_weight(self) -> Tensor:
        """Compute the weight with its update, [out, in] in fp32."""
        a, b = self.factors()
        updated = self.weight.float() + (b @ a) * self.scaling
        if self.magnitude is not None:
            # A row of zeros has no direction and stays one, as in `row_norms`.
            least = torch.finfo(torch.float32).tiny ** 0.5
            norms = torch.linalg.vector_norm(updated, dim=1).clamp_min(least)
            updated *= (self.magnitude / norms)[:, None]
        return updated


def _is_small(rows: Tensor, a: Tensor) -> bool:
    """Whether an update that does not learn is faster in the dtype of A than in that of the rows.

    On a CPU it is: small products in bf16 take three times as long as in fp32.
    """
    return rows.device.type == "cpu" and len(rows) <= _FEW_ROWS and not a.requires_grad
