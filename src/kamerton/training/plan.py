"""The plan of a run: which examples go into which step. Pure functions of the seed."""

from collections.abc import Collection, Sequence
from math import ceil, cos, pi
from random import Random

from kamerton.core.seeds import derive_seed
from kamerton.training.settings import TrainSettings

__all__ = [
    "MEASURING",
    "epoch_ends",
    "learning_rate_at",
    "measured_after",
    "plan_epoch",
    "plan_run",
    "row_sizes",
    "work_after_steps",
]

MEASURING = 1 / 3
"""Work of a token in a forward pass alone, beside one with its backward pass."""


def plan_run(lengths: Sequence[int], settings: TrainSettings) -> list[list[int]]:
    """Plan every step of a run.

    Args:
        lengths: Tokens of each example.
        settings: Epochs, effective batch, limit on steps, seed.

    Returns:
        Example numbers by step. Within an epoch every example comes exactly once.
    """
    steps: list[list[int]] = []
    for epoch in range(settings.epochs):
        steps += plan_epoch(lengths, settings, epoch)
        if settings.max_steps and len(steps) >= settings.max_steps:
            return steps[: settings.max_steps]
    return steps


def plan_epoch(lengths: Sequence[int], settings: TrainSettings, epoch: int) -> list[list[int]]:
    """Plan one epoch.

    Args:
        lengths: Tokens of each example.
        settings: Effective batch and seed.
        epoch: The epoch's number, from 0.

    Returns:
        Example numbers by step, shuffled; a step holds at most `tokens_per_step` tokens, or one
        longer example.
    """
    order = list(range(len(lengths)))
    Random(derive_seed(settings.seed, "order", epoch)).shuffle(order)
    steps: list[list[int]] = []
    room = 0
    for example in order:
        if not steps or lengths[example] > room:
            steps.append([])
            room = settings.batch_tokens
        steps[-1].append(example)
        room -= lengths[example]
    return steps


def epoch_ends(lengths: Sequence[int], settings: TrainSettings, num_steps: int) -> list[int]:
    """Tell after which steps an epoch ends: epochs differ a little in their number of steps.

    Args:
        lengths: Tokens of each example.
        settings: The settings, as for `plan_run`.
        num_steps: Steps of the run, which `max_steps` may have cut.

    Returns:
        Numbers of steps done, up to `num_steps`.
    """
    ends: list[int] = []
    for epoch in range(settings.epochs):
        end = (ends[-1] if ends else 0) + len(plan_epoch(lengths, settings, epoch))
        if end > num_steps:
            break
        ends.append(end)
    return ends


def measured_after(lengths: Sequence[int], settings: TrainSettings, num_steps: int) -> set[int]:
    """Tell after which steps the holdout is measured: every so many, or the ends of epochs.

    Args:
        lengths: Tokens of each example.
        settings: The settings, as for `plan_run`, and how often to measure.
        num_steps: Steps of the run.

    Returns:
        Numbers of steps done; the last is always among them.
    """
    if every := settings.evaluate_every:
        chosen = set(range(every, num_steps, every))
    else:
        chosen = set(epoch_ends(lengths, settings, num_steps))
    return {*chosen, num_steps}


def work_after_steps(
    lengths: Sequence[int], plan: Sequence[Sequence[int]], ends: Collection[int], measured: int
) -> list[float]:
    """Count the work that is left after each step, in tokens that are learned from.

    Args:
        lengths: Tokens of each example.
        plan: Example numbers by step.
        ends: Numbers of steps done after which the holdout is measured.
        measured: Tokens of the holdout.

    Returns:
        Work by the number of steps done, from 0 to all; never rises.
    """
    left = [0.0]
    for number in range(len(plan), 0, -1):
        learned = sum(lengths[example] for example in plan[number - 1])
        left.append(left[-1] + learned + MEASURING * measured * (number in ends))
    return left[::-1]


def row_sizes(
    lengths: Sequence[int], plan: Sequence[Sequence[int]], tokens_per_row: int
) -> list[int]:
    """Say how long the longest row of each step may be.

    Args:
        lengths: Tokens of each example.
        plan: Example numbers by step.
        tokens_per_row: Size of a row; one longer example is a row of its own.

    Returns:
        Tokens by step.
    """
    sizes = []
    for numbers in plan:
        own = [lengths[number] for number in numbers]
        sizes.append(max(max(own), min(sum(own), tokens_per_row)))
    return sizes


def learning_rate_at(step: int, num_steps: int, settings: TrainSettings) -> float:
    """Compute the learning rate of a step.

    Args:
        step: The step's number, from 0.
        num_steps: Steps of the whole run.
        settings: Peak, warm-up share and shape.

    Returns:
        The learning rate, above 0.
    """
    num_warmup = ceil(settings.warmup_share * num_steps)
    if step < num_warmup:
        return settings.peak_rate * (step + 1) / (num_warmup + 1)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    if settings.schedule == "cosine":
        return settings.peak_rate * (1 + cos(pi * progress)) / 2
    if settings.schedule == "linear":
        return settings.peak_rate * (1 - progress)
    return settings.peak_rate
