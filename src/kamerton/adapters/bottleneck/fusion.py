"""Fusion: a small gate learns, token by token, how much each of several bottlenecks counts.

At every site where more than one of them stands, with h what the module gave,

    y = h + sum_n w_n(h) s_n f_n(x)    w(h) = softmax(G h + g)    G [N, E], g [N]

f_n and s_n are the frozen bottlenecks of N variants and their scales, x what each reads.
AdapterFusion (arXiv 2005.00247, section 3.2) attends with three matrices of E x E at each site
instead of G. With G and g zero at the start, it begins as the mean of what the bottlenecks add.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.adapters.adapter import Capabilities
from kamerton.adapters.adapter_files import (
    check_tensors,
    json_bytes,
    read_json,
    read_tensors,
    tensor_bytes,
)
from kamerton.adapters.bottleneck import bottleneck
from kamerton.adapters.bottleneck.bottleneck import load_bottleneck
from kamerton.adapters.bottleneck.layer import BottleneckLayer
from kamerton.adapters.bottleneck.stack import is_stack
from kamerton.adapters.hooked import Hooked
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.adapters.parts import Parts
from kamerton.adapters.switches import Switch
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base

__all__ = ["METHOD", "Fusion", "FusionSettings", "attach_fusion", "load_fusion"]

CONFIG_FILE = "fusion.json"
WEIGHTS_FILE = "fusion.safetensors"
_GATES = "gates"


class FusionSettings(AdapterSettings):
    """Fusion: a trained choice among frozen bottlenecks."""

    kind: Literal["fusion"] = "fusion"
    """A gate that weighs trained bottlenecks of other variants, token by token."""
    variants: tuple[str, ...] = Field(default=(), max_length=64)
    """Names of at least two variants of this base whose bottlenecks are fused; they stay frozen and
    are stored along."""

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the variants that are fused."""
        return self.variants


class _FusedSite(nn.Module):
    """The bottlenecks of one site, and the gate that weighs them where there are several."""

    def __init__(self, layers: Sequence[BottleneckLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        out = layers[0].up.out_features
        self.gate = nn.Linear(out, len(layers), device=layers[0].up.weight.device)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.enabled = True

    def hook(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Change a module's output; called by PyTorch after the module."""
        if not self.enabled:
            return output
        first: Tensor = output[0] if isinstance(output, tuple) else output
        low = linear(first, self.gate.weight.to(first.dtype), self.gate.bias.to(first.dtype))
        weights = low.softmax(-1)
        changed = first
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, BottleneckLayer)
            added = layer(layer.read(args, kwargs, first)) * layer.scale
            changed = changed + weights[..., number, None] * added
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


class Fusion(Hooked):
    """Attached bottlenecks of several variants with their gates."""

    capabilities = Capabilities(mergeable=False, identity_at_start=False)

    def __init__(self, base: Base, members: Sequence[Mapping[str, bytes]]) -> None:
        self._architecture = base.identity.architecture
        self._members = [dict(files) for files in members]
        by_site: dict[str, list[BottleneckLayer]] = {}
        for files in members:
            attached = load_bottleneck(base, files)
            layers = dict(attached.layers)
            attached.detach()
            for path, layer in layers.items():
                by_site.setdefault(path, []).append(layer.requires_grad_(False))
        self.sites = {path: _FusedSite(layers) for path, layers in by_site.items()}
        for site in self.sites.values():
            # The weight of a single bottleneck is always 1: there is nothing to learn.
            site.gate.requires_grad_(len(site.layers) > 1)
        self._handles = [
            base.model.get_submodule(path).register_forward_hook(site.hook, with_kwargs=True)
            for path, site in self.sites.items()
        ]

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors.

        Returns:
            Two fp32 tensors per site with several bottlenecks, `<module>.gate.weight` [N, E] and
            `<module>.gate.bias` [N].
        """
        return {
            f"{path}.gate.{name}": parameter
            for path, site in self.sites.items()
            for name, parameter in site.gate.named_parameters()
            if parameter.requires_grad
        }

    def files(self) -> dict[str, bytes]:
        """Write the gates, and the bottlenecks that they weigh.

        Returns:
            `fusion.json` and `fusion.safetensors`.
        """
        configs = [read_json(files, bottleneck.CONFIG_FILE) for files in self._members]
        tensors: dict[str, Tensor] = {
            f"{number}.{name}": tensor
            for number, files in enumerate(self._members)
            for name, tensor in read_tensors(files, bottleneck.WEIGHTS_FILE).items()
        }
        tensors |= {f"{_GATES}.{name}": value for name, value in self.parameters().items()}
        config = {"architecture": self._architecture, "members": configs}
        return {CONFIG_FILE: json_bytes(config), WEIGHTS_FILE: tensor_bytes(tensors)}

    def switches(self) -> list[Switch]:
        """List the parts.

        Returns:
            One per site.
        """
        return list(self.sites.values())

    def detach(self) -> None:
        """Take gates and bottlenecks off; the base's modules were never replaced."""
        self.release()
        self.sites = {}

    def release(self) -> Parts:
        """Take gates and bottlenecks off and give them away.

        Returns:
            Both by place.
        """
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return Parts(outputs=list(self.sites.items()))


def attach_fusion(base: Base, members: Sequence[Mapping[str, bytes]]) -> Fusion:
    """Attach trained bottlenecks side by side, with gates that weigh them equally.

    Args:
        base: The base they were trained on; its weights are not touched.
        members: The files of each, as `Bottleneck.files` writes them.

    Returns:
        The adapter.

    Raises:
        AdapterError: If there are fewer than two, they do not fit the base, or share no site.
    """
    if len(members) < 2:
        raise AdapterError(
            f"adapter.variants must name at least two variants to be fused, found {len(members)}"
        )
    for files in members:
        if bottleneck.CONFIG_FILE not in files or is_stack(files):
            raise AdapterError("adapter.variants: only plain bottlenecks can be fused")
    fusion = Fusion(base, members)
    if not fusion.parameters():
        fusion.detach()
        raise AdapterError("adapter.variants: the bottlenecks stand nowhere together")
    return fusion


@torch.no_grad()
def load_fusion(base: Base, files: Mapping[str, bytes]) -> Fusion:
    """Attach a stored fusion.

    Args:
        base: The base it was made for.
        files: `fusion.json` and `fusion.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged or were made for another base.
    """
    config, tensors = read_json(files, CONFIG_FILE), read_tensors(files, WEIGHTS_FILE)
    configs: Any = config.get("members")
    if not isinstance(configs, list) or not all(isinstance(each, dict) for each in configs):
        raise AdapterError(f"adapter: {CONFIG_FILE} must list its members")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = tensor
    known = {str(number) for number in range(len(configs))} | {_GATES}
    if parts.keys() != known:
        raise AdapterError(
            f"adapter: {WEIGHTS_FILE} must hold {sorted(known)}, holds {sorted(parts)}"
        )
    members = [
        {
            bottleneck.CONFIG_FILE: json_bytes(each),
            bottleneck.WEIGHTS_FILE: tensor_bytes(parts[str(number)]),
        }
        for number, each in enumerate(configs)
    ]
    fusion = attach_fusion(base, members)
    parameters = fusion.parameters()
    try:
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        check_tensors(parts[_GATES], shapes, WEIGHTS_FILE)
    except AdapterError:
        fusion.detach()
        raise
    for name, parameter in parameters.items():
        parameter.copy_(parts[_GATES][name])
    return fusion


METHOD = Method(
    FusionSettings,
    attach=lambda base, _, of: attach_fusion(base, of.members),
    load=load_fusion,
    rate=lambda _: Rate(1e-2),
)
