"""The optimiser of a run: AdamW (arXiv 1711.05101), with its states in 32 or 8 bits, or APOLLO."""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter, rate_groups
from kamerton.core.errors import MissingExtraError, SettingsError, TrainingError
from kamerton.training.apollo import Apollo
from kamerton.training.memory import is_out_of_memory
from kamerton.training.settings import TrainSettings

__all__ = ["LESS_STATE", "make_optimiser", "optimiser_bytes", "update_weights"]

LESS_STATE = (
    'set train.optimiser = "apollo" (or "adamw-8bit" on a GPU), train fewer weights, or take a '
    "smaller base"
)
"""The advice where gradients and optimiser states do not fit."""

# Smaller tensors keep AdamW's states in 32 bits with bitsandbytes.
_SMALLEST_IN_8_BITS = 4096


def make_optimiser(adapter: Adapter, settings: TrainSettings) -> torch.optim.Optimizer:
    """Make a fresh optimiser over an adapter's tensors.

    Args:
        adapter: The adapter that learns; its groups carry the factor on their learning rate.
        settings: The choice of optimiser and its numbers.

    Returns:
        The optimiser; each group has its `factor`.

    Raises:
        MissingExtraError: If its package is not installed.
        SettingsError: If it needs a GPU and there is none.
    """
    optimiser = _made(adapter, settings)
    parameters = list(adapter.parameters().values())

    def tell(*_: object) -> None:
        # Fused steps do not count as changes, and what is rounded from the weights would stay old.
        torch.autograd.graph.increment_version(parameters)

    optimiser.register_step_post_hook(tell)
    return optimiser


def _made(adapter: Adapter, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser itself."""
    groups = [{"params": p, "factor": f} for f, p in rate_groups(adapter)]
    betas = (settings.beta1, settings.beta2)
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(
            groups,
            lr=settings.peak_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    if settings.optimiser == "apollo":
        return Apollo(
            groups,
            lr=settings.peak_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            rank=settings.apollo_rank,
            seed=settings.seed,
        )
    if settings.optimiser == "paged-adamw-8bit" and not torch.cuda.is_available():
        raise SettingsError(
            'train.optimiser = "paged-adamw-8bit" moves states between a GPU and the CPU, and '
            "there is no GPU here",
            hint='set train.optimiser = "adamw-8bit" or "apollo"',
        )
    # It says at import, as a warning, which kernels it would like to have.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
    except ImportError:
        raise MissingExtraError(
            "bitsandbytes", "bitsandbytes", f'train.optimiser = "{settings.optimiser}"'
        ) from None
    # Blockwise states of 8 bits (arXiv 2110.02861); tensors below 4096 numbers keep 32.
    made = AdamW8bit if settings.optimiser == "adamw-8bit" else PagedAdamW8bit
    optimiser: torch.optim.Optimizer = made(
        groups, lr=settings.peak_rate, betas=betas, weight_decay=settings.weight_decay
    )
    return optimiser


def update_weights(optimiser: torch.optim.Optimizer) -> None:
    """Take the optimiser's step; the first time it makes its states, and may find no room.

    A step that stopped half way cannot be taken again, and smaller rows would not help it.

    Args:
        optimiser: The optimiser, with gradients in its tensors.

    Raises:
        TrainingError: If memory runs out.
    """
    try:
        optimiser.step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "out of memory in the optimiser's step: its states do not fit beside the weights and "
            "their gradients",
            hint=LESS_STATE,
        ) from error


def optimiser_bytes(parameters: Iterable[Tensor], settings: TrainSettings, device: str) -> int:
    """Tell what the first step adds to memory and later ones keep: gradients and states.

    Args:
        parameters: The tensors that learn.
        settings: The choice of optimiser.
        device: Kind of device that they are on.

    Returns:
        Bytes on that device.
    """
    total = 0
    for parameter in parameters:
        count = parameter.numel()
        wide = states = 2 * count * parameter.element_size()
        if settings.optimiser == "apollo" and parameter.ndim == 2:
            states = wide * min(settings.apollo_rank, *parameter.shape) // min(parameter.shape)
        elif settings.optimiser.endswith("8bit") and count >= _SMALLEST_IN_8_BITS:
            # Paged ones leave a GPU that is full.
            paged = settings.optimiser.startswith("paged") and device == "cuda"
            states = 0 if paged else 2 * count
        total += count * parameter.element_size() + states
    return total
