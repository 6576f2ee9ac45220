"""Loading a quantised base layer by layer: never more than one dense layer beside the packed ones.

The model is built with its large tensors on the meta device; then every tensor of the checkpoint
is read by itself, quantised if it belongs to a linear layer, and let go.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kamerton.core.errors import ModelError
from kamerton.models.linear import is_transposed, linear_size
from kamerton.models.quantised.layer import linear_paths, quantise_layer
from kamerton.models.quantised.stored_nf4 import NestedParts

__all__ = ["load_quantised", "original_weights"]


class _WeightsOnMeta(TorchFunctionMode):
    """Weights are made with `torch.empty`; buffers are computed, and so get their values."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty:
            given["device"] = "meta"
        return func(*args, **given)


def load_quantised(
    folder: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    device: torch.device,
    kind: str,
    read: Callable[[int], None] = lambda num_bytes: None,
) -> Any | None:
    """Load a model, quantising its linear layers one by one.

    Args:
        folder: A folder with safetensors weights, in one file or in shards.
        config: The model's Transformers configuration.
        dtype: The dtype of weights that are not quantised.
        device: The model's device.
        kind: `nf4` or `int8`.
        read: Is told how many bytes more were read.

    Returns:
        The model; None if the checkpoint's names are not the model's, as when Transformers has to
        rename or fuse tensors: then load it whole and quantise it afterwards.

    Raises:
        ModelError: If there is nothing to quantise.
    """
    from transformers import AutoModelForCausalLM

    with _WeightsOnMeta():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if getattr(model, "_keep_in_fp32_modules", None):
        return None
    linears = set(linear_paths(model))
    known = model.state_dict().keys()
    stored = NestedParts()
    for name, tensor in _tensors(folder):
        read(tensor.nbytes)
        layer = stored.take(name, tensor)
        if layer is not None:
            path = layer if layer in linears else f"{model.base_model_prefix}.{layer}"
            if path not in linears:
                return None
            made = stored.pop_layer(layer, model.get_submodule(path), device)
            if made is not None:
                model.set_submodule(path, made)
            continue
        full = name if name in known else f"{model.base_model_prefix}.{name}"
        if full not in known:
            return None
        path, _, leaf = full.rpartition(".")
        module = model.get_submodule(path)
        if tensor.shape != getattr(module, leaf).shape:
            return None
        packed = path in linears and leaf == "weight"
        # Kept tensors are copied: a view of the file would keep all of it mapped.
        value = tensor.to(device, dtype if tensor.is_floating_point() else None, copy=not packed)
        if packed:
            weight = value.t() if is_transposed(module) else value
            model.set_submodule(path, quantise_layer(module, weight, kind))
        elif isinstance(getattr(module, leaf), nn.Parameter):
            setattr(module, leaf, nn.Parameter(value, requires_grad=False))
        else:
            setattr(module, leaf, value)
    model.tie_weights()
    if stored.unfinished() or any(tensor.is_meta for tensor in model.state_dict().values()):
        return None
    return model.to(device)


def original_weights(
    folder: Path, model: Any, layers: Mapping[str, nn.Module]
) -> Iterator[tuple[str, Tensor]]:
    """Read the weights that a quantised base's layers were made of, one by one.

    Args:
        folder: The folder, as for `load_quantised`.
        model: The quantised model.
        layers: Quantised layers by path.

    Yields:
        Path and weight [out, in], on the CPU in the checkpoint's dtype, in the checkpoint's order.

    Raises:
        ModelError: If the checkpoint has no such weights under the model's names.
    """
    if not folder.is_dir():
        raise ModelError(f"the base's original weights are needed, and {folder} is gone")
    left = set(layers)
    for name, tensor in _tensors(folder):
        short = name.removesuffix(".weight")
        path = short if short in left else f"{model.base_model_prefix}.{short}"
        if path not in left:
            continue
        weight = tensor.t() if is_transposed(layers[path]) else tensor
        if weight.shape != linear_size(layers[path]) or not weight.is_floating_point():
            break
        left.remove(path)
        yield path, weight
    if left:
        raise ModelError(
            f"the checkpoint of the base has no original weight for {min(left)}",
            hint="a checkpoint that is quantised already, or renamed while loading, has none",
        )


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Read a checkpoint tensor by tensor."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        files = [folder / name for name in sorted(names)]
    else:
        files = [folder / "model.safetensors"]
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)
