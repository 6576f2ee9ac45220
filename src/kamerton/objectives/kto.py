"""Kahneman-Tversky optimisation (arXiv 2402.01306): thumbs up and down without pairs."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Kto", "KtoSettings"]


class KtoSettings(ObjectiveSettings):
    """Kahneman-Tversky optimisation: gain from liked answers, lose from disliked ones."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "bad_weight": "undesirable_weight",
        "good_weight": "desirable_weight",
    }

    kind: Literal["kto"] = "kto"
    """Learn from single answers with a verdict, held near a reference."""
    beta: float = Field(default=0.1, gt=0)
    """The strength that holds answers near the reference; smaller lets them go further. Above 0."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of liked answers. With many more of one kind, choose weights so that
    `desirable_weight` x liked is 1 to 1.33 times `undesirable_weight` x disliked. Above 0."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of disliked answers. Above 0."""


class Kto:
    """The mean over answers of w (1 - s(beta (r - z))) if liked, w (1 - s(beta (z - r))) if not.

    r is the log-ratio of an answer to the reference, summed over its tokens. z is the mean
    log-ratio of answers under prompts that they do not belong to, at least 0, without a gradient:
    an estimate of the distance between model and reference (equation 8 of the paper).

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "feedback"
    reads: Reads = "logprobs"
    unit: Unit = "example"
    needs_reference = True
    whole_batch = True

    def __init__(self, settings: KtoSettings) -> None:
        self.settings = settings

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of the whole effective batch.

        Args:
            scored: Feedback with references: every second answer belongs to another prompt.
            num_units: Judged answers of the effective batch.

        Returns:
            The mean over judged answers; `kl` (z), `reward_accuracy` (the share of liked answers
            with r > z and of disliked ones with r < z), `good_change` and `bad_change` (mean r),
            and `liked_above_disliked`, as `kamerton evaluate` measures it.
        """
        assert scored.is_desirable is not None, "feedback says which answers are liked"
        settings = self.settings
        ratios, is_desirable = scored.ratios[0::2], scored.is_desirable[0::2]
        kl = scored.ratios[1::2].detach().mean().clamp(min=0)
        towards = torch.where(is_desirable, ratios - kl, kl - ratios)
        weights = torch.where(is_desirable, settings.desirable_weight, settings.undesirable_weight)
        losses = weights * (1 - torch.sigmoid(settings.beta * towards))
        change = ratios.detach()
        metrics = {
            "kl": float(kl),
            "reward_accuracy": float(
                (torch.where(is_desirable, change - kl, kl - change) > 0).float().mean()
            ),
        }
        if is_desirable.any() and not is_desirable.all():
            metrics["liked_above_disliked"] = _above(scored, is_desirable)
        # A batch of one kind says nothing about the other.
        for name, which in (("good_change", is_desirable), ("bad_change", ~is_desirable)):
            if which.any():
                metrics[name] = float(change[which].mean())
        return Loss(losses.sum() / num_units, metrics)


@torch.no_grad()
def _above(scored: LossInputs, is_desirable: Tensor) -> float:
    """The share of pairs of a liked and a disliked answer whose liked one is more probable.

    By the mean over an answer's tokens, ties half.
    """
    means = (scored.sums / scored.lengths)[0::2]
    gaps = means[is_desirable][:, None] - means[~is_desirable]
    return float((gaps > 0).float().mean() + 0.5 * (gaps == 0).float().mean())
