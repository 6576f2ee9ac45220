"""Full fine-tuning: every weight of the base learns. The ceiling that light methods are held to.

It is an adapter like any other, so that one loop, one evaluation and one variant format serve it.
The weights are trained in fp32; a copy of the originals is kept, so that it can be taken off.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities
from kamerton.core.errors import AdapterError
from kamerton.core.settings import Settings
from kamerton.models.base import Base

__all__ = ["Full", "FullSettings", "attach_full", "load_full"]

WEIGHTS_FILE = "model.safetensors"


class FullSettings(Settings):
    """Full fine-tuning: all weights."""

    kind: Literal["full"] = "full"
    """All weights of the base: needs about 16 bytes of memory per parameter."""


class Full:
    """A base whose own weights learn."""

    capabilities = Capabilities(
        mergeable=True, identity_at_start=True, float32_only=True, quantised_base=False
    )

    def __init__(self, base: Base) -> None:
        if base.identity.quantise != "none":
            raise AdapterError(
                f"adapter.kind 'full' needs dense weights, the base holds {base.identity.quantise}",
                hint='set base.quantise = "none", or take a light method',
            )
        # Tied weights appear once.
        self._parameters = dict(base.model.named_parameters())
        other = {str(p.dtype) for p in self._parameters.values()} - {"torch.float32"}
        if other:
            raise AdapterError(
                f"adapter.kind 'full' trains fp32 weights, the base is in {', '.join(other)}",
                hint='set base.dtype = "float32"',
            )
        self._originals = {name: p.detach().clone() for name, p in self._parameters.items()}
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """List all weights.

        Returns:
            By their names in the model.
        """
        return self._parameters

    def train(self, mode: bool) -> None:
        """Do nothing: dropout of the base stays off, as with every method.

        Args:
            mode: Ignored.
        """

    def files(self) -> dict[str, bytes]:
        """Write all weights.

        Returns:
            `model.safetensors`.
        """
        tensors = {name: p.detach().cpu().contiguous() for name, p in self._parameters.items()}
        return {WEIGHTS_FILE: save(tensors, {"format": "pt"})}

    def merge(self) -> None:
        """Do nothing: the weights are the base's own."""

    def as_plain_model(self) -> nullcontext[None]:
        """Do nothing: the model has no other modules.

        Returns:
            An empty context.
        """
        return nullcontext()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer with the original weights for a while.

        Yields:
            Nothing.
        """
        trained = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._write(self._originals)
        try:
            yield
        finally:
            self._write(trained)

    def detach(self) -> None:
        """Restore the original weights."""
        self._write(self._originals)
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])


def attach_full(base: Base) -> Full:
    """Let all weights of a base learn.

    Args:
        base: In fp32.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the base is not in fp32, or quantised.
    """
    return Full(base)


def load_full(base: Base, files: Mapping[str, bytes]) -> Full:
    """Put stored weights into a base.

    Args:
        base: Of the same shape, in fp32.
        files: `model.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the weights do not fit.
    """
    try:
        tensors = load(files[WEIGHTS_FILE])
    except (KeyError, SafetensorError) as error:
        raise AdapterError(f"adapter: {WEIGHTS_FILE} is missing or damaged: {error}") from None
    here = {name: tuple(p.shape) for name, p in base.model.named_parameters()}
    there = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if here != there:
        wrong = sorted(name for name in here | there if here.get(name) != there.get(name))
        raise AdapterError(
            f"adapter: {len(wrong)} weights do not fit the base, the first is {wrong[0]}",
            hint="the variant was made for another base",
        )
    full = Full(base)
    full._write(tensors)
    return full
