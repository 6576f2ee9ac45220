"""Odds-ratio preference optimisation (arXiv 2403.07691): fine-tuning and preference in one."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.pairs import Sides, nll_of_chosen, pair_metrics
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Orpo", "OrpoSettings", "log_odds"]

# The largest mean log-probability taken at its word: the log-odds of 1 are infinite.
_NEAREST_TO_0 = -1e-6


class OrpoSettings(ObjectiveSettings):
    """Odds-ratio preference optimisation: learn the better answer and avoid the worse, at once."""

    kind: Literal["orpo"] = "orpo"
    """Learn from pairs without a reference and without fine-tuning before."""
    weight: float = Field(default=0.1, ge=0)
    """Weight of the odds ratio beside the better answer's negative log-likelihood (lambda in the
    paper, beta or alpha elsewhere). 0 or more."""
    nll_over: Literal["answer", "everything"] = "answer"
    """The scope of the negative log-likelihood's mean: the better "answer" alone, or "everything",
    its prompt too, as in the paper's code. The odds ratio is of the answers either way."""


class Orpo:
    """The mean over pairs of nll(better) - weight * log s(log-odds(better) - log-odds(worse)).

    Log-odds are log(p / (1 - p)) with p the geometric mean of an answer's token probabilities
    (equations 4 to 7). The negative log-likelihood is the mean over the better answer's tokens, or
    over all tokens of its conversation but the first. The paper's code and TRL do the latter, but
    take one mean over a batch's tokens, so that long conversations count more; here each pair
    counts the same, whatever stands beside it.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "pairs"
    unit: Unit = "example"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: OrpoSettings) -> None:
        self.settings = settings
        self.reads: Reads = "logprobs" if settings.nll_over == "answer" else "everything"

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of pairs.

        Args:
            scored: Pairs.
            num_units: Pairs of the whole effective batch.

        Returns:
            The share of the mean over pairs.
        """
        assert (scored.context is None) == (self.reads == "logprobs"), "read as asked"
        means = scored.sums / scored.lengths
        odds = log_odds(means)
        nll = nll_of_chosen(scored).sum() / num_units
        ratio = -logsigmoid(Sides.of(odds).gap).sum() / num_units
        own = {"nll": float(nll.detach()), "odds_ratio": float(ratio.detach())}
        metrics = {**pair_metrics(scored, odds, num_units), **own}
        return Loss(nll + self.settings.weight * ratio, metrics)


def log_odds(logprobs: Tensor) -> Tensor:
    """Compute log(p / (1 - p)), finite and with a finite gradient for every p.

    Args:
        logprobs: Natural logs of p, at most 0, of any shape.

    Returns:
        Log-odds in the same shape; log-probabilities above -1e-6 count as -1e-6.
    """
    logprobs = logprobs.clamp(max=_NEAREST_TO_0)
    # log(1 - exp(x)): each form where it keeps its digits (Maechler 2012). The other branch gets
    # a harmless input, since its gradient times 0 would still be NaN.
    near = logprobs > -math.log(2)
    of_near = torch.log(-torch.expm1(torch.where(near, logprobs, -1.0)))
    of_far = torch.log1p(-torch.exp(torch.where(near, -1.0, logprobs)))
    return logprobs - torch.where(near, of_near, of_far)
