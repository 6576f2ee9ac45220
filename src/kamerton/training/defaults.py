"""What "auto" means in `[train]`: learning rate, effective batch and warm-up, each with its reason.

The rate of LoRA follows the hidden size as in Thinking Machines' tinker-cookbook (`get_lr`, after
"LoRA without regret", 2025): 5e-5 * 10 * (2000 / hidden)^p, p = 0.775 for Llama-like bases and
0.0775 for Qwen-like ones. The other factors were found here: `benchmarks/results/defaults_*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from kamerton.adapters.full import FullSettings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.settings import Settings
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
_ALPHA = 32.0
"""Of the LoRA that the rule is for, whatever its rank."""
_OF_LORA = {"lora": 1.0, "bottleneck": 4.0}
"""Of the rate of LoRA."""
_FULL = 1e-4
"""Of all weights over a width of 2,000; AdamW's rate falls with the width (arXiv 2203.03466)."""
# What stands beside the weights has no scale that follows the hidden size.
_OWN = {"prefix": 0.1, "prompt": 3e-2, "ia3": 0.1, "fusion": 1e-2}
_NORMS, _NETWORK = 1e-2, 3e-3
"""Of norms and biases alone, and of a network that computes a prefix; neither was searched for."""
# Preferences go far from their start at fine-tuning's rate, and own answers are noisy. These are
# the rates that kept most of a desk's rules on nano (`benchmarks/results/preferences_*`).
_OF_OBJECTIVE = {
    "dpo": 0.02, "simpo": 0.04, "kto": 0.04, "orpo": 0.4, "reward": 0.4,
    "rloo": 0.4, "rlhf": 0.4, "grpo": 0.4, "ppo": 0.4, "drpo": 0.4,
}  # fmt: skip


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
    adapter: Settings, objective: str, hidden_size: int, model_type: str
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
    kind = str(getattr(adapter, "kind", "lora"))
    own = _own_rate(adapter, kind)
    if own:
        rate, source = own, f"for {kind}"
    else:
        rate = _by_width(adapter, kind, max(hidden_size, _NARROWEST), model_type)
        source = f"for {kind} over a width of {hidden_size:,}"
    factor = _OF_OBJECTIVE.get(objective, 1.0)
    if factor != 1.0:
        source += f", times {factor:g} for {objective}"
    return float(f"{rate * factor:.1e}"), source


def _own_rate(adapter: Settings, kind: str) -> float:
    """Give the rate of what has no scale that follows the width; 0 where it has one."""
    match adapter:
        case FullSettings(parts=("norms-and-biases",)):
            return _NORMS
        case PrefixSettings(network=network) if network:
            return _NETWORK
    return _OWN.get(kind, 0.0)


def _by_width(adapter: Settings, kind: str, width: int, model_type: str) -> float:
    if kind == "full":
        return _FULL * 2000 / width
    exponent = next((p for name, p in _EXPONENTS.items() if name in model_type), _LLAMA_EXPONENT)
    return 5e-4 * (2000 / width) ** exponent * _OF_LORA.get(kind, 1.0) * _of_form(adapter)


def _of_form(adapter: Settings) -> float:
    """Give the factor of a form of LoRA on plain LoRA's rate.

    The rate falls with the square root of how much more the product of both factors counts (rsLoRA:
    the fourth root of the rank), and of how much faster one of them learns (LoRA+).
    """
    if not isinstance(adapter, LoraSettings):
        return 1.0
    strength = adapter.alpha / _ALPHA * (adapter.rank**0.5 if adapter.rank_stabilised else 1.0)
    return float((strength * adapter.rate_ratio) ** -0.5)


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
