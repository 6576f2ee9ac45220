"""Prefixes: keys and values of every layer that stand before each family of a packed row.

They are tensors given to attention, not a cache that a forward pass changes: so they can be
recomputed, packed, and learned. Shapes: P virtual tokens, K key/value heads, D head size.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from transformers import DynamicCache

from kamerton.core.errors import ModelError

__all__ = ["Prefix", "PrefixSource", "as_past"]


@dataclass(frozen=True, eq=False, slots=True)
class Prefix:
    """Keys and values of virtual tokens, as Transformers caches them: after rotation.

    Attributes:
        layers: The keys and values of each layer, [K, P, D] each, in any dtype.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def num_tokens(self) -> int:
        """P."""
        return int(self.layers[0][0].shape[1])


class PrefixSource(Protocol):
    """A source that a base asks for its prefix before every row."""

    @property
    def num_tokens(self) -> int:
        """P."""
        ...

    def compute(self) -> Prefix:
        """Compute the prefix, differentiably."""
        ...


def as_past(source: PrefixSource, num_rows: int, model: Any) -> DynamicCache:
    """Give a prefix to Transformers' own forward pass.

    Args:
        source: The source of the prefix.
        num_rows: Rows that it stands before.
        model: The model, which would lose the cache if it recomputed blocks.

    Returns:
        A cache that holds the prefix in every row; good for one forward pass.

    Raises:
        ModelError: If blocks are recomputed.
    """
    if any(m.training and getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        raise ModelError(
            "padded rows with a prefix cannot be recomputed: Transformers would drop the prefix",
            hint='set train.gradient_checkpointing = "none" and a smaller train.tokens_per_row',
        )
    past = DynamicCache()
    for layer, (keys, values) in enumerate(source.compute().layers):
        rows = [x.to(model.dtype).expand(num_rows, -1, -1, -1) for x in (keys, values)]
        past.update(rows[0], rows[1], layer)
    return past
