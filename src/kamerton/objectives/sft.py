"""Supervised fine-tuning: the negative log-likelihood of the labelled tokens."""

from typing import Literal

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Sft", "SftSettings"]


class SftSettings(ObjectiveSettings):
    """Supervised fine-tuning."""

    kind: Literal["sft"] = "sft"
    """Learn to produce the given answers."""


class Sft:
    """The mean over all labelled tokens of the effective batch, whatever rows they stand in.

    Dividing by the global count makes accumulation equal the large batch (a mean of the
    micro-batches' means would weigh short micro-batches more).
    """

    takes: Takes = "texts"
    reads: Reads = "logprobs"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute -sum(logprobs) / num_units.

        Args:
            scored: The numbers of one micro-batch.
            num_units: Labelled tokens of the whole effective batch.

        Returns:
            The micro-batch's share of the mean over tokens.
        """
        return Loss(-scored.logprobs.sum() / num_units)
