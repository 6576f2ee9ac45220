"""Common beginnings: which examples share how much, so that a row computes it once.

Narrow tasks repeat a system text, an instruction and demonstrations before every example. Examples
are put in an order in which those that begin alike stand together; a row of them is a tree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kamerton.data.rendering.tokenized import TrainingExample, num_tokens

__all__ = ["Branch", "branches", "group_alike", "num_shareable"]

_WORTH_SHARING = 16
"""Fewer tokens than these are computed again: a segment of its own costs calls of kernels."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A part of a tree of examples: what some have in common, or what one has alone.

    Attributes:
        first: Number of its first example.
        start: First token, of that example.
        stop: One past the last token; None goes to the example's end.
        parent: Number of an earlier branch that it goes on from, or -1.
    """

    first: int
    start: int
    stop: int | None
    parent: int


def num_shareable(example: TrainingExample) -> int:
    """Count the tokens at an example's start that others may share: none of them is learned.

    Args:
        example: An example.

    Returns:
        Tokens before the first labelled one.
    """
    if example.num_prompt:
        return example.num_prompt
    return int(np.argmax(example.answers[0].loss_mask))


def branches(examples: Sequence[TrainingExample]) -> list[Branch]:
    """Cut examples that stand together into a tree, by what neighbours have in common.

    Args:
        examples: The examples in the order of a row.

    Returns:
        Branches in row order, parents before children; one with `stop` None per example, in the
        order of the examples.
    """
    tree: list[Branch] = []
    shared = [_common(a, b) for a, b in pairwise(examples)]

    def grow(first: int, stop: int, start: int, parent: int) -> None:
        if stop - first == 1:
            tree.append(Branch(first, start, None, parent))
            return
        common = min(shared[first : stop - 1])
        if common - start >= _WORTH_SHARING:
            tree.append(Branch(first, start, common, parent))
            start, parent = common, len(tree) - 1
        for low, high in _runs(shared, first, stop, common):
            grow(low, high, start, parent)

    if examples:
        grow(0, len(examples), 0, -1)
    return tree


def group_alike(examples: Sequence[TrainingExample], limit: int) -> list[tuple[list[int], int]]:
    """Put examples that begin alike together, as many as fit into a row.

    Args:
        examples: Any.
        limit: Tokens of a row.

    Returns:
        Groups of example numbers, each with the tokens it takes; in order of their first example.
        An example that begins like no other is a group of its own.
    """
    if not examples:
        return []
    order = sorted(range(len(examples)), key=lambda i: (examples[i].answers[0].ids.tobytes(), i))
    mine = [examples[i] for i in order]
    shared = [_common(a, b) for a, b in pairwise(mine)]
    found: list[tuple[list[int], int]] = []
    for first, stop in _runs(shared, 0, len(order), _WORTH_SHARING - 1):
        common = min(shared[first : stop - 1], default=0)
        placed = _by_length(shared, mine, first, stop)
        group: list[int] = []
        size = common
        for number in placed:
            own = num_tokens(mine[number]) - common
            if group and size + own > limit:
                found.append((group, size))
                group, size = [], common
            group.append(order[number])
            size += own
        found.append((group, size))
    return sorted(found, key=lambda entry: min(entry[0]))


def _by_length(
    shared: Sequence[int], examples: Sequence[TrainingExample], first: int, stop: int
) -> list[int]:
    """Order a run: branches stay together, and examples of equal length beside each other."""
    if stop - first == 1:
        return [first]
    runs = list(_runs(shared, first, stop, min(shared[first : stop - 1])))
    runs.sort(key=lambda run: (run[1] - run[0] > 1, -num_tokens(examples[run[0]])))
    return [number for low, high in runs for number in _by_length(shared, examples, low, high)]


def _runs(shared: Sequence[int], first: int, stop: int, common: int) -> Iterator[tuple[int, int]]:
    """Cut a run of examples where neighbours have no more in common than that."""
    low = first
    for number in range(first, stop - 1):
        if shared[number] <= common:
            yield low, number + 1
            low = number + 1
    yield low, stop


def _common(one: TrainingExample, other: TrainingExample) -> int:
    """Count the tokens that two examples begin with and neither learns."""
    most = min(num_shareable(one), num_shareable(other))
    a, b = (_beginning(example, most) for example in (one, other))
    unlike = np.flatnonzero(a != b)
    return int(unlike[0]) if len(unlike) else most


def _beginning(example: TrainingExample, most: int) -> NDArray[np.int32]:
    return example.answers[0].ids[:most]
