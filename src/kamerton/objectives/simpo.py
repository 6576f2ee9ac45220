"""Simple preference optimisation (arXiv 2405.14734): pairs without a reference."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.pairs import Sides, logistic_loss, pair_metrics, with_nll
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Simpo", "SimpoSettings"]


class SimpoSettings(ObjectiveSettings):
    """Simple preference optimisation: make the better answer more probable per token, by a gap."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"nll": "nll_weight"}

    kind: Literal["simpo"] = "simpo"
    """Learn from pairs without a reference."""
    beta: float = Field(default=2.0, gt=0)
    """Scale of the mean log-probabilities; the paper uses 2 to 10. Above 0."""
    gamma_beta_ratio: float = Field(default=0.5, ge=0)
    """The gap aimed at between the mean log-probabilities, gamma / beta; the paper uses 0.1 to 0.8.
    Other tools have a gamma that they divide by beta. 0 or more."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs believed to be the wrong way round. 0 to below 0.5."""
    nll_weight: float = Field(default=0.0, ge=0)
    """Weight of the better answer's own negative log-likelihood (mean over its tokens). 0 or more.
    """


class Simpo:
    """The mean over pairs of -log s(beta (m_better - m_worse - gamma / beta)).

    m is the mean of an answer's log-probabilities (equation 6 of the paper).

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "pairs"
    reads: Reads = "logprobs"
    unit: Unit = "example"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: SimpoSettings) -> None:
        self.settings = settings

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of pairs.

        Args:
            scored: Pairs.
            num_units: Pairs of the whole effective batch.

        Returns:
            The share of the mean over pairs.
        """
        settings = self.settings
        means = scored.sums / scored.lengths
        logits = settings.beta * (Sides.of(means).gap - settings.gamma_beta_ratio)
        value = logistic_loss(logits, settings.label_smoothing).sum() / num_units
        metrics = pair_metrics(scored, settings.beta * means, num_units)
        return with_nll(Loss(value, metrics), scored, settings.nll_weight, num_units)
