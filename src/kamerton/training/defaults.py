"""What "auto" means in `[train]`: learning rate, effective batch and warm-up, each with its reason.

The rate of LoRA follows the hidden size as in Thinking Machines' tinker-cookbook (`get_lr`, after
"LoRA without regret", 2025): 5e-5 * 10 * (2000 / hidden)^p, p = 0.775 for Llama-like bases and
0.0775 for Qwen-like ones. Each method declares its own rate or a multiple of LoRA's, and each
objective a factor; they were found here: `benchmarks/results/defaults_*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from kamerton.adapters.catalogue import method_of
from kamerton.adapters.method import AdapterSettings, Rate
from kamerton.objectives.catalogue import record_of
from kamerton.training.plan import plan_run
from kamerton.training.settings import TrainSettings

__all__ = [
    "MOST_TOKENS",
    "Chosen",
    "auto_learning_rate",
    "auto_tokens_per_step",
    "auto_warmup",
    "resolve",
]

_STEPS = 100
"""Fewer optimiser steps than about these teach little, whatever the rate."""
MOST_TOKENS = 8192
"""Of an effective batch that is chosen here."""
_LEAST_EXAMPLES = 4
_WARMUP_SHARE, _WARMUP_STEPS, _WARMUP_MOST = 0.03, 10, 0.2

_EXPONENTS = {"qwen": 0.0775}
_LLAMA_EXPONENT = 0.775
_NARROWEST = 128
"""The rule was fitted to wide bases; on narrower ones than this it asks for too much."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Settings without "auto", and why they are so.

    Attributes:
        settings: With numbers everywhere.
        reasons: One sentence for each "auto", to be shown before the first step.
        better_batch: A smaller `tokens_per_step` that gives enough steps; 0 when there are enough.
    """

    settings: TrainSettings
    reasons: tuple[str, ...]
    better_batch: int = 0


def auto_learning_rate(
    adapter: AdapterSettings, objective: str, hidden_size: int, model_type: str
) -> tuple[float, str]:
    """Choose a peak learning rate.

    Args:
        adapter: Settings of the method.
        objective: The objective's kind.
        hidden_size: Width of the base.
        model_type: Transformers' name of the base's family.

    Returns:
        The rate, rounded to two digits, and where it comes from.
    """
    default: Rate = method_of(adapter.kind).rate(adapter)
    rate, source = default.value, f"for {adapter.kind}"
    width = max(hidden_size, _NARROWEST)
    if default.follows != "nothing":
        source += f" over a width of {hidden_size:,}"
    if default.follows == "width":
        rate *= 2000 / width
    elif default.follows == "lora":
        exponents = (power for name, power in _EXPONENTS.items() if name in model_type)
        rate *= 5e-4 * (2000 / width) ** next(exponents, _LLAMA_EXPONENT)
    factor = record_of(objective).rate
    if factor != 1.0:
        source += f", times {factor:g} for {objective}"
    return float(f"{rate * factor:.1e}"), source


def auto_tokens_per_step(lengths: Sequence[int], epochs: int) -> int:
    """Choose an effective batch that gives a run about a hundred steps or more.

    Args:
        lengths: Tokens of each example.
        epochs: Passes over them.

    Returns:
        Tokens: those of four examples or more, and at most 8,192.
    """
    total = sum(lengths)
    least = ceil(_LEAST_EXAMPLES * total / len(lengths))
    return max(1, min(MOST_TOKENS, max(least, total * epochs // _STEPS)))


def auto_warmup(num_steps: int) -> float:
    """Choose how long the learning rate rises: 3 %, or ten steps if these are more.

    Args:
        num_steps: Steps of the run.

    Returns:
        Share of the steps, at most a fifth.
    """
    return min(_WARMUP_MOST, max(_WARMUP_SHARE, _WARMUP_STEPS / max(1, num_steps)))


def resolve(
    settings: TrainSettings, lengths: Sequence[int], rate: tuple[float, str], *, online: bool
) -> Chosen:
    """Put numbers in the place of every "auto".

    Args:
        settings: As the recipe has them.
        lengths: Tokens of each example.
        rate: As `auto_learning_rate` gives it.
        online: Whether the model answers the examples itself: batches are then of 8,192 tokens, and
            the rate rises for 3 % of the steps, as in the runs that its rates were found in.

    Returns:
        The settings, with reasons.
    """
    reasons = []
    if settings.learning_rate == "auto":
        settings = settings.model_copy(update={"learning_rate": rate[0]})
        reasons.append(f"train.learning_rate = {rate[0]:g} ({rate[1]})")
    if settings.tokens_per_step == "auto":
        batch = MOST_TOKENS if online else auto_tokens_per_step(lengths, settings.epochs)
        settings = settings.model_copy(update={"tokens_per_step": batch})
        reasons.append(f"train.tokens_per_step = {batch:,}")
    num_steps = len(plan_run(lengths, settings))
    if settings.warmup == "auto":
        warmup = _WARMUP_SHARE if online else auto_warmup(num_steps)
        settings = settings.model_copy(update={"warmup": warmup})
        reasons.append(f"train.warmup = {warmup:.2g} ({ceil(warmup * num_steps)} steps)")
    better = auto_tokens_per_step(lengths, settings.epochs)
    enough = num_steps >= _STEPS or settings.max_steps or better >= settings.batch_tokens or online
    return Chosen(settings, tuple(reasons), 0 if enough else better)
