"""Bottleneck adapters: small non-linear layers between a frozen base's own.

Houlsby (arXiv 1902.00751, section 2.1) puts one after attention and one after the feed-forward;
Pfeiffer (2005.00247, section 3) one after the feed-forward; both here before the residual sum. The
scaled parallel adapter (2110.04366, section 4) reads what the feed-forward reads. All are zero at
the start (the papers begin near zero), and none can be merged: they are not linear.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities, load_tensors
from kamerton.adapters.adapter_files import (
    check_tensors,
    json_bytes,
    read_json,
    read_tensors,
    tensor_bytes,
)
from kamerton.adapters.bottleneck.layer import Activation, BottleneckLayer
from kamerton.adapters.bottleneck.sites import Sublayer, named_sites, sublayer_ends, width_of
from kamerton.adapters.hooked import Hooked
from kamerton.adapters.method import AdapterSettings
from kamerton.adapters.parts import Parts
from kamerton.adapters.switches import Switch
from kamerton.adapters.targets import Layers, module_at
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.core.seeds import derive_seed
from kamerton.models.base import Base

__all__ = [
    "CONFIG_FILE",
    "WEIGHTS_FILE",
    "Bottleneck",
    "BottleneckSettings",
    "attach_bottleneck",
    "attach_tensors",
    "load_bottleneck",
]

CONFIG_FILE = "bottleneck.json"
WEIGHTS_FILE = "bottleneck.safetensors"


class BottleneckSettings(AdapterSettings):
    """Bottleneck adapters: small layers between those of the base."""

    kind: Literal["bottleneck"] = "bottleneck"
    """Small non-linear layers after or beside those of the base; cannot be merged."""
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    """After attention and feed-forward, after the feed-forward only, or beside the feed-forward."""
    reduction: float = Field(default=16.0, ge=0.125, le=65536)
    """Width of the base divided by that of the bottleneck (rounded down, at least 1)."""
    activation: Activation = "relu"
    """Between the down- and the up-projection."""
    scale: float = Field(default=0.0, ge=0)
    """Factor on what is added; 0 means the placement's own: 4 beside, 1 after."""
    modules: tuple[str, ...] = ()
    """Names of modules in each block that the adapters stand after (or beside, with "parallel"),
    such as "mlp"; empty means found by the block's structure."""
    layers: Layers = "all"
    """The decoder blocks, from 0: "all", "8-15", "0,2,4-7"."""

    @property
    def factor(self) -> float:
        """Factor on what is added."""
        return self.scale or (4.0 if self.placement == "parallel" else 1.0)

    def width(self, inner: int) -> int:
        """Give the width of a bottleneck.

        Args:
            inner: Width of what it reads.

        Returns:
            At least 1.
        """
        return max(1, math.floor(inner / self.reduction))


class Bottleneck(Hooked):
    """Attached bottleneck adapters."""

    capabilities = Capabilities(
        mergeable=False, identity_at_start=True, formats=frozenset({"adapterhub"})
    )

    def __init__(
        self, base: Base, settings: BottleneckSettings, layers: Mapping[str, BottleneckLayer]
    ) -> None:
        self.settings = settings
        self.layers = dict(layers)
        self._architecture = base.identity.architecture
        self._handles = [
            base.model.get_submodule(path).register_forward_hook(layer.hook, with_kwargs=True)
            for path, layer in self.layers.items()
        ]

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors.

        Returns:
            Four fp32 tensors per site, `<module>.down.weight` [d, in] and so on.
        """
        return {
            f"{path}.{name}": parameter
            for path, layer in self.layers.items()
            for name, parameter in layer.named_parameters()
        }

    def files(self) -> dict[str, bytes]:
        """Write the adapter.

        Returns:
            `bottleneck.json` and `bottleneck.safetensors`.
        """
        config = {
            "architecture": self._architecture,
            "settings": self.settings.model_dump(mode="json"),
            "places": list(self.layers),
        }
        return {CONFIG_FILE: json_bytes(config), WEIGHTS_FILE: tensor_bytes(self.parameters())}

    def switches(self) -> list[Switch]:
        """List the parts.

        Returns:
            One per site.
        """
        return list(self.layers.values())

    def detach(self) -> None:
        """Take the adapters off; the base's modules were never replaced."""
        self.release()
        self.layers = {}

    def release(self) -> Parts:
        """Take the adapters off and give them away.

        Returns:
            Bottlenecks by place.
        """
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return Parts(outputs=list(self.layers.items()))


def attach_bottleneck(base: Base, settings: BottleneckSettings, seed: int) -> Bottleneck:
    """Attach fresh bottlenecks that change nothing yet: down random, up and biases zero.

    Args:
        base: The base; its weights are not touched.
        settings: Method settings.
        seed: The seed of the down-projections; each site draws from its own stream.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a site cannot be found.
    """
    adapter = Bottleneck(base, settings, _make_layers(base, settings, _sites(base, settings)))
    for path, layer in adapter.layers.items():
        generator = torch.Generator().manual_seed(derive_seed(seed, "bottleneck", path))
        # LoRA and He et al. do the same: U is zero, so that the spread of D decides the start.
        weight = layer.down.weight
        bound = weight.shape[1] ** -0.5
        weight.data.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
    return adapter


def load_bottleneck(base: Base, files: Mapping[str, bytes]) -> Bottleneck:
    """Attach stored bottlenecks.

    Args:
        base: The base they were made for.
        files: `bottleneck.json` and `bottleneck.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged or were made for another base.
    """
    config = read_json(files, CONFIG_FILE)
    sites, architecture = config.get("places"), config.get("architecture")
    if not isinstance(sites, list) or not all(isinstance(path, str) for path in sites):
        raise AdapterError(f"adapter: {CONFIG_FILE} must list its places")
    if architecture != base.identity.architecture:
        raise AdapterError(
            f"adapter: made for {architecture}, the base is {base.identity.architecture}"
        )
    try:
        settings = BottleneckSettings.parse(config.get("settings") or {}, source=CONFIG_FILE)
    except SettingsError as error:
        raise AdapterError(f"adapter: {error}") from None
    return attach_tensors(base, settings, sites, read_tensors(files, WEIGHTS_FILE), WEIGHTS_FILE)


def attach_tensors(
    base: Base,
    settings: BottleneckSettings,
    sites: Sequence[str],
    tensors: Mapping[str, Tensor],
    source: str,
) -> Bottleneck:
    """Attach bottlenecks with given values.

    Args:
        base: The base they were made for.
        settings: Method settings.
        sites: Paths of the modules they stand at.
        tensors: The tensors by the names of `Bottleneck.parameters`.
        source: The file they come from, for messages.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a site does not exist or a tensor does not fit.
    """
    unknown = [path for path in sites if not path or module_at(base, path) is None]
    if unknown:
        raise AdapterError(
            f"adapter: {len(unknown)} of {len(sites)} modules are not in "
            f"{base.identity.architecture}, the first is {unknown[0]!r}",
            hint="the adapter was made for another base",
        )
    layers = _make_layers(base, settings, sites)
    expected = {
        f"{path}.{name}": tuple(parameter.shape)
        for path, layer in layers.items()
        for name, parameter in layer.named_parameters()
    }
    check_tensors(tensors, expected, source)
    adapter = Bottleneck(base, settings, layers)
    load_tensors(adapter, tensors)
    return adapter


def _sites(base: Base, settings: BottleneckSettings) -> list[str]:
    if settings.modules:
        return named_sites(base, settings.modules, settings.layers)
    if settings.placement == "houlsby":
        ends: tuple[Sublayer, ...] = ("attention", "feed-forward")
        return sublayer_ends(base, ends, settings.layers, post_norms=True)
    # A parallel bottleneck stands beside the feed-forward itself, whatever norm follows it.
    after = settings.placement == "pfeiffer"
    return sublayer_ends(base, ("feed-forward",), settings.layers, post_norms=after)


def _make_layers(
    base: Base, settings: BottleneckSettings, sites: Sequence[str]
) -> dict[str, BottleneckLayer]:
    beside = settings.placement == "parallel"
    layers = {}
    for path in sites:
        out, inner = width_of(base, path)
        size = (out, inner) if beside else (out, out)
        layers[path] = BottleneckLayer(
            size,
            settings.width(size[1]),
            settings.activation,
            settings.factor,
            beside=beside,
            device=base.device,
        )
    return layers
