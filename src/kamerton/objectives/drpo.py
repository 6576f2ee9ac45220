"""Doubly robust preference optimisation (arXiv 2506.01183): pairs and own answers together.

Three other methods are called DRPO. Distributionally robust DPO is `dpo.robustness` here ("kldpo",
"dr-dpo"); direct ranking and decoupled reward policy optimisation are not offered.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from kamerton.objectives.objective import Experience, Loss, LossInputs, Reads, Takes, Unit, Written
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.policy_gradient import k3, leave_one_out
from kamerton.objectives.preference_model import preference

__all__ = ["Drpo", "DrpoSettings"]


class DrpoSettings(OnlineSettings):
    """DRPO: right if either the preference model or the reference is right."""

    kind: Literal["drpo"] = "drpo"
    """Learn from pairs and from answers of its own, judged by a preference model."""
    num_generations: int = Field(default=2, ge=1, le=256)
    """Answers that are written to each prompt of a step."""
    beta: float = Field(default=0.04, ge=0)
    """Weight of the distance to the reference. 0 or more."""
    ratio_limit: float = Field(default=10.0, gt=1)
    """Largest factor, and one over the smallest, by which a pair counts for being more probable
    than under the reference. Above 1."""


class Drpo:
    """The mean over prompts of the two terms of the paper's equation 9, and the distance.

    Own answers y: -A log pi(y), with A the mean of g(y, better) and g(y, worse), less the same of
    the other own answers (0.5 where there is one). The pair: -(w_better log pi(better) - w_worse
    log pi(worse)) (1 - g(better, worse)) / 2, with w the ratio to the reference, computed and
    limited as a logarithm. g is the preference model. Only log pi has a gradient, as the
    score function demands. The distance is k3, summed over an answer's tokens, with a gradient
    (the authors' code has none).

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "prompts-with-pairs"
    reads: Reads = "logprobs"
    unit: Unit = "example"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: DrpoSettings) -> None:
        self.settings = settings

    def learn_from(self, written: Sequence[Written]) -> list[Experience]:
        """Compute what each answer's log-probability is weighed with.

        Args:
            written: The answers to each prompt: the better, the worse, then own ones.

        Returns:
            One per prompt: (1 - g) / 2 for the pair's tokens, A for own tokens.
        """
        found = []
        for one in written:
            better, worse, own = one.rewards[0], one.rewards[1], one.rewards[2:]
            wins = (preference(own, better) + preference(own, worse)) / 2
            ahead = leave_one_out(wins) if len(wins) > 1 else wins - 0.5
            doubt = (1 - preference(better, worse)) / 2
            weights = torch.cat([doubt.expand(2), ahead])
            found.append(Experience(one.old_logprobs, one.reference, weights[one.answers]))
        return found

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of pairs and own answers.

        Args:
            scored: The answers to each prompt: the better, the worse, then own ones.
            num_units: Prompts of the whole effective batch.

        Returns:
            The share of the mean over prompts; `ratio_clipped` is the share of the pairs' answers
            whose ratio was limited, `k3` the estimate of the distance, nats an answer.
        """
        experience = scored.experience
        assert experience is not None, "DRPO learns from answers of its own"
        per_prompt = 2 + self.settings.num_generations
        sums = scored.sums.view(-1, per_prompt)
        weights = (scored.per_answer(experience.advantages) / scored.lengths).view(-1, per_prompt)
        references = scored.per_answer(experience.reference).view(-1, per_prompt)
        limit = math.log(self.settings.ratio_limit)
        ratios = (sums - references)[:, :2].detach()
        signed = ratios.clamp(-limit, limit).exp() * ratios.new_tensor([1.0, -1.0])
        pair = -(signed * weights[:, :2] * sums[:, :2]).sum(1)
        own = -(weights[:, 2:] * sums[:, 2:]).mean(1)
        distance = scored.per_answer(k3(scored.logprobs, experience.reference))
        distance = distance.view(-1, per_prompt)[:, 2:].mean(1)
        losses = pair + own + self.settings.beta * distance
        metrics = {
            "ratio_clipped": float((ratios.abs() > limit).float().mean(1).sum()) / num_units,
            "k3": float(distance.detach().sum()) / num_units,
        }
        return Loss(losses.sum() / num_units, metrics)
