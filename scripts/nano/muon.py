"""Muon: momentum whose matrix updates are made nearly orthogonal.

Keller Jordan, "Muon" (2024). torch.optim.Muon rounds to bf16, which is slow on CPUs without
bf16 units, so this one stays in fp32 and handles equal shapes in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import torch
from torch import Tensor


def orthogonalise(updates: Tensor, steps: int = 5) -> Tensor:
    """Return a batch of matrices (batch, rows, columns) with singular values near 1."""
    wide = updates if updates.shape[1] <= updates.shape[2] else updates.mT
    matrix = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = matrix @ matrix.mT
        matrix = 3.4445 * matrix + (-4.7750 * gram + 2.0315 * gram @ gram) @ matrix
    result: Tensor = matrix if wide is updates else matrix.mT
    return result


class Muon:
    """Nesterov momentum with orthogonal updates for 2-D weights.

    Args:
        parameters: matrices to train.
        rate: peak learning rate.
        momentum: share of the old momentum kept.
        decay: weight decay, multiplied by the rate.
    """

    def __init__(
        self, parameters: Sequence[Tensor], rate: float, momentum: float = 0.95, decay: float = 0.05
    ) -> None:
        self._rate, self._momentum, self._decay = rate, momentum, decay
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        # Batches of six keep two threads busy.
        self._batches = [
            (same[start : start + 6], torch.zeros(len(same[start : start + 6]), *shape))
            for shape, same in by_shape.items()
            for start in range(0, len(same), 6)
        ]

    def step(self, factor: float, pool: Executor) -> None:
        """Update all matrices from their gradients at `rate * factor`."""
        list(pool.map(lambda batch: self._update(*batch, self._rate * factor), self._batches))

    @torch.no_grad()
    def _update(self, parameters: list[Tensor], momentum: Tensor, rate: float) -> None:
        gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
        momentum.lerp_(gradients, 1 - self._momentum)
        update = orthogonalise(gradients.lerp(momentum, self._momentum))
        scale = max(1.0, momentum.shape[1] / momentum.shape[2]) ** 0.5
        for parameter, change in zip(parameters, update, strict=True):
            parameter.mul_(1 - rate * self._decay).add_(change, alpha=-rate * scale)
