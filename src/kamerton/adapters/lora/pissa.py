"""PiSSA: the update begins as the principal part of the weight (arXiv 2404.02948, equations 2-4).

The paper splits W = U S V^T into B0 A0 = U_r S_r V_r^T, which learns, and the residual W - s B0 A0,
which replaces W in the base. Here W stays as it is, and the layer computes the same function as

    W + s (B A - B0 A0) = W + s (dB (A0 + dA) + B0 dA)    with A = A0 + dA, B = B0 + dB

so the base keeps its bytes, the start changes nothing, and no residual is rounded to bf16. What
learns is dA and dB, from zero: the gradients are those of A and B.
"""

import torch
from torch import Tensor

__all__ = ["changes", "paired", "principal", "stretch"]

_FAST_ITERATIONS = 16


@torch.no_grad()
def principal(
    weight: Tensor, rank: int, scaling: float, fast_seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the principal part of a weight as two factors.

    Args:
        weight: W [out, in].
        rank: r.
        scaling: s.
        fast_seed: The seed; with one, singular values are approximated by 16 rounds of randomised
            subspace iteration (arXiv 0909.4061), drawn from this seed.

    Returns:
        A0 [r, in] and B0 [out, r] in fp32, with s B0 A0 the best approximation of W of rank r.
    """
    assert rank <= min(weight.shape), "fewer singular values than the rank"
    weight = weight.float()
    if fast_seed is None:
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        left, values, right = left[:, :rank], values[:rank], right[:rank]
    else:
        with torch.random.fork_rng():
            torch.manual_seed(fast_seed)
            left, values, columns = torch.svd_lowrank(weight, q=rank, niter=_FAST_ITERATIONS)
        right = columns.t()
    # A decomposition is unique up to signs only: fix them, so that a checkpoint of another machine
    # means the same.
    largest = right.abs().argmax(1, keepdim=True)
    signs = right.gather(1, largest).sign()
    root = (values / scaling).sqrt()[:, None]
    return (signs * root * right).contiguous(), (left * (signs * root).t()).contiguous()


def paired(a: Tensor, b: Tensor, a_start: Tensor, b_start: Tensor) -> tuple[Tensor, Tensor]:
    """Put changes and start together as one plain update of doubled rank.

    Args:
        a: dA [r, in].
        b: dB [out, r].
        a_start: A0 [r, in].
        b_start: B0 [out, r].

    Returns:
        [A0 + dA; dA] and [dB, B0]: differences, so that little is lost in bf16.
    """
    return torch.cat([a_start + a, a]), torch.cat([b, b_start], dim=1)


def changes(
    a: Tensor, b: Tensor, a_start: Tensor, b_start: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Count trained factors from their start, which another decomposition may give other signs.

    Args:
        a: A [r, in].
        b: B [out, r].
        a_start: A0 [r, in].
        b_start: B0 [out, r].

    Returns:
        dA and dB, and the start with the signs of the trained factors.
    """
    signs = (a * a_start).sum(1, keepdim=True).sign()
    signs[signs == 0] = 1
    a_start, b_start = a_start * signs, b_start * signs.t()
    return (a - a_start, b - b_start), (a_start, b_start)


def stretch(alpha: float, factor: float, rank_stabilised: bool) -> float:
    """Give the alpha that keeps the scaling when the rank is multiplied.

    Args:
        alpha: Strength.
        factor: The factor on the rank.
        rank_stabilised: Whether the scaling is alpha / sqrt(rank).

    Returns:
        alpha; on the way back rounded to 12 digits, so that it is again what was written.
    """
    stretched = alpha * (factor**0.5 if rank_stabilised else factor)
    return float(f"{stretched:.12g}") if factor < 1 else stretched
