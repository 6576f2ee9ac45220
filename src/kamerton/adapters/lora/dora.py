"""DoRA: magnitude and direction of a weight learn apart (arXiv 2402.09353, equation 5).

W' = m * (W + s B A) / ||W + s B A||, with one length for every output: a row of our [out, in], a
column of the paper's transposed W. As in section 4.3, the norm counts as a constant in the
gradient.
"""

import torch
from torch import Tensor

from kamerton.models.linear import FrozenLinear, dense

__all__ = ["rescale", "row_norms", "row_squares"]


@torch.no_grad()
def row_squares(frozen: Tensor | FrozenLinear) -> Tensor:
    """Compute the squared length of each row of a frozen weight.

    Args:
        frozen: [out, in], or the quantised layer.

    Returns:
        [out] in fp32.
    """
    return dense(frozen, torch.float32).float().square().sum(1)


@torch.no_grad()
def row_norms(
    frozen: Tensor | FrozenLinear, squares: Tensor, a: Tensor, b: Tensor, scaling: float,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Compute the length of each row of W + s B A without forming it.

    ||w + s b A||^2 = ||w||^2 + 2 s b (A w) + s^2 b (A A^T) b^T for a row w with its row b of B:
    a product with W as large as the update's own, and nothing as large as W.

    Args:
        frozen: W [out, in], or the quantised layer.
        squares: [out], of `row_squares`.
        a: [r, in] in fp32.
        b: [out, r] in fp32.
        scaling: s.
        dtype: The dtype of the product with W.

    Returns:
        [out] in fp32, without gradient; never zero.
    """
    cross = (a.to(dtype) @ dense(frozen, dtype).t()).float()
    gram = a @ a.t()
    change = 2 * scaling * (b * cross.t()).sum(1) + scaling**2 * ((b @ gram) * b).sum(1)
    return (squares + change).clamp_min(torch.finfo(torch.float32).tiny).sqrt()


def rescale(y: Tensor, bias: Tensor | None, magnitude: Tensor, norms: Tensor) -> Tensor:
    """Give each output of a layer its learned length.

    Args:
        y: [..., out] of the layer with its update and bias.
        bias: [out], or None.
        magnitude: m [out] in fp32.
        norms: [out] of `row_norms`.

    Returns:
        (y - bias) * m / norms + bias, in the dtype of `y`.
    """
    # m / norms is near 1: bf16 keeps far more of its distance from 1 than of itself. And at the
    # start, where it is 1, nothing changes, to the bit.
    change = (magnitude / norms - 1).to(y.dtype)
    return torch.addcmul(y, y if bias is None else y - bias, change)
