"""REINFORCE with a leave-one-out baseline (arXiv 2402.14740): the lightest way to use rewards."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from kamerton.objectives.objective import Experience, Loss, LossInputs, Reads, Takes, Unit, Written
from kamerton.objectives.online import ClippedSettings
from kamerton.objectives.policy_gradient import clipped, leave_one_out

__all__ = ["Rloo", "RlooSettings"]


class RlooSettings(ClippedSettings):
    """RLOO: write several answers, learn from those that beat the others."""

    kind: Literal["rloo", "rlhf"] = "rloo"
    """Learn from rewards without a value model; "rlhf" is another name for it."""
    num_generations: int = Field(default=4, ge=2, le=256)
    """Answers that are written to each prompt of a step; each is compared with the others."""


class Rloo:
    """The mean over prompts and answers of -min(r A, clip(r) A), r the ratio of whole answers.

    A is the reward, less beta times the log-ratio to the reference, less the mean of the same over
    the other answers to the prompt.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "prompts"
    reads: Reads = "logprobs"
    unit: Unit = "example"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: RlooSettings) -> None:
        self.settings = settings

    def learn_from(self, written: Sequence[Written]) -> list[Experience]:
        """Compute advantages.

        Args:
            written: Answers to the prompts of a step.

        Returns:
            One per prompt; all tokens of an answer have its advantage.
        """
        found = []
        for one in written:
            rewards = one.rewards.squeeze(1)
            distance = rewards.new_zeros(len(rewards)).index_add(
                0, one.answers, one.old_logprobs - one.reference
            )
            better = leave_one_out(rewards - self.settings.beta * distance)
            found.append(Experience(one.old_logprobs, one.reference, better[one.answers]))
        return found

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of answers.

        Args:
            scored: Answers that the model wrote, as many to each prompt.
            num_units: Prompts of the whole effective batch.

        Returns:
            The share of the mean over prompts and answers; `clipped` is the share of answers whose
            gradient was cut.
        """
        assert scored.experience is not None, "RLOO learns from answers of its own"
        total = num_units * self.settings.num_generations
        change = scored.per_answer(scored.logprobs - scored.experience.old_logprobs)
        advantages = scored.per_answer(scored.experience.advantages) / scored.lengths
        losses, cut = clipped(change, advantages, self.settings.clip_epsilon)
        return Loss(losses.sum() / total, {"clipped": float(cut.sum()) / total})
