"""Rows: rendered examples packed for the model, with the positions whose prediction counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kamerton.data.rendering import Rendered
from kamerton.models.layout import Layout
from kamerton.training.plan import pack

__all__ = ["Row", "make_row", "make_rows", "num_labelled"]


@dataclass(frozen=True, eq=False)
class Row:
    """One packed row.

    Attributes:
        ids: [T] token ids.
        layout: One segment per example.
        at: [N] positions whose next token is labelled.
        targets: [N] those next tokens.
        examples: [N] which segment each belongs to.
    """

    ids: Tensor
    layout: Layout
    at: Tensor
    targets: Tensor
    examples: Tensor


def make_row(rendered: Sequence[Rendered], device: torch.device) -> Row:
    """Concatenate examples into a row.

    Args:
        rendered: At least one example with at least one labelled token each.
        device: Where the row goes.

    Returns:
        The row.
    """
    ids = np.concatenate([np.asarray(r.ids, dtype=np.int64) for r in rendered])
    trained = np.concatenate([np.asarray(r.trained, dtype=bool) for r in rendered])
    lengths = [len(r.ids) for r in rendered]
    owners = np.repeat(np.arange(len(rendered)), lengths)
    # A token is predicted at the position before it; the first of an example is never labelled.
    labelled = np.flatnonzero(trained)
    return Row(
        ids=torch.from_numpy(ids).to(device),
        layout=Layout.of_lengths(lengths),
        at=torch.from_numpy(labelled - 1).to(device),
        targets=torch.from_numpy(ids[labelled]).to(device),
        examples=torch.from_numpy(owners[labelled]).to(device),
    )


def make_rows(rendered: Sequence[Rendered], tokens_per_row: int, device: torch.device) -> list[Row]:
    """Pack examples into rows.

    Args:
        rendered: The examples of a step.
        tokens_per_row: Size of a row in tokens.
        device: Where the rows go.

    Returns:
        The rows, in a fixed order.
    """
    groups = pack([len(r.ids) for r in rendered], tokens_per_row)
    return [make_row([rendered[index] for index in group], device) for group in groups]


def num_labelled(rendered: Sequence[Rendered]) -> int:
    """Count labelled tokens.

    Args:
        rendered: Examples.

    Returns:
        Tokens that the loss is about.
    """
    return int(sum(np.count_nonzero(np.asarray(r.trained)) for r in rendered))
