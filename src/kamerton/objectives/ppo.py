"""Proximal policy optimisation (arXiv 1707.06347) of answers, with a value model (2203.02155)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from kamerton.objectives.objective import Experience, Loss, LossInputs, Reads, Takes, Unit, Written
from kamerton.objectives.online import ClippedSettings
from kamerton.objectives.policy_gradient import clipped

__all__ = ["Ppo", "PpoSettings", "PpoValue", "generalised_advantages"]

_SMALL = 1e-8


class PpoSettings(ClippedSettings):
    """PPO: a value model learns what to expect, and tokens learn from what came out instead."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "discount": "gamma",
        "smoothing": "gae_lambda",
    }

    kind: Literal["ppo"] = "ppo"
    """Learn from rewards with a value model of its own."""
    num_generations: int = Field(default=1, ge=1, le=256)
    """Answers that are written to each prompt of a step."""
    num_iterations: int = Field(default=4, ge=1, le=64)
    """Optimiser steps on the same answers."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """The worth of a reward one token later. Above 0, at most 1."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """The reach of advantages ahead before they trust the value model. 0 to 1."""
    value_clip: float = Field(default=0.2, gt=0)
    """The change of a value in a step above which its gradient is cut. Above 0."""
    value_weight: float = Field(default=0.1, gt=0)
    """Weight of the value model's loss; `train.max_grad_norm` clips both together. Above 0."""
    value_rank: int = Field(default=16, ge=1)
    """Rank of the value model's LoRA."""


class Ppo:
    """The mean over tokens of -min(r A, clip(r) A), r the ratio of a token.

    The reward of a token is -beta times its log-ratio to the reference, and the last token of an
    answer gets the answer's reward besides. Advantages are generalised (arXiv 1506.02438) and
    whitened over the step.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "prompts"
    reads: Reads = "logprobs"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: PpoSettings) -> None:
        self.settings = settings

    def learn_from(self, written: Sequence[Written]) -> list[Experience]:
        """Compute advantages and what values should have been.

        Args:
            written: Answers to the prompts of a step, with values.

        Returns:
            One per prompt.
        """
        settings = self.settings
        found = []
        for one in written:
            assert one.values is not None, "PPO needs a value model"
            rewards = -settings.beta * (one.old_logprobs - one.reference)
            lengths = torch.bincount(one.answers)
            rewards[lengths.cumsum(0) - 1] += one.rewards.squeeze(1)
            own = [
                generalised_advantages(r, v, settings.gamma, settings.gae_lambda)
                for r, v in zip(
                    rewards.split(lengths.tolist()), one.values.split(lengths.tolist()), strict=True
                )
            ]
            advantages = torch.cat(own)
            returns = advantages + one.values
            found.append(
                Experience(one.old_logprobs, one.reference, advantages, returns, one.values)
            )
        every = torch.cat([one.advantages for one in found])
        mean, spread = every.mean(), every.std(correction=0) + _SMALL
        return [replace(one, advantages=(one.advantages - mean) / spread) for one in found]

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
        assert experience is not None, "PPO learns from answers of its own"
        change = scored.logprobs - experience.old_logprobs
        losses, cut = clipped(change, experience.advantages, self.settings.clip_epsilon)
        return Loss(losses.sum() / num_units, {"clipped": float(cut.sum()) / num_units})


class PpoValue:
    """The mean over tokens of half the squared error of values, clipped around what they were.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "prompts"
    reads: Reads = "values"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: PpoSettings) -> None:
        self.settings = settings

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of values.

        Args:
            scored: Answers with what a score head says before each token.
            num_units: Tokens of the whole effective batch.

        Returns:
            The weighted share of the mean over tokens; `value_error` is the mean squared error.
        """
        experience, scores = scored.experience, scored.scores
        assert experience is not None, "values are learned from answers"
        assert experience.returns is not None, "values are learned from returns"
        assert experience.values is not None, "values are clipped around what they were"
        assert scores is not None, "a value is what a score head says"
        values = scores.squeeze(1)
        limit = self.settings.value_clip
        near = experience.values + (values - experience.values).clamp(-limit, limit)
        errors = (values - experience.returns) ** 2
        losses = 0.5 * torch.maximum(errors, (near - experience.returns) ** 2)
        metrics = {"value_error": float(errors.detach().sum()) / num_units}
        return Loss(self.settings.value_weight * losses.sum() / num_units, metrics)


def generalised_advantages(
    rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Compute how much better each token did than expected (arXiv 1506.02438, equation 16).

    Args:
        rewards: [T] of one answer's tokens.
        values: [T] expected before each of them; 0 is expected after the last.
        gamma: The worth of a reward one token later, above 0, at most 1.
        gae_lambda: The reach of advantages ahead, 0 to 1.

    Returns:
        [T].
    """
    found = torch.empty_like(rewards)
    ahead, expected = rewards.new_zeros(()), rewards.new_zeros(())
    for position in reversed(range(len(rewards))):
        surprise = rewards[position] + gamma * expected - values[position]
        ahead = surprise + gamma * gae_lambda * ahead
        found[position], expected = ahead, values[position]
    return found
