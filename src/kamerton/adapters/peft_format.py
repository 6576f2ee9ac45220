"""PEFT's file format for LoRA: `adapter_config.json` and `adapter_model.safetensors`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kamerton.core.errors import AdapterError

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "LoraFile", "read_lora", "write_lora"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PARTS = (".lora_A.weight", ".lora_B.weight")
_MAGNITUDE = ".lora_magnitude_vector"

# What PEFT can store and this version cannot use, with the value that means "not used".
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "trainable_token_indices": (None, []),
    "alora_invocation_tokens": (None, []),
    "lora_bias": (False, None),
}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A stored LoRA.

    Attributes:
        tensors: `base_model.model.<module>.lora_A.weight` [r, in], `lora_B.weight` [out, r] and
            for DoRA `lora_magnitude_vector` [out].
        rank: r.
        alpha: Strength.
        rank_stabilised: Whether the factor is alpha / sqrt(r).
        decompose: Whether it is DoRA.
        dropout: Share dropped while training.
        base: Name of the base.
        transposed: Whether the layers keep their weights as [in, out] (GPT-2).
        targets: PEFT's `target_modules`: leaf names, or full paths.
    """

    tensors: Mapping[str, Tensor]
    rank: int
    alpha: float
    rank_stabilised: bool
    decompose: bool
    dropout: float
    base: str
    transposed: bool
    targets: tuple[str, ...] = ()


def write_lora(lora: LoraFile) -> dict[str, bytes]:
    """Write PEFT's two files.

    Args:
        lora: What to store.

    Returns:
        File contents by name.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lora.base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilised,
        "target_modules": list(lora.targets),
        "bias": "none",
        "fan_in_fan_out": lora.transposed,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": lora.decompose,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    tensors = {name: lora.tensors[name].contiguous() for name in sorted(lora.tensors)}
    return {CONFIG_FILE: text.encode(), WEIGHTS_FILE: save(tensors, {"format": "pt"})}


def read_lora(files: Mapping[str, bytes]) -> LoraFile:
    """Read PEFT's two files.

    Args:
        files: File contents by name.

    Returns:
        The stored LoRA.

    Raises:
        AdapterError: If they are damaged, not LoRA, or use what is not supported.
    """
    try:
        config = json.loads(files[CONFIG_FILE])
        tensors = load(files[WEIGHTS_FILE])
    except KeyError as missing:
        raise AdapterError(f"adapter: {missing.args[0]} is missing") from None
    except (ValueError, SafetensorError) as error:
        raise AdapterError(f"adapter: a file is damaged: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        found = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(
            f"adapter: peft_type must be LORA, is {found!r}",
            hint="this version loads LoRA only",
        )
    used = [k for k, off in _UNSUPPORTED.items() if config.get(k) not in off]
    if used:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} uses {', '.join(used)}, which is not supported yet"
        )
    decompose = bool(config.get("use_dora"))
    known = (*_PARTS, _MAGNITUDE) if decompose else _PARTS
    strange = [name for name in tensors if not name.endswith(known)]
    if strange or not tensors:
        what = f"holds {strange[0]}, which is no LoRA tensor" if strange else "holds no tensors"
        raise AdapterError(f"adapter: {WEIGHTS_FILE} {what}")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        dropout = float(config.get("lora_dropout") or 0.0)
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must give numbers for r, lora_alpha and lora_dropout: {error}"
        ) from None
    if not (rank >= 1 and 0 < alpha < float("inf") and 0 <= dropout < 1):
        raise AdapterError(
            f"adapter: {CONFIG_FILE} must have r of at least 1, lora_alpha above 0 and "
            f"lora_dropout from 0 to below 1, has {rank}, {alpha:g} and {dropout:g}"
        )
    return LoraFile(
        tensors={name: tensor.float() for name, tensor in tensors.items()},
        rank=rank,
        alpha=alpha,
        rank_stabilised=bool(config.get("use_rslora")),
        decompose=decompose,
        dropout=dropout,
        base=str(config.get("base_model_name_or_path") or ""),
        transposed=bool(config.get("fan_in_fan_out")),
    )
