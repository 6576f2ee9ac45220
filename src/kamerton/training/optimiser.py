"""The optimiser of a run: AdamW (arXiv 1711.05101), with its states in 32 or 8 bits."""

import logging

import torch

from kamerton.adapters.adapter import Adapter, rate_groups
from kamerton.core.errors import MissingExtraError
from kamerton.training.settings import TrainSettings

__all__ = ["make_optimiser"]


def make_optimiser(adapter: Adapter, settings: TrainSettings) -> torch.optim.Optimizer:
    """Make a fresh optimiser over an adapter's tensors.

    Args:
        adapter: What learns; its groups carry the factor on their learning rate.
        settings: Which optimiser and its numbers.

    Returns:
        The optimiser; each group has its `factor`.

    Raises:
        MissingExtraError: If its package is not installed.
    """
    groups = [{"params": p, "factor": f} for f, p in rate_groups(adapter)]
    betas = (settings.beta1, settings.beta2)
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    # It says at import, as a warning, which kernels it would like to have.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        from bitsandbytes.optim.adamw import AdamW8bit
    except ImportError:
        raise MissingExtraError(
            "bitsandbytes", "bitsandbytes", f'train.optimiser = "{settings.optimiser}"'
        ) from None
    # Blockwise states of 8 bits (arXiv 2110.02861); tensors below 4096 numbers keep 32.
    optimiser: torch.optim.Optimizer = AdamW8bit(
        groups, lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay
    )
    return optimiser
