"""Reading rows: what a base says about examples, whatever row each of them stands in."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.models.rows.row import Row

__all__ = ["by_example", "logprobs_of", "scores_at_ends"]


def logprobs_of(base: Base, row: Row) -> Tensor:
    """Run a row for its log-probabilities.

    Args:
        base: The base with whatever adapter is attached.
        row: The row.

    Returns:
        [N] natural logs of its labelled tokens, fp32.
    """
    hidden = base.hidden(row.ids, row.layout)
    return token_logprobs(hidden[row.at], row.targets, base.head)


def scores_at_ends(base: Base, row: Row) -> Tensor:
    """Run a row for the score of each answer.

    Args:
        base: The base with a score head.
        row: The row, with the last tokens of its answers.

    Returns:
        [A, D] in fp32, read at the last labelled token of each answer.
    """
    assert base.score_head is not None, "only a score head gives scores"
    assert len(row.ends) == row.num_answers, "the row must have the last tokens of its answers"
    return base.score_head.scores(base.hidden(row.ids, row.layout)[row.ends])


def by_example(
    rows: Iterable[Row], read: Callable[[Row], Tensor], counts: Sequence[int]
) -> list[Tensor]:
    """Read rows, and put what they say in the order of the examples.

    Args:
        rows: The rows of all examples.
        read: Gives [n, ...] numbers of a row, example after example.
        counts: The number of these numbers in each example.

    Returns:
        The numbers of each example.
    """
    found: dict[int, Tensor] = {}
    for row in rows:
        parts = read(row).split([counts[member] for member in row.members])
        found |= zip(row.members, parts, strict=True)
    return [found[number] for number in range(len(counts))]
