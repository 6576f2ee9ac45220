"""Direct preference optimisation (arXiv 2305.18290) and its relatives over a reference."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.pairs import Sides, logistic_loss, pair_metrics, with_nll
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Dpo", "DpoSettings"]

# The authors' code has this limit too, so that one pair cannot be the whole batch.
_LARGEST_WEIGHT = 10.0


class DpoSettings(ObjectiveSettings):
    """Direct preference optimisation: prefer the better answer more than the reference does."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "form": "loss_type",
        "nll": "nll_weight",
    }

    kind: Literal["dpo"] = "dpo"
    """Learn from pairs, held near a reference."""
    beta: float = Field(default=0.1, gt=0)
    """The strength that holds answers near the reference; smaller lets them go further. Above 0."""
    loss_type: Literal["sigmoid", "hinge", "ipo", "robust", "length-normalised"] = "sigmoid"
    """"sigmoid" is DPO; "hinge" stops once the margin is 1; "ipo" (arXiv 2310.12036) aims at a
    finite margin over mean log-probabilities; "robust" (arXiv 2403.00409) takes a known share of
    flipped pairs out of the loss; "length-normalised" compares means over tokens instead of sums.
    """
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs believed to be the wrong way round, for "sigmoid", "length-normalised" (which
    then pull towards both, conservative DPO) and "robust". 0 to below 0.5."""
    nll_weight: float = Field(default=0.0, ge=0)
    """Weight of the better answer's own negative log-likelihood (mean over its tokens), which keeps
    it from becoming less probable. 0 or more."""
    robustness: Literal["none", "dr-dpo", "kldpo"] = "none"
    """"dr-dpo" (arXiv 2407.07880) is for noisy labels: pairs with a large loss count less. "kldpo"
    (arXiv 2502.01930) is for users who may shift: pairs with a large loss count more."""
    temperature: float = Field(default=1.0, gt=0)
    """The nearness of `robustness` to the plain mean; larger is nearer. Above 0."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.loss_type == "robust" and not self.label_smoothing:
            raise ValueError(
                'loss_type = "robust" needs label_smoothing, the share of flipped pairs'
            )
        if self.loss_type in ("hinge", "ipo") and self.label_smoothing:
            raise ValueError(f'loss_type = "{self.loss_type}" has no label_smoothing')
        if self.temperature != 1 and self.robustness == "none":
            raise ValueError('temperature belongs to robustness = "dr-dpo" or "kldpo"')
        return self


class Dpo:
    """The mean over pairs of a loss of beta times the difference of log-ratios.

    With r = log pi(y) - log ref(y), summed over the answer's tokens, and D = r_better - r_worse:
    sigmoid is -log s(beta D); hinge max(0, 1 - beta D); ipo (D' - 1 / (2 beta))^2 with D' over
    means instead of sums; robust [(1 - e) l(D) - e l(-D)] / (1 - 2 e), which can be negative.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "pairs"
    reads: Reads = "logprobs"
    unit: Unit = "example"
    needs_reference = True

    def __init__(self, settings: DpoSettings) -> None:
        self.settings = settings

    @property
    def whole_batch(self) -> bool:
        """Robustness weighs the pairs of a batch against each other."""
        return self.settings.robustness != "none"

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of pairs.

        Args:
            scored: Pairs with references; the whole effective batch with `robustness`.
            num_units: Pairs of the whole effective batch.

        Returns:
            The share of the mean over pairs.
        """
        settings = self.settings
        means = settings.loss_type in ("ipo", "length-normalised")
        ratios = scored.ratios / scored.lengths if means else scored.ratios
        losses = _losses(Sides.of(ratios).gap, settings)
        value = _mean(losses, settings, num_units)
        metrics = pair_metrics(scored, settings.beta * ratios, num_units)
        return with_nll(Loss(value, metrics), scored, settings.nll_weight, num_units)


def _losses(gap: Tensor, settings: DpoSettings) -> Tensor:
    """[B] loss of each pair from the [B] difference of log-ratios."""
    logits = settings.beta * gap
    share = settings.label_smoothing
    match settings.loss_type:
        case "hinge":
            return torch.relu(1 - logits)
        case "ipo":
            return (gap - 1 / (2 * settings.beta)) ** 2
        case "robust":
            # Equation 8 of arXiv 2403.00409.
            return (share * logsigmoid(-logits) - (1 - share) * logsigmoid(logits)) / (
                1 - 2 * share
            )
        case _:
            return logistic_loss(logits, share)


def _mean(losses: Tensor, settings: DpoSettings, num_units: int) -> Tensor:
    """Average over pairs, or weigh them as the distributionally robust forms do."""
    if settings.robustness == "none":
        return losses.sum() / num_units
    assert len(losses) == num_units, "robust forms weigh the whole effective batch"
    if settings.robustness == "dr-dpo":
        # -t log mean exp(-loss / t): equation 12 of arXiv 2407.07880.
        count = torch.log(losses.new_tensor(num_units))
        return -settings.temperature * (
            torch.logsumexp(-losses / settings.temperature, dim=0) - count
        )
    with torch.no_grad():
        above = (losses - losses.mean()) / settings.temperature
        weights = above.exp().clamp(max=_LARGEST_WEIGHT)
    return (weights * losses).sum() / num_units
