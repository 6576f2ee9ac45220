"""LoftQ: the update begins as what rounding took from the weight (arXiv 2310.08659, algorithm 1).

Over a base held in few bits, Q = q(W), the update starts as s B0 A0, the best approximation of
W - Q of rank r, so that the base answers more like the unrounded one before training begins. This
is the algorithm's first round; further rounds would change Q, and with it the base under every
other adapter.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from kamerton.adapters.lora.layer import LoraLayer
from kamerton.adapters.lora.pissa import principal
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed
from kamerton.models.base import Base
from kamerton.models.linear import dense, frozen_weight
from kamerton.models.quantised.lazy import original_weights

__all__ = ["check_quantised", "rounding_parts"]


def check_quantised(base: Base) -> None:
    """Refuse a base from which rounding took nothing.

    Args:
        base: The base.

    Raises:
        AdapterError: If it is dense.
    """
    if base.identity.quantise == "none":
        raise AdapterError(
            'adapter.init = "loftq" makes up for what rounding took, and this base is not rounded',
            hint='set base.quantise = "nf4", or adapter.init = "random"',
        )


def rounding_parts(
    base: Base, layers: Mapping[str, LoraLayer], seed: int
) -> Iterator[tuple[LoraLayer, tuple[Tensor, Tensor]]]:
    """Compute where the updates begin, reading the original weights one by one.

    Args:
        base: A quantised base, whose checkpoint is read.
        layers: The layers by path.
        seed: The seed of the randomised singular value decomposition.

    Yields:
        A layer with A0 [r, in] and B0 [out, r] in fp32.

    Raises:
        ModelError: If the checkpoint has no original weights.
    """
    frozen = {path: layer.layer for path, layer in layers.items()}
    for path, weight in original_weights(base.identity.folder, base.model, frozen):
        layer = layers[path]
        rounded = dense(frozen_weight(layer.layer), torch.float32)
        lost = weight.to(rounded.device, torch.float32) - rounded
        rank = layer.a.shape[0]
        yield layer, principal(lost, rank, layer.scaling, derive_seed(seed, "loftq", path))
