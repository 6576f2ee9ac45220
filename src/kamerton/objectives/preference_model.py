"""Preference models: how probable it is that one answer is better than another."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

__all__ = ["TEMPERATURE", "log_preference", "preference"]

TEMPERATURE = 0.1
"""The divisor of a general preference model's numbers (tau of arXiv 2410.02197)."""


def log_preference(first: Tensor, second: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Compute the log-probability that the first answer is better.

    With one number per answer that is Bradley and Terry's model, log s(a - b). With 2 k numbers it
    is the general one (arXiv 2410.02197, equation 6 without a gate): both are scaled to length 1,
    then log s(sum over k of (a_1 b_2 - a_2 b_1) / tau), in which preferences may go in a circle.

    Args:
        first: [..., D] what a score head says of answers, fp32.
        second: [..., D] of others.
        margin: The lead that the first should have; taken off the difference.

    Returns:
        [...], at most 0.
    """
    return logsigmoid(_ahead(first, second) - margin)


@torch.no_grad()
def preference(first: Tensor, second: Tensor) -> Tensor:
    """Compute the probability that the first answer is better, without a gradient.

    Args:
        first: [..., D].
        second: [..., D].

    Returns:
        [...] from 0 to 1; 0.5 for an answer and itself.
    """
    return torch.sigmoid(_ahead(first, second))


def _ahead(first: Tensor, second: Tensor) -> Tensor:
    if first.shape[-1] == 1:
        return (first - second).squeeze(-1)
    a, b = normalize(first, dim=-1), normalize(second, dim=-1)
    turned = a[..., 0::2] * b[..., 1::2] - a[..., 1::2] * b[..., 0::2]
    return turned.sum(-1) / TEMPERATURE
