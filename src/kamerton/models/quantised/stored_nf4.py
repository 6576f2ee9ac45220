"""Layers that bitsandbytes stored in NF4, as in many checkpoints of the Hub, without the library.

A layer is six tensors: the codes under the weight's own name, and beside it, after a point, scales
(`absmax`), levels (`quant_map`), their double quantisation (`nested_absmax`, `nested_quant_map`)
and a state in JSON (`quant_state.bitsandbytes__nf4`).
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from kamerton.core.errors import ModelError
from kamerton.models.linear import is_transposed, linear_size
from kamerton.models.quantised.codecs import CODECS, NF4_BLOCK, NF4_LEVELS, dynamic_levels
from kamerton.models.quantised.layer import QuantisedLinear

__all__ = ["NestedParts", "stored_method"]

_STATE = "quant_state.bitsandbytes__"
_MARK = ".weight."


def stored_method(config: Any) -> str | None:
    """Tell how a checkpoint's weights are stored.

    Args:
        config: A Transformers configuration.

    Returns:
        `nf4`, or the name of what cannot be read here; None for plain weights and for what
        Transformers itself makes plain.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    plain = stored if isinstance(stored, dict) else stored.to_dict()
    if str(plain.get("quant_method", "")).rpartition(".")[2].lower() not in ("bitsandbytes", ""):
        return None
    if plain.get("load_in_4bit"):
        return str(plain.get("bnb_4bit_quant_type", "fp4"))
    return "bitsandbytes' int8"


class NestedParts:
    """Gathers the tensors of layers until each is complete; they may lie in several shards."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, Tensor]] = {}

    def take(self, name: str, tensor: Tensor) -> str | None:
        """Keep a tensor if it belongs to a packed layer.

        Args:
            name: The name in the checkpoint.
            tensor: Its content.

        Returns:
            Path of the layer it belongs to; None for a plain tensor.
        """
        path, mark, part = name.partition(_MARK)
        if not mark:
            if tensor.dtype != torch.uint8 or not name.endswith(".weight"):
                return None
            path, part = name.removesuffix(".weight"), "weight"
        self._parts.setdefault(path, {})[part] = tensor.clone()
        return path

    def pop_layer(
        self, path: str, layer: nn.Module, device: torch.device
    ) -> QuantisedLinear | None:
        """Make a layer when all of its tensors are there.

        Args:
            path: The path that `take` gave.
            layer: The linear layer it stands for.
            device: The device that it goes to.

        Returns:
            The layer, or None as long as something is missing.

        Raises:
            ModelError: If it is not NF4 in blocks of 64 (and 256), or of another size.
        """
        parts = self._parts[path]
        state = next((part for part in parts if part.startswith(_STATE)), None)
        if state is None:
            return None
        facts = json.loads(bytes(parts[state].tolist()))
        nested = "nested_offset" in facts
        needed = {"weight", "absmax", "quant_map"}
        if not parts.keys() >= needed | (
            {"nested_absmax", "nested_quant_map"} if nested else set()
        ):
            return None
        size = linear_size(layer)
        right = (
            facts.get("quant_type") == "nf4"
            and facts.get("blocksize") == NF4_BLOCK
            and tuple(facts.get("shape", ())) == size
            and _same(parts["quant_map"], torch.tensor(NF4_LEVELS))
        )
        # It pads to whole bytes, we to whole blocks.
        codes, scales = parts["weight"].reshape(-1), parts["absmax"]
        codes = torch.nn.functional.pad(codes, (0, NF4_BLOCK // 2 * len(scales) - len(codes)))
        packed = {"codes": codes, "scales": scales}
        if nested:
            right = (
                right
                and facts.get("nested_blocksize") == 256
                and _same(parts["nested_quant_map"], dynamic_levels(torch.device("cpu")))
            )
            offset = torch.tensor(float(facts["nested_offset"]))
            packed |= {"nested": parts["nested_absmax"], "offset": offset}
        if not right:
            raise ModelError(
                f"base: {path} must be NF4 in blocks of 64, double quantised in blocks of 256 or "
                f"not, and {size}, is {facts}",
                hint="take the original weights and base.quantise",
            )
        del self._parts[path]
        packed = {name: tensor.to(device) for name, tensor in packed.items()}
        bias: Any = layer.bias
        return QuantisedLinear(CODECS["nf4"], packed, size, bias, is_transposed(layer))

    def unfinished(self) -> list[str]:
        """Name the layers that lack a tensor."""
        return sorted(self._parts)


def _same(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found.float(), wanted, atol=1e-6)
