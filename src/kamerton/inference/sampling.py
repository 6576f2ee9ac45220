"""Choosing the next token of several answers at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.core.seeds import derive_seed

__all__ = ["choose_tokens", "random_stream"]

_COLDEST = 1e-6
"""Below it, the likeliest token is as good as certain and its logit too large to compute with."""


def random_stream(generation: Generation, index: int) -> torch.Generator:
    """Begin the random numbers of one answer: they do not depend on who else is in the batch.

    Args:
        generation: Has the seed.
        index: Number of the answer.

    Returns:
        A generator on the CPU.
    """
    return torch.Generator().manual_seed(derive_seed(generation.seed, "sample", index))


def choose_tokens(
    logits: Tensor,
    generation: Generation,
    streams: Sequence[torch.Generator],
    *,
    min_p: float = 0.0,
) -> Tensor:
    """Choose the next token of each answer.

    Args:
        logits: [n, V] in fp32.
        generation: The way to choose: the most probable at temperature 0, else drawn from what
            `min_p`, `top_k` and then `top_p` leave.
        streams: n; each gives one number, by which the sum of probabilities is cut.
        min_p: Keeps tokens that are at least this share as probable as the likeliest
            (arXiv:2407.01082).

    Returns:
        [n] token ids, on the logits' device.

    Raises:
        ModelError: If the probabilities are not finite.
    """
    if generation.temperature < _COLDEST:
        return logits.argmax(-1)
    values = logits / generation.temperature
    if values.device.type == "mps":
        # It has no double precision.
        values = values.cpu()
    if min_p > 0:
        lowest = values.max(-1, keepdim=True).values + math.log(min_p)
        values = values.masked_fill(values < lowest, float("-inf"))
    if generation.top_k:
        kept = values.topk(min(generation.top_k, values.shape[-1])).values[:, -1:]
        values = values.masked_fill(values < kept, float("-inf"))
    probabilities = values.softmax(-1)
    if generation.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # A token stays when the mass before it is below top_p: the first always does.
        dropped = ordered.cumsum(-1) - ordered >= generation.top_p
        # A `top_p` that rounds to nothing keeps it too.
        dropped[..., 0] = False
        probabilities = probabilities.scatter(-1, order, ordered.masked_fill(dropped, 0))
    # Single precision would lose the rarest of a large vocabulary.
    mass = probabilities.cumsum(-1, dtype=torch.float64)
    if not torch.isfinite(mass[:, -1]).all():
        raise ModelError(
            "the model's probabilities are not finite: no token can be drawn",
            hint="compute in float32 (base.dtype)",
        )
    drawn = [torch.rand(1, generator=stream, dtype=torch.float64) for stream in streams]
    wanted = torch.cat(drawn).to(mass.device)[:, None] * mass[:, -1:]
    # The first token whose mass ends above what was drawn: never one of probability 0.
    found = torch.searchsorted(mass, wanted, right=True).squeeze(-1)
    return found.to(logits.device)
