"""The first batch of a run: checked before anything is learned from it, and measured for memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from kamerton.core.events import Notice, Sink
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.training.memory import blocks_to_recompute, free_bytes, saved_bytes_per_token
from kamerton.training.optimiser import optimiser_bytes
from kamerton.training.rows import Row, make_row
from kamerton.training.selfcheck import check_reference, settle_rows
from kamerton.training.task import Task

__all__ = [
    "LESS_STATE",
    "MemoryNeeds",
    "check_batch",
    "choose_few",
    "choose_recomputation",
    "memory_needs",
    "say_little_room",
]

LESS_STATE = (
    'set train.optimiser = "apollo" (or "adamw-8bit" on a GPU), train fewer weights, or take a '
    "smaller base"
)
"""What to do where gradients and optimiser states do not fit."""

_CHECK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """What a run will need beside the weights, and what there is.

    Attributes:
        bytes_per_token: Of activations that the backward pass needs, without recomputation.
        tokens_per_row: Most tokens that a row will have.
        optimiser_bytes: Gradients and optimiser states.
        free_bytes: Free before either is made.
    """

    bytes_per_token: float
    tokens_per_row: int
    optimiser_bytes: int
    free_bytes: int


def choose_few(numbers: Sequence[int], lengths: Sequence[int], *, least: int) -> list[int]:
    """Choose examples of the first step for the checks before it.

    Args:
        numbers: Of the first step's examples.
        lengths: Tokens of every example, by number.
        least: How many are taken at least, however long they are.

    Returns:
        Their numbers: as many as have some hundred tokens together.
    """
    chosen: list[int] = []
    tokens = 0
    for index in numbers:
        if len(chosen) >= least and tokens >= _CHECK_TOKENS:
            break
        chosen.append(index)
        tokens += lengths[index]
    return chosen


def check_batch(
    task: Task, numbers: Sequence[int], examples: Sequence[TrainingExample], sink: Sink
) -> tuple[Row, str, float]:
    """Let a base with its adapter compute in the fastest way that says what its model says.

    Args:
        task: What to train, before the first step.
        numbers: Of the examples.
        examples: The same, with the model's own answers where it learns from those.
        sink: Receives a warning where that way is slow.

    Returns:
        The examples as a row, the way, and by how much its log-probabilities differ.

    Raises:
        ModelError: If no way says the same.
        TrainingError: If the model is not its reference.
    """
    base = task.base
    row = make_row(examples, base.device)
    if base.notice is not None:
        sink(Notice(f"padded rows: {base.notice}", "warning"))
    check, way, fallback = settle_rows(base, row, make_row(examples, base.device, shared=False))
    if fallback is not None:
        sink(Notice(fallback, "warning"))
    if task.references is not None and task.starts_as_reference:
        check_reference(base, row, [task.references[0][index] for index in numbers])
    return row, way, check.difference


def memory_needs(task: Task, row: Row, longest: int) -> MemoryNeeds:
    """Measure on a row how much memory a run will need.

    Args:
        task: What to train.
        row: Some of it.
        longest: Tokens of the longest example.

    Returns:
        What is needed and what is free.
    """
    base, settings = task.base, task.settings
    return MemoryNeeds(
        bytes_per_token=saved_bytes_per_token(base, row),
        tokens_per_row=max(longest, min(settings.tokens_per_row, settings.batch_tokens)),
        optimiser_bytes=optimiser_bytes(
            task.adapter.parameters().values(), settings, base.device.type
        ),
        free_bytes=free_bytes(base.device),
    )


def say_little_room(needs: MemoryNeeds, sink: Sink) -> None:
    """Warn where gradients and optimiser states, which come later, will not fit.

    Args:
        needs: As measured.
        sink: Receives the warning.
    """
    if needs.optimiser_bytes > needs.free_bytes:
        needed, free = (n / 2**30 for n in (needs.optimiser_bytes, needs.free_bytes))
        gib = f"{needed:.1f} GiB, and {free:.1f} GiB are free"
        message = f"gradients and optimiser states will take {gib}: {LESS_STATE}"
        sink(Notice(message, "warning"))


def choose_recomputation(task: Task, needs: MemoryNeeds, sink: Sink) -> int:
    """Choose how many decoder blocks to recompute in the backward pass.

    Args:
        task: What to train.
        needs: As measured; room is left for gradients and optimiser states.
        sink: Receives a notice where some are recomputed to fit.

    Returns:
        Their number, from the first block on.
    """
    base, wanted = task.base, task.settings.gradient_checkpointing
    if wanted != "auto":
        return base.num_layers if wanted == "all" else 0
    left = max(0, needs.free_bytes - needs.optimiser_bytes)
    number = blocks_to_recompute(needs.bytes_per_token, needs.tokens_per_row, base.num_layers, left)
    if number:
        sink(Notice(f"recomputing {number} of {base.num_layers} blocks to fit"))
    return number
