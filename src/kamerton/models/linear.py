"""Frozen linear layers of every make: `nn.Linear`, GPT-2's `Conv1D`, and quantised ones.

Adapters see the frozen weight through `frozen_weight` and `dense` only: where it is stored in few
bits, the dense one is made when it is used and kept no longer.
"""

import copy
import itertools
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from kamerton.core.errors import AdapterError

__all__ = [
    "FrozenLinear",
    "dense",
    "device_of",
    "embedding_scale",
    "frozen_weight",
    "is_linear",
    "is_transposed",
    "linear_size",
    "stored_weight",
]


@runtime_checkable
class FrozenLinear(Protocol):
    """A linear layer that holds its weight in another form and makes it when it is used.

    Attributes:
        in_features: Size of an input.
        out_features: Size of an output.
        transposed: Whether the layer it stands for keeps its weight as [in, out].
    """

    in_features: int
    out_features: int
    transposed: bool

    def weight_for(self, dtype: torch.dtype) -> Tensor:
        """Make the dense weight, [out, in]; whoever asks must not keep it."""
        ...


def is_linear(module: nn.Module | None) -> bool:
    """Tell whether a module is a linear layer that can be adapted.

    Args:
        module: Any module.

    Returns:
        True for `nn.Linear`, `Conv1D`, quantised layers and what inherits from `nn.Linear` and
        computes the same, as Falcon's; not for what computes something else, as routers do.
    """
    if isinstance(module, nn.Linear | Conv1D):
        own = type(module).forward in (nn.Linear.forward, Conv1D.forward)
        return own or (isinstance(module, nn.Linear) and _computes_linear(module))
    return _is_frozen_linear(module)


@torch.no_grad()
def _computes_linear(module: nn.Linear) -> bool:
    """Try a layer out that has a forward pass of its own, with a small weight in its place."""
    probe = copy.copy(module)
    random = torch.Generator().manual_seed(0)
    weight, x = torch.randn(3, 5, generator=random), torch.randn(2, 4, 5, generator=random)
    bias = None if module.bias is None else torch.randn(3, generator=random)
    small = {"weight": weight, "bias": bias}
    probe.__dict__["_parameters"] = {
        name: value if value is None else nn.Parameter(value) for name, value in small.items()
    }
    try:
        found = probe(x)
    # Whatever a layer of another make raises: it wants something else than a linear one.
    except Exception:
        return False
    wanted = nn.functional.linear(x, weight, bias)
    same = isinstance(found, Tensor) and found.shape == wanted.shape
    return same and torch.allclose(found, wanted, atol=1e-5)


def is_transposed(layer: nn.Module) -> bool:
    """Tell whether a linear layer keeps its weight as [in, out], as GPT-2's do.

    Args:
        layer: A linear layer.

    Returns:
        Also True for a quantised layer made from such a one.
    """
    return layer.transposed if _is_frozen_linear(layer) else isinstance(layer, Conv1D)


def linear_size(layer: nn.Module) -> tuple[int, int]:
    """Give the size of a linear layer.

    Args:
        layer: A linear layer.

    Returns:
        out, in.
    """
    if _is_frozen_linear(layer):
        return layer.out_features, layer.in_features
    out, inner = frozen_weight(layer).shape  # type: ignore[union-attr]
    return out, inner


def frozen_weight(layer: nn.Module) -> Tensor | FrozenLinear:
    """Give a layer's weight without making a copy of it.

    Args:
        layer: A linear layer.

    Returns:
        A view [out, in] of the stored weight, or the layer itself where the weight has to be made.
    """
    if _is_frozen_linear(layer):
        return layer
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.t() if isinstance(layer, Conv1D) else weight


def dense(weight: Tensor | FrozenLinear, dtype: torch.dtype) -> Tensor:
    """Give a weight as a matrix, for a moment.

    Args:
        weight: The weight that `frozen_weight` gave.
        dtype: The dtype of the computation; a stored weight comes in its own.

    Returns:
        [out, in].
    """
    return weight if isinstance(weight, Tensor) else weight.weight_for(dtype)


def stored_weight(layer: nn.Module) -> Tensor:
    """Give a layer's weight to be written into, as merging does.

    Args:
        layer: A linear layer.

    Returns:
        A view [out, in] of the stored weight.

    Raises:
        AdapterError: If it is quantised: rounding to few bits would lose most of an update.
    """
    weight = frozen_weight(layer)
    if not isinstance(weight, Tensor):
        raise AdapterError(
            "an adapter is never merged into a quantised base",
            hint='load the base with base.quantise = "none" and merge there',
        )
    return weight


def device_of(layer: nn.Module) -> torch.device:
    """Tell where a layer is.

    Args:
        layer: A layer with parameters or buffers.

    Returns:
        The device of the first of them.
    """
    return next(itertools.chain(layer.parameters(), layer.buffers())).device


def embedding_scale(layer: nn.Module) -> float:
    """Give what an embedding multiplies its rows by, as Gemma's do.

    Args:
        layer: An embedding.

    Returns:
        1 for most.
    """
    scale = getattr(layer, "scalar_embed_scale", getattr(layer, "embed_scale", 1.0))
    return float(scale)


def _is_frozen_linear(module: nn.Module | None) -> TypeGuard[FrozenLinear]:
    return isinstance(module, nn.Module) and isinstance(module, FrozenLinear)
