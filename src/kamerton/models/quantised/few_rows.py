"""Products of a few rows with int8 weights that are read as they are stored.

Generating reads every weight once for a row or two, so that its time is that of reading memory:
making the dense weight first takes several times as long as the product. PyTorch's kernel for
bf16 rows multiplies the codes in fp32 and scales the sums: nothing is rounded but the result.

Shapes: N rows, in and out the sizes of a layer.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["int8_product"]

_MOST_ROWS = 32
"""From here on a dense weight, made once for all rows, is as fast (AVX-512, 576 x 576)."""
_WIDTH = 32
"""The kernel reads whole vectors of a row and does not look where the row ends."""


def int8_product(x: Tensor, packed: Mapping[str, Tensor]) -> Tensor | None:
    """Multiply a few rows by the transpose of a matrix that `pack_int8` packed.

    Args:
        x: [..., in].
        packed: What `pack_int8` gave: `codes` [out, in] and `scales` [out].

    Returns:
        [..., out] in the dtype of x; None where the kernel does not do it, or a dense matrix is
        faster: on a GPU, in other dtypes than bf16, for many rows and odd sizes.
    """
    codes, inner = packed["codes"], x.shape[-1]
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or inner % _WIDTH:
        return None
    num_rows = x.numel() // inner
    if not 0 < num_rows <= _MOST_ROWS:
        return None
    scales = packed["scales"].bfloat16()
    y: Tensor = torch._weight_int8pack_mm(x.reshape(num_rows, inner).contiguous(), codes, scales)
    return y.view(*x.shape[:-1], len(codes))
