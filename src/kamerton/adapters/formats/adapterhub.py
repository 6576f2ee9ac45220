"""AdapterHub's file format for bottlenecks: `adapter_config.json` and `adapter.safetensors`.

For models whose blocks the `adapters` library (1.3) extends itself and that sum in one place:
Llama, Mistral and GPT-2. In a pre-norm model without a norm after the sum its options mean:

- `original_ln_before` false: the bottleneck reads what the sublayer computed, as ours do;
- `original_ln_before` true (its `seq_bn`): it reads the sum, so it stands after the whole block.

Its parallel adapter reads the residual stream before the norm; ours reads what the feed-forward
reads, as a neighbour of that module. They are different functions and neither becomes the other.
"""

import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kamerton.adapters.adapter_files import json_bytes, read_json, read_tensors, tensor_bytes
from kamerton.adapters.bottleneck.bottleneck import Bottleneck, BottleneckSettings, attach_tensors
from kamerton.adapters.bottleneck.sites import sublayer_ends
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "read_adapterhub", "write_adapterhub"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter.safetensors"
PICKLED_FILE = "pytorch_adapter.bin"

_MODELS = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "GPT2LMHeadModel": "gpt2"}
_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "swish"}
_PARTS = {"down": "adapter_down.0", "up": "adapter_up"}
_TENSOR = re.compile(
    r"(?:.*\.)?(?:layers|h)\.(?P<block>\d+)\.(?P<side>attention|output)_adapters\.adapters\."
    r"(?P<name>[^.]+)\.(?P<part>adapter_down\.0|adapter_up)\.(?P<leaf>weight|bias)"
)
# Other options of the library, each with the value that means "not used".
_FIXED: Mapping[str, Any] = {
    "adapter_residual_before_ln": False,
    "cross_adapter": False,
    "dropout": 0.0,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "is_parallel": False,
    "ln_after": False,
    "ln_before": False,
    "original_ln_after": True,
    "phm_layer": False,
    "residual_before_ln": True,
    "stochastic_depth": 0.0,
    "use_gating": False,
}


def write_adapterhub(base: Base, adapter: Bottleneck, name: str = "kamerton") -> dict[str, bytes]:
    """Write bottlenecks for the `adapters` library.

    Args:
        base: The base they are attached to.
        adapter: Houlsby or Pfeiffer bottlenecks.
        name: The adapter's name in the library; without dots.

    Returns:
        `adapter_config.json` and `adapter.safetensors`.

    Raises:
        AdapterError: If the library has no adapter that computes the same.
    """
    assert "." not in name, "a dot would end the name"
    sites = _library_sites(base)
    strange = [path for path in adapter.layers if path not in sites]
    if strange or adapter.settings.placement == "parallel":
        what = f"one at {strange[0]}" if strange else "one beside the feed-forward"
        raise AdapterError(
            f"adapter: AdapterHub's format cannot hold {what}",
            hint="it holds bottlenecks after attention and after the feed-forward",
        )
    used = {sites[path].block for path in adapter.layers}
    sides = {sites[path].side for path in adapter.layers}
    reads_sum = "sum" in sides
    if len(adapter.layers) != len(used) * len(sides) or (reads_sum and len(sides) > 1):
        raise AdapterError("adapter: AdapterHub's format needs the same sites in every block")
    tensors = {}
    for path, layer in adapter.layers.items():
        site = sites[path]
        side = "output" if reads_sum else site.side
        for leaf, parameter in layer.named_parameters():
            part, _, kind = leaf.partition(".")
            key = f"{site.path}.{side}_adapters.adapters.{name}.{_PARTS[part]}.{kind}"
            tensors[key] = parameter
    settings = adapter.settings
    config = {
        **_FIXED,
        "init_weights": "mam_adapter",
        "leave_out": [number for number in range(base.num_layers) if number not in used],
        "mh_adapter": "attention" in sides,
        "non_linearity": _ACTIVATIONS[settings.activation],
        "original_ln_before": reads_sum,
        "output_adapter": bool(sides - {"attention"}),
        "reduction_factor": settings.reduction,
        "scaling": settings.factor,
    }
    described = {
        "config": config,
        "hidden_size": int(base.model.config.hidden_size),
        "model_class": base.identity.architecture,
        "model_name": base.identity.id,
        "model_type": _MODELS[base.identity.architecture],
        "name": name,
        "version": "adapters.1.3.0",
    }
    return {CONFIG_FILE: json_bytes(described), WEIGHTS_FILE: tensor_bytes(tensors)}


def read_adapterhub(base: Base, files: Mapping[str, bytes]) -> Bottleneck:
    """Attach bottlenecks that the `adapters` library or we wrote.

    Args:
        base: A Llama, Mistral or GPT-2.
        files: `adapter_config.json` with `adapter.safetensors` or `pytorch_adapter.bin`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged, do not fit, or use what is not supported.
    """
    sites = _library_sites(base)
    config = read_json(files, CONFIG_FILE).get("config")
    if not isinstance(config, dict) or "non_linearity" not in config:
        raise AdapterError(f"adapter: {CONFIG_FILE} describes no bottleneck of AdapterHub")
    used = [key for key, off in _FIXED.items() if config.get(key, off) != off]
    reads_sum = bool(config.get("original_ln_before"))
    if reads_sum and config.get("mh_adapter"):
        # No module of the block ends where that sum is made.
        used.append("original_ln_before with mh_adapter")
    if used:
        raise AdapterError(f"adapter: {CONFIG_FILE} uses {', '.join(used)}, which is not supported")
    paths = {(site.block, str(site.side)): path for path, site in sites.items()}
    tensors: dict[str, Tensor] = {}
    for name, tensor in _read_weights(files).items():
        found = _TENSOR.fullmatch(name)
        side: str = found["side"] if found else ""
        side = "sum" if reads_sum and side == "output" else side
        path = paths.get((int(found["block"]), side)) if found else None
        if found is None or path is None:
            raise AdapterError(f"adapter: {name} belongs to no bottleneck of the base")
        part = "up" if found["part"] == _PARTS["up"] else "down"
        tensors[f"{path}.{part}.{found['leaf']}"] = tensor.float()
    if not tensors:
        raise AdapterError("adapter: the file holds no tensors")
    here = [path for path in sites if f"{path}.down.weight" in tensors]
    left_out = config.get("leave_out") or []
    meant = {number for number in range(base.num_layers) if number not in left_out}
    if lacking := sorted(meant - {sites[path].block for path in here}):
        raise AdapterError(
            f"adapter: the file has no bottleneck in block {lacking[0]}, which its leave_out does "
            "not name",
            hint="the adapter was made for another base, or tensors are missing",
        )
    return attach_tensors(base, _settings(config), here, tensors, WEIGHTS_FILE)


@dataclass(frozen=True, slots=True)
class _Site:
    """The library's place of a bottleneck: a block by number and path, and a side of it."""

    block: int
    path: str
    side: Literal["attention", "output", "sum"]


def _library_sites(base: Base) -> dict[str, _Site]:
    """Our sites for the library's, by path of the module before the bottleneck."""
    if base.identity.architecture not in _MODELS:
        raise AdapterError(
            f"adapter: AdapterHub's format is supported for {', '.join(_MODELS)}, "
            f"the base is {base.identity.architecture}"
        )
    names = {module: name for name, module in base.model.named_modules()}
    blocks = [names[block] for block in decoder_blocks(base.model)]
    ends = sublayer_ends(base, ("attention", "feed-forward"), "all", post_norms=False)
    sites: dict[str, _Site] = {}
    for number, path in enumerate(blocks):
        sites[ends[2 * number]] = _Site(number, path, "attention")
        sites[ends[2 * number + 1]] = _Site(number, path, "output")
        sites[path] = _Site(number, path, "sum")
    return sites


def _settings(config: Mapping[str, Any]) -> BottleneckSettings:
    names = {theirs: ours for ours, theirs in _ACTIVATIONS.items()} | {"silu": "silu"}
    theirs = str(config["non_linearity"]).lower()
    values = {
        "placement": "houlsby" if config.get("mh_adapter") else "pfeiffer",
        "activation": names.get(theirs, theirs),
        "reduction": config.get("reduction_factor"),
        "scale": config.get("scaling", 1.0),
    }
    try:
        return BottleneckSettings.parse(values, source=CONFIG_FILE)
    except SettingsError as error:
        raise AdapterError(f"adapter: {error}") from None


def _read_weights(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    if PICKLED_FILE not in files or WEIGHTS_FILE in files:
        return read_tensors(files, WEIGHTS_FILE)
    try:
        tensors = torch.load(io.BytesIO(files[PICKLED_FILE]), "cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = next(iter(str(error).splitlines()), "it ends too early")
        raise AdapterError(f"adapter: {PICKLED_FILE} is damaged: {first}") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise AdapterError(f"adapter: {PICKLED_FILE} must hold tensors by name")
    return tensors
