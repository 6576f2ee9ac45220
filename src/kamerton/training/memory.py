"""Memory of a step: measured on a small row, then scaled; and what to do when it is short."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kamerton.core.errors import ModelError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.models.rows.reading import logprobs_of
from kamerton.models.rows.row import Row
from kamerton.training.container import container_free_bytes

__all__ = [
    "blocks_to_recompute",
    "free_bytes",
    "is_out_of_memory",
    "keep_few_kernels",
    "recompute_blocks",
    "saved_bytes_per_token",
]

# Half of what is free is left to temporaries, the allocator's gaps and other programs.
_USABLE_SHARE = 0.5
_KEPT_KERNELS = "64"


def keep_few_kernels() -> None:
    """Let oneDNN and its layer in PyTorch keep few of the kernels that they compile for a shape.

    Rows of a run nearly all have lengths of their own, so a kept kernel hardly returns: in bf16 on
    a CPU 12 MiB a step were kept, 1.4 GiB where 0.6 do, at the same speed. Must be called before
    the first pass of the process; what the user has set stays.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _KEPT_KERNELS)


def saved_bytes_per_token(base: Base, row: Row) -> float:
    """Measure what a forward pass keeps for the backward pass.

    Args:
        base: The base with the adapter attached.
        row: A small row.

    Returns:
        Bytes per token of the row, each storage counted once, weights left out.
    """
    # Also what an adapter put in the place of a weight.
    put = [t for m in base.model.modules() for t in vars(m).values() if isinstance(t, Tensor)]
    weights = {p.untyped_storage().data_ptr() for p in (*base.model.parameters(), *put)}
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> None:
        # The storage alone: a graph that holds its own output through a hook is never freed.
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage

    def unpack(_: None) -> Tensor:
        raise AssertionError("measured only, never used backwards")

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        logprobs = logprobs_of(base, row)
    del logprobs
    return sum(storage.nbytes() for storage in seen.values()) / len(row.ids)


def free_bytes(device: torch.device) -> int:
    """Tell how much memory is free.

    Args:
        device: The model's device.

    Returns:
        Bytes; on a CPU no more than the limit of a container leaves.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    left = container_free_bytes()
    return available if left is None else min(available, left)


def blocks_to_recompute(
    bytes_per_token: float, tokens_per_row: int, num_blocks: int, free: int
) -> int:
    """Choose how many decoder blocks to recompute so that a row fits.

    Args:
        bytes_per_token: The bytes measured without recomputation.
        tokens_per_row: Tokens of the largest row.
        num_blocks: Decoder blocks of the model.
        free: Free bytes.

    Returns:
        The number of blocks, 0 to `num_blocks`.
    """
    per_block = bytes_per_token * tokens_per_row / num_blocks
    for recomputed in range(num_blocks):
        # While one block is recomputed its own tensors are there too.
        kept = num_blocks - recomputed + (1 if recomputed else 0)
        if kept * per_block <= free * _USABLE_SHARE:
            return recomputed
    return num_blocks


def recompute_blocks(base: Base, count: int) -> None:
    """Recompute the first blocks in the backward pass instead of keeping their tensors.

    Args:
        base: The base.
        count: The number of blocks; 0 switches it off.

    Raises:
        ModelError: If the model's blocks cannot do it.
    """
    for number, block in enumerate(decoder_blocks(base.model)):
        module: Any = block
        if not hasattr(module, "gradient_checkpointing"):
            if count:
                raise ModelError(
                    f"{type(module).__name__} cannot be recomputed",
                    hint='set train.gradient_checkpointing = "none" and a smaller '
                    "train.tokens_per_row",
                )
            continue
        module.gradient_checkpointing = number < count
        # Only the block itself counts as training; the dropout modules below it do not.
        module.training = number < count
        module._gradient_checkpointing_func = partial(
            checkpoint, use_reentrant=False, context_fn=partial(_same_row, base)
        )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error means that memory ran out.

    Args:
        error: The error that PyTorch raised.

    Returns:
        True for a GPU's and for the CPU allocator's complaint.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "not enough memory" in text


def _same_row(
    base: Base,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a block and of its recomputation: a row ends before its backward pass."""
    attention, layout = base.model.config._attn_implementation, base.computed.layout
    return nullcontext(), _again(base, attention, layout)


@contextmanager
def _again(base: Base, attention: str, layout: Layout | None) -> Iterator[None]:
    with base.attention(attention), base.computed.set(layout):
        yield
