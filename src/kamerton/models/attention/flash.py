"""PyTorch's flash attention on a CPU, forwards and backwards, with its log-sum-exps.

`F.scaled_dot_product_attention` picks this kernel. It is called directly because it then gives
log-sum-exps, by which blocks are joined, and its backward can write many segments into one buffer.

Shapes: n rows, H query heads, K key/value heads, L queries, S keys, D head size.
"""

import torch
from torch import Tensor

__all__ = ["flash", "flash_backward"]

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# Up to this length its backward is three to ten times faster in fp32 than in bf16 (and exacter).
_FP32_LENGTH = 320


def flash(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend.

    Args:
        q: [n, H, L, D].
        k: [n, K, S, D], K divides H.
        v: [n, K, S, D].
        causal: Whether a query sees no later key.
        scale: Factor on the scores.
        mask: [1, 1, L, S], 0 or -inf, added to the scores; None without one.

    Returns:
        The output [n, H, L, D] and the log-sum-exps of the scores [n, H, L].
    """
    output, lse = _forward(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    return output, lse


def flash_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    *,
    lse: Tensor,
    causal: bool,
    scale: float,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of one call, or of one block of a larger one.

    Args:
        grad: [n, H, L, D], of the whole output.
        q: Queries, as they were given.
        k: Keys, as they were given.
        v: Values, as they were given.
        output: [n, H, L, D], of the whole call, where this is a block of it.
        lse: [n, H, L], likewise.
        causal: Whether a query sees no later key, as it was given.
        scale: The factor on the scores, as it was given.
        mask: The mask, as it was given.

    Returns:
        The gradients of queries, keys and values, in fp32 where that is faster.
    """
    inputs = [grad, q, k, v, output]
    if q.dtype == torch.bfloat16 and q.shape[2] <= _FP32_LENGTH:
        inputs = [x.float() for x in inputs]
        mask = None if mask is None else mask.float()
    found: tuple[Tensor, Tensor, Tensor] = _backward(
        *inputs, lse, 0.0, causal, attn_mask=mask, scale=scale
    )
    return found
