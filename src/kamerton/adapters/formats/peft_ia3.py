"""PEFT's file format for IA3: `adapter_config.json` and `adapter_model.safetensors`.

PEFT keeps a scale of outputs as [out, 1] and one of inputs as [1, in]; ours are vectors.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kamerton.adapters.adapter_files import json_bytes, read_json, read_tensors, tensor_bytes
from kamerton.adapters.formats.peft_lora import CONFIG_FILE, PEFT_PREFIX, WEIGHTS_FILE
from kamerton.adapters.targets import ends_with, module_at
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.linear import is_linear, is_transposed

__all__ = ["SUFFIX", "Ia3File", "read_ia3", "write_ia3"]

SUFFIX = ".ia3_l"


@dataclass(frozen=True, slots=True)
class Ia3File:
    """Stored scales.

    Attributes:
        tensors: `base_model.model.<module>.ia3_l` as vectors in fp32.
        outputs: Paths of layers whose outputs are scaled.
        inputs: Paths of layers whose inputs are scaled.
    """

    tensors: Mapping[str, Tensor]
    outputs: Sequence[str]
    inputs: Sequence[str]


def write_ia3(base: Base, scales: Mapping[str, Tensor], inputs: Sequence[str]) -> dict[str, bytes]:
    """Write PEFT's two files.

    Args:
        base: The base.
        scales: Vectors by PEFT's names.
        inputs: Paths of layers whose inputs are scaled.

    Returns:
        File contents by name.
    """
    paths = [_path_of(name) for name in scales]
    layers = [base.model.get_submodule(path) for path in paths]
    config = {
        "peft_type": "IA3",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.identity.id,
        "inference_mode": True,
        # Full paths: PEFT compares the ends of names, and GPT-2 has two layers called c_proj.
        "target_modules": sorted(paths),
        "feedforward_modules": sorted(inputs),
        "exclude_modules": None,
        "fan_in_fan_out": any(is_transposed(getattr(layer, "layer", layer)) for layer in layers),
        "init_ia3_weights": True,
        "modules_to_save": None,
    }
    tensors = {
        name: scale[None, :] if _path_of(name) in inputs else scale[:, None]
        for name, scale in scales.items()
    }
    return {CONFIG_FILE: json_bytes(config), WEIGHTS_FILE: tensor_bytes(tensors)}


def read_ia3(base: Base, files: Mapping[str, bytes]) -> Ia3File:
    """Read PEFT's two files.

    Args:
        base: The base they were made for.
        files: File contents by name.

    Returns:
        The stored scales.

    Raises:
        AdapterError: If they are damaged, not IA3, made for another base, or use what is not
            supported.
    """
    config = read_json(files, CONFIG_FILE)
    tensors = read_tensors(files, WEIGHTS_FILE)
    if (found := config.get("peft_type")) != "IA3":
        raise AdapterError(f"adapter: peft_type must be IA3, is {found!r}")
    if config.get("modules_to_save"):
        raise AdapterError(f"adapter: {CONFIG_FILE} uses modules_to_save, which is not supported")
    outputs: list[str] = []
    inputs: list[str] = []
    for name, tensor in sorted(tensors.items()):
        path = _path_of(name)
        if not name.endswith(SUFFIX) or not is_linear(module_at(base, path)):
            raise AdapterError(
                f"adapter: {name} belongs to no linear layer of {base.identity.architecture}",
                hint="the adapter was made for another base",
            )
        if tensor.ndim != 2 or 1 not in tensor.shape:
            raise AdapterError(f"adapter: {name} must be [out, 1] or [1, in]")
        (inputs if tensor.shape[0] == 1 else outputs).append(path)
    meant = _meant(base, config.get("target_modules"))
    meant -= _meant(base, config.get("exclude_modules") or [])
    if not meant or (differ := sorted(meant ^ {*outputs, *inputs})):
        what = differ[0] if meant else "target_modules"
        raise AdapterError(
            f"adapter: {CONFIG_FILE} and {WEIGHTS_FILE} disagree about {what}",
            hint="the adapter was made for another base, or a tensor is missing",
        )
    vectors = {name: tensor.flatten().float() for name, tensor in tensors.items()}
    return Ia3File(vectors, outputs, inputs)


def _path_of(name: str) -> str:
    return name.removeprefix(PEFT_PREFIX).removesuffix(SUFFIX)


def _meant(base: Base, targets: Any) -> set[str]:
    """The linear layers that PEFT means: a pattern for the whole path, or ends of paths."""
    head = base.model.get_output_embeddings()
    linears = {name for name, module in base.model.named_modules() if is_linear(module)}
    if targets == "all-linear":
        return {name for name in linears if base.model.get_submodule(name) is not head}
    if isinstance(targets, str):
        try:
            return {name for name in linears if re.fullmatch(targets, name)}
        except re.error as error:
            raise AdapterError(f"adapter: {targets!r} is no pattern: {error}") from None
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise AdapterError(f"adapter: {CONFIG_FILE} must name its target_modules")
    return {name for name in linears if any(ends_with(name, t) for t in targets)}
