"""Combining virtual tokens: those of one adapter stand after those of the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kamerton.adapters.adapter_files import json_bytes, read_json, read_tensors, tensor_bytes
from kamerton.adapters.combine import Combination, CombineSettings
from kamerton.adapters.formats.peft_lora import CONFIG_FILE, WEIGHTS_FILE
from kamerton.core.errors import AdapterError

__all__ = ["one_after_the_other"]

_TOKENS = "prompt_embeddings"


@torch.no_grad()
def one_after_the_other(
    parents: Sequence[Mapping[str, bytes]],
    settings: CombineSettings,
    later_ones: str,
    changed: Mapping[str, Any],
) -> Combination:
    """Concatenate [P, W] virtual tokens.

    Args:
        parents: The files of at least two, by name.
        settings: The settings, without weights.
        later_ones: A note's words for the tokens after the first adapter's.
        changed: Values of PEFT's config that are others than the first adapter's.

    Returns:
        All tokens.

    Raises:
        AdapterError: If weights are given.
    """
    if settings.weights:
        raise AdapterError("combine: virtual tokens have no weights")
    tokens = [read_tensors(files, WEIGHTS_FILE)[_TOKENS] for files in parents]
    counts = [len(each) for each in tokens]
    config = {**read_json(parents[0], CONFIG_FILE), "num_virtual_tokens": sum(counts), **changed}
    notes = [
        f"{' + '.join(map(str, counts))} virtual tokens stand before every text and take as much "
        "of the base's context",
        f"each was trained to stand at the beginning alone: the later ones {later_ones}",
    ]
    files = {
        CONFIG_FILE: json_bytes(config),
        WEIGHTS_FILE: tensor_bytes({_TOKENS: torch.cat(tokens)}),
    }
    return Combination(files, {"num_tokens": sum(counts)}, notes)
