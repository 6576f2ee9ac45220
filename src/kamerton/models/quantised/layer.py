"""Quantised bases: the linear layers of the decoder blocks held in 4 or 8 bits (QLoRA, 2305.14314).

Embeddings, norms and head stay as they are. A layer's dense weight is made once per row in the
forward pass, once in the backward pass, and never kept: two dense layers are never there together.
Where nothing learns, a few rows in bf16 are multiplied by int8 weights as they are stored.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.core.errors import ModelError
from kamerton.models.blocks import decoder_blocks
from kamerton.models.linear import frozen_weight, is_linear, is_transposed, linear_size
from kamerton.models.quantised.codecs import CODECS, Codec

__all__ = [
    "QuantisedLinear",
    "count_parameters",
    "linear_paths",
    "quantise_layer",
    "quantise_model",
]


class QuantisedLinear(nn.Module):
    """A frozen linear layer in few bits; a `FrozenLinear`."""

    def __init__(
        self,
        codec: Codec,
        packed: dict[str, Tensor],
        size: tuple[int, int],
        bias: nn.Parameter | None,
        transposed: bool,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.out_features, self.in_features = size
        self.transposed = transposed
        self.bias = bias
        self._names = tuple(packed)
        for name, tensor in packed.items():
            self.register_buffer(name, tensor)

    def weight_for(self, dtype: torch.dtype) -> Tensor:
        """Make the dense weight.

        Args:
            dtype: The dtype of the computation.

        Returns:
            [out, in]; not to be kept.
        """
        return self.codec.unpack(self._packed(), (self.out_features, self.in_features), dtype)

    def _packed(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self._names}

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: [..., in].

        Returns:
            [..., out].
        """
        product = self.codec.product
        if product is not None and not torch.is_grad_enabled():
            found = product(x, self._packed())
            if found is not None:
                return found if self.bias is None else found + self.bias
        y: Tensor = _QuantisedFunction.apply(x, self)  # type: ignore[no-untyped-call]
        return y


class _QuantisedFunction(torch.autograd.Function):
    """y = x W^T + bias; W is made anew in the backward pass instead of being saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight_for(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        return grad @ ctx.layer.weight_for(grad.dtype), None


def linear_paths(model: nn.Module) -> list[str]:
    """List the layers that are held in few bits.

    Args:
        model: A Transformers causal language model.

    Returns:
        Paths of the linear layers of its decoder blocks.

    Raises:
        ModelError: If there are none.
    """
    names = {module: name for name, module in model.named_modules()}
    paths = [
        f"{names[block]}.{name}"
        for block in decoder_blocks(model)
        for name, module in block.named_modules()
        if is_linear(module)
    ]
    if not paths:
        raise ModelError(
            f"base.quantise: the decoder blocks of {type(model).__name__} have no linear layers",
            hint='set base.quantise = "none"',
        )
    return paths


def quantise_model(model: nn.Module, kind: str) -> None:
    """Quantise a loaded model in place, layer by layer.

    Args:
        model: A Transformers causal language model.
        kind: `nf4` or `int8`.

    Raises:
        ModelError: If there is nothing to quantise.
    """
    for path in linear_paths(model):
        layer = model.get_submodule(path)
        weight = frozen_weight(layer)
        if isinstance(weight, Tensor):
            model.set_submodule(path, quantise_layer(layer, weight.detach(), kind))


def quantise_layer(layer: nn.Module, weight: Tensor, kind: str) -> QuantisedLinear:
    """Make the quantised layer that stands for a linear one.

    Args:
        layer: The layer; its own weight may be on the meta device.
        weight: [out, in].
        kind: `nf4` or `int8`.

    Returns:
        The layer, on the weight's device; its bias is the layer's own.
    """
    bias: Any = layer.bias
    codec = CODECS[kind]
    return QuantisedLinear(
        codec, codec.pack(weight), linear_size(layer), bias, is_transposed(layer)
    )


def count_parameters(model: nn.Module) -> int:
    """Count a model's weights, however they are held.

    Args:
        model: Any model.

    Returns:
        Numbers of the dense model, tied weights once.
    """
    packed = [m for m in model.modules() if isinstance(m, QuantisedLinear)]
    dense = sum(parameter.numel() for parameter in model.parameters())
    return dense + sum(layer.out_features * layer.in_features for layer in packed)
