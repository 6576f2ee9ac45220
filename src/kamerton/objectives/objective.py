"""The objective seam: what training minimises, as a function of log-probabilities only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

__all__ = ["Loss", "Objective", "Scored", "Unit"]

Unit = Literal["token", "example"]
"""What an objective averages over, across the whole effective batch."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of one micro-batch.

    Attributes:
        logprobs: [N] natural logs of the labelled tokens, fp32, with a gradient.
        examples: [N] which example of the micro-batch each token belongs to, from 0.
        num_examples: Number of examples.
    """

    logprobs: Tensor
    examples: Tensor
    num_examples: int


@dataclass(frozen=True, slots=True)
class Loss:
    """A micro-batch's share of the step's loss.

    Attributes:
        value: Scalar; shares of all micro-batches add up to the loss of the effective batch.
        parts: Named numbers for the log, shares in the same way.
    """

    value: Tensor
    parts: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """Maps log-probabilities to a loss; never sees a model."""

    @property
    def unit(self) -> Unit:
        """What the mean is over."""
        ...

    def loss(self, scored: Scored, num_units: int) -> Loss:
        """Compute a micro-batch's share; `num_units` counts the whole effective batch."""
        ...
