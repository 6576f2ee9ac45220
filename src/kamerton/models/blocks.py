"""The decoder blocks of a model: where they are, and compiling them."""

import shutil

import torch
from torch import nn

from kamerton.core.errors import ModelError
from kamerton.models.attention.ragged import (
    COMPILED_ATTENTION_NAME,
    ragged_attention,
    register_ragged_attention,
)
from kamerton.models.base import Base

__all__ = ["compile_blocks", "decoder_blocks"]


def compile_blocks(base: Base) -> None:
    """Compile the decoder blocks around their attention, for rows of any length.

    All blocks share the compiled code; attention stays as it is.

    Args:
        base: A base whose rows are ragged.

    Raises:
        ModelError: If the machine has no C++ compiler, rows are padded, or weights are quantised.
    """
    if base.identity.quantise != "none":
        raise ModelError(
            "train.compile needs dense weights, and base.quantise makes them as they are used",
            hint="set train.compile = false",
        )
    if not base.ragged:
        raise ModelError("train.compile needs packed rows, and this base falls back to padded ones")
    if base.device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise ModelError(
            "train.compile needs a C++ compiler, found none",
            hint="install g++, or set train.compile = false",
        )
    register_ragged_attention(COMPILED_ATTENTION_NAME, torch.compiler.disable(ragged_attention))
    base.model.set_attn_implementation(COMPILED_ATTENTION_NAME)
    for block in decoder_blocks(base.model):
        block.compile(dynamic=True)


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """Find a model's list of decoder blocks.

    Args:
        model: A Transformers causal language model.

    Returns:
        The blocks, first to last.

    Raises:
        ModelError: If there is no such list.
    """
    config = model.config.get_text_config()  # type: ignore[union-attr,operator]
    num_layers = getattr(config, "num_hidden_layers", None)
    if num_layers is None:
        raise ModelError(f"{type(model).__name__} does not say how many decoder blocks it has")
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    named = dict(model.named_modules())
    token_path = next((name for name, module in named.items() if module is embeddings), "")

    def nearness(path: str) -> tuple[int, int]:
        # Blocks of text stand beside the embeddings of tokens, a vision tower stands apart.
        parts = path.split(".")
        shared = 0
        for one, other in zip(parts, token_path.split("."), strict=False):
            if one != other:
                break
            shared += 1
        return shared, -len(parts)

    lists = {
        name: module
        for name, module in named.items()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    }
    if not lists:
        raise ModelError(f"{type(model).__name__} has no list of {num_layers} decoder blocks")
    return lists[max(lists, key=nearness)]
