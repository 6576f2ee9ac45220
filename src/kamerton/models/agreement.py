"""Judging whether two ways of computing the same log-probabilities agree up to rounding.

The largest difference says little: in bf16 one token of a right model in a hundred is off by
several tenths, and a wrong norm may stay below that. The mean and a high quantile tell both apart.
Where the fixed limits do not suffice, the plain model runs again with its numbers moved by what
rounding may move them: the difference that this makes is the measure.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Agreement", "compare", "rounded_otherwise"]

_QUANTILE = 0.9

# Mean difference that needs no explanation, by dtype of the computation.
_FLOOR = {torch.float32: 2e-4, torch.bfloat16: 0.02, torch.float16: 0.004}

# The quantile of errors of one size lies at about twice their mean.
_HIGH = 2.5

# Rounding in another order goes as far as the model's own error, and seldom further than this.
_TIMES = 2.0

# A log-probability below this says nothing: masked logits are as small as numbers can be.
_LEAST_LOGPROB = -200.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """The distance between two ways of computing the same log-probabilities.

    Attributes:
        mean: Mean absolute difference, natural logs.
        high: The number that nine of ten differences do not exceed.
        allowed: Mean that rounding explains; of `high` it explains 2.5 times as much.
    """

    mean: float
    high: float
    allowed: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains both."""
        return self.mean <= self.allowed and self.high <= _HIGH * self.allowed

    @property
    def difference(self) -> float:
        """The mean, or a tenth-largest difference if that is what rounding does not explain."""
        return self.mean if self.mean > self.allowed or self.agrees else self.high

    @property
    def tolerance(self) -> float:
        """The largest `difference` allowed."""
        return self.allowed if self.difference == self.mean else _HIGH * self.allowed


@torch.no_grad()
def compare(
    found: Tensor, wanted: Tensor, dtype: torch.dtype, own: Callable[[], Tensor] | None = None
) -> Agreement:
    """Compare log-probabilities.

    Args:
        found: [N] of single tokens, or [N, V] of all tokens at N positions.
        wanted: The same, computed in the plain way.
        dtype: The dtype of the computation.
        own: Computes `wanted` once more with its numbers rounded otherwise; called only if the
            fixed limit does not suffice. None: it has to.

    Returns:
        The comparison; of [N, V] each position counts by its root mean square over tokens.
    """
    allowed = _FLOOR[dtype]
    mean, high = _apart(found, wanted)
    agreement = Agreement(mean, high, allowed)
    if agreement.agrees or own is None:
        return agreement
    own_mean, own_high = _apart(own(), wanted)
    return Agreement(mean, high, max(allowed, _TIMES * max(own_mean, own_high / _HIGH)))


@contextmanager
def rounded_otherwise(model: nn.Module) -> Iterator[None]:
    """Move the output of every layer by what rounding to its dtype may move it, for a while.

    Args:
        model: Any module.

    Yields:
        Nothing.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def move(module: nn.Module, inputs: Any, output: Any) -> Any:
        del module, inputs
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        if output.device not in generators:
            generators[output.device] = torch.Generator(output.device).manual_seed(0)
        share = torch.rand(
            output.shape, generator=generators[output.device], device=output.device
        ).sub_(0.5)
        moved = output.float() * (1 + torch.finfo(output.dtype).eps * share)
        return moved.to(output.dtype)

    hooks = [
        module.register_forward_hook(move)
        for module in model.modules()
        if not any(True for _ in module.children())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _apart(found: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Mean and high quantile of differences; infinite where numbers are missing."""
    if found.shape != wanted.shape or found.isnan().any() or wanted.isnan().any():
        return float("inf"), float("inf")
    gaps = (found.clamp(min=_LEAST_LOGPROB) - wanted.clamp(min=_LEAST_LOGPROB)).abs()
    if gaps.ndim == 2:
        gaps = gaps.square().mean(-1).sqrt()
    return float(gaps.mean()), float(torch.quantile(gaps.float(), _QUANTILE))
