"""LoRA as GGUF: what llama.cpp puts on a model with `--lora`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kamerton.adapters.lora.layer import LoraLayer
from kamerton.adapters.lora.lora import Lora, wrap_layers
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.gguf.file import (
    GgufDType,
    add_tensor,
    finish,
    gguf_name,
    gguf_package,
    new_writer,
    rows_to_gguf,
)
from kamerton.models.linear import is_linear

__all__ = ["read_gguf_lora", "write_gguf_lora"]

_ALPHA = "adapter.lora.alpha"


def write_gguf_lora(base: Base, lora: Lora, path: Path, name: str, dtype: GgufDType) -> None:
    """Write a LoRA for the base as `write_gguf_model` writes it.

    Args:
        base: The base that the LoRA is attached to.
        lora: The adapter.
        path: The file to write.
        name: The name that programs show.
        dtype: The dtype of A and B.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
        ModelError: If llama.cpp has no such model.
        AdapterError: If it is DoRA, which llama.cpp does not know, or changes embeddings or head.
    """
    if lora.settings.dora:
        raise AdapterError("llama.cpp has no DoRA", hint="export it merged, with --format gguf")
    ends = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    if lora.rows is not None or any(isinstance(module, LoraLayer) for module in ends):
        raise AdapterError(
            "a LoRA with new tokens, embeddings or head is not written as GGUF by itself",
            hint="export it merged, with --format gguf",
        )
    updates = {p: (*layer.factors(), layer.scaling) for p, layer in lora.layers.items()}
    writer = new_writer(base.model, path, name, dtype)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    # llama.cpp multiplies every product by alpha / rank, and ranks may differ.
    alpha = float(max(a.shape[0] for a, _, _ in updates.values()))
    writer.add_float32(_ALPHA, alpha)
    for full, (a, b, scaling) in updates.items():
        stem = gguf_name(base.model, f"{full}.weight")
        b = rows_to_gguf(base.model, full, b * (scaling * a.shape[0] / alpha))
        add_tensor(writer, f"{stem}.lora_a", a, dtype)
        add_tensor(writer, f"{stem}.lora_b", b, dtype)
    finish(writer)


def read_gguf_lora(base: Base, path: Path) -> Lora:
    """Attach a LoRA from a GGUF file.

    Args:
        base: The base it was made for.
        path: The file.

    Returns:
        The adapter, with all scaling in B.

    Raises:
        MissingExtraError: If the `gguf` package is missing.
        AdapterError: If it matches no layer of the base.
    """
    gguf = gguf_package()
    reader = gguf.GGUFReader(path)
    alpha = float(reader.fields[_ALPHA].parts[-1][0])
    found = {tensor.name: _tensor(tensor) for tensor in reader.tensors}
    updates: dict[str, tuple[Tensor, Tensor]] = {}
    for full, module in base.model.named_modules():
        stem = gguf_name(base.model, f"{full}.weight") if is_linear(module) else ""
        if f"{stem}.lora_a" in found:
            a, b = found.pop(f"{stem}.lora_a"), found.pop(f"{stem}.lora_b")
            b = rows_to_gguf(base.model, full, b, back=True)
            updates[full] = (a, b * (alpha / a.shape[0]))
    if found or not updates:
        raise AdapterError(f"{path}: {next(iter(found), 'nothing in it')} matches no layer")
    return _attach(base, updates)


def _tensor(stored: object) -> Tensor:
    gguf = gguf_package()
    values = gguf.dequantize(stored.data, stored.tensor_type)  # type: ignore[attr-defined]
    return torch.from_numpy(values.copy()).float()


def _attach(base: Base, updates: Mapping[str, tuple[Tensor, Tensor]]) -> Lora:
    """Attach updates with a strength of one each."""
    ranks = {path: a.shape[0] for path, (a, _) in updates.items()}
    rank = max(ranks.values())
    settings = LoraSettings(
        rank=rank, alpha=rank, targets=tuple(updates), rank_pattern=ranks,
        alpha_pattern={path: float(own) for path, own in ranks.items()},
    )  # fmt: skip
    lora = wrap_layers(base, settings, settings.targets)
    for path, layer in lora.layers.items():
        layer.a.data.copy_(updates[path][0])
        layer.b.data.copy_(updates[path][1])
    return lora
