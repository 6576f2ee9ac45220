"""IA3: learned scales of keys, values and feed-forward activations (arXiv 2205.05638, section 3.3).

    keys, values:   l * (W x + b)         l [out]
    feed-forward:   W (l * act) + b       l [in], on what goes into the down-projection

Scales are ones at the start, in fp32, and multiply in fp32: in bf16 a scale near one could not
move by less than a quarter of a per cent. A merged scale costs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities, load_tensors
from kamerton.adapters.adapter_files import check_tensors
from kamerton.adapters.combine import average
from kamerton.adapters.formats.peft_ia3 import SUFFIX, read_ia3, write_ia3
from kamerton.adapters.formats.peft_lora import PEFT_PREFIX, WEIGHTS_FILE
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.adapters.parts import Parts
from kamerton.adapters.switches import switched_off
from kamerton.adapters.targets import Layers, target_paths
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.models.linear import device_of, is_linear, linear_size, stored_weight

__all__ = ["METHOD", "Ia3", "Ia3Linear", "Ia3Settings", "attach_ia3", "load_ia3"]

_AUTO = ("auto",)
# Where one matrix makes queries, keys and values, the queries are scaled too, as in PEFT.
_KEYS_AND_VALUES = ("k_proj", "v_proj", "qkv_proj", "attn.c_attn")
_DOWN = ("down_proj", "mlp.c_proj", "fc2")


class Ia3Settings(AdapterSettings):
    """IA3: learned scales, the smallest method that can be merged."""

    kind: Literal["ia3"] = "ia3"
    """Learned scales of keys, values and feed-forward activations."""
    targets: tuple[str, ...] = _AUTO
    """Linear layers whose outputs are scaled, by the end of their names; "auto": what makes keys
    and values."""
    feedforward: tuple[str, ...] = _AUTO
    """Linear layers whose inputs are scaled; "auto": the down-projections."""
    layers: Layers = "all"
    """The decoder blocks, from 0: "all", "8-15", "0,2,4-7"."""


class Ia3Linear(nn.Module):
    """A frozen linear layer with scaled inputs or outputs; stands where the layer stood."""

    def __init__(self, layer: nn.Module, *, scales_input: bool) -> None:
        super().__init__()
        self.layer = layer
        self.scales_input = scales_input
        self.enabled = True
        out, inner = linear_size(layer)
        self.scale = nn.Parameter(
            torch.ones(inner if scales_input else out, device=device_of(layer))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer, scaled.

        Args:
            x: [..., in].

        Returns:
            [..., out].
        """
        if not self.enabled:
            y: Tensor = self.layer(x)
            return y
        return self.after(x, self.layer(self.before(x)))

    def before(self, x: Tensor) -> Tensor:
        """Give what the layer reads.

        Args:
            x: [..., in].

        Returns:
            x, scaled where inputs are.
        """
        return (x * self.scale).to(x.dtype) if self.scales_input else x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Give what is made of the layer's output.

        Args:
            x: [..., in], ignored.
            y: [..., out] of the layer.

        Returns:
            y, scaled where outputs are.
        """
        del x
        return y if self.scales_input else (y * self.scale).to(y.dtype)

    def tensors(self) -> list[Tensor]:
        """List the stored tensors that merging changes: the weight and a scaled bias.

        Returns:
            Views; the weight as [out, in].

        Raises:
            AdapterError: If the layer is quantised.
        """
        bias: Tensor | None = self.layer.bias  # type: ignore[assignment]
        weight = stored_weight(self.layer)
        return [weight] if self.scales_input or bias is None else [weight, bias]

    def merge(self) -> None:
        """Multiply the scale into the tensors, rounding once to their dtype."""
        for tensor in self.tensors():
            by_row = tensor.ndim == 2 and not self.scales_input
            scale = self.scale[:, None] if by_row else self.scale
            tensor.copy_((tensor.float() * scale).to(tensor.dtype))


class Ia3:
    """Attached scales."""

    capabilities = Capabilities(mergeable=True, identity_at_start=True, formats=frozenset({"peft"}))

    def __init__(self, base: Base, layers: dict[str, Ia3Linear]) -> None:
        self._base = base
        self._layers = layers
        self._originals: dict[str, list[Tensor]] = {}
        for path, layer in layers.items():
            base.model.set_submodule(path, layer)

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the scales under PEFT's names.

        Returns:
            One fp32 vector per layer.
        """
        return {f"{PEFT_PREFIX}{path}{SUFFIX}": layer.scale for path, layer in self._layers.items()}

    def files(self) -> dict[str, bytes]:
        """Write the adapter in PEFT's format.

        Returns:
            `adapter_config.json` and `adapter_model.safetensors`.
        """
        inputs = [path for path, layer in self._layers.items() if layer.scales_input]
        return write_ia3(self._base, self.parameters(), inputs)

    def train(self, mode: bool) -> None:
        """Do nothing: there is no dropout.

        Args:
            mode: Ignored.
        """

    def disabled(self) -> AbstractContextManager[None]:
        """Answer as the base alone for a while.

        Returns:
            A context.
        """
        return switched_off(list(self._layers.values()))

    @contextmanager
    def as_plain_model(self) -> Iterator[None]:
        """Put the frozen layers back for a while, with merged weights if merged.

        Yields:
            Nothing.
        """
        self._put_back()
        try:
            yield
        finally:
            for path, layer in self._layers.items():
                self._base.model.set_submodule(path, layer)

    def detach(self) -> None:
        """Put the frozen layers back; merged scales are taken out first."""
        self.unmerge()
        self._put_back()
        self._layers = {}

    def release(self) -> Parts:
        """Put the frozen layers back and give the scales away.

        Returns:
            Scales by layer.
        """
        self._put_back()
        return Parts(self._layers)

    @torch.no_grad()
    def merge(self) -> None:
        """Multiply the scales into weights and biases.

        The originals are kept, so that `unmerge` restores them exactly.

        Raises:
            AdapterError: If the base is quantised.
        """
        assert not self._originals, "already merged"
        kept = {p: [t.clone() for t in layer.tensors()] for p, layer in self._layers.items()}
        for layer in self._layers.values():
            layer.merge()
            layer.enabled = False
        self._originals = kept

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore weights and biases as they were before `merge`; without it, do nothing."""
        for path, originals in self._originals.items():
            layer = self._layers[path]
            for tensor, original in zip(layer.tensors(), originals, strict=True):
                tensor.copy_(original)
            layer.enabled = True
        self._originals = {}

    def _put_back(self) -> None:
        for path, layer in self._layers.items():
            self._base.model.set_submodule(path, layer.layer)


def attach_ia3(base: Base, settings: Ia3Settings) -> Ia3:
    """Attach scales of one.

    Args:
        base: The base; its weights are not touched.
        settings: Method settings.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a target matches no linear layer, or nothing is left to scale.
    """
    outputs = _paths(base, settings.targets, _KEYS_AND_VALUES, "targets", settings.layers)
    inputs = _paths(base, settings.feedforward, _DOWN, "feedforward", settings.layers)
    if not outputs and not inputs:
        raise AdapterError("adapter: targets and feedforward are both empty: nothing to train")
    if twice := sorted(set(outputs) & set(inputs)):
        raise AdapterError(f"adapter: {twice[0]} is in targets and in feedforward")
    return Ia3(base, _make_layers(base, outputs, inputs))


def load_ia3(base: Base, files: Mapping[str, bytes]) -> Ia3:
    """Attach scales from PEFT's files, written by us or by PEFT.

    Args:
        base: The base they were made for.
        files: `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged, do not fit, or use what is not supported.
    """
    stored = read_ia3(base, files)
    layers = _make_layers(base, stored.outputs, stored.inputs)
    expected = {
        f"{PEFT_PREFIX}{p}{SUFFIX}": tuple(layer.scale.shape) for p, layer in layers.items()
    }
    check_tensors(stored.tensors, expected, WEIGHTS_FILE)
    adapter = Ia3(base, layers)
    load_tensors(adapter, stored.tensors)
    return adapter


def _make_layers(base: Base, outputs: Sequence[str], inputs: Sequence[str]) -> dict[str, Ia3Linear]:
    return {
        path: Ia3Linear(base.model.get_submodule(path), scales_input=path in inputs)
        for path in (*outputs, *inputs)
    }


def _paths(
    base: Base, wanted: Sequence[str], usual: Sequence[str], setting: str, layers: str
) -> list[str]:
    if tuple(wanted) == _AUTO:
        inside = [f".{n}" for n, m in decoder_blocks(base.model)[0].named_modules() if is_linear(m)]
        wanted = [u for u in usual if any(name.endswith(f".{u}") for name in inside)]
        if not wanted:
            raise AdapterError(
                f"adapter.{setting}: {base.identity.architecture} has none of {', '.join(usual)}",
                hint=f"name the linear layers, or set adapter.{setting} = [] for none",
            )
    return target_paths(base, wanted, layers, setting) if wanted else []


METHOD = Method(
    Ia3Settings,
    attach=lambda base, settings, _: attach_ia3(base, settings),
    load=load_ia3,
    combine={"average": average},
    rate=lambda _: Rate(0.1),
)
