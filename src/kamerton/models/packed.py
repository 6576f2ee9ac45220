"""Linear layers in the layout that a processor's matrix kernels read, for models that only answer.

A product with a weight as it is stored brings it into that layout first, each time: more work than
a product of a few rows. oneDNN takes weights that were brought there once. The numbers stay what
they are, and the weight as it was can be made again exactly.

Shapes: V vocabulary, in and out the sizes of a layer.
"""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.models.base import Base
from kamerton.models.fused import forget_replaced
from kamerton.models.linear import frozen_weight, is_transposed
from kamerton.models.quantised.layer import linear_paths

__all__ = ["PackedLinear", "pack_linears", "packed_product"]

_ROWS = 16
"""Rows that the layout is chosen for. On the CPUs tried it is the same from 4 rows to 64."""


class PackedLinear(nn.Module):
    """A frozen linear layer in the layout of the kernels; a `FrozenLinear`.

    Args:
        layer: The layer; its weight is copied.

    Attributes:
        out_features: Size of an output.
        in_features: Size of an input.
        transposed: Whether the layer kept its weight as [in, out].
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        weight = frozen_weight(layer)
        assert isinstance(weight, Tensor), "weights in few bits are made as they are used"
        self.out_features, self.in_features = weight.shape
        self.transposed = is_transposed(layer)
        bias: Any = layer.bias
        self.bias = bias
        self._packed = _pack(weight)
        # Whoever asks where the layer is looks at its buffers.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def weight_for(self, dtype: torch.dtype) -> Tensor:
        """Make the weight as it was.

        Args:
            dtype: The dtype of the computation.

        Returns:
            [out, in]; not to be kept.
        """
        return self._packed.to_dense().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: [..., in].

        Returns:
            [..., out].
        """
        if torch.is_grad_enabled() or not x.numel():
            return linear(x, self.weight_for(x.dtype), self.bias)
        return packed_product(x, self._packed, self.bias)


def pack_linears(base: Base) -> int:
    """Bring a base's weights into the layout of the kernels, where nothing is to learn any more.

    The linear layers of the decoder blocks need no more memory than before. The head, whose
    weight is often the embedding's too, gets a second copy.

    Args:
        base: The base, without adapters; stays as it is on a GPU, where the processor has no such
            kernels for its dtype, and where layers are held in few bits.

    Returns:
        The number of layers that were packed, the head not counted.
    """
    assert not base.segment_adapters, "adapters come after the base is packed"
    if base.device.type != "cpu" or not _is_supported(base.dtype):
        return 0
    packed = 0
    for path in linear_paths(base.model):
        layer = base.model.get_submodule(path)
        weight = frozen_weight(layer)
        if isinstance(weight, Tensor) and weight.dtype == base.dtype:
            base.model.set_submodule(path, PackedLinear(layer))
            packed += 1
    forget_replaced(base.model)
    if base.head.is_plain:
        weight = base.head.weight
        base.packed_head = weight, partial(packed_product, packed=_pack(weight))
    return packed


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply by the transpose of a packed weight; without gradients.

    Args:
        x: [..., in], at least one row.
        packed: The weight [out, in] in the layout of the kernels.
        bias: [out] or None.

    Returns:
        [..., out].
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, packed, bias, "none", [], "")
    return y


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
    return packed


@cache
def _is_supported(dtype: torch.dtype) -> bool:
    """Try a product; the operators have no promise of PyTorch, and bf16 needs instructions."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        weight = torch.linspace(-1, 1, 40 * 24).view(40, 24).to(dtype)
        x = torch.linspace(-1, 1, 48).view(2, 24).to(dtype)
        found = packed_product(x, _pack(weight))
    except (RuntimeError, AttributeError):
        return False
    wanted = linear(x.float(), weight.float())
    return bool(torch.allclose(found.float(), wanted, rtol=2e-2, atol=2e-2))
