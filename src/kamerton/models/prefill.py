"""Prefixes made by the base itself: keys and values of tokens that nothing stands before.

Shapes: P tokens, E hidden size.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache

from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.prefix import Prefix
from kamerton.models.base import Base

__all__ = ["prefill"]


def prefill(base: Base, embeddings: Tensor) -> Prefix:
    """Compute the keys and values of tokens that nothing stands before.

    Args:
        base: The base.
        embeddings: [P, E] as the base's embedding gives them, in the base's dtype.

    Returns:
        Differentiable with respect to the embeddings.
    """
    num_tokens = len(embeddings)
    if not base.ragged:
        past: Any = DynamicCache()
        with base.attention("sdpa" if base.model._supports_sdpa else "eager"):
            base.backbone(inputs_embeds=embeddings[None], past_key_values=past, use_cache=True)
        return Prefix(tuple((layer.keys[0], layer.values[0]) for layer in past.layers))
    record: dict[int, tuple[Tensor, Tensor]] = {}
    layout = Layout((Segment(0, num_tokens),), record=record)
    base.run_backbone(layout, inputs_embeds=embeddings[None])
    return Prefix(tuple(record[layer] for layer in sorted(record)))
