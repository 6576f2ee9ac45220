"""The parts of an adapter, so that it can change some tokens of a row and leave the others.

An adapter that is attached alone stands in the model and changes all tokens. One that shares rows
with others gives its parts away instead, and an `AdapterSet` applies them to its tokens only.

Shapes: n tokens of the adapter, in and out the sizes of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from kamerton.adapters.adapter import Adapter
from kamerton.core.errors import AdapterError
from kamerton.models.attention.prefix import PrefixSource
from kamerton.models.heads import UpdatedHead

__all__ = ["LinearPart", "Mixable", "OutputPart", "Parts", "release"]


class LinearPart(Protocol):
    """Changes what a frozen linear layer reads or gives."""

    def before(self, x: Tensor) -> Tensor:
        """Give what the layer reads in place of x [..., n, in]; x itself where nothing changes."""
        ...

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Change y [..., n, out], which the layer gave; x is what it was asked for."""
        ...


class OutputPart(Protocol):
    """Changes the output of any module."""

    def hook(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Give the module's output, changed; called as PyTorch calls forward hooks."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that an adapter does to a base.

    Attributes:
        linears: The part of each linear layer, by the layer's path.
        outputs: Paths of modules with what changes their outputs, in the order of the changes.
        embedding: Looks the adapter's tokens up in place of the embedding, or None.
        head: Stands in the place of the head, or None.
        prefix: Stands before the adapter's families, or None.
    """

    linears: Mapping[str, LinearPart] = field(default_factory=dict)
    outputs: Sequence[tuple[str, OutputPart]] = ()
    embedding: nn.Module | None = None
    head: UpdatedHead | None = None
    prefix: PrefixSource | None = None


@runtime_checkable
class Mixable(Protocol):
    """An adapter that can share a row with others."""

    def release(self) -> Parts:
        """Take the adapter off the base and give its parts away.

        Its tensors and files can still be asked for; it is never attached again.
        """
        ...


def release(adapter: Adapter) -> Parts:
    """Take an adapter off the base and give its parts away.

    Args:
        adapter: An attached adapter.

    Returns:
        Its parts.

    Raises:
        AdapterError: If it cannot share a row; then it is detached.
    """
    if isinstance(adapter, Mixable):
        return adapter.release()
    adapter.detach()
    raise AdapterError(
        "adapter: this one changes whole rows, so it cannot share a row with other adapters",
        hint="load it over a base of its own",
    )
