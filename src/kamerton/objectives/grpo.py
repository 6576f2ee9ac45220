"""Group relative policy optimisation (arXiv 2402.03300), by default as DAPO weighs tokens."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from kamerton.objectives.objective import Experience, Loss, LossInputs, Reads, Takes, Unit, Written
from kamerton.objectives.online import ClippedSettings
from kamerton.objectives.policy_gradient import clipped, k3

__all__ = ["Grpo", "GrpoSettings"]

_SMALL = 1e-4


class GrpoSettings(ClippedSettings):
    """GRPO: compare each answer with the mean of its group, token by token."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"scale": "scale_rewards"}

    kind: Literal["grpo"] = "grpo"
    """Learn from rewards without a value model; each token is weighed by itself."""
    num_generations: int = Field(default=8, ge=2, le=256)
    """Answers that are written to each prompt of a step: the group."""
    scale_rewards: bool = True
    """Divide by the group's standard deviation. False (Dr. GRPO, arXiv 2503.20783) does not favour
    prompts that are nearly always, or nearly never, answered well."""


class Grpo:
    """The mean over tokens of -min(r A, clip(r) A) + beta k3, r the ratio of a token.

    A is the reward less its group's mean, over the group's standard deviation. k3 = exp(q) - q - 1
    with q the log-ratio of reference and model estimates the distance between them, with a
    gradient. The mean is over all tokens of the step (arXiv 2503.14476), so that long answers are
    not taught less.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "prompts"
    reads: Reads = "logprobs"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: GrpoSettings) -> None:
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
            better = rewards - rewards.mean()
            if self.settings.scale_rewards:
                better = better / (rewards.std() + _SMALL)
            found.append(Experience(one.old_logprobs, one.reference, better[one.answers]))
        return found

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of answers.

        Args:
            scored: Answers that the model wrote.
            num_units: Their tokens in the whole effective batch.

        Returns:
            The share of the mean over tokens; `clipped` is the share of tokens whose gradient was
            cut.
        """
        experience = scored.experience
        assert experience is not None, "GRPO learns from answers of its own"
        change = scored.logprobs - experience.old_logprobs
        losses, cut = clipped(change, experience.advantages, self.settings.clip_epsilon)
        if self.settings.beta:
            losses = losses + self.settings.beta * k3(scored.logprobs, experience.reference)
        return Loss(losses.sum() / num_units, {"clipped": float(cut.sum()) / num_units})
