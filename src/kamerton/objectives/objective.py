"""The objective seam: what training minimises, as a function of log-probabilities only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from kamerton.objectives.online import OnlineSettings

__all__ = [
    "Context",
    "Experience",
    "Loss",
    "LossInputs",
    "Objective",
    "Online",
    "Reads",
    "Takes",
    "Taught",
    "Unit",
    "Written",
]

Unit = Literal["token", "example"]
"""The units that an objective averages over, across the whole effective batch."""

Takes = Literal["texts", "pairs", "feedback", "prompts", "prompts-with-pairs"]
"""The kind of an example: a text, a better and a worse answer, an answer with a verdict, or a
prompt that the model answers itself, alone or beside a better and a worse answer."""

Reads = Literal["logprobs", "everything", "taught", "scores", "values"]
"""The numbers of the model that a loss is about: log-probabilities of the answers' tokens, or with
them those of all tokens around an example's first answer, or those of the tokens that a teacher
finds most probable, or a score head's output at the end of each answer, or before each token."""


@dataclass(frozen=True, slots=True)
class Context:
    """Log-probabilities of what stands around answers: their prompts, and turns of others.

    Attributes:
        logprobs: [M] natural logs, fp32, with a gradient; a text's first token has none.
        answers: [M] around which answer each token stands, from 0: of several answers to one
            prompt the first.
    """

    logprobs: Tensor
    answers: Tensor


@dataclass(frozen=True, slots=True)
class Taught:
    """What teacher and student say at each labelled token, of the teacher's most probable tokens.

    Attributes:
        teacher: [N, K] natural logs, fp32, at the objective's temperature.
        student: [N, K] of the same tokens, with a gradient.
    """

    teacher: Tensor
    student: Tensor


@dataclass(frozen=True, slots=True)
class Experience:
    """The experience with answers that the model itself wrote, token by token.

    Attributes:
        old_logprobs: [N] log-probabilities when the answers were written.
        reference: [N] log-probabilities under the reference.
        advantages: [N] by how much each token did better than expected.
        returns: [N] what the value model should have said; None without one.
        values: [N] what it said; None without one.
    """

    old_logprobs: Tensor
    reference: Tensor
    advantages: Tensor
    returns: Tensor | None = None
    values: Tensor | None = None

    @classmethod
    def joined(cls, several: Sequence["Experience"]) -> "Experience":
        """Put the tokens of several examples one after another.

        Args:
            several: At least one experience; values are known of all or of none.

        Returns:
            One.
        """

        def column(name: str) -> Tensor | None:
            parts = [getattr(one, name) for one in several]
            return None if parts[0] is None else torch.cat(parts)

        return cls(
            old_logprobs=torch.cat([one.old_logprobs for one in several]),
            reference=torch.cat([one.reference for one in several]),
            advantages=torch.cat([one.advantages for one in several]),
            returns=column("returns"),
            values=column("values"),
        )


@dataclass(frozen=True)
class LossInputs:
    """Log-probabilities of one micro-batch, of A answers.

    A pair has the better answer first, then the worse. Feedback has the judged answer first, then
    one that belongs to another prompt.

    Attributes:
        logprobs: [N] natural logs of the labelled tokens, fp32, with a gradient.
        answers: [N] which answer each token belongs to, from 0.
        num_answers: A.
        references: [A] sum of each answer's log-probabilities under the reference, fp32; None for
            objectives without one.
        is_desirable: [A] bool, whether the answer was liked; None unless the examples are feedback.
        scores: The score head's output, fp32, with a gradient: [A, D] at the ends of the answers,
            or [N, D] before every labelled token. None where log-probabilities are read; else those
            are empty.
        margins: [A / 2] by how much the better answer of each pair should be ahead, NaN where its
            example does not say; None where none does.
        experience: The experience with answers that the model wrote itself; None for others.
        context: The tokens around the answers; None unless everything is read.
        taught: The teacher's tokens; None without a teacher.
    """

    logprobs: Tensor
    answers: Tensor
    num_answers: int
    references: Tensor | None = None
    is_desirable: Tensor | None = None
    scores: Tensor | None = None
    margins: Tensor | None = None
    experience: Experience | None = None
    context: Context | None = None
    taught: Taught | None = None

    @cached_property
    def sums(self) -> Tensor:
        """[A] log-probability of each whole answer: the sum over its tokens."""
        return self.per_answer(self.logprobs)

    @cached_property
    def lengths(self) -> Tensor:
        """[A] labelled tokens of each answer, 1 or more, in fp32."""
        return torch.bincount(self.answers, minlength=self.num_answers).to(self.logprobs.dtype)

    def per_answer(self, numbers: Tensor) -> Tensor:
        """Sum numbers over each answer's tokens.

        Args:
            numbers: [N].

        Returns:
            [A].
        """
        return numbers.new_zeros(self.num_answers).index_add(0, self.answers, numbers)

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
        metrics: Numbers by name for the log, shares in the same way.
    """

    value: Tensor
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """The model's answers to one prompt, and their worth.

    Answers that were given with the prompt come first, the model's own after them.

    Attributes:
        old_logprobs: [N] log-probabilities of all answers' tokens as they were written.
        reference: [N] under the reference.
        answers: [N] which answer each token belongs to, from 0 and in order.
        rewards: [A, D] what each answer is worth; D is 1 but for a general preference model.
        values: [N] what the value model expects before each token; None without one.
    """

    old_logprobs: Tensor
    reference: Tensor
    answers: Tensor
    rewards: Tensor
    values: Tensor | None = None


class Objective(Protocol):
    """Maps log-probabilities to a loss; never sees a model."""

    @property
    def takes(self) -> Takes:
        """The kind of its examples."""
        ...

    @property
    def reads(self) -> Reads:
        """The numbers of the model that it is about."""
        ...

    @property
    def unit(self) -> Unit:
        """The units that the mean is over."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether `LossInputs.references` must be there."""
        ...

    @property
    def whole_batch(self) -> bool:
        """Whether the loss is no sum over examples, so that it needs the whole effective batch."""
        ...

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute a micro-batch's share; `num_units` counts the whole effective batch."""
        ...


@runtime_checkable
class Online(Objective, Protocol):
    """An objective over answers that the model writes while it learns."""

    @property
    def settings(self) -> OnlineSettings:
        """The settings of answers and of their rewards."""
        ...

    def learn_from(self, written: Sequence[Written]) -> list[Experience]:
        """Say what is to be learned from a whole batch of prompts; no gradient passes."""
        ...
