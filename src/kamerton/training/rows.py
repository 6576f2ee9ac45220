"""Rows: rendered examples packed for the model, with the positions whose prediction counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kamerton.data.rendered import Trainable
from kamerton.models.layout import Layout, Segment
from kamerton.training.plan import pack

__all__ = ["Row", "make_row", "make_rows", "num_labelled", "num_tokens"]


@dataclass(frozen=True, eq=False)
class Row:
    """One packed row.

    An example with one answer is one segment. Of an example with several, the prompt is a segment
    and every answer a child of it, so the prompt is computed once.

    Attributes:
        ids: [T] token ids.
        layout: The segments of the examples, one example after another.
        at: [N] positions whose next token is labelled.
        targets: [N] those next tokens.
        answers: [N] which answer of the row each belongs to, from 0.
        ends: [A] position of each answer's last labelled token.
        members: Numbers of the row's examples among those it was made of.
        num_answers: Answers in the row.
    """

    ids: Tensor
    layout: Layout
    at: Tensor
    targets: Tensor
    answers: Tensor
    ends: Tensor
    members: tuple[int, ...]
    num_answers: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A segment to be: its tokens, which of them are labelled, and how far back its parent is."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    back: int = 0


def make_row(
    examples: Sequence[Trainable],
    device: torch.device,
    members: Sequence[int] | None = None,
    *,
    shared: bool = True,
) -> Row:
    """Concatenate examples into a row.

    Args:
        examples: At least one, with at least one labelled token in each answer.
        device: Where the row goes.
        members: The examples' numbers in a longer list; counted from 0 when left out.
        shared: Compute the prompt of several answers once; else each answer repeats it.

    Returns:
        The row; its labelled tokens stand in the same order whether prompts are shared or not.
    """
    pieces = [piece for example in examples for piece in _pieces(example, shared)]
    segments, at, targets, owners = [], list[NDArray[np.int64]](), list[NDArray[np.int64]](), []
    ends = []
    start = 0
    for index, piece in enumerate(pieces):
        parent = index - piece.back if piece.back else -1
        segments.append(Segment(start, start + len(piece.ids), parent))
        labelled = np.flatnonzero(piece.trained)
        before = start + labelled - 1
        if parent >= 0:
            # The first token of an answer is predicted at the last position of its prompt.
            before[labelled == 0] = segments[parent].stop - 1
        at.append(before)
        targets.append(piece.ids[labelled].astype(np.int64))
        owners.append(len(labelled))
        ends += [start + int(place) for place in labelled[-1:]]
        start += len(piece.ids)
    num_answers = sum(len(example.answers) for example in examples)
    counts = np.array([count for count in owners if count])
    assert len(counts) == num_answers, "every answer has a labelled token, and no prompt has one"
    ids = np.concatenate([piece.ids for piece in pieces]).astype(np.int64)
    return Row(
        ids=torch.from_numpy(ids).to(device),
        layout=Layout(tuple(segments)),
        at=torch.from_numpy(np.concatenate(at)).to(device),
        targets=torch.from_numpy(np.concatenate(targets)).to(device),
        answers=torch.from_numpy(np.repeat(np.arange(num_answers), counts)).to(device),
        ends=torch.tensor(ends, device=device),
        members=tuple(range(len(examples)) if members is None else members),
        num_answers=num_answers,
    )


def make_rows(
    examples: Sequence[Trainable], tokens_per_row: int, device: torch.device
) -> list[Row]:
    """Pack examples into rows.

    Args:
        examples: The examples of a step.
        tokens_per_row: Size of a row in tokens.
        device: Where the rows go.

    Returns:
        The rows, in a fixed order.
    """
    groups = pack([num_tokens(example) for example in examples], tokens_per_row)
    return [make_row([examples[index] for index in group], device, group) for group in groups]


def num_tokens(example: Trainable) -> int:
    """Count the tokens of an example that are computed.

    Args:
        example: One.

    Returns:
        Tokens, those of a shared prompt once.
    """
    own = sum(len(row.ids) - example.num_prompt for row in example.answers)
    return example.num_prompt + own


def num_labelled(examples: Sequence[Trainable]) -> int:
    """Count labelled tokens.

    Args:
        examples: Examples.

    Returns:
        Tokens that the loss is about, of all their answers.
    """
    rows = (row for example in examples for row in example.answers)
    return int(sum(np.count_nonzero(np.asarray(row.trained)) for row in rows))


def _pieces(example: Trainable, shared: bool) -> Iterator[_Piece]:
    cut = example.num_prompt
    if not cut or not shared:
        yield from (_Piece(row.ids, row.trained) for row in example.answers)
        return
    first = example.answers[0]
    yield _Piece(first.ids[:cut], np.zeros(cut, np.bool_))
    for back, row in enumerate(example.answers, 1):
        yield _Piece(row.ids[cut:], row.trained[cut:], back)
