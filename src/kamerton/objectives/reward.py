"""Reward models: a number per answer that orders answers as people did (arXiv 2203.02155)."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.pairs import Sides
from kamerton.objectives.preference_model import log_preference, preference
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Reward", "RewardSettings"]


class RewardSettings(ObjectiveSettings):
    """A reward model: learn what people prefer, to judge answers with."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"centre": "center_rewards"}

    kind: Literal["reward"] = "reward"
    """Learn to judge answers; the variant scores and does not answer."""
    model: Literal["bradley-terry", "general"] = "bradley-terry"
    """One number per answer ("bradley-terry"), or several ("general", arXiv 2410.02197) that can
    hold preferences in a circle; only DRPO can use the latter."""
    dimensions: int = Field(default=8, ge=2, multiple_of=2)
    """Numbers per answer of the general model; even, 2 or more."""
    margin: float = Field(default=0.0, ge=0)
    """The lead that better answers should have. A column `margin` has its own for each pair."""
    center_rewards: float = Field(default=0.01, ge=0)
    """Weight of the squared sum of both rewards, which keeps them around 0 (arXiv 2312.09244).
    0 or more."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        alien = "center_rewards" if self.model == "general" else "dimensions"
        if getattr(self, alien) != type(self).model_fields[alien].default:
            raise ValueError(f'model = "{self.model}" has no {alien}')
        return self

    @property
    def num_scores(self) -> int:
        """Numbers per answer."""
        return self.dimensions if self.model == "general" else 1


class Reward:
    """The mean over pairs of -log p(better is preferred) + center_rewards (r_better + r_worse)^2.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "pairs"
    reads: Reads = "scores"
    unit: Unit = "example"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: RewardSettings) -> None:
        self.settings = settings

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of pairs.

        Args:
            scored: Pairs with scores at the ends of their answers.
            num_units: Pairs of the whole effective batch.

        Returns:
            The share of the mean over pairs; `accuracy` (a tie counts half), `confidence`, how
            probable the side that it takes is, `brier`, the squared distance of the better answer's
            probability from 1, and with one number per answer `margin` and `chosen_reward`.
        """
        assert scored.scores is not None, "a reward is what a score head says"
        sides = Sides.of(scored.scores)
        usual, told = self.settings.margin, scored.margins
        margin = usual if told is None else told.nan_to_num(nan=usual)
        losses = -log_preference(sides.chosen, sides.rejected, margin)
        if self.settings.model == "bradley-terry":
            both = (sides.chosen + sides.rejected).squeeze(1)
            losses = losses + self.settings.center_rewards * both**2
        return Loss(losses.sum() / num_units, self._metrics(sides, num_units))

    @torch.no_grad()
    def _metrics(self, sides: Sides, num_units: int) -> Mapping[str, float]:
        right = preference(sides.chosen, sides.rejected)
        metrics = {
            "accuracy": (right > 0.5).float() + 0.5 * (right == 0.5).float(),
            "confidence": torch.maximum(right, 1 - right),
            "brier": (1 - right) ** 2,
        }
        if self.settings.model == "bradley-terry":
            metrics |= {"margin": sides.gap, "chosen_reward": sides.chosen}
        return {name: float(numbers.sum()) / num_units for name, numbers in metrics.items()}
