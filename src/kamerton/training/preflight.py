"""Preflight: the checks of a run before its first step, in order, on a few examples of that step.

1. Where the model learns from its own answers, it writes a few: they must be judged, must not all
   be worth the same, and must be written as they are learned (a warning).
2. The base with its adapter must say what its untouched model says: packed rows first, then padded
   rows, then the model's own modules; a base that then still differs is refused.
3. Where a reference is asked and the run starts from it, the model must still be its reference.
4. Gradients and optimiser states must fit into the free memory (a warning); as many decoder blocks
   are recomputed as a row needs to fit beside them.
5. What "auto" became is said, with a warning of a run that is too short to teach.

What can be known without the model is refused earlier: settings, data, rendering, lengths. A run
that goes on from a checkpoint was checked when it began.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kamerton.adapters.adapter import trainable_share
from kamerton.core.events import Notice, Sink
from kamerton.core.wording import counted
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.models.dtype import dtype_name
from kamerton.models.first_check import OWN_PARTS
from kamerton.models.rows.row import Row, make_row, num_labelled
from kamerton.training.defaults import Chosen
from kamerton.training.memory import blocks_to_recompute, free_bytes, saved_bytes_per_token
from kamerton.training.optimiser import LESS_STATE, optimiser_bytes
from kamerton.training.rollouts import RolloutBatch
from kamerton.training.selfcheck import answers_at_odds, check_reference, settle_rows
from kamerton.training.task import Task

__all__ = ["Checked", "preflight"]

_CHECK_TOKENS = 512
_FEW_STEPS = 20


@dataclass(frozen=True, slots=True)
class Checked:
    """The way a run computes after its checks, and the facts that they found.

    Attributes:
        facts: Numbers by name for the start of the run.
        recomputed_blocks: Decoder blocks to recompute in the backward pass, from the first on.
        ragged: Whether rows are packed.
        blockwise: Whether the base keeps our modules and head.
    """

    facts: Mapping[str, float | int | str]
    recomputed_blocks: int
    ragged: bool
    blockwise: bool


Answer = Callable[[Sequence[TrainingExample], Sequence[int]], RolloutBatch]
"""Lets the model answer prompts, of which it is told how many tokens each may become."""


def preflight(
    task: Task,
    plan: Sequence[Sequence[int]],
    lengths: Sequence[int],
    chosen: Chosen,
    answer: Answer,
    sink: Sink,
) -> Checked:
    """Check a run before its first step.

    Args:
        task: The task to train; its base is set to the fastest way of computing that is right.
        plan: Numbers of examples by step.
        lengths: Tokens of every example, by number.
        chosen: The values that "auto" became.
        answer: Answers a few prompts, where the model learns from its own answers.
        sink: Receives notices and warnings.

    Returns:
        The way the run computes, and the facts found.

    Raises:
        ModelError: If no way of computing says what the untouched model says.
        TrainingError: If the model is not its reference, or memory is short beyond help.
    """
    online = task.rollouts is not None
    # One answer to a question is compared with those to others.
    few = _choose_few(plan[0], lengths, least=2 if online else 1)
    examples: Sequence[TrainingExample] = [task.train[index] for index in few]
    facts: dict[str, float | int | str] = dict(
        trainable_share(task.adapter, task.base.identity.num_parameters)
    )
    if online:
        answered = answer(examples, [lengths[index] for index in few])
        examples = answered.groups
        facts["rollout_gap"] = answered.metrics["rollout_gap"]
        for warning in answers_at_odds(answered.metrics, task.base.dtype):
            sink(Notice(warning, "warning"))
    else:
        facts["labelled"] = num_labelled(task.train)
    row, way, facts["self_check"] = _check_batch(task, few, examples, sink)
    needs = _memory_needs(task, row, max(lengths))
    _say_little_room(needs, sink)
    recomputed = _choose_recomputation(task, needs, sink)
    _say_chosen(chosen, len(plan), sink)
    facts |= {
        "optimiser_bytes": needs.optimiser_bytes,
        "activation_bytes_per_token": needs.bytes_per_token,
        "activation_bytes_per_row": int(needs.bytes_per_token * needs.tokens_per_row),
        "dtype": dtype_name(task.base.dtype),
        "tokens": sum(lengths),
    }
    return Checked(facts, recomputed, task.base.ragged, way != OWN_PARTS)


@dataclass(frozen=True, slots=True)
class _MemoryNeeds:
    """The memory that a run will need beside the weights, and the memory there is.

    Attributes:
        bytes_per_token: The bytes of activations that the backward pass needs, without
            recomputation.
        tokens_per_row: Most tokens that a row will have.
        optimiser_bytes: Gradients and optimiser states.
        free_bytes: Free before either is made.
    """

    bytes_per_token: float
    tokens_per_row: int
    optimiser_bytes: int
    free_bytes: int


def _choose_few(numbers: Sequence[int], lengths: Sequence[int], *, least: int) -> list[int]:
    """Choose examples of the first step for the checks before it.

    Args:
        numbers: The numbers of the first step's examples.
        lengths: Tokens of every example, by number.
        least: The least number to take, however long they are.

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


def _check_batch(
    task: Task, numbers: Sequence[int], examples: Sequence[TrainingExample], sink: Sink
) -> tuple[Row, str, float]:
    """Let a base with its adapter compute in the fastest way that says what its model says.

    Args:
        task: The task to train, before the first step.
        numbers: The examples' numbers.
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


def _memory_needs(task: Task, row: Row, longest: int) -> _MemoryNeeds:
    """Measure on a row how much memory a run will need.

    Args:
        task: The task to train.
        row: A row of some examples.
        longest: Tokens of the longest example.

    Returns:
        The memory that is needed and that is free.
    """
    base, settings = task.base, task.settings
    return _MemoryNeeds(
        bytes_per_token=saved_bytes_per_token(base, row),
        tokens_per_row=max(longest, min(settings.tokens_per_row, settings.batch_tokens)),
        optimiser_bytes=optimiser_bytes(
            task.adapter.parameters().values(), settings, base.device.type
        ),
        free_bytes=free_bytes(base.device),
    )


def _say_little_room(needs: _MemoryNeeds, sink: Sink) -> None:
    """Warn where gradients and optimiser states, which come later, will not fit.

    Args:
        needs: The measured needs.
        sink: Receives the warning.
    """
    if needs.optimiser_bytes > needs.free_bytes:
        needed, free = (n / 2**30 for n in (needs.optimiser_bytes, needs.free_bytes))
        gib = f"{needed:.1f} GiB, and {free:.1f} GiB are free"
        message = f"gradients and optimiser states will take {gib}: {LESS_STATE}"
        sink(Notice(message, "warning"))


def _choose_recomputation(task: Task, needs: _MemoryNeeds, sink: Sink) -> int:
    """Choose how many decoder blocks to recompute in the backward pass.

    Args:
        task: The task to train.
        needs: The measured needs; room is left for gradients and optimiser states.
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


def _say_chosen(chosen: Chosen, num_steps: int, sink: Sink) -> None:
    """Say what "auto" became, and warn of a run that is too short to teach."""
    for reason in chosen.reasons:
        sink(Notice(reason))
    settings, better = chosen.settings, chosen.better_batch
    if better:
        more = f"train.tokens_per_step is {settings.batch_tokens:,}, try {better:,}"
    elif num_steps < _FEW_STEPS:
        more = "raise train.max_steps" if settings.max_steps else "raise train.epochs"
    else:
        return
    steps = counted(num_steps, "optimiser step teaches", "optimiser steps teach")
    sink(Notice(f"{steps} little: {more}", "warning"))
