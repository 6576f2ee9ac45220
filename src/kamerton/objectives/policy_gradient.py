"""The loss over answers that the model wrote: clipped ratios, baselines, distance."""

import math

import torch
from torch import Tensor

__all__ = ["clipped", "k3", "leave_one_out"]

_STEEPEST = 20.0
"""Above this log-ratio exp goes on as a straight line: exp(89) is infinite in fp32, and infinity
times no advantage is no number. Ratios that matter are near 1, so nothing else changes."""


def leave_one_out(numbers: Tensor) -> Tensor:
    """Compare each number with the mean of the others.

    Args:
        numbers: [S], at least 2.

    Returns:
        [S], of sum 0.
    """
    count = len(numbers)
    return (numbers - numbers.mean()) * (count / (count - 1))


def clipped(change: Tensor, advantages: Tensor, clip_epsilon: float) -> tuple[Tensor, Tensor]:
    """Compute PPO's clipped loss (arXiv 1707.06347, equation 7).

    Args:
        change: [M] change of log-probabilities since the answers were written.
        advantages: [M].
        clip_epsilon: The distance that a ratio may have from 1.

    Returns:
        [M] losses, and [M] whether the gradient is cut.
    """
    ratio = 1 + _growth(change)
    plain, cut = ratio * advantages, ratio.clamp(1 - clip_epsilon, 1 + clip_epsilon) * advantages
    return -torch.minimum(plain, cut), (cut < plain).detach()


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Estimate the distance to the reference from tokens that the model wrote.

    It is exp(q) - q - 1, with q the log-ratio of reference and model: never negative. On average it
    is KL(model, reference), but has the slope of KL(reference, model): it pulls back what the
    reference would say, as in GRPO's paper and in TRL.

    Args:
        logprobs: [N] under the model, with a gradient.
        reference: [N].

    Returns:
        [N], with a gradient.
    """
    behind = reference - logprobs
    return _growth(behind) - behind


def _growth(change: Tensor) -> Tensor:
    """Compute exp(change) - 1, finite and with a finite slope everywhere."""
    line = (change - _STEEPEST + 1) * math.exp(_STEEPEST) - 1
    return torch.where(change < _STEEPEST, change.clamp(max=_STEEPEST).expm1(), line)
