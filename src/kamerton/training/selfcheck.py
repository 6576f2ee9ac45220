"""The first-batch self-check: packed rows must say what plain Transformers rows say."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.training.rows import Row

__all__ = ["SelfCheck", "check_ragged"]

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
def check_ragged(base: Base, row: Row) -> SelfCheck:
    """Compare our hidden states and head with the model's own forward pass.

    Args:
        base: A base with whatever adapter is attached.
        row: A small row.

    Returns:
        The comparison of the ragged path with padded rows.

    Raises:
        ModelError: If our head differs from the model's even on the same padded rows.
    """
    tolerance = _TOLERANCE[base.dtype]
    plain_hidden = base.plain_hidden(row.ids, row.layout)
    own_head = token_logprobs(plain_hidden[row.at], row.targets, base.head)
    reference = _model_logprobs(base, row)
    if (worst := _distance(own_head, reference)) > tolerance:
        raise ModelError(
            f"{base.identity.architecture} turns hidden states into logits in a way that is not "
            f"supported: log-probabilities differ by {worst:.3g}",
            hint="please report the model; its config may scale or cap logits under another name",
        )
    hidden = base.hidden(row.ids, row.layout)
    found = token_logprobs(hidden[row.at], row.targets, base.head)
    return SelfCheck(_distance(found, reference), tolerance)


def _model_logprobs(base: Base, row: Row) -> Tensor:
    """Log-probabilities through the model's own head, one example at a time."""
    parts = []
    pasts = [base.plain_past(1) for _ in row.layout.segments]
    with base.attention("sdpa" if base.model._supports_sdpa else "eager"):
        for number, segment in enumerate(row.layout.segments):
            mine = row.examples == number
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
