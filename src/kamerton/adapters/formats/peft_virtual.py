"""PEFT's file format for virtual tokens: one tensor, `prompt_embeddings`, for every such method."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kamerton.adapters.adapter_files import (
    check_tensors,
    json_bytes,
    read_json,
    read_tensors,
    tensor_bytes,
)
from kamerton.adapters.formats.peft_lora import CONFIG_FILE, WEIGHTS_FILE
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base

__all__ = ["read_virtual", "write_virtual"]

_TENSOR = "prompt_embeddings"


def write_virtual(
    base: Base, kind: str, embeddings: Tensor, config: Mapping[str, Any]
) -> dict[str, bytes]:
    """Write PEFT's two files.

    Args:
        base: The base, for its name and class.
        kind: PEFT's `peft_type`.
        embeddings: [P, W].
        config: Other entries of the kind's configuration.

    Returns:
        File contents by name.
    """
    values = {
        "peft_type": kind,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.identity.id,
        # PEFT's place for the class; it tells bases of equal shape apart.
        "auto_mapping": {
            "base_model_class": base.identity.architecture,
            "parent_library": type(base.model).__module__,
        },
        "inference_mode": True,
        "num_virtual_tokens": len(embeddings),
        "num_transformer_submodules": 1,
        **config,
    }
    tensors = {_TENSOR: embeddings.float()}
    return {CONFIG_FILE: json_bytes(values), WEIGHTS_FILE: tensor_bytes(tensors)}


def read_virtual(
    base: Base, kind: str, files: Mapping[str, bytes], width: int
) -> tuple[Tensor, dict[str, Any]]:
    """Read PEFT's two files.

    Args:
        base: The base they were made for.
        kind: PEFT's `peft_type`.
        files: File contents by name.
        width: W that the base asks for.

    Returns:
        [P, W] in fp32, and the settings.

    Raises:
        AdapterError: If they are damaged, of another kind, or do not fit the base.
    """
    config = read_json(files, CONFIG_FILE)
    tensors = read_tensors(files, WEIGHTS_FILE)
    found = config.get("peft_type")
    if found != kind:
        raise AdapterError(f"adapter: peft_type must be {kind}, is {found!r}")
    mapping = config.get("auto_mapping")
    made_for = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if made_for not in (None, base.identity.architecture):
        raise AdapterError(
            f"adapter: made for {made_for}, the base is {base.identity.architecture}",
            hint="the adapter was made for another base",
        )
    count = config.get("num_virtual_tokens")
    if not isinstance(count, int) or count < 1:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must give num_virtual_tokens of at least 1, has {count!r}"
        )
    check_tensors(tensors, {_TENSOR: (count, width)}, WEIGHTS_FILE)
    return tensors[_TENSOR].float(), config
