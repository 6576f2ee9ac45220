"""Rows: rendered examples packed for the model, with the positions whose prediction counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kamerton.data.rendering.tokenized import TrainingExample, num_tokens
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.rows.beginnings import Branch, branches, group_alike
from kamerton.models.rows.packing import pack

__all__ = ["Labels", "Row", "make_row", "make_rows", "num_labelled"]


@dataclass(frozen=True, eq=False, slots=True)
class Labels:
    """Tokens of a row to be predicted.

    Attributes:
        at: [M] positions whose next token is predicted.
        targets: [M] those next tokens.
        answers: [M] which answer of the row each belongs to, from 0.
    """

    at: Tensor
    targets: Tensor
    answers: Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """One packed row.

    What several examples begin with is a segment, and what each goes on with a child of it; so are
    an example's prompt and its answers. Both are computed once.

    Attributes:
        ids: [T] token ids.
        layout: The segments of the examples, one example after another.
        at: [N] positions whose next token is labelled.
        targets: [N] those next tokens.
        answers: [N] which answer of the row each belongs to, from 0.
        ends: [A] position of each answer's last labelled token; empty when it is not computed.
        members: Numbers of the row's examples among those it was made of.
        num_answers: Answers in the row.
        context: The tokens around each example's first answer, all but the first one; None
            unless it was asked for.
    """

    ids: Tensor
    layout: Layout
    at: Tensor
    targets: Tensor
    answers: Tensor
    ends: Tensor
    members: tuple[int, ...]
    num_answers: int
    context: Labels | None = None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A segment to be: its tokens, which of them are labelled, how far back its parent is, and
    whether the first answer's conversation goes through it."""

    ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    back: int = 0
    leads: bool = True


@dataclass(frozen=True, slots=True)
class _Found:
    """Labels that are being collected, by piece."""

    at: list[NDArray[np.int64]] = field(default_factory=list)
    targets: list[NDArray[np.int64]] = field(default_factory=list)
    answers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, piece: _Piece, chosen: NDArray[np.int64], start: int, last: int, answer: int
    ) -> None:
        """Add tokens of a piece that stands at `start` and whose parent ends at `last`."""
        before = start + chosen - 1
        # The first token of an answer is predicted at the last position of its prompt.
        before[chosen == 0] = last
        self.at.append(before)
        self.targets.append(piece.ids[chosen].astype(np.int64))
        self.answers.append(np.full(len(chosen), answer))

    def labels(self, device: torch.device) -> Labels:
        columns = (self.at, self.targets, self.answers)
        return Labels(*(torch.from_numpy(np.concatenate(parts)).to(device) for parts in columns))


def make_row(
    examples: Sequence[TrainingExample],
    device: torch.device,
    members: Sequence[int] | None = None,
    *,
    shared: bool = True,
    everything: bool = False,
    last_tokens: bool = True,
) -> Row:
    """Concatenate examples into a row.

    Args:
        examples: At least one example, with at least one labelled token in each answer.
        device: The row's device.
        members: The examples' numbers in a longer list; counted from 0 when left out.
        shared: Whether common beginnings are computed once; else each answer repeats its prompt.
        everything: Whether the tokens around each example's first answer are labelled too, apart.
            Examples then share nothing with each other: every one has labels in its beginning.
        last_tokens: Whether each answer's last token is computed too. It predicts nothing; score
            heads read it.

    Returns:
        The row; its labelled tokens stand in the same order whether prompts are shared or not.
    """
    assert last_tokens or not everything, "what stands around an answer may end with it"
    segments, texts, ends = list[Segment](), list[NDArray[np.int32]](), list[int]()
    labelled, around = _Found(), _Found()
    start, segment_of = 0, list[int]()
    for piece in _pieces(examples, shared, together=not everything):
        parent = segment_of[-piece.back] if piece.back else -1
        before = segments[parent].stop - 1 if piece.back else -1
        chosen = np.flatnonzero(piece.loss_mask)
        if everything and piece.leads:
            others = np.flatnonzero(~piece.loss_mask)
            # Nothing predicts the first token of a text.
            others = others[others > 0] if parent < 0 else others
            around.add(piece, others, start, before, len(ends))
        labelled.add(piece, chosen, start, before, len(ends))
        ends += [start + int(place) for place in chosen[-1:]]
        texts.append(piece.ids if last_tokens or not len(chosen) else piece.ids[:-1])
        segment_of.append(len(segments))
        # An answer of one token may have none to compute; nothing goes on from an answer.
        if len(texts[-1]):
            segments.append(Segment(start, start + len(texts[-1]), parent))
        start += len(texts[-1])
    num_answers = sum(len(example.answers) for example in examples)
    assert len(ends) == num_answers, "every answer has a labelled token, and no prompt has one"
    labels = labelled.labels(device)
    ids = np.concatenate(texts).astype(np.int64)
    return Row(
        ids=torch.from_numpy(ids).to(device),
        layout=Layout(tuple(segments)),
        at=labels.at,
        targets=labels.targets,
        answers=labels.answers,
        ends=torch.tensor(ends if last_tokens else [], dtype=torch.long, device=device),
        members=tuple(range(len(examples)) if members is None else members),
        num_answers=num_answers,
        context=around.labels(device) if everything else None,
    )


def make_rows(
    examples: Sequence[TrainingExample],
    tokens_per_row: int,
    device: torch.device,
    *,
    everything: bool = False,
    last_tokens: bool = True,
) -> list[Row]:
    """Pack examples into rows.

    Args:
        examples: The examples of a step.
        tokens_per_row: Size of a row in tokens.
        device: The rows' device.
        everything: Whether the tokens around each example's first answer are labelled too.
        last_tokens: Whether each answer's last token is computed too.

    Returns:
        The rows, in a fixed order.
    """
    if everything:
        alike = [([index], num_tokens(example)) for index, example in enumerate(examples)]
    else:
        alike = group_alike(examples, tokens_per_row)
    rows = []
    for packed in pack([size for _, size in alike], tokens_per_row):
        group = [index for number in packed for index in alike[number][0]]
        mine = [examples[index] for index in group]
        rows.append(make_row(mine, device, group, everything=everything, last_tokens=last_tokens))
    return rows


def num_labelled(examples: Sequence[TrainingExample]) -> int:
    """Count labelled tokens.

    Args:
        examples: Examples.

    Returns:
        Tokens that the loss is about, of all their answers.
    """
    rows = (row for example in examples for row in example.answers)
    return int(sum(np.count_nonzero(np.asarray(row.loss_mask)) for row in rows))


def _pieces(examples: Sequence[TrainingExample], shared: bool, together: bool) -> Iterator[_Piece]:
    """Cut examples into segments: without sharing, sharing within examples, or among them."""
    if not shared:
        for example in examples:
            for number, row in enumerate(example.answers):
                yield _Piece(row.ids, row.loss_mask, leads=not number)
        return
    if together:
        tree = branches(examples)
    else:
        tree = [Branch(number, 0, None, -1) for number in range(len(examples))]
    # A branch may become several pieces: where each branch's last piece before its children is.
    count, at = 0, list[int]()
    for branch in tree:
        parent = -1 if branch.parent < 0 else at[branch.parent]
        made = list(_cut(examples[branch.first], branch, count, parent))
        yield from made
        at.append(count)
        count += len(made)


def _cut(example: TrainingExample, branch: Branch, count: int, parent: int) -> Iterator[_Piece]:
    """Cut a branch into pieces, the first of which is number `count` of the row."""
    start, first = branch.start, example.answers[0]
    back = count - parent if parent >= 0 else 0
    if branch.stop is not None:
        part = slice(start, branch.stop)
        yield _Piece(first.ids[part], first.loss_mask[part], back)
        return
    cut = example.num_prompt
    if not cut:
        for number, row in enumerate(example.answers):
            own = number + back if back else 0
            yield _Piece(row.ids[start:], row.loss_mask[start:], own, leads=not number)
        return
    if start < cut:
        yield _Piece(first.ids[start:cut], np.zeros(cut - start, np.bool_), back)
        back = 1
    for number, row in enumerate(example.answers):
        yield _Piece(row.ids[cut:], row.loss_mask[cut:], number + back, leads=not number)
