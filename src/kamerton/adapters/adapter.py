"""The adapter seam: the small trained part, attached to a base at run time."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "Adapter",
    "AdapterFormat",
    "Capabilities",
    "Paced",
    "load_tensors",
    "rate_groups",
    "trainable_share",
]


AdapterFormat = Literal["peft", "adapterhub", "gguf-lora"]
"""PEFT's two files, AdapterHub's folder, and what llama.cpp puts on a model."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a method; the contract suite holds it to them.

    Attributes:
        mergeable: Can be folded into the base's weights.
        identity_at_start: Changes nothing before training.
        exact_gradient: Its gradient is the loss's own, not one that holds a part constant.
        quantised_base: Works over a base in 4 or 8 bits; else it refuses one.
        trains_base: Learns weights of the base itself, so that a second state of the adapter is a
            second copy of those.
        formats: Other programs' formats that hold the adapter by itself.
    """

    mergeable: bool
    identity_at_start: bool
    exact_gradient: bool = True
    quantised_base: bool = True
    trains_base: bool = False
    formats: frozenset[AdapterFormat] = frozenset()


class Adapter(Protocol):
    """An attached adapter."""

    @property
    def capabilities(self) -> Capabilities:
        """The method's capabilities."""
        ...

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Trainable tensors in fp32, by the name they have on disk."""
        ...

    def train(self, mode: bool) -> None:
        """Switch what only happens while training, such as dropout, on or off."""
        ...

    def disabled(self) -> AbstractContextManager[None]:
        """Answer as the base alone for a while."""
        ...

    def detach(self) -> None:
        """Take the adapter off; the base is as it was, byte for byte."""
        ...

    def merge(self) -> None:
        """Fold the adapter into the base's weights; only where it is mergeable."""
        ...

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Show the model without the adapter's modules for a while, merged weights and all."""
        ...

    def files(self) -> Mapping[str, bytes]:
        """The files to store, by name."""
        ...


@runtime_checkable
class Paced(Protocol):
    """An adapter some of whose tensors learn faster than others."""

    def rate_factor(self, name: str) -> float:
        """The factor on the learning rate of a tensor of `parameters`, above 0."""
        ...


def rate_groups(adapter: Adapter) -> list[tuple[float, list[nn.Parameter]]]:
    """Group an adapter's tensors by their learning rate, for the optimiser.

    Args:
        adapter: An attached adapter.

    Returns:
        Factors on the learning rate with their tensors, in the order of `parameters`; one group
        with factor 1 unless the adapter is `Paced`.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in adapter.parameters().items():
        factor = adapter.rate_factor(name) if isinstance(adapter, Paced) else 1.0
        groups.setdefault(factor, []).append(parameter)
    return list(groups.items())


@torch.no_grad()
def load_tensors(adapter: Adapter, tensors: Mapping[str, Tensor]) -> None:
    """Copy stored values into an adapter's parameters.

    Args:
        adapter: An attached adapter.
        tensors: The tensors by the names that `parameters` gives; all and no others.
    """
    parameters = adapter.parameters()
    assert parameters.keys() == dict(tensors).keys(), "names differ from the adapter's"
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def trainable_share(adapter: Adapter, num_base: int) -> dict[str, Any]:
    """Count what an adapter trains.

    Args:
        adapter: An attached adapter.
        num_base: Parameters of the base.

    Returns:
        `trainable` (count) and `share` (of the base, 0 to 1).
    """
    trainable = sum(p.numel() for p in adapter.parameters().values())
    return {"trainable": trainable, "share": trainable / num_base}
