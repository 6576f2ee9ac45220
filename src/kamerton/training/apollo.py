"""APOLLO: AdamW whose states are of low rank (arXiv 2412.05270, algorithm 1).

The moments are kept of a random projection R = P G of a matrix' gradient, and say how far each of
its channels moves; the direction is the gradient's own. Shapes: a matrix [m, n] is looked at with
m <= n, P is [r, m] with numbers of variance 1 / r, R and both moments are [r, n]. The paper's
factor on the update is sqrt(m / r) here: so the learning rate means what it means to AdamW.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from kamerton.core.seeds import derive_seed

__all__ = ["Apollo"]

_GROWTH = 1.01
_EPSILON = 1e-8


class Apollo(torch.optim.Optimizer):
    """AdamW with states of low rank for matrices, and plain ones for what is not larger.

    Args:
        groups: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decays of the mean of gradients and of their squares.
        weight_decay: Decoupled weight decay.
        rank: r; matrices whose smaller side is not larger have AdamW's own states.
        refresh: Steps after which P is drawn anew.
        seed: The seed of P.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        rank: int,
        refresh: int = 200,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(groups, defaults)
        self._rank, self._refresh, self._seed = rank, refresh, seed

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step with the gradients that are there.

        Args:
            closure: Not used.
        """
        number = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group, number)
                number += 1

    def _move(self, parameter: Tensor, grad: Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[parameter]
        step = state["step"] = state.get("step", 0) + 1
        narrow = parameter.ndim == 2 and min(parameter.shape) > self._rank
        seen, low = grad, grad
        if narrow:
            seen = grad if grad.shape[0] <= grad.shape[1] else grad.t()
            low = self._projection(seen, step, number) @ seen
        if "exp_avg" not in state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(low), torch.zeros_like(low)
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].lerp_(low, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(low, low, value=1 - beta2)
        scaled = mean / (square / (1 - beta2**step)).sqrt_().add_(_EPSILON)
        scaled /= 1 - beta1**step
        if narrow:
            channels = scaled.norm(dim=0) / low.norm(dim=0).clamp_(min=_EPSILON)
            scaled = seen * (channels * math.sqrt(len(seen) / self._rank))
            self._limit(scaled, state)
            scaled = scaled if seen is grad else scaled.t()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(scaled, alpha=-group["lr"])

    def _projection(self, seen: Tensor, step: int, number: int) -> Tensor:
        """P [r, m]: not kept, but drawn again from the seed of its period."""
        period = (step - 1) // self._refresh
        generator = torch.Generator(seen.device)
        generator.manual_seed(derive_seed(self._seed, "apollo", number, period))
        rows = (self._rank, seen.shape[0])
        drawn = torch.randn(rows, generator=generator, device=seen.device, dtype=seen.dtype)
        return drawn / math.sqrt(self._rank)

    @staticmethod
    def _limit(update: Tensor, state: dict[str, Any]) -> None:
        """Let the update's norm grow by at most a hundredth from step to step."""
        norm = update.norm()
        last: Tensor | None = state.get("norm")
        if last is not None and last > 0:
            allowed = last * _GROWTH
            update.mul_(torch.minimum(allowed / norm.clamp(min=_EPSILON), torch.ones_like(norm)))
            norm = torch.minimum(norm, allowed)
        state["norm"] = norm
