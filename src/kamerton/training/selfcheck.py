"""The first-batch self-checks: packed rows must say what plain Transformers rows say, and a model
that has not learned yet must say what its reference says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.core.errors import ModelError, TrainingError
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.objectives.objective import Scored
from kamerton.training.rows import Row
from kamerton.training.scoring import logprobs_of

__all__ = ["SelfCheck", "answers_at_odds", "check_ragged", "check_reference"]

# Largest difference of a log-probability that rounding explains, by dtype of the computation.
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.25, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """How far two ways of computing the same log-probabilities are apart.

    Attributes:
        difference: Largest absolute difference of a token's log-probability.
        tolerance: What the dtype allows.
    """

    difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.difference <= self.tolerance


@torch.no_grad()
def check_ragged(base: Base, row: Row, apart: Row | None = None) -> SelfCheck:
    """Compare our hidden states and head with the model's own forward pass.

    Args:
        base: A base with whatever adapter is attached.
        row: A small row.
        apart: The same examples, each answer with a prompt of its own; the row itself when no
            prompts are shared in it.

    Returns:
        The comparison of the ragged path with padded rows.

    Raises:
        ModelError: If our head differs from the model's even on the same padded rows.
    """
    tolerance = _TOLERANCE[base.dtype]
    apart = apart or row
    plain_hidden = base.plain_hidden(apart.ids, apart.layout)
    own_head = token_logprobs(plain_hidden[apart.at], apart.targets, base.head)
    reference = _model_logprobs(base, apart)
    if (worst := _distance(own_head, reference)) > tolerance:
        raise ModelError(
            f"{base.identity.architecture} turns hidden states into logits in a way that is not "
            f"supported: log-probabilities differ by {worst:.3g}",
            hint="please report the model; its config may scale or cap logits under another name",
        )
    return SelfCheck(_distance(logprobs_of(base, row), reference), tolerance)


@torch.no_grad()
def check_reference(base: Base, row: Row, references: Sequence[Sequence[float]]) -> None:
    """Make sure that a model that has not learned yet is its reference.

    Then the margin of every pair is 0 and DPO's loss ln 2.

    Args:
        base: With the adapter attached, before the first step.
        row: A small row.
        references: Of the row's examples.

    Raises:
        TrainingError: If log-probabilities of whole answers differ by more than rounding.
    """
    scored = Scored(logprobs_of(base, row), row.answers, row.num_answers)
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


def answers_at_odds(parts: Mapping[str, float], dtype: torch.dtype) -> Iterator[str]:
    """Look at the first answers that a model wrote to learn from.

    Args:
        parts: What `Rollouts.collect` says of them.
        dtype: Of the computation.

    Yields:
        A warning, if they are written otherwise than they are learned, or if all are worth the
        same.
    """
    gap, tolerance = parts["rollout_gap"], _TOLERANCE[dtype]
    if gap > tolerance:
        yield (
            f"answers are written with log-probabilities that differ by {gap:.3g} from those that "
            f"are learned (tolerance {tolerance:.3g})"
        )
    if parts.get("reward_spread") == 0:
        yield (
            f"the first answers are all worth the same, {parts['reward']:.3g}: nothing can be "
            "learned from such. Look at objective.rewards, or raise objective.samples"
        )


def _model_logprobs(base: Base, row: Row) -> Tensor:
    """Log-probabilities through the model's own head, one example at a time."""
    parts = []
    pasts = [base.plain_past(1) for _ in row.layout.segments]
    with base.attention("sdpa" if base.model._supports_sdpa else "eager"):
        for number, segment in enumerate(row.layout.segments):
            mine = row.answers == number
            ids = row.ids[segment.start : segment.stop]
            past = {} if pasts[number] is None else {"past_key_values": pasts[number]}
            output = base.model(input_ids=ids[None], **past, use_cache=False)
            logits = output.logits[0].float()
            at = row.at[mine] - segment.start
            logprobs = logits[at].log_softmax(-1)
            parts.append(logprobs.gather(1, row.targets[mine, None]).squeeze(1))
    return torch.cat(parts)


def _distance(a: Tensor, b: Tensor) -> float:
    difference = float((a - b).abs().max())
    # NaN compares as small with everything.
    return difference if difference == difference else float("inf")
