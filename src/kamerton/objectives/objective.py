"""The objective seam: what training minimises, as a function of log-probabilities only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["Loss", "Objective", "Scored", "Takes", "Unit"]

Unit = Literal["token", "example"]
"""What an objective averages over, across the whole effective batch."""

Takes = Literal["texts", "pairs", "feedback"]
"""What an example is: a text, a better and a worse answer, or an answer with a verdict."""


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of one micro-batch, of A answers.

    Of a pair, the better answer comes first, then the worse. Of feedback, the judged answer comes
    first, then one that belongs to another prompt.

    Attributes:
        logprobs: [N] natural logs of the labelled tokens, fp32, with a gradient.
        answers: [N] which answer each token belongs to, from 0.
        num_answers: A.
        references: [A] sum of each answer's log-probabilities under the reference, fp32; None for
            objectives without one.
        good: [A] bool, whether the answer was liked; None unless the examples are feedback.
    """

    logprobs: Tensor
    answers: Tensor
    num_answers: int
    references: Tensor | None = None
    good: Tensor | None = None

    @cached_property
    def sums(self) -> Tensor:
        """[A] log-probability of each whole answer: the sum over its tokens."""
        return self.logprobs.new_zeros(self.num_answers).index_add(0, self.answers, self.logprobs)

    @cached_property
    def lengths(self) -> Tensor:
        """[A] labelled tokens of each answer, 1 or more, in fp32."""
        return torch.bincount(self.answers, minlength=self.num_answers).to(self.logprobs.dtype)

    @cached_property
    def ratios(self) -> Tensor:
        """[A] log of how much more probable each answer is than under the reference."""
        assert self.references is not None, "the objective must say that it needs a reference"
        return self.sums - self.references


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
    def takes(self) -> Takes:
        """What its examples are."""
        ...

    @property
    def unit(self) -> Unit:
        """What the mean is over."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether `Scored.references` must be there."""
        ...

    @property
    def whole_batch(self) -> bool:
        """Whether the loss is no sum over examples, so that it needs the whole effective batch."""
        ...

    def loss(self, scored: Scored, num_units: int) -> Loss:
        """Compute a micro-batch's share; `num_units` counts the whole effective batch."""
        ...
