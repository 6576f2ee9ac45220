"""The parts that objectives over pairs share: the two sides, and the logged numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kamerton.objectives.objective import Loss, LossInputs

__all__ = ["Sides", "logistic_loss", "nll_of_chosen", "pair_metrics", "with_nll"]


@dataclass(frozen=True, slots=True)
class Sides:
    """One number per pair and side.

    Attributes:
        chosen: [B] of the better answers.
        rejected: [B] of the worse answers.
    """

    chosen: Tensor
    rejected: Tensor

    @classmethod
    def of(cls, numbers: Tensor) -> Self:
        """Split numbers of answers.

        Args:
            numbers: [2 B], better and worse in turn.

        Returns:
            The sides.
        """
        return cls(numbers[0::2], numbers[1::2])

    @property
    def gap(self) -> Tensor:
        """[B] by how much the better side is above the worse."""
        return self.chosen - self.rejected


def logistic_loss(logits: Tensor, smoothing: float) -> Tensor:
    """Compute -log s(x), smoothed towards the other label.

    Args:
        logits: x, of any shape.
        smoothing: Share of pairs believed to be the wrong way round.

    Returns:
        In the same shape.
    """
    return -(1 - smoothing) * logsigmoid(logits) - smoothing * logsigmoid(-logits)


def nll_of_chosen(scored: LossInputs) -> Tensor:
    """Compute the negative log-likelihood of the better answers.

    Args:
        scored: The numbers of pairs.

    Returns:
        [B] mean over each answer's tokens, and over those around it where everything was read.
    """
    sums, lengths = scored.sums, scored.lengths
    if (context := scored.context) is not None:
        sums = sums.index_add(0, context.answers, context.logprobs)
        lengths = lengths.index_add(0, context.answers, torch.ones_like(context.logprobs))
    return -Sides.of(sums / lengths).chosen


def with_nll(loss: Loss, scored: LossInputs, weight: float, num_units: int) -> Loss:
    """Add the negative log-likelihood of the better answers to a loss.

    Args:
        loss: The loss of pairs.
        scored: The same pairs.
        weight: Factor; 0 leaves the loss as it is.
        num_units: Pairs of the whole effective batch.

    Returns:
        The sum, with a part `nll`.
    """
    if not weight:
        return loss
    nll = nll_of_chosen(scored).sum() / num_units
    return Loss(loss.value + weight * nll, {**loss.metrics, "nll": float(nll.detach())})


@torch.no_grad()
def pair_metrics(scored: LossInputs, rewards: Tensor, num_units: int) -> Mapping[str, float]:
    """Say what a step did to pairs.

    Args:
        scored: The numbers of pairs.
        rewards: [2 B] what the objective takes for the worth of each answer.
        num_units: Pairs of the whole effective batch.

    Returns:
        Shares of means over pairs: `reward_accuracy`, in which the better answer has the larger
        reward (a tie counts half; TRL's `rewards/accuracies`), `preference_accuracy`, in which it
        is the more probable one by the sum over its tokens, as `kamerton evaluate` measures it,
        `margin` of the rewards, the summed log-probabilities `chosen_logprob` and
        `rejected_logprob`, `chosen_tokens` and `rejected_tokens`, and where there is a reference
        `chosen_change` and `rejected_change` from it.
    """
    sides, logprobs, lengths = Sides.of(rewards), Sides.of(scored.sums), Sides.of(scored.lengths)
    gap = sides.gap
    metrics = {
        "reward_accuracy": (gap > 0).float() + 0.5 * (gap == 0).float(),
        "preference_accuracy": (logprobs.gap > 0).float(),
        "margin": gap,
        "chosen_logprob": logprobs.chosen,
        "rejected_logprob": logprobs.rejected,
        "chosen_tokens": lengths.chosen,
        "rejected_tokens": lengths.rejected,
    }
    if scored.references is not None:
        ratios = Sides.of(scored.ratios)
        metrics |= {"chosen_change": ratios.chosen, "rejected_change": ratios.rejected}
    return {name: float(numbers.sum()) / num_units for name, numbers in metrics.items()}
