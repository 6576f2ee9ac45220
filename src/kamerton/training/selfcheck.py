"""The first-batch self-checks: our rows must say what the untouched model says with the adapter,
and a model that has not learned yet must say what its reference says."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kamerton.core.errors import ModelError, TrainingError
from kamerton.models.agreement import Agreement, compare, rounded_otherwise
from kamerton.models.base import Base
from kamerton.models.first_check import ways
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import Row
from kamerton.objectives.objective import LossInputs

__all__ = ["answers_at_odds", "check_reference", "check_rows", "settle_rows"]

# Largest difference of a log-probability that rounding explains, by dtype of the computation.
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.25, torch.float16: 0.05}


@torch.no_grad()
def check_rows(base: Base, row: Row, apart: Row | None = None) -> Agreement:
    """Compare what a base says with what its untouched model says, adapter and all.

    Args:
        base: A base with whatever adapter is attached.
        row: A small row.
        apart: The same examples, each answer with a prompt of its own; the row itself when no
            prompts are shared in it.

    Returns:
        The comparison of the row with the model's own logits, one example at a time.
    """
    apart = apart or row
    reference = _model_logprobs(base, apart)

    def own() -> Tensor:
        with rounded_otherwise(base.model):
            return _model_logprobs(base, apart)

    return compare(logprobs_of(base, row), reference, base.dtype, own)


def settle_rows(
    base: Base, row: Row, apart: Row | None = None
) -> tuple[Agreement, str, str | None]:
    """Let a base with its adapter compute in the fastest way that says what its model says.

    Args:
        base: A base with whatever adapter is attached.
        row: A small row.
        apart: The same row without shared beginnings, as for `check_rows`.

    Returns:
        How the way that was chosen compares, which of `ways` it is, and what to tell when it is
        not the fastest.

    Raises:
        ModelError: If no way says the same.
    """
    notice = None
    for way in ways(base):
        check = check_rows(base, row, apart)
        if check.agrees:
            return check, way, notice and f"{notice}: falling back to {way}"
        notice = (
            f"{way} differ from the model's own log-probabilities by {check.difference:.3g} "
            f"(tolerance {check.tolerance:.3g})"
        )
    raise ModelError(
        f"{base.identity.architecture} computes something else with this adapter: {notice}",
        hint="please report the model and the adapter",
    )


@torch.no_grad()
def check_reference(base: Base, row: Row, references: Sequence[Sequence[float]]) -> None:
    """Make sure that a model that has not learned yet is its reference.

    Then the margin of every pair is 0 and DPO's loss ln 2.

    Args:
        base: The base with the adapter attached, before the first step.
        row: A small row.
        references: The references of the row's examples.

    Raises:
        TrainingError: If log-probabilities of whole answers differ by more than rounding.
    """
    scored = LossInputs(logprobs_of(base, row), row.answers, row.num_answers)
    expected = torch.tensor([value for sums in references for value in sums], device=base.device)
    # Errors of single tokens are independent: they add up as the root of their number.
    allowed = _TOLERANCE[base.dtype] * scored.lengths.sqrt()
    gap = (scored.sums - expected).abs()
    if not bool((gap <= allowed).all()):
        worst = float(gap.nan_to_num(nan=float("inf")).max())
        raise TrainingError(
            "before the first step the model must equal its reference, but an answer's "
            f"log-probability differs by {worst:.3g}",
            hint="delete the folder of cached references in the workspace; if it happens again, "
            "please report it",
        )


def answers_at_odds(metrics: Mapping[str, float], dtype: torch.dtype) -> Iterator[str]:
    """Look at the first answers that a model wrote to learn from.

    Args:
        metrics: Their metrics from `Rollouts.collect`.
        dtype: The dtype of the computation.

    Yields:
        A warning, if they are written otherwise than they are learned, or if all are worth the
        same.
    """
    gap, tolerance = metrics["rollout_gap"], _TOLERANCE[dtype]
    if gap > tolerance:
        yield (
            f"answers are written with log-probabilities that differ by {gap:.3g} from those that "
            f"are learned (tolerance {tolerance:.3g})"
        )
    if metrics.get("reward_spread") == 0:
        yield (
            f"the first answers are all worth the same, {metrics['reward']:.3g}: nothing can be "
            "learned from such. Look at objective.rewards, or raise objective.num_generations"
        )


def _model_logprobs(base: Base, row: Row) -> Tensor:
    """Log-probabilities through the model's own forward pass, one example at a time."""
    parts = []
    for number, segment in enumerate(row.layout.segments):
        mine = row.answers == number
        logits = base.own_logits(row.ids[segment.start : segment.stop])
        logprobs = logits[row.at[mine] - segment.start].log_softmax(-1)
        parts.append(logprobs.gather(1, row.targets[mine, None]).squeeze(1))
    return torch.cat(parts)
