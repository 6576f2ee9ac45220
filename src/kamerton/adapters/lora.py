"""LoRA: low-rank updates of frozen linear layers (arXiv 2106.09685; rank-stabilised 2312.03732)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities
from kamerton.adapters.lora_layer import LoraLinear
from kamerton.adapters.lora_settings import LoraSettings
from kamerton.adapters.peft_format import LoraFile, read_lora, resolve, write_lora
from kamerton.adapters.targets import check_patterns, module_at, target_paths
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed
from kamerton.models.base import Base
from kamerton.models.linear import is_linear, is_transposed, linear_size

__all__ = ["Lora", "LoraSettings", "attach_lora", "load_lora"]

_PREFIX = "base_model.model."
_Value = TypeVar("_Value", int, float)


class Lora:
    """An attached LoRA."""

    def __init__(self, base: Base, settings: LoraSettings, layers: dict[str, LoraLinear]) -> None:
        self._base = base
        self._layers = layers
        self._originals: dict[str, Tensor] = {}
        self.settings = settings
        self.capabilities = Capabilities(
            mergeable=True,
            identity_at_start=True,
            exact_gradient=not settings.decompose,
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors under PEFT's names.

        Returns:
            Two fp32 tensors per layer, three with `decompose`.
        """
        named: dict[str, nn.Parameter] = {}
        for path, layer in self._layers.items():
            named[f"{_PREFIX}{path}.lora_A.weight"] = layer.a
            named[f"{_PREFIX}{path}.lora_B.weight"] = layer.b
            if layer.magnitude is not None:
                named[f"{_PREFIX}{path}.lora_magnitude_vector"] = layer.magnitude
        return named

    def rate_factor(self, name: str) -> float:
        """Let B learn faster than A by a constant ratio (LoRA+, arXiv 2402.12354, section 4).

        Args:
            name: Of a tensor of `parameters`.

        Returns:
            `rate_ratio` for B, 1 for A and for DoRA's lengths, of which the paper does not speak.
        """
        return self.settings.rate_ratio if name.endswith(".lora_B.weight") else 1.0

    def files(self) -> dict[str, bytes]:
        """Write the adapter in PEFT's format.

        Returns:
            `adapter_config.json` and `adapter_model.safetensors`.
        """
        tensors = {name: p.detach().cpu() for name, p in self.parameters().items()}
        conv = any(is_transposed(layer.layer) for layer in self._layers.values())
        return write_lora(
            LoraFile(
                tensors=tensors,
                rank=self.settings.rank,
                alpha=self.settings.alpha,
                rank_pattern=self._differing(self.settings.rank_at, self.settings.rank),
                alpha_pattern=self._differing(self.settings.alpha_at, self.settings.alpha),
                rank_stabilised=self.settings.rank_stabilised,
                decompose=self.settings.decompose,
                dropout=self.settings.dropout,
                base=self._base.identity.id,
                transposed=conv,
                targets=self._peft_targets(),
            )
        )

    def _differing(self, value_at: Callable[[str], _Value], default: _Value) -> dict[str, _Value]:
        """By full paths, so that PEFT's patterns, which are regular expressions, mean the same."""
        return {p: value_at(p) for p in sorted(self._layers) if value_at(p) != default}

    def _peft_targets(self) -> tuple[str, ...]:
        """Leaf names when they mean exactly our layers in PEFT, else full paths.

        Servers such as vLLM know leaf names only.
        """
        leaves = {path.rsplit(".", 1)[-1] for path in self._layers}
        meant = {
            name
            for name, module in self._base.model.named_modules()
            if name.rsplit(".", 1)[-1] in leaves
            and (isinstance(module, LoraLinear) or is_linear(module))
        }
        return tuple(sorted(leaves if meant == self._layers.keys() else self._layers))

    def train(self, mode: bool = True) -> None:
        """Switch dropout of the updates on or off; the base stays in evaluation mode.

        Args:
            mode: True while training.
        """
        for layer in self._layers.values():
            layer.training = mode

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer as the base alone for a while.

        Yields:
            Nothing.
        """
        for layer in self._layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.enabled = True

    @contextmanager
    def as_plain_model(self) -> Iterator[None]:
        """Put the frozen layers back for a while, with merged weights if merged.

        Yields:
            Nothing.
        """
        for path, layer in self._layers.items():
            self._base.model.set_submodule(path, layer.layer)
        try:
            yield
        finally:
            for path, layer in self._layers.items():
                self._base.model.set_submodule(path, layer)

    def detach(self) -> None:
        """Put the frozen layers back; a merged adapter is unmerged first."""
        self.unmerge()
        for path, layer in self._layers.items():
            self._base.model.set_submodule(path, layer.layer)
        self._layers = {}

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the updates into the weights, rounding once to the base's dtype.

        The original weights are kept, so that `unmerge` restores them exactly.

        Raises:
            AdapterError: If the base is quantised: merging into few bits loses the update.
        """
        assert not self._originals, "already merged"
        weights = {path: layer.weight for path, layer in self._layers.items()}
        for path, weight in weights.items():
            self._originals[path] = weight.clone()
            weight.copy_(self._layers[path].updated_weight().to(weight.dtype))
            self._layers[path].enabled = False

    @torch.no_grad()
    def unmerge(self) -> None:
        """Restore the weights as they were before `merge`; without it, do nothing."""
        for path, original in self._originals.items():
            self._layers[path].weight.copy_(original)
            self._layers[path].enabled = True
        self._originals = {}


def attach_lora(base: Base, settings: LoraSettings, seed: int) -> Lora:
    """Attach a fresh LoRA that changes nothing yet: A random, B zero.

    Args:
        base: The base; its weights are not touched.
        settings: Method settings.
        seed: For A; each layer draws from its own stream.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a target matches no linear layer, or a pattern none of those.
    """
    paths = target_paths(base, settings.targets, settings.layers)
    check_patterns(base, "rank_pattern", settings.rank_pattern, paths)
    check_patterns(base, "alpha_pattern", settings.alpha_pattern, paths)
    lora = _attach(base, settings, paths)
    for path, layer in lora._layers.items():
        generator = torch.Generator().manual_seed(derive_seed(seed, "lora", path))
        # PEFT's choice, kaiming_uniform_ with a = sqrt(5): uniform within 1/sqrt(in).
        bound = layer.a.shape[1] ** -0.5
        values = torch.empty(layer.a.shape).uniform_(-bound, bound, generator=generator)
        layer.a.data.copy_(values)
    return lora


def load_lora(base: Base, files: Mapping[str, bytes]) -> Lora:
    """Attach a LoRA from PEFT's files, written by us or by PEFT.

    Args:
        base: The base it was made for.
        files: `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If a tensor matches no module, has the wrong shape, or the file asks for
            what is not supported.
    """
    stored = read_lora(files)
    paths = sorted({name.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for name in stored.tensors})
    settings = LoraSettings(
        rank=stored.rank,
        alpha=stored.alpha,
        rank_stabilised=stored.rank_stabilised,
        decompose=stored.decompose,
        dropout=stored.dropout,
        targets=tuple(paths),
        rank_pattern=resolve(stored.rank_pattern, paths),
        alpha_pattern=resolve(stored.alpha_pattern, paths),
    )
    unknown = [path for path in paths if not is_linear(module_at(base, path))]
    if unknown:
        raise AdapterError(
            f"adapter: {len(unknown)} of {len(paths)} modules are not linear layers of "
            f"{base.identity.architecture}, the first is {unknown[0]}",
            hint="the adapter was made for another base",
        )
    _check_shapes(base, stored, settings)
    lora = _attach(base, settings, paths)
    for name, parameter in lora.parameters().items():
        parameter.data.copy_(stored.tensors[name])
    return lora


def _attach(base: Base, settings: LoraSettings, paths: Sequence[str]) -> Lora:
    layers = {}
    for path in paths:
        layer = base.model.get_submodule(path)
        if isinstance(layer, LoraLinear):
            raise AdapterError(f"adapter: {path} has an adapter already")
        layers[path] = LoraLinear(
            layer,
            settings.rank_at(path),
            settings.scaling_at(path),
            settings.dropout,
            settings.decompose,
        )
        base.model.set_submodule(path, layers[path])
    return Lora(base, settings, layers)


def _check_shapes(base: Base, stored: LoraFile, settings: LoraSettings) -> None:
    wrong = []
    for path in settings.targets:
        rank = settings.rank_at(path)
        out, inner = linear_size(base.model.get_submodule(path))
        want: dict[str, tuple[int, ...]] = {
            "lora_A.weight": (rank, inner),
            "lora_B.weight": (out, rank),
        }
        if stored.decompose:
            want["lora_magnitude_vector"] = (out,)
        for part, shape in want.items():
            name = f"{_PREFIX}{path}.{part}"
            found = stored.tensors.get(name)
            if found is None:
                wrong.append(f"{name} is missing")
            elif tuple(found.shape) != shape:
                wrong.append(f"{name} must be {shape}, is {tuple(found.shape)}")
    if wrong:
        raise AdapterError("\n".join(wrong), hint="the adapter was made for another base")
