"""Read rows for objectives, and bring an objective's gradients back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kamerton.data.rendering.tokenized import TokenizedPair, TrainingExample
from kamerton.inference.answer_rows import answer_logprobs
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.models.rows.reading import by_example, logprobs_of, scores_at_ends
from kamerton.models.rows.row import Row, make_rows, num_labelled
from kamerton.objectives.objective import (
    Context,
    Experience,
    Loss,
    LossInputs,
    Objective,
    Reads,
    Taught,
)
from kamerton.training.teachings import Teachings, read_taught, taught_of

__all__ = [
    "References",
    "add_gradient",
    "mean_loss",
    "measure",
    "num_units",
    "read",
    "reference_sums",
    "scored_of",
    "summed_losses",
    "tokens_of",
]

References = Sequence[Sequence[float]]
"""By example, the log-probability of each of its answers under the reference, summed over its
tokens."""


def read(
    base: Base, row: Row, reads: Reads, teachings: Teachings | None = None
) -> Tensor:  # fmt: skip
    """Run a row for what an objective reads.

    Args:
        base: The base with whatever adapter is attached; with a score head unless log-probabilities
            are read.
        row: The row, with its context where everything is read.
        reads: The numbers to read.
        teachings: The teacher's tokens by example, where they are read.

    Returns:
        fp32: [N] log-probabilities, or [N + M] with those of the context after them, or [N, 1 + K]
        with those of a teacher's tokens beside them; [A, D] scores
        at the ends of answers, or [N, D] before every labelled token.
    """
    if reads == "logprobs":
        return logprobs_of(base, row)
    if reads == "everything":
        assert row.context is not None, "the row must be made with everything"
        hidden, context = base.hidden(row.ids, row.layout), row.context
        at, targets = torch.cat([row.at, context.at]), torch.cat([row.targets, context.targets])
        return token_logprobs(hidden[at], targets, base.head)
    if reads == "taught":
        assert teachings is not None, "a teacher must have been asked"
        return read_taught(base, row, teachings)
    if reads == "scores":
        return scores_at_ends(base, row)
    assert base.score_head is not None, "only a score head gives values"
    return base.score_head.scores(base.hidden(row.ids, row.layout)[row.at])


def scored_of(
    found: Tensor,
    row: Row,
    examples: Sequence[TrainingExample],
    references: References | None = None,
    experiences: Sequence[Experience] | None = None,
    reads: Reads = "logprobs",
    teachings: Teachings | None = None,
) -> LossInputs:
    """Put what a row says into the form that objectives take.

    Args:
        found: The row's numbers, as `read` gives them.
        row: A row of some of the examples.
        examples: The examples that `row.members` counts.
        references: The references of each example; None without a reference.
        experiences: The experience of each example whose answers the model wrote; None for others.
        reads: The numbers that were read.
        teachings: What a teacher says of each example; None without a teacher.

    Returns:
        The micro-batch.
    """
    mine = [examples[member] for member in row.members]
    sums, is_desirable, margins, experience = None, None, None, None
    if references is not None:
        flat = [value for member in row.members for value in references[member]]
        sums = torch.tensor(flat, device=found.device)
    if any(example.is_desirable is not None for example in mine):
        verdicts = [bool(example.is_desirable) for example in mine for _ in example.answers]
        is_desirable = torch.tensor(verdicts, device=found.device)
    given = [example.margin for example in mine if isinstance(example, TokenizedPair)]
    if any(margin is not None for margin in given):
        told = [math.nan if margin is None else margin for margin in given]
        margins = torch.tensor(told, device=found.device)
    if experiences is not None:
        experience = Experience.joined([experiences[member] for member in row.members])
    logprobs, scores, context, taught = found, None, None, None
    if reads == "everything":
        assert row.context is not None, "the row must be made with everything"
        logprobs, others = found.split([len(row.at), len(row.context.at)])
        context = Context(others, row.context.answers)
    elif reads == "taught":
        assert teachings is not None, "a teacher must have been asked"
        logprobs, student = found[:, 0], found[:, 1:]
        taught = Taught(taught_of(row, teachings, found.device), student)
    elif reads != "logprobs":
        logprobs, scores = found.new_empty(0), found
    return LossInputs(
        logprobs, row.answers, row.num_answers, references=sums, is_desirable=is_desirable,
        scores=scores, margins=margins, experience=experience, context=context, taught=taught,
    )  # fmt: skip


def num_units(objective: Objective, examples: Sequence[TrainingExample]) -> int:
    """Count what an objective averages over.

    Args:
        objective: Says whether that is tokens or examples.
        examples: The examples of the effective batch.

    Returns:
        1 or more.
    """
    return num_labelled(examples) if objective.unit == "token" else len(examples)


@dataclass(eq=False)
class _Sum:
    """A loss that adds up."""

    value: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, loss: Loss) -> None:
        self.value += float(loss.value.detach())
        for name, part in loss.metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + part


def add_gradient(
    objective: Objective,
    base: Base,
    examples: Sequence[TrainingExample],
    references: References | None,
    tokens_per_row: int,
    seed: Callable[[int], None],
    experiences: Sequence[Experience] | None = None,
    teachings: Teachings | None = None,
) -> tuple[float, dict[str, float]]:
    """Add the gradient of the effective batch's loss, row by row.

    An objective that is no sum over examples needs all log-probabilities before any gradient. When
    they do not fit into one row, all rows run twice: first without a gradient, then each with the
    slope that the loss has at its log-probabilities.

    Args:
        objective: The objective to minimise.
        base: The base with the adapter attached.
        examples: The effective batch.
        references: The references of each example; None without a reference.
        tokens_per_row: Size of a row.
        seed: Called with a row's number before each pass over several, so that dropout is the same.
        experiences: The experience of each example whose answers the model wrote; None for others.
        teachings: What a teacher says of each example; None without a teacher.

    Returns:
        The loss and its metrics.
    """
    rows = _rows(objective, base, examples, tokens_per_row)
    units = num_units(objective, examples)
    total = _Sum()
    if objective.whole_batch and len(rows) > 1:
        loss, slopes = _whole(objective, base, rows, examples, references, seed)
        total.add(loss)
        for number, (row, slope) in enumerate(zip(rows, slopes, strict=True)):
            seed(number)
            logprobs_of(base, row).backward(slope)
        return total.value, total.metrics
    for row in rows:
        found = read(base, row, objective.reads, teachings)
        scored = scored_of(
            found, row, examples, references, experiences, objective.reads, teachings
        )
        loss = objective.loss(scored, units)
        loss.value.backward()
        total.add(loss)
    return total.value, total.metrics


@torch.no_grad()
def measure(
    objective: Objective,
    base: Base,
    examples: Sequence[TrainingExample],
    references: References | None = None,
    tokens_per_row: int = TOKENS_PER_ROW,
    teachings: Teachings | None = None,
) -> tuple[float, dict[str, float]]:
    """Compute an objective on examples that are not learned from.

    Args:
        objective: The objective to measure.
        base: The base with whatever adapter is attached.
        examples: At least one example.
        references: The references of each example; None without a reference.
        tokens_per_row: Size of a row.
        teachings: What a teacher says of each example; None without a teacher.

    Returns:
        The loss over all of them, a mean over the objective's units, and its metrics.
    """
    rows = _rows(objective, base, examples, tokens_per_row)
    units = num_units(objective, examples)
    if objective.whole_batch:
        loss, _ = _whole(objective, base, rows, examples, references, lambda number: None)
        return float(loss.value.detach()), dict(loss.metrics)
    total = _Sum()
    for row in rows:
        found = read(base, row, objective.reads, teachings)
        scored = scored_of(
            found, row, examples, references, reads=objective.reads, teachings=teachings
        )
        total.add(objective.loss(scored, units))
    return total.value, total.metrics


@torch.no_grad()
def mean_loss(
    base: Base, examples: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
) -> float:
    """Compute the loss of texts with whatever adapter is attached.

    Args:
        base: The base.
        examples: At least one example.
        tokens_per_row: Tokens computed at once.

    Returns:
        Mean over labelled tokens of the negative natural-log probability.
    """
    total = 0.0
    for row in make_rows(examples, tokens_per_row, base.device):
        total -= float(logprobs_of(base, row).sum())
    return total / num_labelled(examples)


def summed_losses(
    base: Base, examples: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
) -> list[float]:
    """Compute the loss of each text with whatever adapter is attached.

    Args:
        base: The base.
        examples: Any.
        tokens_per_row: Tokens computed at once.

    Returns:
        Of each example the negative natural-log probability, summed over its labelled tokens.
    """
    return [-sum(answers) for answers in reference_sums(base, examples, tokens_per_row)]


@torch.no_grad()
def tokens_of(
    base: Base,
    examples: Sequence[TrainingExample],
    reads: Reads = "logprobs",
    tokens_per_row: int = TOKENS_PER_ROW,
) -> list[Tensor]:
    """Read every labelled token of examples, without a gradient.

    Args:
        base: The base with whatever adapter is attached.
        examples: Any.
        reads: "logprobs", or "values" where a score head is attached.
        tokens_per_row: Size of a row.

    Returns:
        The numbers of each example, [N] or [N, D] over the tokens of all its answers.
    """
    rows = make_rows(examples, tokens_per_row, base.device)
    counts = [num_labelled([example]) for example in examples]
    return by_example(rows, lambda row: read(base, row, reads), counts)


@torch.no_grad()
def reference_sums(
    base: Base, examples: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
) -> list[tuple[float, ...]]:
    """Compute what a reference says, with whatever adapter is attached.

    Args:
        base: The reference.
        examples: Any.
        tokens_per_row: Size of a row.

    Returns:
        `References` in the order of the examples.
    """
    rows = make_rows(examples, tokens_per_row, base.device)
    counts = [len(example.answers) for example in examples]
    found = by_example(rows, lambda row: answer_logprobs(base, row), counts)
    return [tuple(sums.tolist()) for sums in found]


def _rows(
    objective: Objective, base: Base, examples: Sequence[TrainingExample], tokens_per_row: int
) -> list[Row]:
    """Rows with as many labels as the objective reads."""
    everything = objective.reads == "everything"
    return make_rows(examples, tokens_per_row, base.device, everything=everything)


def _whole(
    objective: Objective,
    base: Base,
    rows: Sequence[Row],
    examples: Sequence[TrainingExample],
    references: References | None,
    seed: Callable[[int], None],
) -> tuple[Loss, list[Tensor]]:
    """The loss of all rows together, and its slope at each row's log-probabilities."""
    found = []
    with torch.no_grad():
        for number, row in enumerate(rows):
            seed(number)
            found.append(logprobs_of(base, row))
    with torch.enable_grad():
        leaves = [logprobs.requires_grad_() for logprobs in found]
        parts = [
            scored_of(leaf, row, examples, references)
            for leaf, row in zip(leaves, rows, strict=True)
        ]
        loss = objective.loss(_joined(parts), num_units(objective, examples))
        slopes = torch.autograd.grad(loss.value, leaves)
    return loss, list(slopes)


def _joined(parts: Sequence[LossInputs]) -> LossInputs:
    """Make one micro-batch of several."""
    answers, before = [], 0
    for part in parts:
        answers.append(part.answers + before)
        before += part.num_answers
    references = [part.references for part in parts if part.references is not None]
    is_desirable = [part.is_desirable for part in parts if part.is_desirable is not None]
    return LossInputs(
        torch.cat([part.logprobs for part in parts]),
        torch.cat(answers),
        before,
        references=torch.cat(references) if references else None,
        is_desirable=torch.cat(is_desirable) if is_desirable else None,
    )
