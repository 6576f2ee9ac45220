"""The change of a model's logits by rounding its weights, to judge a difference by."""

import torch
from torch import Tensor

from kamerton.data.rendering.renderer import Renderer
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.variants.probe import largest_change, own_probe_logits

__all__ = ["rounding_change", "verdict"]

# A rounding error is spread evenly over one unit in the last place: its variance is 1/12 of that
# unit squared, as that of a whole unit up or down with these chances together.
_CHANCE = 1 / 12
_WITHIN = 3.0
_NOTHING = 1e-3


@torch.no_grad()
def rounding_change(renderer: Renderer, base: Base, logits: Tensor, dtype: torch.dtype) -> float:
    """Measure how far logits go when a model's matrices are rounded once more, at random.

    Args:
        renderer: The base's renderer.
        base: A copy that is used for nothing else: its weights are changed.
        logits: [T, V] of the probe, before that.
        dtype: The dtype that the weights were rounded to; they may be held in a wider one.

    Returns:
        The largest change of a logit.
    """
    random = torch.Generator().manual_seed(0)
    eps = torch.finfo(dtype).eps
    for parameter in decoder_blocks(base.model).parameters():
        if parameter.ndim < 2:
            continue
        exponents = torch.frexp(parameter.detach().float()).exponent
        drawn = torch.rand(parameter.shape, generator=random).to(parameter.device)
        # A number's mantissa is from one half to one: its last place is worth half of eps.
        unit = torch.ldexp(torch.full_like(drawn, eps / 2), exponents)
        sign = (drawn < _CHANCE / 2).float() - (drawn > 1 - _CHANCE / 2).float()
        parameter.add_((sign * unit).to(parameter.dtype))
    return largest_change(logits, own_probe_logits(renderer, base))


def verdict(largest: float, moved: float, rounding: float, dtype: str) -> tuple[bool, str]:
    """Judge how far a merged model is from its variant.

    Args:
        largest: Largest difference of a logit.
        moved: Largest change of a logit that the adapter makes.
        rounding: The change that `rounding_change` gave.
        dtype: The dtype of the written weights.

    Returns:
        Whether it is fine, and why, in words.
    """
    alone = f"rounding to {dtype} alone changes logits by about {rounding:.2g}"
    if largest <= max(_WITHIN * rounding, _NOTHING * moved):
        return True, f"that is fine: {alone}"
    return False, f"that is more than rounding explains ({alone}): evaluate it before you use it"
