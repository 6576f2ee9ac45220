"""The loss of a base as it stands, adapter and all."""

from collections.abc import Sequence

import torch

from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.models.base import Base
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import make_rows, num_labelled

__all__ = ["mean_loss"]


@torch.no_grad()
def mean_loss(
    base: Base, examples: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
) -> float:
    """Compute a loss with whatever adapter is attached.

    Args:
        base: The base.
        examples: At least one.
        tokens_per_row: Tokens computed at once.

    Returns:
        Mean over labelled tokens of the negative natural-log probability.
    """
    total = 0.0
    for row in make_rows(examples, tokens_per_row, base.device):
        total -= float(logprobs_of(base, row).sum())
    return total / num_labelled(examples)
